//! The wasm-bindgen surface of the engine: JS values in and out, nothing else.
//!
//! Options, parameters and messages come as plain JS objects; outputs and metrics go as such. Everything that fails
//! throws an `Error` whose `code` is the engine's; after a trap all calls throw its error. An [`Engine`] is used by one
//! caller at a time: nothing may be called while a `step` is under way (the package's host sees to it).

mod trap;

use std::borrow::Cow;
use std::sync::Arc;

use embergram::config::{ChatOptions, LlmConfig, PoolingParams};
use embergram::cpu::{PageKernels, PageMemory};
use embergram::gpu::Gpu;
use embergram::llm::Cpu;
use embergram::sample::{LogitsProcessor, PageGrammars, PageModule, PageProcessor};
use embergram::speculate::SpeculativeConfig;
use embergram::text::{Message, TemplateValue, Tokenizer, well_formed};
use embergram::{Error, ErrorCode, Llm, LlmLoader, Prompt, Result};
use js_sys::{Function, JsString, Uint8Array, Uint32Array};
use serde::{Serialize, de::DeserializeOwned};
use wasm_bindgen::prelude::*;

use trap::{Guarded, attempt};

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs once, when the module is instantiated.
#[wasm_bindgen(start)]
fn start() {
    // Named here, so that the linker does not run all constructors on every call from JS (11 ms each).
    // SAFETY: the linker defines it, it takes nothing, and it runs once, before anything else.
    unsafe { __wasm_call_ctors() };
    trap::hook_panics();
}

/// The package's version, which the script that loads this module compares with its own.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_string()
}

/// What JS gets.
type Thrown<T> = std::result::Result<T, JsValue>;

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
    let refuse = |why: String| Error::new(code, format!("{what} cannot be read: {why}"));
    let named = Closure::<dyn Fn(JsValue, JsValue) -> JsValue>::new(|_key, value: JsValue| match value.as_f64() {
        Some(x) if !x.is_finite() => {
            js_sys::Number::from(x).to_string_with_radix(10).map_or(JsValue::NULL, JsValue::from)
        }
        _ => value,
    });
    let text = js_sys::JSON::stringify_with_replacer(value, named.as_ref()).map_err(|e| refuse(format!("{e:?}")))?;
    if text.is_string() && text.length() as usize > most {
        let message = format!("{what} have {} characters, but may have at most {most}; shorten them", text.length());
        return Err(Error::new(ErrorCode::PromptTooLong, message));
    }
    let text = text.as_string().ok_or_else(|| refuse("it is not an object".to_string()))?;
    serde_json::from_str(&well_formed(text)).map_err(|e| refuse(e.to_string()))
}

/// A text whose length is checked before it crosses. It has at least as many bytes as JS counts units.
fn text_of(value: &JsValue, check: impl FnOnce(usize) -> Result<()>) -> Result<String> {
    let no_text = || Error::new(ErrorCode::InvalidPrompt, "the text to tokenize is not a string");
    let text = value.dyn_ref::<JsString>().ok_or_else(no_text)?;
    check(text.length() as usize)?;
    Ok(text.into())
}

fn to_js(value: &impl Serialize) -> Result<JsValue> {
    value
        .serialize(&serde_wasm_bindgen::Serializer::json_compatible())
        .map_err(|e| Error::new(ErrorCode::Internal, format!("a result does not fit JS: {e}")))
}

fn speculation(value: &JsValue) -> Result<Option<SpeculativeConfig>> {
    if value.is_null() || value.is_undefined() {
        return Ok(None);
    }
    let value = from_js(value, "speculative_config", ErrorCode::InvalidConfig)?;
    SpeculativeConfig::from_json(&value).map(Some)
}

/// An open device, and what holds its memory: what is made on it may be in use, or have trapped, when it is destroyed.
#[wasm_bindgen]
pub struct Device(Backend);

enum Backend {
    Gpu(Gpu),
    Cpu(Cpu),
}

#[wasm_bindgen]
impl Device {
    /// Opens the GPU.
    pub async fn open() -> Thrown<Device> {
        match Guarded::open(Gpu::open()).await.map_err(thrown)? {
            Guarded::Whole(gpu) => Ok(Self(Backend::Gpu(gpu))),
            Guarded::Trapped(error) => Err(thrown(error)),
        }
    }

    /// The CPU, by kernels that JavaScript has instantiated.
    pub fn cpu(memory: PageMemory) -> Device {
        Self(Backend::Cpu(Cpu::new(PageKernels::new(memory))))
    }

