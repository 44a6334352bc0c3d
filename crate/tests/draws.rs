//! What this machine's adapter samples is what the sampler on the CPU would, in both tunings.

mod common;

use embergram::gpu::Tuning;

#[test]
fn the_device_draws_what_the_sampler_would() {
    let path = std::env::var("EMBERGRAM_TINY_MODEL").expect("EMBERGRAM_TINY_MODEL names a GGUF; `npm test` sets it");
    let file = std::fs::read(path).unwrap();
    for tuning in [Tuning::Cpu, Tuning::Gpu] {
        let mut gpu = common::gpu();
        gpu.tuning = tuning;
        pollster::block_on(common::draws::the_device_draws_what_the_sampler_would(&gpu, &file));
    }
}
