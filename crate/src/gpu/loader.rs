//! A model's bytes, as they arrive, to its parameters on the GPU.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};

use super::Gpu;
use super::weights::{DeviceWords, Parameter, Weights};
use crate::model::{Described, Limits, ModelConfig, Reader};
use crate::{Error, ErrorCode, Result};

/// Most bytes of tensors that wait to be submitted.
const MAX_QUEUED: usize = 32 << 20;

/// Takes a GGUF file piece by piece; or a split one, part by part, after the headers of all parts but the first.
pub struct Loader {
    gpu: Gpu,
    reader: Reader,
    /// The memory of the layout's buffers, once it is taken, and what it holds.
    buffers: Vec<DeviceWords>,
    weights: Option<Weights>,
    /// Bytes that wait on the queue.
    queued: usize,
}

/// Gives a whole source, such as an open file, to `push` in pieces of 1 MiB.
///
/// # Errors
/// `invalid_file` when the source cannot be read; those of `push`.
pub(crate) fn read(mut source: impl Read, mut push: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
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

impl Loader {
    /// A loader that uploads to this device.
    pub fn new(gpu: &Gpu) -> Self {
        let workgroups = u64::from(gpu.device.limits().max_compute_workgroups_per_dimension);
        // Of the widest matrix, whose rows take the most workgroups.
        let quads = gpu.tuning.quads_per_workgroup(usize::MAX) as u64;
        let limits = Limits { bytes: gpu.binding_limit, rows: workgroups * quads * 4 };
        Self { gpu: gpu.clone(), reader: Reader::new(limits), buffers: Vec::new(), weights: None, queued: 0 }
    }

    /// Takes a whole source, such as an open file.
    ///
    /// # Errors
    /// `invalid_file` when the source cannot be read; else as [`Self::push`].
    pub fn read(&mut self, source: impl Read) -> Result<()> {
        read(source, |piece| self.push(piece))
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
    /// `adapter_too_small` when a tensor does not fit the adapter.
    pub fn allocate(&mut self) -> Result<&Weights> {
        let described = self.reader.described().expect("the headers are complete");
        let buffers = &described.layout.buffers;
        let what = |parameter: &str| format!("tensor '{parameter}'");
        // Everything is checked before any memory is taken.
        for buffer in buffers {
            self.gpu.fits(buffer.bytes, &what(&buffer.parameter), "use a smaller model or quantisation")?;
        }
        let mut parameters: HashMap<String, Vec<Parameter>> = HashMap::new();
        for buffer in buffers {
            let words = DeviceWords::empty(&self.gpu, buffer.bytes, &what(&buffer.parameter))?;
            self.buffers.push(words.clone());
            let parameter = Parameter { words, matrices: buffer.matrices.clone() };
            parameters.entry(buffer.parameter.clone()).or_default().push(parameter);
        }
        self.gpu.check()?;
        Ok(self.weights.insert(Weights { parameters, rope_factors: None }))
    }

    /// Takes the next bytes of the file, in pieces of any size.
    ///
    /// # Errors
    /// What the reader refuses; `adapter_too_small` when a tensor does not fit the adapter or memory ran out; `device_lost`.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.gpu.check()?;
        let used = self.reader.header(bytes)?;
        if self.weights.is_none() {
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

    /// Ends the file: everything that it promised has arrived. Gives the shape of the model and its parameters.
    ///
    /// # Errors
    /// See [`Reader::finish`]; what the device complained of by then.
    pub fn finish(self) -> Result<(ModelConfig, Weights)> {
        self.gpu.check()?;
        let (config, rope_factors) = self.reader.finish()?;
        let weights = self.weights.expect("memory was taken when the first header was complete");
        Ok((config, Weights { rope_factors, ..weights }))
    }
}