    /// Gives all of a GPU's memory back. What waits for it fails with `device_lost`. The CPU's memory is JavaScript's.
    pub fn destroy(&self) -> Thrown<()> {
        match &self.0 {
            Backend::Gpu(gpu) => attempt(|| gpu.device.destroy()).map_err(thrown),
            Backend::Cpu(_) => Ok(()),
        }
    }
}

/// Takes a GGUF file piece by piece and becomes an [`Engine`]. Arguments of any size are JS's own and copied inside the
/// guard, since a copy may find no memory.
#[wasm_bindgen]
pub struct Loader(Guarded<LlmLoader>);

#[wasm_bindgen]
impl Loader {
    /// Checks the options of `Llm.load`.
    pub fn open(device: &Device, options: &JsValue) -> Thrown<Loader> {
        let open = || {
            let options = from_js(options, "the options of Llm.load", ErrorCode::InvalidConfig)?;
            let config = LlmConfig::from_json(&options)?;
            match &device.0 {
                Backend::Gpu(gpu) => LlmLoader::new(gpu, config),
                Backend::Cpu(cpu) => LlmLoader::new(cpu, config),
            }
        };
        attempt(open).and_then(|opened| opened).map(|loader| Self(Guarded::Whole(loader))).map_err(thrown)
    }

    /// Takes a small file of a Hugging Face folder, `config.json` first; the parts that follow are its safetensors.
    pub fn file(&mut self, name: &str, bytes: &Uint8Array) -> Thrown<()> {
        self.0.call(|loader| loader.file(name, &bytes.to_vec())).map_err(thrown)
    }

    /// Takes bytes from the beginning of a further part of a split file; gives whether its header is complete.
    pub fn announce(&mut self, bytes: &Uint8Array) -> Thrown<bool> {
        self.0.call(|loader| loader.announce(&bytes.to_vec())).map_err(thrown)
    }

    /// Ends one part of a split file; the bytes of the next follow, from its beginning.
    #[wasm_bindgen(js_name = nextPart)]
    pub fn next_part(&mut self) -> Thrown<()> {
        self.0.call(LlmLoader::next_part).map_err(thrown)
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &Uint8Array) -> Thrown<()> {
        self.0.call(|loader| loader.push(&bytes.to_vec())).map_err(thrown)
    }

    /// Ends the file and builds tokenizer and plan.
    pub fn finish(self) -> Thrown<Engine> {
        self.0.map(LlmLoader::finish).map(Engine).map_err(thrown)
    }
}

/// Tells what a model is by its headers alone; needs no device.
#[wasm_bindgen]
pub struct Inspector(Guarded<embergram::llm::inspect::Inspector>);

#[wasm_bindgen]
impl Inspector {
    /// For an adapter with such bindings, in bytes, or without them for the CPU; and the options of `Llm.load`.
    pub fn open(max_binding_bytes: Option<f64>, options: &JsValue) -> Thrown<Inspector> {
        let open = || {
            let options = from_js(options, "the options of Llm.inspect", ErrorCode::InvalidConfig)?;
            Ok(embergram::llm::inspect::Inspector::new(
                max_binding_bytes.map(|bytes| bytes as u64),
                LlmConfig::from_json(&options)?,
            ))
        };
        attempt(open).and_then(|opened| opened).map(|inspector| Self(Guarded::Whole(inspector))).map_err(thrown)
    }

    /// Takes a folder's `config.json`; the headers that follow are those of its safetensors.
    pub fn folder(&mut self, config: &JsValue) -> Thrown<()> {
        self.0
            .call(|inspector| inspector.folder(&from_js(config, "config.json", ErrorCode::InvalidFile)?))
            .map_err(thrown)
    }

    /// Takes bytes from the beginning of a further part; gives whether its header is complete.
    pub fn announce(&mut self, bytes: &Uint8Array) -> Thrown<bool> {
        self.0.call(|inspector| inspector.announce(&bytes.to_vec())).map_err(thrown)
    }

    /// Takes bytes from the beginning of the first part; gives what the headers tell once they are complete, else null.
    pub fn push(&mut self, bytes: &Uint8Array) -> Thrown<JsValue> {
        self.0.call(|inspector| to_js(&inspector.push(&bytes.to_vec())?)).map_err(thrown)
    }
}

/// A loaded model.
#[wasm_bindgen]
pub struct Engine(Guarded<Llm>);

