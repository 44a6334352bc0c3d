//! Which chat template a conversation gets.

use super::facts::Facts;
use crate::text::ChatTemplate;
use crate::{Error, ErrorCode, Result};

/// The model's chat template, or why it has none; and what others need to be made.
pub(super) struct Templates {
    pub own: Result<ChatTemplate>,
    /// The one for conversations with tools, where the model has two.
    with_tools: Option<Result<ChatTemplate>>,
    /// The source of the one for conversations with tools.
    pub source: Option<String>,
    bos: String,
    eos: String,
}

impl Templates {
    /// The given template, or else the file's. One of the file that does not parse is an error of `chat_prompt` only.
    pub fn new(facts: &Facts, given: Option<&str>) -> Result<Self> {
        let message =
            "the model has no chat template; give chat_template, or call generate with a prompt in its own format";
        let none = Err(Error::new(ErrorCode::UnsupportedModel, message));
        let source =
            given.map(str::to_owned).or_else(|| facts.tool_template.clone()).or_else(|| facts.template.clone());
        let mut templates =
            Self { own: none, with_tools: None, source, bos: facts.bos.clone(), eos: facts.eos.clone() };
        if let Some(source) = given {
            templates.own = Ok(templates.of_caller(source, ErrorCode::InvalidConfig)?);
            return Ok(templates);
        }
        let new = |source: &String| ChatTemplate::new(source, &facts.bos, &facts.eos);
        if let Some(source) = &facts.template {
            templates.own = new(source);
        }
        templates.with_tools = facts.tool_template.as_ref().map(new);
        Ok(templates)
    }

    /// The model's template for a conversation with tools, or for one without, as transformers takes them.
    pub fn for_tools(&self, tools: bool) -> Result<&ChatTemplate> {
        let template = self.with_tools.as_ref().filter(|_| tools).unwrap_or(&self.own);
        template.as_ref().map_err(Error::clone)
    }

    /// A caller's template.
    pub fn of_caller(&self, source: &str, code: ErrorCode) -> Result<ChatTemplate> {
        ChatTemplate::new(source, &self.bos, &self.eos).map_err(|e| Error::new(code, e.message))
    }
}
