//! Which draft tokens the model agrees with.

use crate::{Error, ErrorCode, Result};

/// What one step of a sequence gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified<'a> {
    /// How many draft tokens were accepted. Counted before the output is cut at a stop token or at `max_tokens`.
    pub num_accepted: usize,
    /// The tokens to append: those accepted and the bonus token, the sample of the first row that differs (or of the
    /// last row, when all agree). Never empty.
    pub tokens: &'a [u32],
}

/// Compares a draft with the samples of its rows: row `i` of `sampled` was sampled after `draft[..i]`.
///
/// A draft token is accepted when it equals the sample of the row before it. Each row samples from its own distribution
/// with noise that depends on the seed, position and token alone, so the tokens are those of ordinary decoding; for a
/// deterministic proposer this is what vLLM's rejection sampling does.
pub fn verify<'a>(draft: &[u32], sampled: &'a [u32]) -> Result<Verified<'a>> {
    let num_accepted = draft.iter().zip(sampled).take_while(|(guess, sample)| guess == sample).count();
    match sampled.get(..=num_accepted) {
        Some(tokens) if sampled.len() == draft.len() + 1 => Ok(Verified { num_accepted, tokens }),
        _ => Err(Error::new(
            ErrorCode::Internal,
            format!(
                "a step with {} draft tokens returned {} samples instead of {}; please report this",
                draft.len(),
                sampled.len(),
                draft.len() + 1
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_common_prefix_and_one_more() {
        for (draft, sampled, num_accepted) in [
            (&[][..], &[7][..], 0),
            (&[1, 2, 3], &[1, 2, 3, 4], 3),
            (&[1, 2, 3], &[1, 9, 3, 4], 1),
            (&[1, 2, 3], &[9, 2, 3, 4], 0),
        ] {
            let verified = verify(draft, sampled).unwrap();
            assert_eq!(verified, Verified { num_accepted, tokens: &sampled[..=num_accepted] });
        }
    }

    #[test]
    fn refuses_a_wrong_number_of_rows() {
        for (draft, sampled) in [(&[][..], &[][..]), (&[1], &[1]), (&[1], &[1, 2, 3])] {
            assert_eq!(verify(draft, sampled).unwrap_err().code, ErrorCode::Internal);
        }
    }
}
