//! What tells one kernel from another: its shader, and the values it is written out with.

use minijinja::Value;
use serde::{Serialize, Serializer};

use super::weights::DeviceWords;
use crate::program::{Activation, Matrix, Part, QkNorm};

/// A shader and what its template is given, besides what all share (the model's shape and the tuning).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub(super) enum Kernel {
    Embed {
        w: Vec<MatrixKey>,
        scale: Option<Constant>,
        /// Whether a norm follows, whose gain it multiplies with.
        gain: bool,
    },
    Qkv {
        inner: usize,
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
        inner: usize,
        w: Vec<MatrixKey>,
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
        norm: bool,
        activation: &'static str,
    },
    Logits {
        inner: usize,
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
    ty: &'static str,
    first: usize,
    pub rows: usize,
    p: Vec<u32>,
}

/// The matrices of some parameters.
pub(super) fn matrices(parts: &[&Part<DeviceWords>]) -> Vec<MatrixKey> {
    let key = |m: &Matrix| MatrixKey { ty: m.ty.name(), first: m.first, rows: m.rows, p: m.planes.clone() };
    parts.iter().flat_map(|part| &part.matrices).map(key).collect()
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