impl Engine {
    fn call<R>(&mut self, f: impl FnOnce(&mut Llm) -> Result<R>) -> Thrown<R> {
        self.0.call(f).map_err(thrown)
    }
}

#[wasm_bindgen]
impl Engine {
    /// What was loaded: name, context, vocabulary, whether it has a chat template.
    pub fn info(&mut self) -> Thrown<JsValue> {
        self.call(|llm| to_js(llm.info()))
    }

    /// What tells the kernels of this model from those of others.
    pub fn fingerprint(&mut self) -> Thrown<String> {
        self.call(|llm| Ok(format!("{:016x}", llm.fingerprint())))
    }

    /// Checks that rows do not depend on their company, unless that is known of these kernels on this adapter; gives
    /// whether one kernel must serve all rows, since they do.
    #[wasm_bindgen(js_name = warmUp)]
    pub async fn warm_up(&mut self, known: Option<bool>) -> Thrown<bool> {
        self.0.call_async(async |llm| llm.warm_up(known).await).await.map_err(thrown)
    }

    /// Repeats a part of the check that a known answer stood for; gives that answer when all is repeated, else undefined.
    #[wasm_bindgen(js_name = checkAgain)]
    pub async fn check_again(&mut self) -> Thrown<Option<bool>> {
        self.0.call_async(async |llm| llm.check_again().await).await.map_err(thrown)
    }

    /// Sees whether the device's kernels compute what they should, on one row; gives the name of the first that does not.
    #[wasm_bindgen(js_name = knownAnswer)]
    pub async fn known_answer(&mut self) -> Thrown<Option<String>> {
        self.0.call_async(async |llm| llm.known_answer().await).await.map_err(thrown)
    }

    /// That the model runs here since a GPU failed its known answer.
    #[wasm_bindgen(js_name = setWrongKernel)]
    pub fn set_wrong_kernel(&mut self) -> Thrown<()> {
        self.call(|llm| {
            llm.set_wrong_kernel();
            Ok(())
        })
    }

    /// Whether sequences in flight outlive a device that is lost: they wait then for `takeOver`.
    #[wasm_bindgen(js_name = setRecover)]
    pub fn set_recover(&mut self, recover: bool) -> Thrown<()> {
        self.call(|llm| {
            llm.set_recover(recover);
            Ok(())
        })
    }

    /// Goes on with the device of another engine of the same model, after its own was lost.
    #[wasm_bindgen(js_name = takeOver)]
    pub fn take_over(&mut self, other: Engine) -> Thrown<()> {
        let other = other.0.into_whole().map_err(thrown)?;
        self.call(|llm| llm.take_over(other))
    }

    /// The model's vocabulary and tokenizer, which may be used while anything else of the engine is.
    pub fn words(&mut self) -> Thrown<Words> {
        self.call(|llm| Ok(Words(llm.tokenizer().clone())))
    }

    /// What compiles the grammars of requests to come.
    #[wasm_bindgen(js_name = setGrammars)]
    pub fn set_grammars(&mut self, module: PageModule) -> Thrown<()> {
        self.call(|llm| {
            llm.set_grammars(Box::new(PageGrammars::new(module)));
            Ok(())
        })
    }

    /// Queues a prompt of token ids, with a function that changes its logits where there is one (see `PageProcessor`); returns the
    /// ids of its `n` sequences.
    pub fn add(&mut self, prompt: &JsValue, params: &JsValue, processor: Option<Function>) -> Thrown<JsValue> {
        self.call(|llm| {
            let params = from_js(params, "the sampling parameters", ErrorCode::InvalidParams)?;
            let params = llm.sampling_params(&params)?;
            let tokens = from_js(prompt, "the prompt (an array of token ids)", ErrorCode::InvalidPrompt)?;
            let processors = processor.into_iter().map(|f| Box::new(PageProcessor(f)) as Box<dyn LogitsProcessor>);
            to_js(&llm.add_processed(&Prompt::Tokens(tokens), &params, processors.collect())?)
        })
    }

    /// Queues a prompt of token ids for its embedding; returns its sequence's id.
    #[wasm_bindgen(js_name = addPooling)]
    pub fn add_pooling(&mut self, prompt: &JsValue, params: &JsValue) -> Thrown<f64> {
        self.call(|llm| {
            let params = from_js(params, "the pooling parameters", ErrorCode::InvalidParams)?;
            let tokens = from_js(prompt, "the prompt (an array of token ids)", ErrorCode::InvalidPrompt)?;
            Ok(llm.add_pooling(&Prompt::Tokens(tokens), PoolingParams::from_json(&params)?)? as f64)
        })
    }

