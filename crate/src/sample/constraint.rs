//! What a request's output must fit, token by token: the engine's side of grammars, of which it knows nothing else.

use crate::config::StructuredOutputs;
use crate::error::Result;

/// Makes constraints of what requests ask for, over one model's vocabulary.
pub trait Grammars {
    /// A constraint at the beginning of an output.
    ///
    /// # Errors
    /// `invalid_params`, with what is wrong.
    fn compile(&self, outputs: &StructuredOutputs) -> Result<Box<dyn Constraint>>;
}

/// Where one output is in its grammar. What it says depends on the tokens so far alone, so that drafts change no token.
pub trait Constraint {
    /// Puts into `mask` which tokens may come next. Where the output is complete these are the tokens that end it; none where
    /// the vocabulary has no such token.
    ///
    /// # Errors
    /// `grammar_failed`: no token goes on as the grammar wants, or it became too complex.
    fn mask(&mut self, mask: &mut Mask) -> Result<()>;

    /// Goes on by a token that the mask allowed.
    ///
    /// # Errors
    /// `grammar_failed`, as for [`mask`](Self::mask).
    fn commit(&mut self, token: u32) -> Result<()>;

    /// The tokens, at most so many, that must come next. Each is all that [`mask`](Self::mask) will leave after those before
    /// it, as far as can be told.
    ///
    /// # Errors
    /// `grammar_failed`, as for [`mask`](Self::mask).
    fn forced(&mut self, most: usize) -> Result<Vec<u32>>;

    /// How many of these tokens, from the first, may come one after the other.
    ///
    /// # Errors
    /// `grammar_failed`, as for [`mask`](Self::mask).
    fn validate(&mut self, tokens: &[u32]) -> Result<usize>;

    /// Another that goes on from the same place.
    ///
    /// # Errors
    /// `grammar_failed`, as for [`mask`](Self::mask).
    fn copy(&self) -> Result<Box<dyn Constraint>>;
}

/// A set of tokens: token 0 is the lowest bit of the first word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// The words. Tokens after their end are not in the set.
    pub words: Vec<u32>,
}

impl Mask {
    /// Whether it has the token.
    pub fn allows(&self, token: u32) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Its first token below `end`.
    pub fn first(&self, end: usize) -> Option<u32> {
        (0..end as u32).find(|token| self.allows(*token))
    }

    /// Whether it has no token.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_the_tokens_of_its_bits() {
        let mask = Mask { words: vec![1 << 31, 1] };
        assert_eq!((0..100).filter(|token| mask.allows(*token)).collect::<Vec<u32>>(), [31, 32]);
        assert_eq!((mask.first(100), mask.first(32), mask.first(31)), (Some(31), Some(31), None));
        assert!(!mask.is_empty() && Mask { words: vec![0; 3] }.is_empty() && Mask::default().is_empty());
    }
}
