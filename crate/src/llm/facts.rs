//! What a model's files say besides its weights and shape: name, tokenizer, chat templates, sampling defaults.

use std::collections::HashMap;

use serde_json::Value;

use crate::config::SamplingDefaults;
use crate::error::{Error, ErrorCode, Result, excerpt};
use crate::format::gguf::{self, Metadata};
use crate::text::{Tokenizer, TokenizerSource};

/// Most bytes of one of a folder's small files; the largest real ones, vocabularies, have some 30 MB.
const MAX_FILE: usize = 128 << 20;

/// Those facts.
pub(super) struct Facts {
    /// The model's own name.
    pub name: String,
    pub tokenizer: Tokenizer,
    /// The chat template's source.
    pub template: Option<String>,
    /// That of one for conversations with tools, where the model has two.
    pub tool_template: Option<String>,
    /// What the model recommends to sample with, or what is wrong with that.
    pub sampling: Result<SamplingDefaults>,
    /// What a template writes for the token that begins a text, and for the one that ends it.
    pub bos: String,
    pub eos: String,
}

impl Facts {
    /// Out of a GGUF's metadata, whose vocabulary it takes.
    ///
    /// # Errors
    /// `unsupported_model` for a tokenizer that the engine does not know; `invalid_file` for keys that are missing or wrong.
    pub fn of_gguf(m: &mut Metadata) -> Result<Self> {
        let name = excerpt(m.opt_str("general.name")?.unwrap_or("model")).to_string();
        let template = m.opt_str("tokenizer.chat_template")?.map(str::to_owned);
        let tool_template = m.opt_str("tokenizer.chat_template.tool_use")?.map(str::to_owned);
        let sampling = SamplingDefaults::of_gguf(|key| m.get(key).map(json_number));
        let source = tokenizer_source(m)?;
        let (bos, eos) = (source.bos, source.eos);
        let tokenizer = Tokenizer::new(source)?;
        let text = |id: Option<u32>| id.map_or(String::new(), |id| tokenizer.decode(&[id], false));
        let (bos, eos) = (text(bos), text(eos));
        Ok(Self { name, tokenizer, template, tool_template, sampling, bos, eos })
    }
}

/// A number of a GGUF as JSON. What is none becomes a text, which no parameter takes.
fn json_number(value: &gguf::Value) -> Value {
    let number = match value {
        // The shortest that is the same f32: 0.8, not 0.800000011920929.
        gguf::Value::F32(x) => x.to_string().parse().ok(),
        other => other.as_number(),
    };
    number.and_then(serde_json::Number::from_f64).map_or_else(|| "no number".into(), Value::Number)
}

fn tokenizer_source(m: &mut Metadata) -> Result<TokenizerSource> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    const MERGES: &str = "tokenizer.ggml.merges";
    let token_types = match m.get("tokenizer.ggml.token_type") {
        Some(_) => m.i32s("tokenizer.ggml.token_type")?.to_vec(),
        None => Vec::new(),
    };
    let pre = m.opt_str("tokenizer.ggml.pre")?.unwrap_or("default").to_string();
    let bos = m.opt_u32("tokenizer.ggml.bos_token_id")?;
    let model = m.str("tokenizer.ggml.model")?.to_string();
    let sentencepiece = model == "llama";
    // Files of Llama 2 and 3 often do without the key.
    let adds_bos = bos.is_some() && TokenizerSource::adds_bos(&model, &pre);
    let add_bos = m.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos);
    let scores = if sentencepiece { m.f32s("tokenizer.ggml.scores")?.to_vec() } else { Vec::new() };
    Ok(TokenizerSource {
        model,
        scores,
        add_space_prefix: m.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
        rstrip_special: sentencepiece && m.opt_str("general.architecture")? == Some("phi3"),
        pre,
        bos,
        eos: m.opt_u32("tokenizer.ggml.eos_token_id")?,
        eot: m.opt_u32("tokenizer.ggml.eot_token_id")?,
        add_bos,
        token_types,
        tokens: m.take_strings(TOKENS)?,
        merges: if sentencepiece { Vec::new() } else { m.take_strings(MERGES)? },
    })
}

/// A Hugging Face folder's small files.
#[derive(Default)]
pub(super) struct Folder {
    files: HashMap<String, Vec<u8>>,
}

