//! Which tensor a byte belongs to.

use super::Header;
use crate::error::{Error, ErrorCode, Result, excerpt};

/// Deals the bytes after [`Header::data_offset`], in chunks of any size, out to the tensors. Bytes between tensors and
/// after the last are passed over.
pub struct DataCursor {
    spans: Vec<Span>,
    /// The first tensor that is not complete.
    current: usize,
    /// Bytes seen, counted from the data's start.
    position: u64,
}

struct Span {
    name: String,
    start: u64,
    end: u64,
}

impl DataCursor {
    /// A cursor at the data's start.
    pub fn new(header: &Header) -> Self {
        let span = |tensor: &super::TensorInfo| Span {
            name: tensor.name.clone(),
            start: tensor.offset,
            end: tensor.offset + tensor.size,
        };
        Self { spans: header.tensors.iter().map(span).collect(), current: 0, position: 0 }
    }

    /// Calls `take` with every run of bytes that belongs to one tensor: its index in [`Header::tensors`], the offset
    /// of the run within the tensor, and the bytes, never empty. An error of `take` is passed on; the cursor must not
    /// be used after it.
    pub fn push<'a>(
        &mut self,
        mut bytes: &'a [u8],
        take: &mut dyn FnMut(usize, u64, &'a [u8]) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            let Some(span) = self.spans.get(self.current) else {
                self.position += bytes.len() as u64;
                break;
            };
            let inside = self.position >= span.start;
            let until = if inside { span.end } else { span.start };
            let run = (until - self.position).min(bytes.len() as u64);
            let (now, later) = bytes.split_at(run as usize);
            if inside {
                take(self.current, self.position - span.start, now)?;
            }
            self.position += run;
            if self.position == span.end {
                self.current += 1;
            }
            bytes = later;
        }
        Ok(())
    }

    /// [`ErrorCode::TruncatedFile`], naming the first incomplete tensor, if bytes are missing.
    pub fn finish(&self) -> Result<()> {
        let Some(span) = self.spans.get(self.current) else { return Ok(()) };
        Err(Error::new(
            ErrorCode::TruncatedFile,
            format!(
                "the file ends inside its tensors: '{}' has {} of its {} bytes; download the file again",
                excerpt(&span.name),
                self.position.saturating_sub(span.start),
                span.end - span.start
            ),
        ))
    }
}
