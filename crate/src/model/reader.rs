//! From the bytes of a GGUF, or of a folder's safetensors, as they arrive, to writes into the buffers of its parameters. Knows no GPU; no tensor is ever
//! whole in memory.

use std::collections::HashMap;

use super::config::{Divisors, Rope};
use super::layout::{Arrangement, Index, Layout, Target, Use};
use super::writer::Writer;
use super::{ModelConfig, arch, rope};
use crate::error::{Error, ErrorCode, Result};
use crate::format::gguf::{DataCursor, Header, Metadata, Parser, TensorInfo};
use crate::format::quant::QuantType;
use crate::format::safetensors;

const COUNT: &str = "split.count";
const NUMBER: &str = "split.no";
const TENSORS: &str = "split.tensors.count";

/// What the headers say of a model.
pub struct Described {
    /// The shape of the model.
    pub config: ModelConfig,
    /// The first part's key-values; none of a folder.
    pub metadata: Metadata,
    /// The buffers to be filled.
    pub layout: Layout,
}

/// Takes bytes for a buffer: its index in [`Layout::buffers`], the offset and the bytes, both multiples of four.
pub type Write<'a> = &'a mut dyn FnMut(usize, u64, &[u8]) -> Result<()>;

/// One part: its place among the parts, its tensors, and where their bytes begin.
#[derive(PartialEq)]
struct Table {
    number: u32,
    /// How many parts there are, where the file says so.
    parts: Option<u32>,
    /// Tensors of all parts, where the file says how many.
    total: Option<u32>,
    tensors: Vec<TensorInfo>,
    data_offset: u64,
}

impl Table {
    fn of(header: Header) -> Result<(Self, Metadata)> {
        let Header { metadata, tensors, data_offset, .. } = header;
        let number = metadata.opt_u32(NUMBER)?.unwrap_or(0);
        let parts = metadata.opt_u32(COUNT)?.unwrap_or(1).max(1);
        let total = metadata.opt_u32(TENSORS)?;
        Ok((Self { number, parts: Some(parts), total, tensors, data_offset }, metadata))
    }
}

/// A header while it arrives.
enum HeaderParser {
    Gguf(Box<Parser>),
    Safetensors(safetensors::Parser),
}

impl HeaderParser {
    /// Of a part of a model; of a folder where its shape is known beforehand.
    fn new(folder: Option<&ModelConfig>) -> Self {
        match folder {
            None => Self::Gguf(Box::default()),
            Some(_) => Self::Safetensors(safetensors::Parser::default()),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Gguf(parser) => parser.push(bytes),
            Self::Safetensors(parser) => parser.push(bytes),
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Self::Gguf(parser) => parser.header().is_some(),
            Self::Safetensors(parser) => parser.header().is_some(),
        }
    }

    /// The whole header, its tensors by GGUF's names. `number` is the part's place, which a shard of a folder does not know.
    fn into_table(self, folder: Option<&ModelConfig>, number: u32) -> Result<(Table, Metadata)> {
        match (self, folder) {
            (Self::Gguf(parser), _) => Table::of(parser.into_header()?),
            (Self::Safetensors(parser), folder) => {
                let safetensors::Header { mut tensors, data_offset } = parser.into_header().expect("it is complete");
                for tensor in &mut tensors {
                    let name = folder.and_then(|config| arch::folder::gguf_name(&tensor.name, config));
                    tensor.name = name.unwrap_or(std::mem::take(&mut tensor.name));
                }
                Ok((Table { number, parts: None, total: None, tensors, data_offset }, Metadata::default()))
            }
        }
    }
}

/// Holds the parts of a model to each other.
fn check_parts(parts: &[&Table]) -> Result<()> {
    let wrong = |key: &str, is: usize, part: usize, right: usize| {
        let part = part + 1;
        invalid(format!(
            "{key} is {is} in part {part} of the model, where {right} is right; give all parts of one model, in their order"
        ))
    };
    let count = parts[0].parts.map_or(parts.len(), |count| count as usize);
    let total = parts.iter().map(|table| table.tensors.len()).sum();
    for (i, table) in parts.iter().enumerate() {
        if table.number as usize != i {
            return Err(wrong(NUMBER, table.number as usize, i, i));
        }
        if let Some(is) = table.parts.filter(|is| *is as usize != count) {
            return Err(wrong(COUNT, is as usize, i, count));
        }
    }
    if count != parts.len() {
        let given = parts.len();
        return Err(invalid(format!(
            "the model is split into {count} files, and {given} were given; give all of them, the first one first"
        )));
    }
    for (i, table) in parts.iter().enumerate() {
        if let Some(is) = table.total.filter(|is| *is as usize != total) {
            return Err(wrong(TENSORS, is as usize, i, total));
        }
    }
    Ok(())
}