impl Folder {
    /// Takes one whole.
    ///
    /// # Errors
    /// `invalid_file` for one that is too large.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        if bytes.len() > MAX_FILE {
            let message = format!("{} has {} bytes; {MAX_FILE} are the most", excerpt(name), bytes.len());
            return Err(Error::new(ErrorCode::InvalidFile, message));
        }
        self.files.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    /// One of JSON; `Null` where the folder has none of this name.
    ///
    /// # Errors
    /// `invalid_file` for one that is no JSON.
    pub fn json(&self, name: &str) -> Result<Value> {
        let Some(bytes) = self.files.get(name) else { return Ok(Value::Null) };
        serde_json::from_slice(bytes).map_err(|e| Error::new(ErrorCode::InvalidFile, format!("{name} is no JSON: {e}")))
    }

    /// What the files say. The tokenizer's takes most of their memory, and it goes with them.
    ///
    /// # Errors
    /// `invalid_file` without a `tokenizer.json`, or for one that cannot be read.
    pub fn facts(mut self) -> Result<Facts> {
        let (config, generation) = (self.json("config.json")?, self.json("generation_config.json")?);
        let tokenizing = self.json("tokenizer_config.json")?;
        let Some(tokenizer) = self.files.remove("tokenizer.json") else {
            let message = "the folder has no tokenizer.json; convert its tokenizer with transformers (AutoTokenizer, \
                           save_pretrained), or load a GGUF";
            return Err(Error::new(ErrorCode::InvalidFile, message));
        };
        // As in vLLM: whatever ends a generation by one of them does.
        let ends = [&generation, &config].into_iter().find_map(|file| token_ids(file.get("eos_token_id")?));
        let eos = token_text(&tokenizing, "eos_token");
        let tokenizer = Tokenizer::from_json(&tokenizer, ends.unwrap_or_default(), &eos)?;
        let jinja = self.files.remove("chat_template.jinja").map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let tool_template = named_template(&tokenizing, "tool_use").filter(|_| jinja.is_none());
        let template = jinja.or_else(|| named_template(&tokenizing, "default"));
        let name = config.get("_name_or_path").and_then(Value::as_str).filter(|name| !name.is_empty());
        Ok(Facts {
            name: excerpt(name.unwrap_or("model")).to_string(),
            tokenizer,
            template,
            tool_template,
            sampling: SamplingDefaults::of_generation_config(&generation),
            bos: token_text(&tokenizing, "bos_token"),
            eos,
        })
    }
}

/// A template of `tokenizer_config.json`: of several the one of this name; the only one is the default.
fn named_template(config: &Value, name: &str) -> Option<String> {
    let template = match config.get("chat_template")? {
        Value::Array(all) => all.iter().find(|one| one["name"] == name)?.get("template")?,
        only => Some(only).filter(|_| name == "default")?,
    };
    template.as_str().map(str::to_owned)
}

/// One id or several.
fn token_ids(value: &Value) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(all) => all.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    }
}

/// A special token of `tokenizer_config.json`: its text, or an object with it.
fn token_text(config: &Value, key: &str) -> String {
    let text = config.get(key).and_then(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
    text.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_of_a_gguf_are_told_as_they_were_written() {
        for (value, expected) in [
            (gguf::Value::F32(0.8), json!(0.8)),
            (gguf::Value::F64(0.95), json!(0.95)),
            (gguf::Value::I32(40), json!(40.0)),
            (gguf::Value::F32(f32::NAN), json!("no number")),
            (gguf::Value::String("0.8".into()), json!("no number")),
        ] {
            assert_eq!(json_number(&value), expected);
        }
        let given = |key: &str| (key == "general.sampling.top_k").then(|| json_number(&gguf::Value::I32(40)));
        let params = SamplingDefaults::of_gguf(given).unwrap().params(&Value::Null).unwrap();
        assert_eq!(params.top_k, 40);
    }

    #[test]
    fn a_template_is_found_by_its_name() {
        let one = json!({ "chat_template": "a" });
        assert_eq!(named_template(&one, "default").as_deref(), Some("a"));
        assert_eq!(named_template(&one, "tool_use"), None);
        let two = json!({ "chat_template": [{ "name": "tool_use", "template": "b" }] });
        assert_eq!(named_template(&two, "tool_use").as_deref(), Some("b"));
        assert_eq!(named_template(&two, "default"), None);
        assert_eq!(named_template(&json!({}), "default"), None);
    }
}
