//! Text in and out: the tokenizer, incremental decoding, stop strings and chat templates.

mod alphabet;
pub mod chat_template;
pub mod detokenizer;
mod jinja;
mod json;
mod pre;
mod sentencepiece;
pub mod stop;
pub mod tokenizer;

pub use chat_template::{ChatTemplate, Message};
pub use detokenizer::Detokenizer;
pub use json::well_formed;
pub use stop::{StopStep, StopStrings};
pub use tokenizer::{Tokenizer, TokenizerSource};

#[cfg(test)]
mod fixture_tests;
