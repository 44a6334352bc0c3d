//! Runs a step: every thread goes through all operations, and takes pieces of each.

use core::sync::atomic::AtomicU32;

use crate::memory::Memory;
use crate::scratch::Scratch;
use crate::step::{Kind, Op, Step};
use crate::threads::{Control, Host, Pieces};
use crate::{attention, matrices, rows};

/// What an operation sees of a step.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub memory: Memory,
    pub step: &'a Step,
    pub op: &'a Op,
    pub pieces: Pieces<'a>,
    /// This thread's scratch memory.
    scratch_at: *mut f32,
    pub scratch: Scratch,
}

impl Context<'_> {
    /// A place in this thread's scratch memory.
    #[inline(always)]
    pub fn own(&self, at: usize) -> *mut f32 {
        self.scratch_at.wrapping_add(at)
    }

    /// Row `row` of activations of this width.
    #[inline(always)]
    pub fn line(&self, activations: u32, row: usize, width: usize) -> *mut f32 {
        self.memory.get::<f32>(activations).wrapping_add(row * width)
    }

    /// Entry `i` of a list of words of the step.
    ///
    /// # Safety
    /// The list is that long.
    #[inline(always)]
    pub unsafe fn word(&self, list: u32, i: usize) -> u32 {
        unsafe { *self.memory.get::<u32>(list).add(i) }
    }
}

/// Runs thread `thread`'s part of the step at offset `step`; all of `threads` must run it at the same time.
///
/// # Safety
/// The step and all that it names lie in the memory, as `step.rs` says, and nobody else writes there.
pub unsafe fn run(memory: Memory, step: u32, thread: u32, threads: u32, host: &impl Host) {
    let step = unsafe { &*memory.get::<Step>(step) };
    let control = unsafe { &*memory.get::<Control>(step.control) };
    let scratch_at = memory.get::<f32>(step.scratch + thread * step.scratch_bytes);
    let scratch = Scratch::new(&step.shape);
    for i in 0..step.op_count {
        let op = unsafe { &*memory.get::<Op>(step.ops + i * size_of::<Op>() as u32) };
        let pieces = Pieces(unsafe { &*memory.get::<AtomicU32>(step.counters + i * 4) });
        let context = Context { memory, step, op, pieces, scratch_at, scratch };
        unsafe {
            match Kind::ALL[op.kind as usize] {
                Kind::Embed => rows::embed(&context),
                Kind::Qkv | Kind::Project | Kind::ProjectAdd | Kind::GateUp | Kind::Logits => {
                    matrices::multiply(&context)
                }
                Kind::QkNorm => rows::qk_norm(&context),
                Kind::Attention => attention::attend(&context),
                Kind::AddNormed => rows::add_normed(&context),
                Kind::Argmax => rows::argmax(&context),
            }
        }
        control.barrier(threads, host);
    }
}

/// A worker's life: it runs its part of every step until it is told to end.
///
/// # Safety
/// As [`run`], of every step that is given; the control block lies at `control`.
pub unsafe fn work(memory: Memory, control: u32, thread: u32, threads: u32, host: &impl Host) {
    let shared = unsafe { &*memory.get::<Control>(control) };
    let mut seen = 0;
    loop {
        match shared.next(&mut seen, host) {
            crate::threads::QUIT => return,
            step => unsafe { run(memory, step, thread, threads, host) },
        }
    }
}
