//! What known texts would have cost under settings of speculation, without their model. Reads one JSON object from standard
//! input: `costs` (`[[rows, cost], ...]`, ascending, each for the rows down to the entry before), `max_tokens`, `texts`
//! (`[{"prompt_token_ids", "output_token_ids"}, ...]`) and `configs` (speculative_config objects, or null for none).
//! Writes a JSON list, for each setting the steps, drafts and the cost of all texts together.
//! `cargo run --example replay < texts.json`

use embergram::engine::replay::Replay;
use embergram::speculate::SpeculativeConfig;
use serde::Deserialize;

#[derive(Deserialize)]
struct Input {
    costs: Vec<(usize, f64)>,
    max_tokens: usize,
    texts: Vec<Text>,
    configs: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Text {
    prompt_token_ids: Vec<u32>,
    output_token_ids: Vec<u32>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let input: Input = serde_json::from_reader(std::io::stdin())?;
    let texts: Vec<_> = input.texts.into_iter().map(|text| (text.prompt_token_ids, text.output_token_ids)).collect();
    let mut results = Vec::new();
    for config in &input.configs {
        let config = if config.is_null() { None } else { Some(SpeculativeConfig::from_json(config)?) };
        let replay = Replay::run(&texts, input.max_tokens, config.as_ref(), &input.costs)?;
        let cost = replay.cost(&input.costs).ok_or("costs is empty")?;
        results.push(serde_json::json!({ "steps": replay.steps(), "cost": cost, "replay": replay }));
    }
    println!("{}", serde_json::Value::from(results));
    Ok(())
}
