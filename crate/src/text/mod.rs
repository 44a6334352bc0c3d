//! Text in and out: the tokenizer, incremental decoding, stop strings and chat templates.

mod alphabet;
mod chat_input;
pub mod chat_template;
pub mod detokenizer;
mod jinja;
mod json;
mod local_time;
mod pre;
mod python;
mod sentencepiece;
pub mod stop;
pub mod tokenizer;
mod vocabulary;

pub use chat_input::{Message, RenderOptions, TemplateValue};
pub use chat_template::ChatTemplate;
pub use detokenizer::Detokenizer;
pub use json::well_formed;
pub use local_time::LocalTime;
pub use stop::{StopStep, StopStrings};
pub use tokenizer::{Tokenizer, TokenizerSource};

#[cfg(test)]
mod fixture_tests;
#[cfg(test)]
mod sentencepiece_tests;
#[cfg(test)]
mod template_fixture_tests;
