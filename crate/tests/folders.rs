//! Hugging Face folders as a user loads them: small files, then safetensors whole or in shards.

mod common;

use embergram::ErrorCode;
use embergram::config::{ChatOptions, LlmConfig};
use embergram::llm::inspect::Inspector;
use embergram::llm::{Llm, LlmLoader, Prompt};
use embergram::text::Message;
use serde_json::{Value, json};

const CONFIG: &str = include_str!("../../tests/golden/models/llama3/config.json");
const SAFETENSORS: &[u8] = include_bytes!("../../tests/golden/models/llama3/model.safetensors");
const TOKENIZER: &[u8] = include_bytes!("../../tests/fixtures/folder/tokenizer.json");
const TOKENIZER_CONFIG: &[u8] = include_bytes!("../../tests/fixtures/folder/tokenizer_config.json");
const CASES: &str = include_str!("../../tests/fixtures/folder/cases.json");

/// The folder's small files, which a test may change.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.json", CONFIG.into()),
        ("tokenizer.json", TOKENIZER.into()),
        ("tokenizer_config.json", TOKENIZER_CONFIG.into()),
        ("generation_config.json", br#"{"eos_token_id": [2, 7]}"#.into()),
    ]
}

fn load(files: &[(&str, Vec<u8>)], shards: &[Vec<u8>]) -> embergram::Result<Llm> {
    load_with(files, shards, json!({ "max_model_len": 128 }))
}

fn load_with(files: &[(&str, Vec<u8>)], shards: &[Vec<u8>], options: Value) -> embergram::Result<Llm> {
    let config = LlmConfig::from_json(&options).unwrap();
    let mut loader = LlmLoader::new(&common::gpu(), config)?;
    for (name, bytes) in files {
        loader.file(name, bytes)?;
    }
    for shard in &shards[1..] {
        while !loader.announce(shard)? {}
    }
    for (i, shard) in shards.iter().enumerate() {
        if i > 0 {
            loader.next_part()?;
        }
        for piece in shard.chunks(5000) {
            loader.push(piece)?;
        }
    }
    loader.finish()
}

