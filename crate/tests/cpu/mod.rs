//! Models on the CPU runner, natively.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::cell::RefCell;
use std::rc::Rc;

use embergram::cpu::{CpuRunner, NativeKernels, SharedKernels, reserve};
use embergram::format::QuantType;
use embergram::model::{Arrangement, Decoder, ModelConfig, Reader};
use embergram::program::{Batch, BlockEntry, Capacity, Numerics, Parameter, Row, Runner, StepOutput};

/// A model's parameters in the memory of kernels.
pub struct Loaded {
    pub kernels: SharedKernels,
    pub config: ModelConfig,
    pub parameters: Decoder<Parameter<u32>>,
    pub ropes: Vec<Vec<f32>>,
}

/// Loads a GGUF, or with a `config` the safetensors of a folder, in pieces of this size.
pub fn load(
    bytes: &[u8],
    config: Option<&str>,
    quantization: Option<QuantType>,
    (threads, piece): (u32, usize),
    positions: usize,
) -> Loaded {
    let shared: SharedKernels = Rc::new(RefCell::new(NativeKernels::new(threads)));
    let mut kernels = shared.borrow_mut();
    let mut reader = Reader::new(Arrangement::Panels, quantization);
    if let Some(config) = config {
        reader.folder(&serde_json::from_str(config).unwrap()).unwrap();
    }
    let (mut buffers, mut parameters): (Vec<u32>, Option<Decoder<Parameter<u32>>>) = (Vec::new(), None);
    for bytes in bytes.chunks(piece) {
        let used = reader.header(bytes).unwrap();
        if parameters.is_none() {
            let Some(described) = reader.described() else { continue };
            let layout = &described.layout;
            buffers = layout.buffers.iter().map(|b| reserve(&mut *kernels, b.bytes, &b.parameter).unwrap()).collect();
            parameters = Some(layout.decoder.map(|parameter| parameter.map(|index| buffers[*index])));
        }
        let mut write = |buffer: usize, offset: u64, data: &[u8]| {
            kernels.write(buffers[buffer] + offset as u32, data);
            Ok(())
        };
        reader.push(&bytes[used..], &mut write).unwrap();
    }
    let config = reader.described().unwrap().config.clone();
    let ropes = reader.finish().unwrap().tables(positions);
    drop(kernels);
    Loaded { kernels: shared, config, parameters: parameters.unwrap(), ropes }
}

impl Loaded {
    pub fn runner(self, capacity: Capacity, numerics: Numerics) -> CpuRunner {
        let program = self.parameters.program(&self.config);
        let mut runner = CpuRunner::new(&self.kernels, &program, capacity, numerics).unwrap();
        runner.set_ropes(&self.ropes);
        runner
    }
}

/// Runs a step at once; every slot's blocks must be there.
pub fn step(runner: &mut CpuRunner, rows: &[Row]) -> StepOutput {
    let outputs = rows.iter().filter(|row| row.output).count();
    run(runner, Batch { rows: rows.to_vec(), logits: (0..outputs).collect(), ..Batch::default() })
}

pub fn run(runner: &mut CpuRunner, batch: Batch) -> StepOutput {
    pollster::block_on(runner.step(&batch)).unwrap()
}

/// Gives every slot its blocks, all of the capacity, mixed up.
pub fn set_blocks(runner: &mut CpuRunner) {
    let capacity = runner.capacity();
    let each = capacity.table_len();
    let entry = |i: usize| {
        let block = (capacity.slots * each - 1 - i) as u32;
        BlockEntry { slot: (i / each) as u32, index: (i % each) as u32, block }
    };
    let tables = (0..capacity.slots * each).map(entry).collect();
    run(runner, Batch { tables, ..Batch::default() });
}
