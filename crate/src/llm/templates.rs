//! Which chat template a conversation gets.

use super::facts::Facts;
use crate::text::ChatTemplate;
use crate::{Error, ErrorCode, Result};

/// The model's chat template, or why it has none; and what others need to be made.
pub(super) struct Templates {
    pub own: Result<ChatTemplate>,
    bos: String,
    eos: String,
}

impl Templates {
    /// The given template, or else the file's. One of the file that does not parse is an error of `chat_prompt` only.
    pub fn new(facts: &Facts, given: Option<&str>) -> Result<Self> {
        let message =
            "the model has no chat template; give chat_template, or call generate with a prompt in its own format";
        let none = Err(Error::new(ErrorCode::UnsupportedModel, message));
        let mut templates = Self { own: none, bos: facts.bos.clone(), eos: facts.eos.clone() };
        if let Some(source) = given {
            templates.own = Ok(templates.of_caller(source, ErrorCode::InvalidConfig)?);
        } else if let Some(source) = &facts.template {
            templates.own = ChatTemplate::new(source, &templates.bos, &templates.eos);
        }
        Ok(templates)
    }

    /// A caller's template.
    pub fn of_caller(&self, source: &str, code: ErrorCode) -> Result<ChatTemplate> {
        ChatTemplate::new(source, &self.bos, &self.eos).map_err(|e| Error::new(code, e.message))
    }
}
