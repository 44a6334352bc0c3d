//! A KV cache that takes its memory block by block has the same keys and values as one that had it from the start.

use super::known_answer_tests::{CAPACITY, VOCAB, adapters, model};
use super::weights::WeightLoader;
use crate::gpu::{Gpu, Plan};
use crate::program::{BlockEntry, Row, Runner};

fn plan(gpu: &Gpu) -> Plan {
    let mut loader = WeightLoader::new(gpu, None);
    loader.read(model("llama").file().as_slice()).unwrap();
    loader.finish().unwrap().runner(gpu, CAPACITY).unwrap()
}

#[test]
fn a_cache_that_grows_keeps_what_it_had() {
    for gpu in adapters() {
        let (mut grown, mut whole) = (plan(&gpu), plan(&gpu));
        let entry = |index: usize| BlockEntry { slot: 0, index: index as u32, block: index as u32 };
        (0..CAPACITY.blocks).for_each(|index| whole.set_block(entry(index)));
        let mut sizes = Vec::new();
        for position in 0..CAPACITY.positions {
            if position.is_multiple_of(CAPACITY.block_size) {
                grown.set_block(entry(position / CAPACITY.block_size));
            }
            let token = (position * 7 % VOCAB) as u32;
            let row = Row { token, slot: 0, position: position as u32, output: true, prompt: false };
            let logits = |plan: &mut Plan| pollster::block_on(plan.run_rows(&[row], true)).unwrap().logits;
            assert_eq!(logits(&mut grown), logits(&mut whole), "position {position}, {:?}", gpu.tuning);
            if (position + 1).is_multiple_of(CAPACITY.block_size) {
                sizes.push(grown.memory_bytes());
            }
        }
        sizes.dedup();
        // Of one block, of two, of all four.
        assert_eq!(sizes.len(), 3, "{sizes:?}");
        assert_eq!(sizes.last(), Some(&whole.memory_bytes()));
    }
}
