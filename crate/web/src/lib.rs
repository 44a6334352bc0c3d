//! The wasm-bindgen surface of the engine: JS values in and out, nothing else.
//!
//! Options, parameters and messages come as plain JS objects; outputs and metrics go as such. Everything that fails
//! throws an `Error` whose `code` is the engine's. An [`Engine`] is used by one caller at a time: nothing may be called
//! while a `step` is under way (the package's host sees to it).

use std::borrow::Cow;

use embergram::config::{LlmConfig, SamplingParams};
use embergram::gpu::Gpu;
use embergram::speculate::SpeculativeConfig;
use embergram::text::{Message, well_formed};
use embergram::{Error, ErrorCode, Llm, LlmLoader, Prompt};
use serde::{Serialize, de::DeserializeOwned};
use wasm_bindgen::prelude::*;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs once, when the module is instantiated.
#[wasm_bindgen(start)]
fn start() {
    // Named here, so that the linker does not run all constructors on every call from JS (11 ms each).
    // SAFETY: the linker defines it, it takes nothing, and it runs once, before anything else.
    unsafe { __wasm_call_ctors() };
    console_error_panic_hook::set_once();
}

type Result<T> = std::result::Result<T, JsValue>;

fn thrown(error: Error) -> JsValue {
    let value = js_sys::Error::new(&error.message);
    // Setting a property of a fresh object cannot fail.
    let _ = js_sys::Reflect::set(&value, &"code".into(), &error.code.as_str().into());
    value.into()
}

/// A JS value by way of JSON, which leaves out what is `undefined`. JSON would make `null` of NaN and the infinities, and
/// `null` means "none" to many options: they become strings, which no option takes.
fn from_js<T: DeserializeOwned>(value: &JsValue, what: &str, code: ErrorCode) -> Result<T> {
    from_js_of(value, what, code, usize::MAX)
}

/// The same of at most so many characters of JSON, which are counted before they cross.
fn from_js_of<T: DeserializeOwned>(value: &JsValue, what: &str, code: ErrorCode, most: usize) -> Result<T> {
    let refuse = |why: String| thrown(Error::new(code, format!("{what} cannot be read: {why}")));
    let named = Closure::<dyn Fn(JsValue, JsValue) -> JsValue>::new(|_key, value: JsValue| match value.as_f64() {
        Some(x) if !x.is_finite() => {
            js_sys::Number::from(x).to_string_with_radix(10).map_or(JsValue::NULL, JsValue::from)
        }
        _ => value,
    });
    let text = js_sys::JSON::stringify_with_replacer(value, named.as_ref()).map_err(|e| refuse(format!("{e:?}")))?;
    if text.length() as usize > most {
        let message = format!("{what} have {} characters, but may have at most {most}; shorten them", text.length());
        return Err(thrown(Error::new(ErrorCode::PromptTooLong, message)));
    }
    let text = text.as_string().ok_or_else(|| refuse("it is not an object".to_string()))?;
    serde_json::from_str(&well_formed(text)).map_err(|e| refuse(e.to_string()))
}

/// A text whose length is checked before it crosses. It has at least as many bytes as JS counts units.
fn text_of(value: &JsValue, check: impl FnOnce(usize) -> embergram::Result<()>) -> Result<String> {
    let Some(text) = value.dyn_ref::<js_sys::JsString>() else {
        return Err(thrown(Error::new(ErrorCode::InvalidPrompt, "the text is no string")));
    };
    check(text.length() as usize).map_err(thrown)?;
    Ok(text.into())
}

fn to_js(value: &impl Serialize) -> Result<JsValue> {
    value
        .serialize(&serde_wasm_bindgen::Serializer::json_compatible())
        .map_err(|e| thrown(Error::new(ErrorCode::Internal, format!("a result does not fit JS: {e}"))))
}

fn speculation(value: &JsValue) -> Result<Option<SpeculativeConfig>> {
    if value.is_null() || value.is_undefined() {
        return Ok(None);
    }
    let value = from_js(value, "speculative_config", ErrorCode::InvalidConfig)?;
    SpeculativeConfig::from_json(&value).map(Some).map_err(thrown)
}

/// Takes a GGUF file piece by piece and becomes an [`Engine`].
#[wasm_bindgen]
pub struct Loader(LlmLoader);

#[wasm_bindgen]
impl Loader {
    /// Opens the GPU and checks the options of `Llm.load`.
    pub async fn open(options: JsValue) -> Result<Loader> {
        let options = from_js(&options, "the options of Llm.load", ErrorCode::InvalidConfig)?;
        let config = LlmConfig::from_json(&options).map_err(thrown)?;
        let gpu = Gpu::open().await.map_err(thrown)?;
        LlmLoader::new(gpu, config).map(Self).map_err(thrown)
    }

    /// Takes bytes from the beginning of a further part of a split file; gives whether its header is complete.
    pub fn announce(&mut self, bytes: &[u8]) -> Result<bool> {
        self.0.announce(bytes).map_err(thrown)
    }

