//! What the threads of a step share: work that they take one piece at a time, and a barrier after each operation. Which thread
//! takes a piece changes no sum.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// How threads sleep: `memory.atomic.wait32` and `notify`, which stable Rust has not.
pub trait Host {
    /// Sleeps while `word` is `value`; it may return early.
    fn wait(&self, word: &AtomicU32, value: u32);

    /// Wakes all who sleep on `word`.
    fn notify(&self, word: &AtomicU32);
}

/// Words in memory that all threads of a runner look at. Zero at first.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Control {
    /// Counts steps: a change is the signal to begin one.
    generation: AtomicU32,
    /// Where the step lies, or [`QUIT`].
    step: AtomicU32,
    /// Who sleeps until the next step.
    idle: AtomicU32,
    /// How many have come to the barrier.
    arrived: AtomicU32,
    /// Counts barriers.
    phase: AtomicU32,
    /// Who sleeps at the barrier.
    sleepers: AtomicU32,
}

/// In place of a step: workers end.
pub const QUIT: u32 = u32::MAX;

/// Looks at a word before a thread goes to sleep. In WebAssembly a look takes a nanosecond or two, natively some tens, since the
/// processor is told that it waits. Operations follow each other within microseconds, and steps of one sequence within a hundred.
const SPINS_AT_BARRIER: u32 = if cfg!(target_arch = "wasm32") { 20_000 } else { 1_000 };
const SPINS_BETWEEN_STEPS: u32 = 3 * SPINS_AT_BARRIER;

fn sleep_until_changed(word: &AtomicU32, old: u32, sleepers: &AtomicU32, spins: u32, host: &impl Host) {
    for _ in 0..spins {
        if word.load(SeqCst) != old {
            return;
        }
        core::hint::spin_loop();
    }
    // Who changes the word looks for sleepers after that, and who sleeps looks at the word after it has said so.
    sleepers.fetch_add(1, SeqCst);
    while word.load(SeqCst) == old {
        host.wait(word, old);
    }
    sleepers.fetch_sub(1, SeqCst);
}

impl Control {
    /// Gives a step, or [`QUIT`], to the workers.
    pub fn begin(&self, step: u32, host: &impl Host) {
        self.step.store(step, SeqCst);
        self.generation.fetch_add(1, SeqCst);
        if self.idle.load(SeqCst) > 0 {
            host.notify(&self.generation);
        }
    }

    /// Waits for a step after generation `seen`, which it changes. Gives the step.
    pub fn next(&self, seen: &mut u32, host: &impl Host) -> u32 {
        sleep_until_changed(&self.generation, *seen, &self.idle, SPINS_BETWEEN_STEPS, host);
        *seen = seen.wrapping_add(1);
        self.step.load(SeqCst)
    }

    /// Waits for all threads.
    pub fn barrier(&self, threads: u32, host: &impl Host) {
        if threads == 1 {
            return;
        }
        let phase = self.phase.load(SeqCst);
        if self.arrived.fetch_add(1, SeqCst) + 1 == threads {
            self.arrived.store(0, SeqCst);
            self.phase.fetch_add(1, SeqCst);
            if self.sleepers.load(SeqCst) > 0 {
                host.notify(&self.phase);
            }
        } else {
            sleep_until_changed(&self.phase, phase, &self.sleepers, SPINS_AT_BARRIER, host);
        }
    }
}

/// Pieces of an operation's work, numbered from 0.
#[derive(Clone, Copy)]
pub(crate) struct Pieces<'a>(pub &'a AtomicU32);

impl Pieces<'_> {
    /// The next that nobody has taken.
    #[inline(always)]
    pub fn take(self) -> usize {
        self.0.fetch_add(1, SeqCst) as usize
    }
}
