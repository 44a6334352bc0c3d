//! From a GGUF's bytes, as they arrive, to parameters on the GPU. No tensor is ever whole in memory.

use std::collections::HashMap;
use std::io::Read;

use super::placement::{Index, Placement, Target, Writer, find};
use super::{Decoder, ModelConfig, arch, rope};
use crate::format::gguf::{DataCursor, Header, Parser, TensorInfo};
use crate::program::{Memory, Parameter, Program};
use crate::{Error, ErrorCode, Result};

/// Most bytes of tensors that wait to be submitted.
const MAX_QUEUED: usize = 32 << 20;

/// The target that bytes arrive for, one of its tensor's.
struct Current {
    target: usize,
    writer: Writer,
}

/// A model whose bytes have all arrived.
pub struct Model<W> {
    /// Its shape.
    pub config: ModelConfig,
    /// Its parameters.
    pub decoder: Decoder<Parameter<W>>,
    /// The first part's header, without its tensors.
    pub header: Header,
    /// The rotary factors by their tensors' names.
    factors: HashMap<&'static str, Vec<f32>>,
}

impl<W> Model<W> {
    /// The rotary table of each of the shape's ropes, for sequences of up to `positions`.
    pub fn ropes(&self, positions: usize) -> Vec<Vec<f32>> {
        let table = |rope: &super::config::Rope| {
            let factors = rope.factors.tensor(positions).map(|name| self.factors[name].as_slice());
            rope::table(rope, self.config.head_dim, positions, factors)
        };
        self.config.ropes.iter().map(table).collect()
    }

    /// The forward pass over sequences of up to `positions`.
    pub fn program(&self, positions: usize) -> Program<'_, Parameter<W>> {
        Program { shape: self.config.shape(), ropes: self.ropes(positions), ops: self.decoder.program(&self.config) }
    }
}

enum State {
    Header(Parser),
    Data { cursor: DataCursor, tensors: Vec<TensorInfo>, current: Option<Current> },
}

/// Takes a GGUF file piece by piece; or a split one, part by part, after the headers of all parts but the first.
pub struct Loader<M: Memory> {
    memory: M,
    state: State,
    /// The tensors of the further parts, and how many parts these are.
    further: (usize, Vec<TensorInfo>),
    /// The header of a further part while it arrives.
    announced: Parser,
    /// By the name of the tensor, in the order of its bytes.
    targets: HashMap<String, Vec<Target<M::Words>>>,
    decoder: Option<Decoder<Parameter<M::Words>>>,
    factors: HashMap<&'static str, Vec<u8>>,
    /// The first part's, with what it says of the model.
    header: Option<(ModelConfig, Header)>,
    /// Bytes that wait on the queue.
    queued: usize,
}

