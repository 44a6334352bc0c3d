//! What tells one kernel from another: its shader, and the values it is written out with.

use minijinja::Value;
use serde::{Serialize, Serializer};

use super::weights::DeviceWords;
use crate::format::quant::QuantType;
use crate::program::{Activation, Matrix, Part, QkNorm, Shape};

/// A shader and what its template is given, besides what all share (the model's shape and the tuning).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub(super) enum Kernel {
    /// Makes bytes of the activations that a product takes; products that take them are `fast`.
    Quantize {
        inner: usize,
    },
    Embed {
        w: Vec<MatrixKey>,
        scale: Option<Constant>,
        /// Whether a norm follows, whose gain it multiplies with.
        gain: bool,
    },
    Qkv {
        inner: usize,
        w: Vec<MatrixKey>,
        fast: bool,
        norm: bool,
        /// Where the bias starts among the weights, in vec4.
        bias: Option<u32>,
        /// Whether q and k turn here.
        rotates: bool,
        /// Whether q and k go to a norm before they turn.
        raw: bool,
    },
    QkNorm {
        rotates: bool,
        /// Whether a norm is taken over each head by itself.
        by_head: bool,
    },
    AttentionAlone {
        window: Option<usize>,
    },
    AttentionSubgroup {
        window: Option<usize>,
    },
    AttentionGpu {
        window: Option<usize>,
        prompt: bool,
        #[serde(flatten)]
        share: AttentionShare,
    },
    AttentionMerge {
        window: Option<usize>,
        #[serde(flatten)]
        share: AttentionShare,
    },
    Project {
        inner: usize,
        w: Vec<MatrixKey>,
        fast: bool,
        /// Whether it adds to what is there.
        adds: bool,
        scale: Option<Constant>,
        gain: bool,
    },
    AddNormed {
        scale: Option<Constant>,
        gain: bool,
    },
    GateUp {
        inner: usize,
        w: Vec<MatrixKey>,
        fast: bool,
        norm: bool,
        activation: &'static str,
    },
    Logits {
        inner: usize,
        w: Vec<MatrixKey>,
        fast: bool,
        scale: Option<Constant>,
        cap: Option<Constant>,
    },
    Adjust,
    ArgmaxPart,
    Argmax,
    Draw,
}

impl Kernel {
    /// The file in `shaders/`.
    pub fn shader(&self) -> &'static str {
        match self {
            Self::Quantize { .. } => "quantize.wgsl",
            Self::Embed { .. } => "embed.wgsl",
            Self::Qkv { .. } => "qkv.wgsl",
            Self::QkNorm { .. } => "qk_norm.wgsl",
            Self::AttentionAlone { .. } => "attention_alone.wgsl",
            Self::AttentionSubgroup { .. } => "attention_subgroup.wgsl",
            Self::AttentionGpu { .. } => "attention_gpu.wgsl",
            Self::AttentionMerge { .. } => "attention_merge.wgsl",
            Self::Project { .. } => "project.wgsl",
            Self::AddNormed { .. } => "add_normed.wgsl",
            Self::GateUp { .. } => "gate_up.wgsl",
            Self::Logits { .. } => "logits.wgsl",
            Self::Adjust => "adjust.wgsl",
            Self::ArgmaxPart => "argmax_part.wgsl",
            Self::Argmax => "argmax.wgsl",
            Self::Draw => "draw.wgsl",
        }
    }

    /// Whether it only serves to sample by noise.
    pub fn samples(&self) -> bool {
        matches!(self, Self::Adjust | Self::Draw)
    }

    /// What reports call it: its shader, and what tells it from others of that shader in one model.
    pub fn name(&self) -> String {
        let shader = self.shader().trim_end_matches(".wgsl");
        match self {
            Self::AttentionGpu { prompt: true, .. } => "attention_prompt".into(),
            Self::Project { inner, .. } | Self::Quantize { inner } => format!("{shader}_{inner}"),
            Self::AttentionAlone { window: Some(window) }
            | Self::AttentionSubgroup { window: Some(window) }
            | Self::AttentionGpu { window: Some(window), .. } => format!("{shader}_{window}"),
            _ => shader.into(),
        }
    }

    /// The matrices that a product multiplies with, and the width of their rows.
    fn product(&self) -> Option<(usize, &[MatrixKey])> {
        match self {
            Self::Qkv { inner, w, .. }
            | Self::Project { inner, w, .. }
            | Self::GateUp { inner, w, .. }
            | Self::Logits { inner, w, .. } => Some((*inner, w)),
            _ => None,
        }
    }

    /// Their types.
    pub fn types(&self) -> Vec<QuantType> {
        self.product().map(|(_, w)| w.iter().map(|matrix| matrix.ty).collect()).unwrap_or_default()
    }

    /// Weights that a product reads, and their bytes.
    pub fn weights(&self) -> (u64, u64) {
        let Some((inner, w)) = self.product() else { return (0, 0) };
        w.iter().fold((0, 0), |(weights, bytes), matrix| {
            let more = (matrix.rows * inner) as u64;
            (weights + more, bytes + matrix.ty.bytes_for(more))
        })
    }

    /// The values for its template.
    pub fn values(&self) -> Value {
        match self {
            Self::Adjust | Self::ArgmaxPart | Self::Argmax | Self::Draw => Value::from_serialize(()),
            _ => Value::from_serialize(self),
        }
    }
}

