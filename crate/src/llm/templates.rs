//! Which chat template a conversation gets.

use crate::format::gguf::Metadata;
use crate::text::{ChatTemplate, Tokenizer};
use crate::{Error, ErrorCode, Result};

/// The model's chat template, or why it has none; and what others need to be made.
pub(super) struct Templates {
    pub own: Result<ChatTemplate>,
    bos: String,
    eos: String,
}

impl Templates {
    /// The given template, or else the file's. One of the file that does not parse is an error of `chat_prompt` only.
    pub fn new(m: &Metadata, tokenizer: &Tokenizer, given: Option<&str>) -> Result<Self> {
        let text = |id: Option<u32>| id.map_or(String::new(), |id| tokenizer.decode(&[id], false));
        let (bos, eos) = (text(tokenizer.bos()), text(m.opt_u32("tokenizer.ggml.eos_token_id")?));
        let message =
            "the model has no chat template; give chat_template, or call generate with a prompt in its own format";
        let mut templates = Self { own: Err(Error::new(ErrorCode::UnsupportedModel, message)), bos, eos };
        if let Some(source) = given {
            templates.own = Ok(templates.of_caller(source, ErrorCode::InvalidConfig)?);
        } else if let Some(source) = m.opt_str("tokenizer.chat_template")? {
            templates.own = ChatTemplate::new(source, &templates.bos, &templates.eos);
        }
        Ok(templates)
    }

    /// A caller's template.
    pub fn of_caller(&self, source: &str, code: ErrorCode) -> Result<ChatTemplate> {
        ChatTemplate::new(source, &self.bos, &self.eos).map_err(|e| Error::new(code, e.message))
    }
}
