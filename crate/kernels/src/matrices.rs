//! Operations with matrices: which rows and panels are a piece of work, and how rows are made ready for it. `decode.rs`,
//! `prompt.rs` and `fast.rs` multiply, `finish.rs` says what becomes of outputs.

use crate::decode::{self, Tile};
use crate::fast::{self, Reading};
use crate::finish::{Outputs, finish};
use crate::format::Format;
use crate::prompt::{self, DEPTH};
use crate::rows::normed;
use crate::run::Context;
use crate::scratch::{PANELS, ready_rows, ready_rows_fast};
use crate::step::{Kind, Matrix};
use crate::unpack::{self, OUTPUTS};

/// Where a matrix's panel begins.
fn panel_at(context: &Context, matrix: &Matrix, panel: usize) -> *const u8 {
    let at = Format::of(matrix.format).panel_at(panel, context.op.inner as usize);
    context.memory.get::<u8>(matrix.at).wrapping_add(at)
}

/// Matrices that are multiplied with the same rows, and whose outputs are finished together: gate and up, or one.
struct Work<'a> {
    of: &'a [Matrix],
    /// The first panel's place among all of the operation's.
    first: usize,
    panels: usize,
}

/// Calls `each` for the works of an operation, those whose activations have eight bits or the others.
fn works(context: &Context, fast: bool, mut each: impl FnMut(Work)) {
    let matrices = &context.op.matrix[..context.op.matrices as usize];
    let together = if context.op.kind == Kind::GateUp as u32 { 2 } else { 1 };
    let mut first = 0;
    for of in matrices.chunks(together) {
        let panels = of[0].rows.div_ceil(4) as usize;
        let quants = of.iter().all(|matrix| Format::of(matrix.format).has_scale());
        if fast == (quants && context.step.fast == 1) {
            each(Work { of, first, panels });
        }
        first += panels;
    }
}

/// # Safety
/// As [`run`](crate::run).
pub(crate) unsafe fn multiply(context: &Context) {
    let step = context.step;
    let logits = context.op.kind == Kind::Logits as u32;
    let (decoding, all) = match logits {
        // Every sampled row is one of decoding.
        true => (step.outputs as usize, step.outputs as usize),
        false => (step.decode_rows as usize, step.rows as usize),
    };
    let inner = context.op.inner as usize;
    let mut turn = Turn { piece: context.pieces.take(), before: 0 };
    for first in (0..decoding).step_by(decode::MOST_ROWS) {
        let rows = (decoding - first).min(decode::MOST_ROWS);
        // What the tile in scratch memory was laid out for.
        let mut ready = [None; 2];
        works(context, false, |work| {
            turn.pieces(context, work.panels.div_ceil(PANELS), |piece| unsafe {
                decode_piece(context, &work, (first, rows), piece * PANELS, &mut ready);
            });
        });
    }
    let most = ready_rows(inner);
    for first in (decoding..all).step_by(most) {
        let tiles = Tiles::new((all - first).min(most), step.single == 1);
        let mut ready = false;
        works(context, false, |work| {
            turn.pieces(context, work.panels.div_ceil(2), |piece| unsafe {
                if !ready {
                    make_ready(context, first, tiles);
                    ready = true;
                }
                prompt_piece(context, &work, (first, tiles), piece * 2);
            });
        });
    }
    // With activations of eight bits all rows are alike.
    let most = ready_rows_fast(&step.shape, inner);
    for first in (0..all).step_by(most) {
        let rows = (all - first).min(most);
        let mut ready = [None; 2];
        works(context, true, |work| {
            turn.pieces(context, work.panels.div_ceil(PANELS), |piece| unsafe {
                fast_piece(context, &work, (first, rows), piece * PANELS, &mut ready);
            });
        });
    }
}

/// Which piece this thread has, and how many came before the ones that are looked at.
struct Turn {
    piece: usize,
    before: usize,
}

impl Turn {
    /// Calls `each` for those of the next `count` pieces that this thread takes.
    fn pieces(&mut self, context: &Context, count: usize, mut each: impl FnMut(usize)) {
        while self.piece < self.before + count {
            each(self.piece - self.before);
            self.piece = context.pieces.take();
        }
        self.before += count;
    }
}

/// Row `row` as products read it: normed where the operation has a gain. `row` counts outputs where it makes logits.
unsafe fn input(context: &Context, row: usize) -> *const f32 {
    let op = context.op;
    let row = match op.kind == Kind::Logits as u32 {
        true => unsafe { context.word(context.step.output_rows, row) as usize },
        false => row,
    };
    let line = context.line(op.input, row, op.inner as usize);
    if op.gain == 0 {
        return line;
    }
    let to = context.own(context.scratch.row);
    unsafe { normed(line, context.memory.get(op.gain), op.inner as usize, context.step.shape.eps, to) };
    to
}

