//! A model's bytes, as they arrive, to its parameters on the GPU.

use std::io::{ErrorKind, Read};

use crate::format::quant::QuantType;
use crate::gpu::weights::DeviceWords;
use crate::gpu::{Gpu, Plan};
use crate::model::{BufferLayout, Decoder, Described, Limits, ModelConfig, Reader, Ropes};
use crate::program::{Capacity, Parameter};
use crate::{Error, ErrorCode, Result};

/// Most bytes of tensors that wait to be submitted.
const MAX_QUEUED: usize = 32 << 20;

/// Parameters on a device.
pub type Parameters = Decoder<Parameter<DeviceWords>>;

/// A model whose bytes have all arrived.
pub struct Model {
    /// Its shape.
    pub config: ModelConfig,
    /// Its parameters.
    pub parameters: Parameters,
    /// What its rotary tables are made of.
    pub ropes: Ropes,
}

impl Model {
    /// A plan of it that holds so much.
    ///
    /// # Errors
    /// See [`Plan::new`].
    pub fn plan(&self, gpu: &Gpu, capacity: Capacity) -> Result<Plan> {
        let plan = Plan::new(gpu, &self.parameters.program(&self.config), capacity)?;
        plan.set_ropes(&self.ropes.tables(capacity.positions));
        Ok(plan)
    }
}

/// Takes a GGUF file piece by piece; or a split one, part by part, after the headers of all parts but the first.
pub struct WeightLoader {
    gpu: Gpu,
    reader: Reader,
    /// The memory of the layout's buffers, once it is taken, and the parameters in it.
    buffers: Vec<DeviceWords>,
    parameters: Option<Parameters>,
    /// Bytes that wait on the queue.
    queued: usize,
}

/// Gives a whole source, such as an open file, to `push` in pieces of 1 MiB.
///
/// # Errors
/// `invalid_file` when the source cannot be read; those of `push`.
pub(super) fn read(mut source: impl Read, mut push: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut piece = vec![0; 1 << 20];
    loop {
        match source.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(n) => push(&piece[..n])?,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => {
                let message = format!("the model file cannot be read: {e}");
                return Err(Error::new(ErrorCode::InvalidFile, message));
            }
        }
    }
}

impl WeightLoader {
    /// A loader that uploads to this device; see [`Reader::new`] for `quantization`.
    pub fn new(gpu: &Gpu, quantization: Option<QuantType>) -> Self {
        let limits = Limits { bytes: gpu.binding_limit, rows: gpu.row_limit() };
        Self {
            gpu: gpu.clone(),
            reader: Reader::new(limits, quantization),
            buffers: Vec::new(),
            parameters: None,
            queued: 0,
        }
    }

    /// Takes a whole source, such as an open file.
    ///
    /// # Errors
    /// `invalid_file` when the source cannot be read; else as [`Self::push`].
    pub fn read(&mut self, source: impl Read) -> Result<()> {
        read(source, |piece| self.push(piece))
    }

    /// Says that the parts are a folder's; see [`Reader::folder`].
    pub fn folder(&mut self, config: &serde_json::Value) -> Result<()> {
        self.reader.folder(config)
    }

    /// Takes the header of a further part of a split file; see [`Reader::announce`].
    pub fn announce(&mut self, bytes: &[u8]) -> Result<bool> {
        self.reader.announce(bytes)
    }

    /// Takes what belongs to a header from the next bytes of the file, and no more; see [`Reader::header`].
    pub fn header(&mut self, bytes: &[u8]) -> Result<usize> {
        self.reader.header(bytes)
    }

    /// What the headers say, once all of them are complete.
    pub fn described(&mut self) -> Option<&mut Described> {
        self.reader.described()
    }

    /// Takes the memory of all parameters; the headers must be complete.
    ///
    /// # Errors
    /// `adapter_too_small` when a tensor does not fit the adapter, or memory ran out.
    pub fn allocate(&mut self) -> Result<&Parameters> {
        let layout = &self.reader.described().expect("the headers are complete").layout;
        let what = |parameter: &str| format!("parameter '{parameter}'");
        // Everything is checked before any memory is taken.
        for buffer in &layout.buffers {
            self.gpu.fits(buffer.bytes, &what(&buffer.parameter), "use a smaller model or quantisation")?;
        }
        let empty = |buffer: &BufferLayout| DeviceWords::empty(&self.gpu, buffer.bytes, &what(&buffer.parameter));
        self.buffers = layout.buffers.iter().map(empty).collect::<Result<_>>()?;
        self.gpu.check()?;
        let parameters = layout.decoder.map(|parameter| parameter.map(|index| self.buffers[*index].clone()));
        Ok(self.parameters.insert(parameters))
    }

    /// Takes the next bytes of the file, in pieces of any size.
    ///
    /// # Errors
    /// What the reader refuses; `adapter_too_small` when a tensor does not fit the adapter or memory ran out; `device_lost`.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.gpu.check()?;
        let used = self.reader.header(bytes)?;
        if self.parameters.is_none() {
            if self.reader.described().is_none() {
                return Ok(());
            }
            self.allocate()?;
        }
        let bytes = &bytes[used..];
        // What is written to a queue is held until something is submitted.
        self.queued += bytes.len();
        if self.queued > MAX_QUEUED {
            self.queued = 0;
            self.gpu.queue.submit([]);
        }
        let Self { gpu, reader, buffers, .. } = self;
        reader.push(bytes, &mut |buffer, offset, data| {
            buffers[buffer].write(gpu, offset, data);
            Ok(())
        })
    }

    /// Ends one part of a split file; see [`Reader::next_part`].
    pub fn next_part(&mut self) -> Result<()> {
        self.reader.next_part()
    }

    /// Ends the file: everything that it promised has arrived.
    ///
    /// # Errors
    /// See [`Reader::finish`].
    pub fn finish(mut self) -> Result<Model> {
        let described = self.reader.described().map(|described| described.config.clone());
        let ropes = self.reader.finish()?;
        let config = described.expect("the reader has ended");
        let parameters = self.parameters.expect("memory was taken when the first header was complete");
        Ok(Model { config, parameters, ropes })
    }
}
