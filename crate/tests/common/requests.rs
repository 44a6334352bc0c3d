//! Requests to a loaded model, and what it counted.

use embergram::config::SamplingParams;
use embergram::engine::SequenceOutput;
use embergram::llm::{Llm, Prompt};
use serde_json::Value;

pub fn params(value: Value) -> SamplingParams {
    SamplingParams::from_json(&value).unwrap()
}

pub fn tokens(ids: &[u32]) -> Prompt {
    Prompt::Tokens(ids.to_vec())
}

/// Steps until nothing is in flight; returns the whole outputs of these sequences, in order.
pub async fn finish(llm: &mut Llm, ids: &[u64]) -> Vec<SequenceOutput> {
    let mut outputs: Vec<_> = ids.iter().map(|id| SequenceOutput { id: *id, ..Default::default() }).collect();
    while llm.is_busy() {
        for delta in llm.step().await.unwrap() {
            outputs.iter_mut().find(|o| o.id == delta.id).expect("an output of a sequence in flight").extend(delta);
        }
    }
    outputs
}

/// The metric of this name and, if given, label value, as JSON.
pub fn metric(llm: &Llm, name: &str, label: Option<&str>) -> Value {
    let all = serde_json::to_value(llm.metrics()).unwrap();
    let fits = |m: &&Value| {
        m["name"] == name && label.is_none_or(|l| m["labels"].as_object().unwrap().values().any(|v| v == l))
    };
    all.as_array().unwrap().iter().find(fits).unwrap_or_else(|| panic!("no metric {name}")).clone()
}

pub fn counter(llm: &Llm, name: &str, label: Option<&str>) -> u64 {
    metric(llm, name, label)["value"].as_u64().unwrap()
}