/// The tensors of a safetensors file in so many shards, in turn.
fn shards(file: &[u8], count: usize) -> Vec<Vec<u8>> {
    let start = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, Value> = serde_json::from_slice(&file[8..start]).unwrap();
    let mut shards = vec![(serde_json::Map::new(), Vec::new()); count];
    for (i, (name, entry)) in header.into_iter().filter(|(name, _)| name != "__metadata__").enumerate() {
        let [from, to] = [0, 1].map(|at| start + entry["data_offsets"][at].as_u64().unwrap() as usize);
        let (tensors, data) = &mut shards[i % count];
        let mut entry = entry;
        entry["data_offsets"] = json!([data.len(), data.len() + to - from]);
        data.extend_from_slice(&file[from..to]);
        tensors.insert(name, entry);
    }
    let whole = |(tensors, data): (serde_json::Map<String, Value>, Vec<u8>)| {
        let header = serde_json::to_vec(&tensors).unwrap();
        [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
    };
    shards.into_iter().map(whole).collect()
}

fn greedy(llm: &mut Llm) -> Vec<u32> {
    let params = common::params(json!({ "temperature": 0, "max_tokens": 24, "ignore_eos": true }));
    let prompt = common::tokens(&[5, 80, 91, 300, 17]);
    pollster::block_on(llm.generate(&[prompt], &params)).unwrap()[0][0].token_ids.clone()
}

#[test]
fn shards_are_the_whole_model() {
    let whole = greedy(&mut load(&files(), &[SAFETENSORS.to_vec()]).unwrap());
    assert_eq!(whole.len(), 24);
    for count in [2, 5] {
        assert_eq!(greedy(&mut load(&files(), &shards(SAFETENSORS, count)).unwrap()), whole, "{count} shards");
    }
}

#[test]
fn its_tokenizer_and_template_are_the_folder_s() {
    let llm = load(&files(), &[SAFETENSORS.to_vec()]).unwrap();
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    for case in &cases {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(llm.tokenize(text).unwrap(), ids, "{text:?}");
    }
    let message: Message = serde_json::from_value(json!({ "role": "user", "content": "the river" })).unwrap();
    let prompt = llm.chat_prompt(&[message], &ChatOptions::default()).unwrap();
    let Prompt::Tokens(ids) = prompt else { panic!("a chat's prompt is ids") };
    assert_eq!(llm.detokenize(&ids), "<|bos|>user: the river<|eos|>");
}

/// The folder's small files with another in place of one.
fn changed(name: &str, bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = files();
    files.iter_mut().find(|(other, _)| *other == name).unwrap().1 = bytes.to_vec();
    files
}

#[test]
fn a_model_with_a_template_for_tools_uses_it_for_them() {
    let mut config: Value = serde_json::from_slice(TOKENIZER_CONFIG).unwrap();
    config["chat_template"] = json!([
        { "name": "default", "template": "river" },
        { "name": "tool_use", "template": "{{ tools[0].name }}" },
    ]);
    let files = changed("tokenizer_config.json", config.to_string().as_bytes());
    let llm = load(&files, &[SAFETENSORS.to_vec()]).unwrap();
    let chat = |options: &str| {
        let options = ChatOptions::from_json(&serde_json::from_str(options).unwrap()).unwrap();
        let Prompt::Tokens(ids) = llm.chat_prompt(&[Message::new("user", "x")], &options).unwrap() else {
            unreachable!()
        };
        llm.detokenize(&ids)
    };
    assert_eq!(chat("{}"), "river");
    assert_eq!(chat(r#"{"tools": [{"name": "water"}]}"#), "water");
}

#[test]
fn requests_take_the_folder_s_sampling_defaults() {
    let generation = |more: Value| {
        let mut generation = json!({ "eos_token_id": [2, 7] });
        generation.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        changed("generation_config.json", generation.to_string().as_bytes())
    };
    let whole = [SAFETENSORS.to_vec()];
    let files = generation(json!({ "do_sample": true, "temperature": 0.7, "top_k": 20, "max_new_tokens": 100 }));
    let llm = load(&files, &whole).unwrap();
    let told = json!({ "temperature": 0.7, "top_k": 20, "max_tokens": 100 });
    assert_eq!(serde_json::to_value(&llm.info().defaults).unwrap(), told);
    let params = llm.sampling_params(&json!({ "top_k": 5 })).unwrap();
    assert_eq!((params.temperature, params.top_k, params.max_tokens), (0.7, 5, Some(100)));

    let llm = load_with(&files, &whole, json!({ "max_model_len": 128, "generation_config": "vllm" })).unwrap();
    assert_eq!(serde_json::to_value(&llm.info().defaults).unwrap(), json!({}));
    assert_eq!(llm.sampling_params(&json!({})).unwrap(), Default::default());

    let wrong = generation(json!({ "top_p": 0 }));
    let error = load(&wrong, &whole).err().expect("refused");
    assert!(error.code == ErrorCode::InvalidFile && error.message.contains("generation_config.json"), "{error}");
    assert!(load_with(&wrong, &whole, json!({ "max_model_len": 128, "generation_config": "vllm" })).is_ok());
}

#[test]
fn what_is_wrong_with_a_folder_is_said() {
    let config = |key: &str, value: Value| {
        let mut config: Value = serde_json::from_str(CONFIG).unwrap();
        config[key] = value;
        changed("config.json", config.to_string().as_bytes())
    };
    let whole = [SAFETENSORS.to_vec()];
    let (invalid, model) = (ErrorCode::InvalidFile, ErrorCode::UnsupportedModel);
    for (files, code, text) in [
        (changed("config.json", b"{"), invalid, "config.json is no JSON"),
        (changed("tokenizer.json", b"{}"), invalid, "tokenizer.json cannot be read"),
        (config("model_type", json!("gpt2")), model, "model_type is 'gpt2'; supported: llama"),
        (config("hidden_act", json!("relu")), model, "hidden_act is 'relu'"),
        (config("num_hidden_layers", json!("x")), invalid, "num_hidden_layers"),
        (config("num_hidden_layers", json!(9)), ErrorCode::InvalidTensor, "blk.3.attn_norm.weight"),
        (config("num_hidden_layers", json!(2)), ErrorCode::InvalidTensor, "no use for it"),
        (config("rope_parameters", json!({ "rope_type": "yarn" })), model, "rope scaling is 'yarn'"),
        (config("quantization_config", json!({})), ErrorCode::UnsupportedQuantization, "quantization_config"),
        (files()[..1].to_vec(), invalid, "no tokenizer.json"),
    ] {
        let error = load(&files, &whole).err().expect(text);
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(text), "{error}");
    }
    let parts = shards(SAFETENSORS, 3);
    let error = load(&files(), &parts[..2]).err().unwrap();
    assert!(error.code == ErrorCode::InvalidTensor && error.message.contains("missing"), "{error}");
    let twice = [parts[0].clone(), parts[1].clone(), parts[2].clone(), parts[1].clone()];
    assert!(load(&files(), &twice).err().unwrap().message.contains("part 2 of the model and in part 4"));
}

/// The headers tell what a load will take.
#[test]
fn headers_tell_what_a_model_is() {
    let inspect = |limit: u64, options: Value, folder: bool| {
        let mut inspector = Inspector::new(Some(limit), LlmConfig::from_json(&options).unwrap());
        if folder {
            inspector.folder(&serde_json::from_str(CONFIG).unwrap()).unwrap();
        }
        inspector.push(&SAFETENSORS[..SAFETENSORS.len() - 1000])
    };
    let told = inspect(1 << 27, json!({}), true).unwrap().expect("the header is complete");
    // 320 * 64 + 3 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 160 + 2 * 64) + 64
    assert_eq!((told.architecture, told.parameters, told.weight_bytes), ("llama", 149_952, 599_808));
    // Three layers, two heads of 16, keys and values, 4 bytes.
    assert_eq!((told.kv_bytes_per_token, told.context, told.vocab_size), (768, 256, 320));
    assert_eq!(told.max_model_len, 256);
    let options = json!({ "quantization": "q8_0", "kv_cache_memory_bytes": 100_000 });
    let told = inspect(1 << 27, options, true).unwrap().unwrap();
    assert_eq!((told.parameters, told.max_model_len), (149_952, 128));
    assert!(told.weight_bytes < 599_808 / 3, "{told:?}");
    let error = inspect(10_000, json!({}), true).unwrap_err();
    assert!(error.code == ErrorCode::AdapterTooSmall && error.message.contains("blk.0"), "{error}");
    assert_eq!(inspect(1 << 27, json!({}), false).unwrap_err().code, ErrorCode::InvalidFile);
}
