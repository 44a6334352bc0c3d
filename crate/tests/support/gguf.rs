//! GGUF files written by hand: fields, and small models whole or in parts.
#![allow(dead_code, reason = "each test binary uses its part")]

/// Writes GGUF fields.
#[derive(Clone, Default)]
pub struct File(pub Vec<u8>);

impl File {
    /// The start of a version 3 file.
    pub fn new(tensors: u64, entries: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(entries)
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    /// A key and the type of its value.
    pub fn key(self, key: &str, kind: u32) -> Self {
        self.text(key).u32(kind)
    }

    /// The key of an array, its element type and length.
    pub fn array(self, key: &str, element: u32, len: u64) -> Self {
        self.key(key, 9).u32(element).u64(len)
    }

    pub fn tensor(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        self = self.text(name).u32(shape.len() as u32);
        for &dim in shape {
            self = self.u64(dim);
        }
        self.u32(kind).u64(offset)
    }

    pub fn align(mut self, to: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
        self
    }
}

/// A value of the key-values.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
}

/// One tensor: its name, shape (innermost first) and type's number.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<u64>,
    pub kind: u32,
}

pub const F32: u32 = 0;
pub const Q4_0: u32 = 2;

/// Weights and bytes of a block of the types that these files have, by their numbers.
const BLOCKS: [(u32, u64, u64); 9] = [
    (F32, 1, 4),
    (Q4_0, 32, 18),
    (3, 32, 20),
    (6, 32, 22),
    (7, 32, 24),
    (8, 32, 34),
    (12, 256, 144),
    (13, 256, 176),
    (14, 256, 210),
];

/// Where the high bytes of a block's f16 scales are, and what they are: about 0.03, or less where another scale multiplies them.
fn scales(kind: u32) -> (&'static [u64], u8) {
    match kind {
        3 | 7 => (&[1, 3], 0x28),
        12 | 13 => (&[1, 3], 0x14),
        14 => (&[209], 0x10),
        _ => (&[1], 0x28),
    }
}

impl Tensor {
    pub fn new(name: &str, shape: &[u64], kind: u32) -> Self {
        Self { name: name.into(), shape: shape.into(), kind }
    }

    /// Its bytes; of what no memory could hold, and of other types, some number.
    pub fn size(&self) -> u64 {
        let elements = self.shape.iter().fold(1u64, |product, dim| product.wrapping_mul(*dim));
        let (_, len, bytes) = self.block();
        (elements / len).wrapping_mul(bytes)
    }

    fn block(&self) -> (u32, u64, u64) {
        BLOCKS.into_iter().find(|(kind, ..)| *kind == self.kind).unwrap_or(BLOCKS[0])
    }
}

/// A model file, or one part of a split one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub entries: Vec<(String, Entry)>,
    pub tensors: Vec<Tensor>,
}

impl Model {
    /// A Llama of one layer, 32 wide, with as many tokens as the alphabet that it spells.
    pub fn tiny() -> Self {
        let letters: Vec<String> = ('a'..='z').chain('A'..='F').map(String::from).collect();
        let vocab = letters.len() as u64;
        let mut model = Self::default()
            .set("general.architecture", Entry::Text("llama".into()))
            .set("llama.rope.freq_base", Entry::F32(10_000.0))
            .set("llama.attention.layer_norm_rms_epsilon", Entry::F32(1e-5))
            .set("tokenizer.ggml.model", Entry::Text("gpt2".into()))
            .set("tokenizer.ggml.pre", Entry::Text("gpt-2".into()))
            .set("tokenizer.ggml.tokens", Entry::Texts(letters))
            .set("tokenizer.ggml.merges", Entry::Texts(Vec::new()));
        for (key, value) in [
            ("context_length", 64),
            ("embedding_length", 32),
            ("block_count", 1),
            ("feed_forward_length", 32),
            ("attention.head_count", 1),
            ("attention.head_count_kv", 1),
            ("rope.dimension_count", 32),
            ("vocab_size", vocab as u32),
        ] {
            model = model.set(&format!("llama.{key}"), Entry::U32(value));
        }
        let matrices = [("token_embd", vocab), ("blk.0.attn_q", 32), ("blk.0.attn_k", 32), ("blk.0.attn_v", 32)];
        let more = ["attn_output", "ffn_gate", "ffn_up", "ffn_down"].map(|n| (format!("blk.0.{n}"), 32));
        let matrices = matrices.map(|(n, rows)| (n.to_string(), rows)).into_iter().chain(more);
        let matrices = matrices.map(|(n, rows)| Tensor::new(&format!("{n}.weight"), &[32, rows], Q4_0));
        let norms = ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"];
        let norms = norms.map(|n| Tensor::new(&format!("{n}.weight"), &[32], F32));
        model.tensors = matrices.chain(norms).collect();
        model
    }

    /// With this value for the key, whatever it had.
    pub fn set(mut self, key: &str, value: Entry) -> Self {
        self.entries.retain(|(k, _)| k != key);
        self.entries.push((key.into(), value));
        self
    }

    /// With one more tensor.
    pub fn with(mut self, tensor: Tensor) -> Self {
        self.tensors.push(tensor);
        self
    }

    /// As parts of so many tensors: all key-values in the first, and those of a split file in each.
    pub fn split(&self, each: usize) -> Vec<Self> {
        let count = self.tensors.len().div_ceil(each) as u32;
        let mut parts: Vec<Self> =
            self.tensors.chunks(each).map(|tensors| Self { tensors: tensors.to_vec(), entries: Vec::new() }).collect();
        parts[0].entries = self.entries.clone();
        for (no, part) in (0..).zip(&mut parts) {
            *part = std::mem::take(part)
                .set("split.no", Entry::U32(no))
                .set("split.count", Entry::U32(count))
                .set("split.tensors.count", Entry::U32(self.tensors.len() as u32));
        }
        parts
    }

    /// The header and its padding.
    pub fn header(&self) -> Vec<u8> {
        let mut file = File::new(self.tensors.len() as u64, self.entries.len() as u64);
        for (key, value) in &self.entries {
            file = match value {
                Entry::U32(v) => file.key(key, 4).u32(*v),
                Entry::F32(v) => file.key(key, 6).u32(v.to_bits()),
                Entry::Bool(v) => file.key(key, 7).bytes(&[u8::from(*v)]),
                Entry::Text(v) => file.key(key, 8).text(v),
                Entry::Texts(v) => v.iter().fold(file.array(key, 8, v.len() as u64), |file, text| file.text(text)),
            };
        }
        let mut offset = 0u64;
        for Tensor { name, shape, kind } in &self.tensors {
            file = file.tensor(name, shape, *kind, offset);
            offset = offset.wrapping_add(Tensor::new(name, shape, *kind).size() & !31).wrapping_add(32);
        }
        file.align(32).0
    }

    /// Header and data, up to 1 MiB a tensor; the weights are small, and each byte depends on its tensor and place.
    pub fn file(&self) -> Vec<u8> {
        let mut file = self.header();
        let data = file.len();
        for tensor in &self.tensors {
            let size = tensor.size().min(1 << 20);
            let seed = tensor.name.bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
            match tensor.kind {
                F32 => (0..size / 4).for_each(|_| file.extend(1f32.to_le_bytes())),
                kind => (0..size).for_each(|i| {
                    let noise = (seed ^ i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
                    let (places, high) = scales(kind);
                    file.push(if places.contains(&(i % tensor.block().2)) { high } else { noise as u8 });
                }),
            }
            file.resize(data + ((file.len() - data) & !31) + 32, 0);
        }
        file
    }
}
