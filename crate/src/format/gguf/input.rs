//! Reading fields of known length from chunks of any length.

/// The chunk being pushed, in front of it the start of a field that earlier chunks left unfinished.
pub(super) struct Input<'a, 'b> {
    /// Shorter than the field that is read next. It grows only as bytes come, whatever length the file claims.
    pub pending: &'a mut Vec<u8>,
    pub bytes: &'b [u8],
    /// Bytes of the chunk consumed.
    pub used: usize,
}

impl Input<'_, '_> {
    /// The next `len` bytes given to `read`, or `None` (and the rest of the chunk kept) if they are not all here.
    pub fn take<T>(&mut self, len: usize, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let rest = &self.bytes[self.used..];
        if self.pending.is_empty() && rest.len() >= len {
            self.used += len;
            return Some(read(&rest[..len]));
        }
        let now = rest.len().min(len - self.pending.len());
        self.pending.extend_from_slice(&rest[..now]);
        self.used += now;
        if self.pending.len() < len {
            return None;
        }
        let value = read(self.pending);
        // A long string's buffer is not kept.
        if self.pending.capacity() > 4096 {
            *self.pending = Vec::new()
        } else {
            self.pending.clear()
        }
        Some(value)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N, |bytes| {
            let mut array = [0; N];
            array.copy_from_slice(bytes);
            array
        })
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Skips up to `len` bytes; how many were there.
    pub fn skip(&mut self, len: u64) -> u64 {
        let rest = (self.bytes.len() - self.used) as u64;
        let now = len.min(rest);
        self.used += now as usize;
        now
    }
}