    /// Ends one part of a split file; the bytes of the next follow, from its beginning.
    #[wasm_bindgen(js_name = nextPart)]
    pub fn next_part(&mut self) -> Result<()> {
        self.0.next_part().map_err(thrown)
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.push(bytes).map_err(thrown)
    }

    /// Ends the file and builds tokenizer and plan.
    pub fn finish(self) -> Result<Engine> {
        self.0.finish().map(Engine).map_err(thrown)
    }
}

/// A loaded model.
#[wasm_bindgen]
pub struct Engine(Llm);

#[wasm_bindgen]
impl Engine {
    /// What was loaded: name, context, vocabulary, whether it has a chat template.
    pub fn info(&self) -> Result<JsValue> {
        to_js(&self.0.info())
    }

    /// What tells the kernels of this model from those of others.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", self.0.fingerprint())
    }

    /// Checks that rows do not depend on their company, unless that is known of these kernels on this adapter; gives
    /// whether one kernel must serve all rows, since they do.
    #[wasm_bindgen(js_name = warmUp)]
    pub async fn warm_up(&mut self, known: Option<bool>) -> Result<bool> {
        self.0.warm_up(known).await.map_err(thrown)
    }

    /// Queues a prompt of token ids; returns the ids of its `n` sequences.
    pub fn add(&mut self, prompt: &JsValue, params: &JsValue) -> Result<JsValue> {
        let params = from_js(params, "the sampling parameters", ErrorCode::InvalidParams)?;
        let params = SamplingParams::from_json(&params).map_err(thrown)?;
        let tokens = from_js(prompt, "the prompt (an array of token ids)", ErrorCode::InvalidPrompt)?;
        let ids = self.0.add(&Prompt::Tokens(tokens), &params).map_err(thrown)?;
        to_js(&ids)
    }

    /// Runs one step; returns what it added to each sequence that got tokens.
    pub async fn step(&mut self) -> Result<JsValue> {
        let outputs = self.0.step().await.map_err(thrown)?;
        to_js(&outputs)
    }

    /// Ends a sequence; returns its last output, or null.
    pub fn abort(&mut self, id: f64) -> Result<JsValue> {
        to_js(&self.0.abort(id as u64))
    }

    /// Whether any sequence is in flight.
    #[wasm_bindgen(js_name = isBusy)]
    pub fn is_busy(&self) -> bool {
        self.0.is_busy()
    }

    /// The token ids of a text, special tokens added. At most 1 MiB of text, or what a prompt may have where that is more.
    pub fn tokenize(&self, text: &JsValue) -> Result<Vec<u32>> {
        let text = text_of(text, |length| self.0.check_text(length))?;
        self.0.tokenize(&text).map_err(thrown)
    }

    /// The token ids of a prompt's text, special tokens added.
    #[wasm_bindgen(js_name = promptTokens)]
    pub fn prompt_tokens(&self, text: &JsValue) -> Result<Vec<u32>> {
        let prompt = Prompt::Text(text_of(text, |length| self.0.check_prompt_text(length))?);
        self.0.prompt_tokens(&prompt).map(Cow::into_owned).map_err(thrown)
    }

    /// The text of token ids, special tokens included.
    pub fn detokenize(&self, ids: &[u32]) -> String {
        self.0.detokenize(ids)
    }

    /// The token ids of a chat, by the given template or the model's.
    #[wasm_bindgen(js_name = chatPrompt)]
    pub fn chat_prompt(&self, messages: &JsValue, chat_template: Option<String>) -> Result<Vec<u32>> {
        // JSON takes at most six characters for a byte; what a template leaves out has room beside that.
        let most = self.0.max_prompt_bytes().saturating_mul(8).saturating_add(1 << 20);
        let what = "the messages (each with role and content)";
        let messages: Vec<Message> = from_js_of(messages, what, ErrorCode::InvalidPrompt, most)?;
        let prompt = self.0.chat_prompt(&messages, chat_template.as_deref()).map_err(thrown)?;
        self.0.prompt_tokens(&prompt).map(Cow::into_owned).map_err(thrown)
    }

    /// Speculation for the requests that come; null for none.
    #[wasm_bindgen(js_name = setSpeculativeConfig)]
    pub fn set_speculative_config(&mut self, config: &JsValue) -> Result<()> {
        self.0.set_speculation(speculation(config)?);
        Ok(())
    }

    /// All metrics, in the shape of vLLM's `get_metrics()`.
    pub fn metrics(&mut self) -> Result<JsValue> {
        to_js(&self.0.metrics())
    }

    /// The same as Prometheus text exposition.
    #[wasm_bindgen(js_name = metricsText)]
    pub fn metrics_text(&mut self) -> String {
        self.0.metrics_text()
    }

    /// Sets every counter back to zero.
    #[wasm_bindgen(js_name = resetMetrics)]
    pub fn reset_metrics(&mut self) {
        self.0.reset_metrics();
    }
}