unsafe fn decode_piece(
    context: &Context,
    work: &Work,
    (first, rows): (usize, usize),
    panel: usize,
    ready: &mut [Option<(Format, u32)>; 2],
) {
    let (inner, scratch) = (context.op.inner as usize, &context.scratch);
    // One kernel for all: the largest tile, the last row several times.
    let tile_rows = if context.step.single == 1 { decode::MOST_ROWS } else { decode::height(rows) };
    let count = PANELS.min(work.panels - panel);
    for (i, matrix) in work.of.iter().enumerate() {
        let format = Format::of(matrix.format);
        let key = Some((format, matrix.bias.to_bits()));
        // Matrices of one format read the same.
        let place = if i == 1 && ready[0] == key { 0 } else { i };
        let to = (context.own(scratch.x[place]), context.own(scratch.sums[place]));
        if ready[place] != key {
            for t in 0..tile_rows {
                unsafe {
                    let row = input(context, first + t.min(rows - 1));
                    decode::lay_out_row((format, matrix.bias), row, inner, (t, tile_rows), to);
                }
            }
            ready[place] = key;
        }
        let tile = Tile { x: to.0, sums: to.1 };
        let panels = panel_at(context, matrix, panel);
        let out = context.own(scratch.out[i]);
        unsafe { decode::products((format, inner / format.group()), panels, count, (tile_rows, tile), out) };
    }
    let outputs = Outputs { of: scratch.out.map(|at| context.own(at)), panel: 4 * tile_rows, row: 4 };
    unsafe { finish(context, (work.first + panel, count), (first, rows), outputs) };
}

unsafe fn fast_piece(
    context: &Context,
    work: &Work,
    (first, rows): (usize, usize),
    panel: usize,
    ready: &mut [Option<Reading>; 2],
) {
    let (inner, scratch) = (context.op.inner as usize, &context.scratch);
    let count = PANELS.min(work.panels - panel);
    for (i, matrix) in work.of.iter().enumerate() {
        let format = Format::of(matrix.format);
        let reading = Some(Reading::of(format, matrix.bias));
        let place = if i == 1 && ready[0] == reading { 0 } else { i };
        let x = context.own(scratch.fast[place]).cast();
        if ready[place] != reading {
            for t in 0..rows {
                unsafe { Reading::of(format, matrix.bias).lay_out(input(context, first + t), inner, (t, rows), x) };
            }
            ready[place] = reading;
        }
        let (panels, out) = (panel_at(context, matrix, panel), context.own(scratch.out[i]));
        let of = (format, matrix.bias, inner / format.group());
        unsafe { fast::products(of, panels, count, (rows, x), out) };
    }
    let outputs = Outputs { of: scratch.out.map(|at| context.own(at)), panel: 4 * rows, row: 4 };
    unsafe { finish(context, (work.first + panel, count), (first, rows), outputs) };
}

/// Prompt rows in register tiles of about the same height.
#[derive(Clone, Copy)]
struct Tiles {
    rows: usize,
    count: usize,
    /// Whether all tiles have the largest height, the last row several times.
    single: bool,
}

impl Tiles {
    fn new(rows: usize, single: bool) -> Self {
        Self { rows, count: rows.div_ceil(prompt::MOST_ROWS), single }
    }

    /// The first row of tile `i`, and how many it has.
    fn get(self, i: usize) -> (usize, usize) {
        if self.single {
            return (i * prompt::MOST_ROWS, prompt::MOST_ROWS);
        }
        let at = |i: usize| i * self.rows / self.count;
        (at(i), at(i + 1) - at(i))
    }
}

/// Lays the activations of rows from `first` on out, tile by tile, `[inner][rows of the tile]` each.
unsafe fn make_ready(context: &Context, first: usize, tiles: Tiles) {
    let inner = context.op.inner as usize;
    for i in 0..tiles.count {
        let (row, rows) = tiles.get(i);
        let to = context.own(context.scratch.ready).wrapping_add(row * inner);
        for t in 0..rows {
            unsafe {
                let line = input(context, first + (row + t).min(tiles.rows - 1));
                for k in 0..inner {
                    *to.add(k * rows + t) = *line.add(k);
                }
            }
        }
    }
}

/// The outputs of two panels and all rows that are ready.
unsafe fn prompt_piece(context: &Context, work: &Work, (first, tiles): (usize, Tiles), panel: usize) {
    let (inner, scratch) = (context.op.inner as usize, &context.scratch);
    let count = 2.min(work.panels - panel);
    let weights = context.own(scratch.weights);
    for (i, matrix) in work.of.iter().enumerate() {
        let out = context.own(scratch.out[i]);
        for depth in (0..inner).step_by(DEPTH) {
            let size = DEPTH.min(inner - depth);
            for p in 0..2 {
                // Where there is no second panel, the bundle has zeros.
                let at = panel_at(context, matrix, panel + p);
                let of = (Format::of(matrix.format), matrix.bias);
                unsafe { unpack::weights(of, at, (depth, size), weights.add(p * 4)) };
            }
            for tile in 0..tiles.count {
                let (row, rows) = tiles.get(tile);
                let x = context.own(scratch.ready).wrapping_add(row * inner + depth * rows);
                unsafe { prompt::products(rows, x, weights, size, out.add(row * OUTPUTS), depth == 0) };
            }
        }
    }
    let outputs = Outputs { of: scratch.out.map(|at| context.own(at)), panel: 4, row: OUTPUTS };
    unsafe { finish(context, (work.first + panel, count), (first, tiles.rows), outputs) };
}