/// The target that bytes arrive for, of the tensor that it belongs to.
struct Current {
    tensor: usize,
    target: usize,
    writer: Writer,
}

enum State {
    Header(HeaderParser),
    Data { cursor: DataCursor, current: Option<Current> },
}

/// Takes a GGUF file piece by piece; or a split one, or a folder's safetensors, part by part, after the headers of all parts but
/// the first.
pub struct Reader {
    arrangement: Arrangement,
    /// The type that memory keeps float matrices in, if not their own.
    quantization: Option<QuantType>,
    /// The shape of a folder's model, which its parts do not tell.
    folder: Option<ModelConfig>,
    state: State,
    /// The further parts, as they were announced.
    announced: Vec<Table>,
    /// The header of a further part while it arrives.
    announcing: HeaderParser,
    /// Which part the bytes are of.
    part: usize,
    described: Option<Described>,
    /// Bytes of the tensors that divide rotary frequencies.
    divisors: HashMap<&'static str, Vec<u8>>,
    /// Targets whose last byte has been written.
    complete: usize,
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::InvalidFile, message)
}

impl Reader {
    /// A reader for matrices that lie like this; `quantization` is the type that memory keeps float matrices in, if not their
    /// own: Q8_0 or Q4_0.
    pub fn new(arrangement: Arrangement, quantization: Option<QuantType>) -> Self {
        Self {
            arrangement,
            quantization,
            folder: None,
            state: State::Header(HeaderParser::new(None)),
            announced: Vec::new(),
            announcing: HeaderParser::new(None),
            part: 0,
            described: None,
            divisors: HashMap::new(),
            complete: 0,
        }
    }

    /// Says that the parts are the safetensors of a folder with this `config.json`; before the first of their bytes.
    ///
    /// # Errors
    /// See [`arch::folder::read`].
    pub fn folder(&mut self, config: &serde_json::Value) -> Result<()> {
        let config = arch::folder::read(config)?;
        self.state = State::Header(HeaderParser::new(Some(&config)));
        self.announcing = HeaderParser::new(Some(&config));
        self.folder = Some(config);
        Ok(())
    }

    /// Takes bytes from the beginning of a further part of a split file, until its header is complete: then it gives true,
    /// and the next call begins the part after it. All of them come before the first byte of the first part, since a
    /// parameter may need tensors of several parts.
    ///
    /// # Errors
    /// Whatever the parser finds wrong.
    pub fn announce(&mut self, bytes: &[u8]) -> Result<bool> {
        if self.described.is_some() {
            return Err(invalid("a part is announced after the first one has begun".into()));
        }
        self.announcing.push(bytes)?;
        let complete = self.announcing.is_complete();
        if complete {
            let folder = self.folder.as_ref();
            let header = std::mem::replace(&mut self.announcing, HeaderParser::new(folder));
            let number = self.announced.len() as u32 + 1;
            self.announced.push(header.into_table(folder, number)?.0);
        }
        Ok(complete)
    }

    /// Takes what belongs to a header from the next bytes of the file; how many that were. Once the header is complete it
    /// takes none.
    ///
    /// # Errors
    /// Whatever the parser finds wrong; for the first part, what [`arch::read`] and the layout refuse,
    /// and `invalid_file` where the parts are not those of one model; for a further one, `invalid_file` where it is not
    /// what was announced.
    pub fn header(&mut self, bytes: &[u8]) -> Result<usize> {
        let State::Header(parser) = &mut self.state else { return Ok(0) };
        let used = parser.push(bytes)?;
        if !parser.is_complete() {
            return Ok(used);
        }
        let folder = self.folder.as_ref();
        let header = std::mem::replace(parser, HeaderParser::new(folder));
        let (table, metadata) = header.into_table(folder, self.part as u32)?;
        let cursor = DataCursor::new(&table.tensors);
        match self.part.checked_sub(1) {
            None => self.describe(&table, metadata)?,
            Some(further) if self.announced[further] == table => {}
            Some(_) => {
                let part = self.part + 1;
                return Err(invalid(format!(
                    "the header of part {part} is not the one that was announced: the file changed while it was loaded; \
                     load again"
                )));
            }
        }
        self.state = State::Data { cursor, current: None };
        Ok(used)
    }

    fn describe(&mut self, first: &Table, metadata: Metadata) -> Result<()> {
        let parts: Vec<&Table> = [first].into_iter().chain(&self.announced).collect();
        check_parts(&parts)?;
        let index = Index::new(parts.iter().map(|table| table.tensors.as_slice()).collect())?;
        let config = match &self.folder {
            Some(config) => config.clone(),
            None => arch::read(&metadata, &|name| index.has(name))?,
        };
        let layout = Layout::new(&config, &index, self.arrangement, self.quantization)?;
        self.described = Some(Described { config, metadata, layout });
        Ok(())
    }

