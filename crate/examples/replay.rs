//! What known texts would have cost under settings of speculation, without their model. Reads one JSON object from standard
//! input: `costs` (`[[rows, cost], ...]`, ascending, each for the rows down to the entry before), `max_tokens`, `texts`
//! (`[{"prompt_token_ids", "output_token_ids"}, ...]`) and `configs` (speculative_config objects, or null for none).
//! Writes a JSON list, for each setting the steps, drafts and the cost of all texts together.
//! `cargo run --example replay < texts.json`

use embergram::speculate::{HoldRates, Replay, SpeculativeConfig, StepCosts};
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
    let mut costs = StepCosts::new(0);
    costs.fix(&input.costs);
    let mut results = Vec::new();
    for config in &input.configs {
        let config = if config.is_null() { None } else { Some(SpeculativeConfig::from_json(config)?) };
        let mut rates = HoldRates::default();
        let mut sum = Replay::default();
        for Text { prompt_token_ids: prompt, output_token_ids: output } in &input.texts {
            sum.add(&Replay::run(prompt, output, input.max_tokens, config.as_ref(), &costs, &mut rates)?);
        }
        let cost = sum.cost(&costs).ok_or("costs is empty")?;
        results.push(serde_json::json!({ "steps": sum.steps(), "cost": cost, "replay": sum }));
    }
    println!("{}", serde_json::Value::from(results));
    Ok(())
}
