//! Grouped-query attention of each row over its own slot's cache, positions up to its own, of a window where the layer has one. What is
//! added in which order depends on the row's position alone. Later positions are never read: a cache place not yet written
//! may hold anything.

use crate::cache::{Element, Half, Single};
use crate::math::{capped, exp};
use crate::run::Context;
use crate::vector::F32x4;

/// Below every score, and still a number.
const LOWEST: f32 = -3.0e38;

/// Vectors of a head whose sums stay in registers.
const WIDE: usize = 8;

/// A row's keys, in the order of their positions.
struct Keys<'a> {
    context: &'a Context<'a>,
    /// The next entry of the block table, and positions left in the block before.
    entry: *const u32,
    left: usize,
    at: *const u8,
    /// Bytes from a position to the next.
    width: usize,
    /// Bytes from the block's beginning to what is read of its first position.
    inside: u32,
}

impl<'a> Keys<'a> {
    /// From position `first` on.
    unsafe fn new<E: Element>(context: &'a Context, table: u32, first: usize, inside: u32) -> Self {
        let size = context.step.block_size as usize;
        let width = (context.step.shape.kv_heads * context.step.shape.head_dim) as usize * E::BYTES;
        let entry = context.memory.get::<u32>(table).wrapping_add(first / size);
        let mut keys = Self { context, entry, left: 0, at: core::ptr::null(), width, inside };
        unsafe { keys.enter() };
        keys.at = keys.at.wrapping_add(first % size * width);
        keys.left = size - first % size;
        keys
    }

    unsafe fn enter(&mut self) {
        self.at = self.context.memory.get(unsafe { *self.entry } + self.inside);
        self.entry = self.entry.wrapping_add(1);
        self.left = self.context.step.block_size as usize;
    }

    /// The next position's. Where a block has ended, the next one's table entry must be there.
    #[inline(always)]
    unsafe fn next(&mut self) -> *const u8 {
        if self.left == 0 {
            unsafe { self.enter() };
        }
        let at = self.at;
        self.at = at.wrapping_add(self.width);
        self.left -= 1;
        at
    }
}

/// # Safety
/// As [`run`](crate::run).
pub(crate) unsafe fn attend(context: &Context) {
    let shape = &context.step.shape;
    let (heads, head_dim) = (shape.heads as usize, shape.head_dim as usize);
    loop {
        let piece = context.pieces.take();
        if piece >= heads * context.step.rows as usize {
            return;
        }
        let (row, head) = (piece / heads, piece % heads);
        let query = context.line(context.step.query, row, heads * head_dim).wrapping_add(head * head_dim);
        let to = context.line(context.op.output, row, heads * head_dim).wrapping_add(head * head_dim);
        unsafe {
            match context.step.halves {
                0 => attend_head::<Single>(context, row, head, query, to),
                _ => attend_head::<Half>(context, row, head, query, to),
            }
        }
    }
}

unsafe fn attend_head<E: Element>(context: &Context, row: usize, head: usize, query: *const f32, to: *mut f32) {
    let (step, op, element) = (context.step, context.op, E::new());
    let shape = &step.shape;
    let quads = shape.head_dim as usize / 4;
    let last = unsafe { context.word(step.positions, row) as usize };
    let first = if op.window == 0 { 0 } else { last - last.min(op.window as usize - 1) };
    let count = last + 1 - first;
    let table = unsafe { context.word(step.tables, row) };
    let kv_head = head as u32 / (shape.heads / shape.kv_heads);
    let inside = op.layer * 2 * step.block_bytes + kv_head * shape.head_dim * E::BYTES as u32;
    let scores = context.own(context.scratch.scores);

    // Scores, four positions at a time; at the end the last one several times, with no weight.
    let mut keys = unsafe { Keys::new::<E>(context, table, first, inside) };
    let scale = F32x4::splat(shape.scales[2]);
    let mut top = F32x4::splat(LOWEST);
    for at in (0..count).step_by(4) {
        let mut four = [core::ptr::null(); 4];
        for i in 0..4 {
            four[i] = if at + i < count { unsafe { keys.next() } } else { four[i - 1] };
        }
        let mut sums = [F32x4::splat(0.0); 4];
        for i in 0..quads {
            let q = unsafe { F32x4::load(query.add(i * 4)) };
            for (sum, key) in sums.iter_mut().zip(four) {
                *sum = q.mul_add(unsafe { element.load(key.add(i * 4 * E::BYTES)) }, *sum);
            }
        }
        let mut score = scale * F32x4::sums(sums);
        if shape.caps[0] != 0.0 {
            score = capped(score, shape.caps[0]);
        }
        if at + 4 > count {
            let mut lanes = score.lanes();
            lanes[count - at..].fill(LOWEST);
            score = F32x4::new(lanes);
        }
        top = top.max(score);
        unsafe { score.store(scores.add(at)) };
    }
    let top = F32x4::splat(top.largest());
    let mut total = F32x4::splat(0.0);
    for at in (0..count).step_by(4) {
        let weight = exp(unsafe { F32x4::load(scores.add(at)) } - top);
        total = total + weight;
        unsafe { weight.store(scores.add(at)) };
    }
    let share = F32x4::splat(1.0 / total.sum());

    let values = |quad: usize| unsafe {
        Keys::new::<E>(context, table, first, inside + step.block_bytes + (quad * 4 * E::BYTES) as u32)
    };
    let mut quad = 0;
    while quad < quads {
        let to = to.wrapping_add(quad * 4);
        unsafe {
            if quad + WIDE <= quads {
                weighted::<E, WIDE>(values(quad), scores, count, share, to);
                quad += WIDE;
            } else {
                weighted::<E, 1>(values(quad), scores, count, share, to);
                quad += 1;
            }
        }
    }
}

/// The weighted sum of `N` vectors of each position's value.
unsafe fn weighted<E: Element, const N: usize>(
    mut values: Keys,
    weights: *const f32,
    count: usize,
    share: F32x4,
    to: *mut f32,
) {
    let element = E::new();
    let mut sums = [F32x4::splat(0.0); N];
    for i in 0..count {
        let weight = unsafe { F32x4::load_splat(weights.add(i)) };
        let value = unsafe { values.next() };
        for (n, sum) in sums.iter_mut().enumerate() {
            *sum = weight.mul_add(unsafe { element.load(value.add(n * 4 * E::BYTES)) }, *sum);
        }
    }
    for (n, sum) in sums.into_iter().enumerate() {
        unsafe { (sum * share).store(to.add(n * 4)) };
    }
}
