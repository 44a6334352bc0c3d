//! Row independence on this machine's adapter, in both tunings. `EMBERGRAM_FULL=1` runs many more groupings.

mod common;

use embergram::gpu::Tuning;

#[test]
fn any_grouping_gives_the_same_logits() {
    let path = std::env::var("EMBERGRAM_TINY_MODEL").expect("EMBERGRAM_TINY_MODEL names a GGUF; `npm test` sets it");
    let file = std::fs::read(path).unwrap();
    let rounds = if common::full() { 200 } else { 8 };
    for tuning in [Tuning::Cpu, Tuning::Gpu] {
        let mut gpu = common::gpu();
        gpu.tuning = tuning;
        pollster::block_on(common::rows::any_grouping_gives_the_same_logits(&gpu, &file, rounds));
    }
}