    /// What the headers say, once all of them are complete.
    pub fn described(&mut self) -> Option<&mut Described> {
        self.described.as_mut()
    }

    /// Takes the next bytes of the file, in pieces of any size.
    ///
    /// # Errors
    /// As [`Self::header`]; an error of `write` is passed on. The reader must not be used after one.
    pub fn push(&mut self, bytes: &[u8], write: Write<'_>) -> Result<()> {
        let used = self.header(bytes)?;
        let Self { state: State::Data { cursor, current }, described: Some(described), .. } = self else {
            return Ok(());
        };
        let uses = &described.layout.uses[self.part];
        cursor.push(&bytes[used..], &mut |tensor, offset, piece| match &uses[tensor] {
            Use::None => Ok(()),
            Use::Divisors(name) => {
                self.divisors.entry(name).or_default().extend_from_slice(piece);
                Ok(())
            }
            Use::Buffers(targets) => {
                self.complete += fill(current, tensor, targets, offset, piece, write)?;
                Ok(())
            }
        })
    }

    /// Ends one part of a split file; the bytes of the next follow, from its beginning.
    ///
    /// # Errors
    /// `truncated_file` when something is missing of the part; `invalid_file` for more parts than were announced.
    pub fn next_part(&mut self) -> Result<()> {
        self.check_part()?;
        if self.part == self.announced.len() {
            return Err(invalid("more parts arrive than were announced".into()));
        }
        self.part += 1;
        self.state = State::Header(HeaderParser::new(self.folder.as_ref()));
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

    /// Ends the file: everything that it promised has arrived. Gives what the rotary tables are made of.
    ///
    /// # Errors
    /// `truncated_file` when something has not arrived; `invalid_tensor` for divisors that are not positive.
    pub fn finish(self) -> Result<Ropes> {
        self.check_part()?;
        let missing = self.announced.len() - self.part;
        if missing > 0 {
            let message = format!("{missing} parts of the split model are missing; give all of them");
            return Err(Error::new(ErrorCode::TruncatedFile, message));
        }
        let Described { config, layout, .. } = self.described.expect("the first header is complete");
        if self.complete != layout.targets() {
            let message = format!("{} of {} runs of weights were written", self.complete, layout.targets());
            return Err(Error::new(ErrorCode::Internal, message));
        }
        let mut tensors = HashMap::new();
        for (name, bytes) in self.divisors {
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
            if let Some(value) = values.iter().find(|v| !v.is_finite() || **v <= 0.0) {
                let message = format!("{name} holds {value}; its factors must be positive");
                return Err(Error::new(ErrorCode::InvalidTensor, message));
            }
            tensors.insert(name, values);
        }
        Ok(Ropes { config, tensors })
    }
}

/// What a model's rotary tables are made of.
pub struct Ropes {
    config: ModelConfig,
    /// The file's divisors by their tensors' names.
    tensors: HashMap<&'static str, Vec<f32>>,
}

impl Ropes {
    /// The table of each of the model's ropes, for sequences of up to `positions`; see [`rope::table`].
    pub fn tables(&self, positions: usize) -> Vec<Vec<f32>> {
        let table = |rope: &Rope| {
            let divisors = rope.divisors(positions).map(|divisors| match divisors {
                Divisors::Tensor(name) => &self.tensors[name],
                Divisors::Values(values) => values,
            });
            rope::table(rope, self.config.head_dim, positions, divisors.map(Vec::as_slice))
        };
        self.config.ropes.iter().map(table).collect()
    }
}

/// Writes a run of a tensor's bytes, from `offset` on; how many of its targets that completed.
fn fill(
    current: &mut Option<Current>,
    tensor: usize,
    targets: &[Target],
    mut offset: u64,
    mut piece: &[u8],
    write: Write<'_>,
) -> Result<usize> {
    let mut complete = 0;
    while !piece.is_empty() {
        // Targets come one after another, so one writer waits at a time: what it holds back is about 1 MiB.
        let Current { target, writer, .. } = match current {
            Some(current) if current.tensor == tensor && current.writer.left() > 0 => current,
            _ => {
                let starts = |t: &Target| t.start == offset;
                let target = targets.iter().position(starts).expect("the targets cover the tensor");
                current.insert(Current { tensor, target, writer: Writer::new(&targets[target]) })
            }
        };
        let &Target { buffer, base, .. } = &targets[*target];
        let mut write = |at: u64, data: &[u8]| write(buffer, base + at, data);
        let (now, later) = piece.split_at((piece.len() as u64).min(writer.left()) as usize);
        writer.push(now, &mut write)?;
        complete += usize::from(writer.left() == 0);
        (offset, piece) = (offset + now.len() as u64, later);
    }
    Ok(complete)
}
