//! Row independence on this machine's adapter, in both tunings. `EMBERGRAM_FULL=1` runs many more groupings.

mod common;

use embergram::gpu::Tuning;
use embergram::program::Precision;

#[test]
fn any_grouping_gives_the_same_logits() {
    let path = std::env::var("EMBERGRAM_TINY_MODEL").expect("EMBERGRAM_TINY_MODEL names a GGUF; `npm test` sets it");
    let file = std::fs::read(path).unwrap();
    let rounds = if common::full() { 200 } else { 8 };
    for (tuning, precision) in
        [(Tuning::Cpu, Precision::Full), (Tuning::Gpu, Precision::Full), (Tuning::Gpu, Precision::Fast)]
    {
        let mut gpu = common::gpu();
        gpu.tuning = tuning;
        pollster::block_on(common::rows::any_grouping_gives_the_same_logits(&gpu, &file, rounds, precision));
    }
}

/// The fixed tree of sums is the same by way of subgroups and of workgroup memory.
#[test]
fn shuffles_change_no_bit() {
    let path = std::env::var("EMBERGRAM_TINY_MODEL").expect("EMBERGRAM_TINY_MODEL names a GGUF; `npm test` sets it");
    let file = std::fs::read(path).unwrap();
    let mut gpu = common::gpu();
    gpu.tuning = Tuning::Gpu;
    assert!(gpu.shuffles, "lavapipe's subgroups have eight lanes");
    let logits = [true, false].map(|shuffles| {
        gpu.shuffles = shuffles;
        pollster::block_on(common::rows::logits(&gpu, &file, 20))
    });
    let bits = |logits: &[f32]| logits.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert!(logits[0].iter().any(|v| *v != 0.0));
    assert_eq!(bits(&logits[0]), bits(&logits[1]));
}
