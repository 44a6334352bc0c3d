//! Grammars over a model's vocabulary, by `llguidance`: which tokens may come next, and which must.
//!
//! [`Grammars`] holds what one model's vocabulary needs once; [`Grammars::compile`] makes a [`Constraint`] of a request's
//! `structured_outputs`. The engine knows none of this: it has a trait of its own, which a [`Constraint`] serves natively as it
//! is, and in a page by way of `embergram-grammar-wasm`. Errors are messages for the caller of a request.

mod spec;
mod structural_tag;
mod vocabulary;

use llguidance::api::{GrammarInit, ParserLimits};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Logger, Matcher, ParserFactory};

pub use vocabulary::Tokenize;
use vocabulary::Vocabulary;

/// What a grammar may cost. A mask takes 15 ms at worst natively, and its lexer some 60 MB.
fn limits() -> ParserLimits {
    ParserLimits { max_lexer_states: 30_000, max_grammar_size: 200_000, verbose_errors: false, ..Default::default() }
}

/// What compiles grammars for one vocabulary.
pub struct Grammars {
    factory: ParserFactory,
    /// The special tokens that a structural tag may name, by their text.
    specials: Vec<String>,
}

impl Grammars {
    /// For the vocabulary of a model, in the form of [`vocabulary`](mod@vocabulary): the tokens' bytes, which of them are special,
    /// and which end an output. `tokenize` gives the ids that the model's tokenizer has for a text, without any special token
    /// added.
    ///
    /// # Errors
    /// What is wrong with the vocabulary.
    pub fn new(bytes: &[u8], tokenize: Tokenize) -> Result<Self, String> {
        let vocabulary = Vocabulary::read(bytes)?;
        let specials = vocabulary.special_names();
        let capabilities = InferenceCapabilities { ff_tokens: true, ..Default::default() };
        let env = vocabulary.into_env(tokenize);
        let mut factory =
            ParserFactory::new(&env, capabilities, &SlicedBiasComputer::general_slices()).map_err(|e| e.to_string())?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Self { factory, specials })
    }

    /// A request's `structured_outputs`, as JSON, with one of `json`, `regex`, `choice`, `grammar`, `json_object` and
    /// `structural_tag`.
    ///
    /// # Errors
    /// What is wrong with it, or that it is too large: keywords of a schema that are not known are named.
    pub fn compile(&self, spec: &str) -> Result<Constraint, String> {
        let grammar = spec::grammar(spec, &self.specials)?;
        let parser = self
            .factory
            .create_parser_from_init_ext(
                GrammarInit::Serialized(grammar),
                Logger::new(0, 0),
                InferenceCapabilities { ff_tokens: true, ..Default::default() },
                limits(),
            )
            .map_err(|e| plain(&format!("{e:#}")))?;
        let matcher = Matcher::new(Ok(parser));
        if let Some(error) = matcher.get_error() {
            return Err(plain(&error));
        }
        // What no text can match has no first token either.
        let first = matcher.deep_clone().compute_mask_or_eos();
        first.map_err(|e| plain(&e.to_string()))?;
        let trie = self.factory.tok_env().tok_trie();
        Ok(Constraint { matcher, vocabulary: trie.vocab_size(), ends: trie.eos_tokens().to_vec(), ended: false })
    }
}

/// One line of an error of `llguidance`, without what it tells of its own state.
fn plain(error: &str) -> String {
    const MOST: usize = 400;
    let text = error.split("\n<state>").next().unwrap_or(error);
    let text = text.replace("<non-verbose/>", "");
    let text = text.split("<backtrace>").next().unwrap_or(&text).trim().replace('\n', " ");
    let text = text.replace("NoExtensionBias", "no token of the vocabulary goes on as it wants");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Where an output is in its grammar. A clone goes on from the same place.
#[derive(Clone)]
pub struct Constraint {
    matcher: Matcher,
    /// How many tokens there are, and which of them end an output.
    vocabulary: usize,
    ends: Vec<u32>,
    ended: bool,
}

impl Constraint {
    /// Puts into `mask` one bit for each token that may come next, token 0 in the lowest bit of the first word. Where the output
    /// is complete these are the tokens that end it; none at all where there are none in the vocabulary.
    ///
    /// # Errors
    /// The grammar became too complex, or no token of the vocabulary goes on as it wants.
    pub fn mask(&mut self, mask: &mut Vec<u32>) -> Result<(), String> {
        mask.clear();
        if self.ended {
            return Ok(());
        }
        // Only where no token ends an output: the matcher takes a complete one that nothing continues for an error.
        let complete = self.ends_missing() && self.matcher.is_accepting().unwrap_or(false);
        match self.matcher.compute_mask_or_eos() {
            Ok(allowed) => mask.extend_from_slice(allowed.as_slice()),
            Err(_) if complete => {}
            Err(error) => return Err(plain(&error.to_string())),
        }
        Ok(())
    }

    fn ends_missing(&self) -> bool {
        self.ends.iter().all(|end| *end == llguidance::toktrie::INVALID_TOKEN)
    }

    /// Goes on by one token, which the mask allowed.
    ///
    /// # Errors
    /// The grammar does not allow it, or became too complex.
    pub fn commit(&mut self, token: u32) -> Result<(), String> {
        let end = self.ends.contains(&token);
        if self.matcher.is_stopped() {
            self.ended |= end;
            return if end { Ok(()) } else { Err("the output is complete".into()) };
        }
        self.matcher.consume_token(token).map_err(|e| plain(&e.to_string()))?;
        self.ended |= end && self.matcher.is_stopped();
        Ok(())
    }

    /// The tokens that must come next, at most so many. Each is what [`mask`](Self::mask) leaves where the ones before it came.
    pub fn forced(&mut self, most: usize) -> Vec<u32> {
        if most == 0 || self.matcher.is_stopped() {
            return Vec::new();
        }
        let mut tokens = self.matcher.compute_ff_tokens();
        tokens.truncate(most);
        tokens
    }

    /// How many of these tokens, from the first, the grammar allows one after the other.
    pub fn validate(&mut self, tokens: &[u32]) -> usize {
        // The matcher would take a token that is none for a fault.
        let vocabulary = self.vocabulary;
        let known = tokens.iter().position(|token| *token as usize >= vocabulary).unwrap_or(tokens.len());
        if self.matcher.is_stopped() || known == 0 {
            return 0;
        }
        self.matcher.validate_tokens(&tokens[..known]).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
