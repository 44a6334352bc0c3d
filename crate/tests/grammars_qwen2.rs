//! Structured outputs on a real model, beside what vLLM's server said, and what forced tokens save.

mod common;

use std::path::Path;
use std::time::Instant;

use common::grammars::add_grammars;
use common::{On, finish, metric, params};
use embergram::config::ChatOptions;
use embergram::engine::SequenceOutput;
use embergram::llm::Llm;
use embergram::speculate::SpeculativeConfig;
use embergram::text::{Message, TemplateValue};
use serde_json::{Value, json};

/// The request and the first choice's message of a recorded exchange.
fn recorded(name: &str) -> (Value, Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/vllm_server.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let exchange = all["exchanges"].as_array().unwrap().iter().find(|e| e["name"] == name).unwrap().clone();
    let parse =
        |value: &Value| value.as_str().map_or_else(|| value.clone(), |text| serde_json::from_str(text).unwrap());
    (parse(&exchange["request"]["body"]), parse(&exchange["response"]["body"])["choices"][0]["message"].clone())
}

fn chat(llm: &mut Llm, body: &Value, outputs: Option<Value>) -> SequenceOutput {
    let messages: Vec<Message> = serde_json::from_value(body["messages"].clone()).unwrap();
    let mut options = json!({});
    if let Some(tools) = body.get("tools") {
        options["tools"] = tools.clone();
    }
    let options: TemplateValue = serde_json::from_str(&options.to_string()).unwrap();
    let prompt = llm.chat_prompt(&messages, &ChatOptions::from_json(&options).unwrap()).unwrap();
    let mut p = json!({ "temperature": 0, "max_tokens": body["max_tokens"] });
    if let Some(outputs) = outputs {
        p["structured_outputs"] = outputs;
    }
    let ids = llm.add(&prompt, &params(p)).unwrap();
    finish(llm, &ids).remove(0)
}

fn speculation() -> Option<SpeculativeConfig> {
    let config =
        json!({ "method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_min": 2, "prompt_lookup_max": 4 });
    Some(SpeculativeConfig::from_json(&config).unwrap())
}

#[test]
fn structured_answers_are_those_of_vllm_s_server() {
    let mut llm = On::Cpu(2).load("EMBERGRAM_QWEN2", json!({ "max_model_len": 512, "max_num_seqs": 2 }));
    let forcing = add_grammars(&mut llm);
    llm.set_speculation(speculation());
    for name in ["structured choice", "structured regex"] {
        let (body, message) = recorded(name);
        let output = chat(&mut llm, &body, Some(body["structured_outputs"].clone()));
        assert_eq!(output.text, message["content"].as_str().unwrap(), "{name}");
    }
    let (body, message) = recorded("json object");
    let output = chat(&mut llm, &body, Some(json!({ "json_object": true })));
    assert_eq!(output.text, message["content"].as_str().unwrap());
    let (body, message) = recorded("json schema");
    let output = chat(&mut llm, &body, Some(json!({ "json": body["response_format"]["json_schema"]["schema"] })));
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    println!("{}", output.text);
    assert_eq!(parse(&output.text), parse(message["content"].as_str().unwrap()));

    // A tool that must be called: a list of calls, as vLLM's server has it.
    for name in ["tool required", "tool by name"] {
        let (body, message) = recorded(name);
        let function = &body["tools"][0]["function"];
        let spaced = json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
        let call = json!({ "type": "object", "properties": { "name": { "const": function["name"] }, "arguments": function["parameters"] },
            "required": ["name", "arguments"], "additionalProperties": false, "x-guidance": spaced });
        let lark = format!("start: \"<tool_call>\\n\" call \"\\n</tool_call>\"\ncall: %json {call}");
        let output = chat(&mut llm, &body, Some(json!({ "grammar": lark })));
        println!("{} {:?}", output.text, output.forced);
        let text =
            output.text.strip_prefix("<tool_call>\n").and_then(|text| text.strip_suffix("\n</tool_call>")).unwrap();
        let recorded = &message["tool_calls"][0]["function"];
        let call = parse(text);
        assert_eq!(call["name"], recorded["name"]);
        assert_eq!(call["arguments"], parse(recorded["arguments"].as_str().unwrap()));
    }

    // What is forced costs nothing, and changes nothing.
    let (mut body, _) = recorded("json schema");
    body["max_tokens"] = json!(120);
    let schema = json!({ "type": "object", "additionalProperties": false, "required": ["first_name", "last_name", "date_of_birth", "nationality", "occupations"], "properties": {
        "first_name": { "type": "string" }, "last_name": { "type": "string" }, "date_of_birth": { "type": "string", "format": "date" },
        "nationality": { "type": "string" }, "occupations": { "type": "array", "items": { "enum": ["mathematician", "writer", "programmer"] }, "minItems": 1, "maxItems": 3 } } });
    let steps = |llm: &Llm| metric(llm, "embergram:step_time_seconds", None)["count"].as_u64().unwrap();
    let mut seen: Option<Vec<u32>> = None;
    for compact in [false, true] {
        seen = None;
        for (force, k) in [(false, None), (true, None), (false, speculation()), (true, speculation())] {
            forcing.set(force);
            llm.set_speculation(k);
            let (before, started) = (steps(&llm), Instant::now());
            let output = chat(&mut llm, &body, Some(json!({ "json": schema, "disable_any_whitespace": compact })));
            println!(
                "compact {compact}, forced drafts {force}, K {}: {} tokens, {} steps, {:.2} s, {} forced",
                k.map_or(0, |k| k.num_speculative_tokens),
                output.token_ids.len(),
                steps(&llm) - before,
                started.elapsed().as_secs_f64(),
                output.metrics.as_ref().unwrap().num_forced_tokens,
            );
            parse(&output.text);
            assert_eq!(*seen.get_or_insert(output.token_ids.clone()), output.token_ids, "{}", output.text);
        }
    }
    assert!(seen.is_some());
}