/// A matrix as shaders see it: planes start at words `p`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(super) struct MatrixKey {
    #[serde(serialize_with = "type_name")]
    ty: QuantType,
    first: usize,
    pub rows: usize,
    p: Vec<u32>,
}

impl MatrixKey {
    /// Whether its weights are whole numbers times scales.
    pub fn is_quantised(&self) -> bool {
        !self.ty.is_float()
    }
}

fn type_name<S: Serializer>(ty: &QuantType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(ty.name())
}

/// The matrices of some parameters.
pub(super) fn matrices(parts: &[&Part<DeviceWords>]) -> Vec<MatrixKey> {
    let key = |m: &Matrix| MatrixKey { ty: m.ty, first: m.first, rows: m.rows, p: m.planes.clone() };
    parts.iter().flat_map(|part| &part.matrices).map(key).collect()
}

/// What a workgroup of the GPUs' attention takes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub(super) struct AttentionShare {
    /// Query heads, which share keys and values.
    pub head_count: usize,
    /// Rows of a slot, at most.
    pub row_count: usize,
    /// Positions.
    pub split: usize,
    /// Splits of the longest sequence.
    pub splits: usize,
    /// vec4 of a head.
    pub lanes: usize,
}

impl AttentionShare {
    const SPLIT: usize = 256;

    /// For a model of this shape, and sequences of so many positions. So many queries that their scores and the queries themselves
    /// fit the 16 KiB of workgroup memory that WebGPU promises.
    pub fn new(shape: &Shape, positions: usize) -> Self {
        let (lanes, group) = (shape.head_dim / 4, shape.heads / shape.kv_heads);
        let most = if shape.head_dim <= 128 { 8 } else { 4 };
        let head_count = (1..=most.min(group)).rev().find(|n| group.is_multiple_of(*n)).unwrap_or(1);
        let splits = positions.div_ceil(Self::SPLIT);
        Self { head_count, row_count: most / head_count, split: Self::SPLIT, splits, lanes }
    }
}

/// A number in a shader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Constant(pub f32);

impl Constant {
    /// A factor, unless it changes nothing.
    pub fn factor(value: f32) -> Option<Self> {
        (value != 1.0).then_some(Self(value))
    }
}

impl PartialEq for Constant {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Constant {}

impl std::hash::Hash for Constant {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl Serialize for Constant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:e}", self.0))
    }
}

impl Activation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_tanh",
        }
    }
}

impl QkNorm {
    pub(super) fn is_by_head(self) -> bool {
        self == Self::Head
    }
}
