//! A model's bytes, as they arrive, to its parameters in a backend's memory.

use std::io::{ErrorKind, Read};

use super::backend::Backend;
use super::capacity::capacity;
use crate::config::LlmConfig;
use crate::format::quant::QuantType;
use crate::model::{BufferLayout, Decoder, ModelConfig, Reader, Ropes};
use crate::program::{Capacity, Numerics, Parameter, Runner};
use crate::{Error, ErrorCode, Result};

/// Most bytes of tensors that wait to be submitted.
const MAX_QUEUED: usize = 32 << 20;

/// Parameters in a backend's memory.
pub type Parameters<B> = Decoder<Parameter<<B as Backend>::Words>>;

/// A model whose bytes have all arrived.
pub struct Model<B: Backend> {
    /// Its shape.
    pub config: ModelConfig,
    /// Its parameters.
    pub parameters: Parameters<B>,
    /// What its rotary tables are made of.
    pub ropes: Ropes,
}

impl<B: Backend> Model<B> {
    /// A runner of it that holds so much.
    ///
    /// # Errors
    /// See [`Backend::runner`].
    pub fn runner(&self, backend: &B, capacity: Capacity) -> Result<B::Runner> {
        self.runner_with(backend, capacity, Numerics::default())
    }

    /// The same with these numerics.
    ///
    /// # Errors
    /// See [`Backend::runner`].
    pub fn runner_with(&self, backend: &B, capacity: Capacity, numerics: Numerics) -> Result<B::Runner> {
        let program = self.parameters.program(&self.config);
        let mut runner = backend.runner(&program, capacity, numerics)?;
        runner.set_ropes(&self.ropes.tables(capacity.positions));
        Ok(runner)
    }
}

/// Takes a GGUF file piece by piece; or a split one, part by part, after the headers of all parts but the first.
pub struct WeightLoader<B: Backend> {
    backend: B,
    reader: Reader,
    /// The memory of the layout's buffers, once it is taken, and the parameters in it.
    buffers: Vec<B::Words>,
    parameters: Option<Parameters<B>>,
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

impl<B: Backend> WeightLoader<B> {
    /// A loader into this backend's memory; see [`Reader::new`] for `quantization`.
    pub fn new(backend: &B, quantization: Option<QuantType>) -> Self {
        Self {
            backend: backend.clone(),
            reader: Reader::new(backend.arrangement(), quantization),
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

    /// What takes the headers.
    pub fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// Takes the memory of all parameters; the headers must be complete.
    ///
    /// # Errors
    /// `adapter_too_small` when a tensor does not fit the adapter, or memory ran out.
    pub fn allocate(&mut self) -> Result<&Parameters<B>> {
        let layout = &self.reader.described().expect("the headers are complete").layout;
        let what = |parameter: &str| format!("parameter '{parameter}'");
        // Everything is checked before any memory is taken.
        for buffer in &layout.buffers {
            self.backend.fits(buffer.bytes, &what(&buffer.parameter), "use a smaller model or quantisation")?;
        }
        let memory = |buffer: &BufferLayout| self.backend.allocate(buffer.bytes, &what(&buffer.parameter));
        self.buffers = layout.buffers.iter().map(memory).collect::<Result<_>>()?;
        self.backend.check()?;
        let parameters = layout.decoder.map(|parameter| parameter.map(|index| self.buffers[*index].clone()));
        Ok(self.parameters.insert(parameters))
    }

    /// Takes the next bytes of the file, in pieces of any size.
    ///
    /// # Errors
    /// What the reader refuses; `adapter_too_small` when a tensor does not fit the adapter or memory ran out; `device_lost`.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.backend.check()?;
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
            self.backend.submit();
        }
        let Self { backend, reader, buffers, .. } = self;
        reader.push(bytes, &mut |buffer, offset, data| {
            backend.write(&buffers[buffer], offset, data);
            Ok(())
        })
    }

    /// Ends the file: everything that it promised has arrived.
    ///
    /// # Errors
    /// See [`Reader::finish`].
    pub fn finish(mut self) -> Result<Model<B>> {
        let described = self.reader.described().map(|described| described.config.clone());
        let ropes = self.reader.finish()?;
        let config = described.expect("the reader has ended");
        let parameters = self.parameters.expect("memory was taken when the first header was complete");
        Ok(Model { config, parameters, ropes })
    }
}

/// A load whose backend is not told.
pub(super) trait Load {
    /// See [`WeightLoader::reader`].
    fn reader(&mut self) -> &mut Reader;

    /// See [`WeightLoader::push`].
    fn push(&mut self, bytes: &[u8]) -> Result<()>;

    /// Takes the memory of all parameters and makes the model's runner; the headers must be complete.
    fn prepare(&mut self, model: &ModelConfig, config: &LlmConfig) -> Result<Box<dyn Runner>>;

    /// See [`WeightLoader::finish`].
    fn finish(self: Box<Self>) -> Result<(ModelConfig, Ropes)>;
}

impl<B: Backend> Load for WeightLoader<B> {
    fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.push(bytes)
    }

    fn prepare(&mut self, model: &ModelConfig, config: &LlmConfig) -> Result<Box<dyn Runner>> {
        let parameters = self.reader.described().map_or(0, |described| described.layout.elements());
        let capacity = capacity(config, model, parameters, &self.backend)?;
        let backend = self.backend.clone();
        Ok(Box::new(backend.runner(&self.allocate()?.program(model), capacity, config.numerics())?))
    }

    fn finish(self: Box<Self>) -> Result<(ModelConfig, Ropes)> {
        (*self).finish().map(|Model { config, ropes, .. }| (config, ropes))
    }
}
