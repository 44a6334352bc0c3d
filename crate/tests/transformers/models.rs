//! Tiny models of every architecture, whose logits `transformers` computed in float32 (tests/golden/models), as the GGUFs that
//! `scripts/convert_hf.py` makes of them.

use serde::Deserialize;

/// A model's name, its files and what `transformers` said.
pub struct Tiny {
    pub name: &'static str,
    /// As a GGUF.
    pub file: &'static [u8],
    /// As the folder it is.
    pub config: &'static str,
    pub safetensors: &'static [u8],
    golden: &'static str,
}

macro_rules! tiny {
    ($($name:literal)*) => {
        [$(Tiny {
            name: $name,
            file: include_bytes!(concat!(env!("EMBERGRAM_CONVERTED"), "/", $name, ".gguf")),
            config: include_str!(concat!("../../../tests/golden/models/", $name, "/config.json")),
            safetensors: include_bytes!(concat!("../../../tests/golden/models/", $name, "/model.safetensors")),
            golden: include_str!(concat!("../../../tests/golden/models/", $name, "/golden.json")),
        }),*]
    };
}

/// One of each. `EMBERGRAM_CONVERTED` names the folder of the GGUFs; `npm test` makes it.
pub const ALL: [Tiny; 9] = tiny!["llama3" "mistral" "qwen2" "qwen3" "gemma3" "phi3" "smollm3" "granite" "olmo2"];

/// What `transformers` said.
#[derive(Deserialize)]
pub struct Golden {
    pub token_ids: Vec<u32>,
    pub logits_last: Vec<f32>,
    pub logits_argmax: Vec<u32>,
    /// Twelve tokens that were given, and what it said to them.
    pub greedy_from_first_12: Vec<u32>,
}

impl Tiny {
    pub fn golden(&self) -> Golden {
        serde_json::from_str(self.golden).unwrap()
    }
}

/// The largest difference of two rows of logits, relative to the largest logit.
pub fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().all(|v| v.is_finite()));
    let largest = theirs.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    ours.iter().zip(theirs).fold(0.0, |m: f32, (a, b)| m.max((a - b).abs())) / largest
}
