//! The WGSL plan against the same model in burn's own operations on the same device: logits of every row.

mod support;

use burn::tensor::{Device, DeviceKind};
use embergram::gpu::{Gpu, Plan};
use embergram::llm::weights::WeightLoader;
use embergram::model::reference::Reference;
use embergram::program::{BlockEntry, Capacity, Row, Runner};

const BLOCK: usize = 8;

/// burn's own device on the same adapter, opened as burn likes it.
fn burn() -> Device {
    Device::wgpu(DeviceKind::DefaultDevice)
}

/// The plan's logits of every row, `[tokens, vocab]`, its parameters loaded by `loader`; and the plan.
async fn logits(gpu: &Gpu, mut loader: WeightLoader<Gpu>, file: &[u8], tokens: &[u32]) -> (Vec<f32>, Plan) {
    loader.read(file).unwrap();
    let model = loader.finish().unwrap();
    let n = tokens.len();
    let blocks = n.div_ceil(BLOCK);
    let capacity = Capacity { rows: n, outputs: n, slots: 1, positions: n, blocks, block_size: BLOCK };
    let mut plan = model.runner(gpu, capacity).unwrap();
    (0..blocks).for_each(|i| plan.set_block(BlockEntry { slot: 0, index: i as u32, block: (blocks - 1 - i) as u32 }));
    let rows: Vec<Row> = (0..)
        .zip(tokens)
        .map(|(position, token)| Row { token: *token, slot: 0, position, output: true, prompt: false })
        .collect();
    let logits = plan.run_rows(&rows, true).await.unwrap().logits;
    assert_eq!(logits.len(), n * model.config.vocab);
    (logits, plan)
}

/// The largest difference between the plan's logits and the reference's, over all rows; and the largest logit.
async fn difference(file: &[u8], tokens: &[u32]) -> (f32, f32) {
    let gpu = Gpu::open().await.unwrap();
    let (ours, _) = logits(&gpu, WeightLoader::new(&gpu, None), file, tokens).await;
    let model = Reference::read(file, tokens.len(), &burn()).unwrap();
    let reference: Vec<f32> = model.forward(tokens).into_data().try_to_vec().unwrap();
    assert_eq!(ours.len(), reference.len());
    assert!(ours.iter().chain(&reference).all(|v| v.is_finite()));
    let largest = reference.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    (ours.iter().zip(&reference).fold(0.0, |m, (a, b)| f32::max(m, (a - b).abs())), largest)
}

#[test]
fn plan_and_reference_agree_on_random_models() {
    pollster::block_on(async {
        let tokens: Vec<u32> = (0..40).map(|i| (i * i * 7 + 11) % 380).collect();
        // Every tensor type in one model; its pipelines are most of this test's time.
        let all = "F32,F16,BF16,Q8_0,Q4_0,Q4_1,Q5_0,Q5_1,Q4_K,Q5_K,Q6_K";
        let cases: [&[&str]; 2] = [&[], &["--type", all, "--untied", "--rope-freqs"]];
        for case in cases {
            let (difference, largest) = difference(&support::model(case), &tokens).await;
            eprintln!("{case:?}: {difference:e} of {largest}");
            assert!(largest > 5.0 && difference < 1e-3, "{case:?}: {difference:e} of {largest}");
        }
    });
}

/// A vocabulary over the adapter's binding limit lies in several buffers; the bits are the same.
#[test]
fn a_vocabulary_in_parts_gives_the_same_logits() {
    pollster::block_on(async {
        let gpu = Gpu::open().await.unwrap();
        let tokens: Vec<u32> = (0..12).map(|i| (i * i * 7 + 11) % 380).collect();
        for case in [&[][..], &["--untied"]] {
            let file = support::model(case);
            let (whole, plan) = logits(&gpu, WeightLoader::new(&gpu, None), &file, &tokens).await;
            let mut small = gpu.clone();
            // Below the embedding's 14 KB, above those of all other parameters.
            small.binding_limit = 11_000;
            let (parts, plan_of_parts) = logits(&gpu, WeightLoader::new(&small, None), &file, &tokens).await;
            assert_eq!(plan_of_parts.launches(), plan.launches() + 2, "{case:?}");
            assert!(whole.iter().zip(&parts).all(|(a, b)| a.to_bits() == b.to_bits()), "{case:?}");
        }
    });
}

/// Without the factors the logits are others: the test above sees them.
#[test]
fn rope_factors_matter() {
    pollster::block_on(async {
        let tokens: Vec<u32> = (0..40).map(|i| (i * i * 7 + 11) % 380).collect();
        let with = support::model(&["--rope-freqs"]);
        let read = |file: &[u8]| Reference::read(file, 40, &burn()).unwrap();
        let logits = |model: Reference| model.forward(&tokens).into_data().try_to_vec::<f32>().unwrap();
        // The same file, its factors under a name that no model reads.
        let name = b"rope_freqs.weight";
        let at = with.windows(name.len()).position(|w| w == name).unwrap();
        let mut without = with.clone();
        without[at] = b'X';
        let (a, b) = (logits(read(&with)), logits(read(&without)));
        let largest = a.iter().zip(&b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(largest > 0.1, "{largest}");
    });
}

#[test]
fn plan_and_reference_agree_on_smollm2() {
    pollster::block_on(async {
        let path =
            std::env::var("EMBERGRAM_MODEL").expect("EMBERGRAM_MODEL names the SmolLM2 GGUF; `npm test` sets it");
        // "The capital of France is" and what SmolLM2 makes of rarer tokens.
        let tokens = [504, 3575, 282, 4649, 314, 1, 2, 0, 49151, 40000, 30, 198, 9519, 28, 17, 11000];
        let (difference, largest) = difference(&std::fs::read(path).unwrap(), &tokens).await;
        eprintln!("SmolLM2: {difference:e} of {largest}");
        assert!(largest > 5.0 && difference < 1e-3, "{difference:e} of {largest}");
    });
}
