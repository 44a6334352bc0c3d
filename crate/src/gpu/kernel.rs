//! What tells one kernel from another: its shader, and the values it is written out with.

use minijinja::Value;
use serde::{Serialize, Serializer};

use super::Tuning;
use super::weights::DeviceWords;
use crate::format::quant::QuantType;
use crate::program::{Activation, Matrix, Part, QkNorm};

/// A shader and what its template is given, besides what all share (the model's shape and the tuning).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub(super) enum Kernel {
    Embed {
        w: Vec<MatrixKey>,
        scale: Option<Constant>,
    },
    Qkv {
        #[serde(flatten)]
        product: Product,
        w: Vec<MatrixKey>,
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
        threads: usize,
        /// How many positions' values are taken at a time.
        subs: usize,
    },
    Project {
        #[serde(flatten)]
        product: Product,
        w: Vec<MatrixKey>,
        /// Whether it adds to what is there.
        adds: bool,
        scale: Option<Constant>,
    },
    AddNormed {
        scale: Option<Constant>,
    },
    GateUp {
        #[serde(flatten)]
        product: Product,
        w: Vec<MatrixKey>,
        norm: bool,
        activation: &'static str,
    },
    Logits {
        #[serde(flatten)]
        product: Product,
        w: Vec<MatrixKey>,
        scale: Option<Constant>,
        cap: Option<Constant>,
    },
    ArgmaxPart,
    Argmax,
}

impl Kernel {
    /// The file in `shaders/`.
    pub fn shader(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed.wgsl",
            Self::Qkv { .. } => "qkv.wgsl",
            Self::QkNorm { .. } => "qk_norm.wgsl",
            Self::AttentionAlone { .. } => "attention_alone.wgsl",
            Self::AttentionSubgroup { .. } => "attention_subgroup.wgsl",
            Self::AttentionGpu { .. } => "attention_gpu.wgsl",
            Self::Project { .. } => "project.wgsl",
            Self::AddNormed { .. } => "add_normed.wgsl",
            Self::GateUp { .. } => "gate_up.wgsl",
            Self::Logits { .. } => "logits.wgsl",
            Self::ArgmaxPart => "argmax_part.wgsl",
            Self::Argmax => "argmax.wgsl",
        }
    }

    /// What reports call it: its shader, and what tells it from others of that shader in one model.
    pub fn name(&self) -> String {
        let shader = self.shader().trim_end_matches(".wgsl");
        match self {
            Self::Project { product, .. } => format!("{shader}_{}", product.inner),
            Self::AttentionAlone { window: Some(window) }
            | Self::AttentionSubgroup { window: Some(window) }
            | Self::AttentionGpu { window: Some(window), .. } => format!("{shader}_{window}"),
            _ => shader.into(),
        }
    }

    /// Weights that a product reads, and their bytes.
    pub fn weights(&self) -> (u64, u64) {
        match self {
            Self::Qkv { product, w, .. }
            | Self::Project { product, w, .. }
            | Self::GateUp { product, w, .. }
            | Self::Logits { product, w, .. } => w.iter().fold((0, 0), |(weights, bytes), matrix| {
                let more = (matrix.rows * product.inner) as u64;
                (weights + more, bytes + matrix.ty.bytes_for(more))
            }),
            _ => (0, 0),
        }
    }

    /// The values for its template.
    pub fn values(&self) -> Value {
        match self {
            Self::ArgmaxPart | Self::Argmax => Value::from_serialize(()),
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

fn type_name<S: Serializer>(ty: &QuantType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(ty.name())
}

/// The matrices of some parameters.
pub(super) fn matrices(parts: &[&Part<DeviceWords>]) -> Vec<MatrixKey> {
    let key = |m: &Matrix| MatrixKey { ty: m.ty, first: m.first, rows: m.rows, p: m.planes.clone() };
    parts.iter().flat_map(|part| &part.matrices).map(key).collect()
}

/// How a product over rows of `inner` weights is shared out (tuning.rs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub(super) struct Product {
    inner: usize,
    team: usize,
    pub quads_per_workgroup: usize,
}

impl Product {
    pub fn new(tuning: Tuning, inner: usize) -> Self {
        Self { inner, team: tuning.team(inner), quads_per_workgroup: tuning.quads_per_workgroup(inner) }
    }

    /// Workgroups for sections of so many times four outputs.
    pub fn workgroups(&self, quads: impl IntoIterator<Item = usize>) -> usize {
        quads.into_iter().map(|q| q.div_ceil(self.quads_per_workgroup)).sum()
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