    /// Runs one step; returns what it added to each sequence that got tokens.
    pub async fn step(&mut self) -> Thrown<JsValue> {
        self.0.call_async(async |llm| to_js(&llm.step().await?)).await.map_err(thrown)
    }

    /// Ends a sequence; returns its last output, or null.
    pub fn abort(&mut self, id: f64) -> Thrown<JsValue> {
        self.call(|llm| to_js(&llm.abort(id as u64)))
    }

    /// Whether any sequence is in flight.
    #[wasm_bindgen(js_name = isBusy)]
    pub fn is_busy(&mut self) -> Thrown<bool> {
        self.call(|llm| Ok(llm.is_busy()))
    }

    /// The token ids of a text, special tokens added. At most 1 MiB of text, or what a prompt may have where that is more.
    pub fn tokenize(&mut self, text: &JsValue) -> Thrown<Vec<u32>> {
        self.call(|llm| llm.tokenize(&text_of(text, |length| llm.check_text(length))?))
    }

    /// The token ids of a prompt's text, special tokens added.
    #[wasm_bindgen(js_name = promptTokens)]
    pub fn prompt_tokens(&mut self, text: &JsValue) -> Thrown<Vec<u32>> {
        self.call(|llm| {
            let prompt = Prompt::Text(text_of(text, |length| llm.check_prompt_text(length))?);
            llm.prompt_tokens(&prompt).map(Cow::into_owned)
        })
    }

    /// The text of token ids, special tokens included.
    pub fn detokenize(&mut self, ids: &Uint32Array) -> Thrown<String> {
        self.call(|llm| Ok(llm.detokenize(&ids.to_vec())))
    }

    /// The token ids of a chat, with the options of `llm.chat` that concern the template; null for none.
    #[wasm_bindgen(js_name = chatPrompt)]
    pub fn chat_prompt(&mut self, messages: &JsValue, options: &JsValue) -> Thrown<Vec<u32>> {
        self.call(|llm| {
            // JSON takes at most six characters for a byte; what a template leaves out has room beside that.
            let most = llm.max_prompt_bytes().saturating_mul(8).saturating_add(1 << 20);
            let what = "the messages (each with role and content)";
            let messages: Vec<Message> = from_js_of(messages, what, ErrorCode::InvalidPrompt, most)?;
            let what = "the options of the chat";
            let options: TemplateValue = from_js_of(options, what, ErrorCode::InvalidParams, most)?;
            let prompt = llm.chat_prompt(&messages, &ChatOptions::from_json(&options)?)?;
            llm.prompt_tokens(&prompt).map(Cow::into_owned)
        })
    }

    /// Speculation for the requests that come; null for none.
    #[wasm_bindgen(js_name = setSpeculativeConfig)]
    pub fn set_speculative_config(&mut self, config: &JsValue) -> Thrown<()> {
        self.call(|llm| {
            llm.set_speculation(speculation(config)?);
            Ok(())
        })
    }

    /// All metrics, in the shape of vLLM's `get_metrics()`.
    pub fn metrics(&mut self) -> Thrown<JsValue> {
        self.call(|llm| to_js(&llm.metrics()))
    }

    /// The same as Prometheus text exposition.
    #[wasm_bindgen(js_name = metricsText)]
    pub fn metrics_text(&mut self) -> Thrown<String> {
        self.call(|llm| Ok(llm.metrics_text()))
    }

    /// Sets every counter back to zero.
    #[wasm_bindgen(js_name = resetMetrics)]
    pub fn reset_metrics(&mut self) -> Thrown<()> {
        self.call(|llm| {
            llm.reset_metrics();
            Ok(())
        })
    }
}

/// A model's vocabulary and tokenizer, for its grammars.
#[wasm_bindgen]
pub struct Words(Arc<Tokenizer>);

#[wasm_bindgen]
impl Words {
    /// All tokens, in the form that the grammars' module takes.
    pub fn vocabulary(&self) -> Thrown<Vec<u8>> {
        attempt(|| self.0.vocabulary()).map_err(thrown)
    }

    /// The ids of a text, UTF-8, that goes on from another; none where it is no text.
    pub fn tokenize(&self, text: &[u8]) -> Thrown<Vec<u32>> {
        let ids = || str::from_utf8(text).ok().and_then(|text| self.0.encode_rest(text).ok()).unwrap_or_default();
        attempt(ids).map_err(thrown)
    }
}