impl<M: Memory> Loader<M>
where
    M::Words: Clone,
{
    /// A loader into this memory.
    pub fn new(memory: M) -> Self {
        Self {
            memory,
            state: State::Header(Parser::new()),
            further: (0, Vec::new()),
            announced: Parser::new(),
            targets: HashMap::new(),
            decoder: None,
            factors: HashMap::new(),
            header: None,
            queued: 0,
        }
    }

    /// Takes a whole source, such as an open file, in pieces of 1 MiB.
    ///
    /// # Errors
    /// `invalid_file` when the source cannot be read; else as [`Self::push`].
    pub fn read(&mut self, mut source: impl Read) -> Result<()> {
        let mut piece = vec![0; 1 << 20];
        loop {
            match source.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(n) => self.push(&piece[..n])?,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let message = format!("the model file cannot be read: {e}");
                    return Err(Error::new(ErrorCode::InvalidFile, message));
                }
            }
        }
    }

    /// Takes the next bytes of the file, in pieces of any size.
    ///
    /// # Errors
    /// Whatever the parser finds wrong; `invalid_tensor` for a missing tensor or one of the wrong shape;
    /// `adapter_too_small` when a tensor does not fit the adapter.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        if let State::Header(parser) = &mut self.state {
            let used = parser.push(bytes)?;
            bytes = &bytes[used..];
            if parser.header().is_none() {
                return Ok(());
            }
            let State::Header(parser) = std::mem::replace(&mut self.state, State::Header(Parser::new())) else {
                unreachable!("the state was just matched")
            };
            let mut header = parser.into_header()?;
            let cursor = DataCursor::new(&header);
            let tensors = std::mem::take(&mut header.tensors);
            if self.header.is_none() {
                self.allocate(header, &tensors)?;
            }
            self.state = State::Data { cursor, tensors, current: None };
        }
        // What is written to a queue is held until something is submitted.
        self.queued += bytes.len();
        if self.queued > MAX_QUEUED {
            self.queued = 0;
            self.memory.submit();
        }
        let Self { memory, state, targets, factors, .. } = self;
        let State::Data { cursor, tensors, current } = state else { unreachable!("the header is complete") };
        cursor.push(bytes, &mut |tensor, mut offset, mut piece| {
            let name = &tensors[tensor].name;
            if let Some(factors) = factors.get_mut(name.as_str()) {
                factors.extend_from_slice(piece);
            }
            let Some(targets) = targets.get(name) else { return Ok(()) };
            while !piece.is_empty() {
                // Targets come one after another, so one writer waits at a time: what it holds back is about 1 MiB.
                let Current { target, writer } = match current {
                    Some(current) if current.writer.left() > 0 => current,
                    _ => {
                        let starts = |t: &Target<M::Words>| t.start == offset;
                        let target = targets.iter().position(starts).expect("the targets cover the tensor");
                        current.insert(Current { target, writer: Writer::new(&targets[target]) })
                    }
                };
                let (now, later) = piece.split_at((piece.len() as u64).min(writer.left()) as usize);
                writer.push(memory, &targets[*target], now)?;
                (offset, piece) = (offset + now.len() as u64, later);
            }
            Ok(())
        })
    }

    /// Takes bytes from the beginning of a further part of a split file, until its header is complete: then it gives true,
    /// and the next call begins the part after it. All of them come before the first [`push`](Self::push), since a
    /// parameter may need tensors of several parts.
    pub fn announce(&mut self, bytes: &[u8]) -> Result<bool> {
        self.announced.push(bytes)?;
        let complete = self.announced.header().is_some();
        if complete {
            let header = std::mem::take(&mut self.announced).into_header()?;
            self.further.0 += 1;
            self.further.1.extend(header.tensors);
        }
        Ok(complete)
    }

    /// Ends one part of a split file; the bytes of the next follow, from its beginning.
    ///
    /// # Errors
    /// `truncated_file` when something is missing of the part.
    pub fn next_part(&mut self) -> Result<()> {
        self.check_part()?;
        self.state = State::Header(Parser::new());
        match self.further.0.checked_sub(1) {
            Some(left) => self.further.0 = left,
            None => return Err(Error::new(ErrorCode::InvalidFile, "more parts arrive than were announced")),
        }
        Ok(())
    }

    fn check_part(&self) -> Result<()> {
        match &self.state {
            State::Data { cursor, .. } => cursor.finish(),
            State::Header(_) => {
                let message = "the file ends inside its header; download it again";
                Err(Error::new(ErrorCode::TruncatedFile, message))
            }
        }
    }

    fn allocate(&mut self, header: Header, tensors: &[TensorInfo]) -> Result<()> {
        let parts = header.metadata.opt_u32("split.count")?.unwrap_or(1).max(1) as usize;
        if parts != self.further.0 + 1 || header.metadata.opt_u32("split.no")?.unwrap_or(0) != 0 {
            let message = format!(
                "the model is split into {parts} files, and {} were given; give all of them, the first one first",
                self.further.0 + 1
            );
            return Err(Error::new(ErrorCode::InvalidFile, message));
        }
        let further = std::mem::take(&mut self.further.1);
        let index: Index = tensors.iter().chain(&further).map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let config = arch::read(&header.metadata, &|name| index.contains_key(name))?;
        for rope in &config.ropes {
            for name in rope.factors.tensors() {
                find(&index, name, [rope.dims / 2, 1], config.arch)?;
                self.factors.insert(name, Vec::new());
            }
        }
        let Placement { decoder, targets } = Placement::new(&self.memory, &config, &index)?;
        (self.decoder, self.targets) = (Some(decoder), targets);
        self.header = Some((config, header));
        Ok(())
    }

    /// Ends the file: everything that it promised has arrived.
    ///
    /// # Errors
    /// `truncated_file` when it has not.
    pub fn finish(self) -> Result<Model<M::Words>> {
        self.check_part()?;
        if self.further.0 > 0 {
            let message = format!("{} parts of the split model are missing; give all of them", self.further.0);
            return Err(Error::new(ErrorCode::TruncatedFile, message));
        }
        let mut factors = HashMap::new();
        for (name, bytes) in self.factors {
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
            if let Some(factor) = values.iter().find(|f| !f.is_finite() || **f <= 0.0) {
                let message = format!("{name} holds {factor}; its factors must be positive");
                return Err(Error::new(ErrorCode::InvalidTensor, message));
            }
            factors.insert(name, values);
        }
        let (config, header) = self.header.expect("the first header is complete");
        let decoder = self.decoder.expect("it was made with the header");
        Ok(Model { config, decoder, header, factors })
    }
}
