//! Which draft tokens the model agrees with.

/// Verifies a draft; `sample(i)` samples the row after `draft[..i]`. Puts into `tokens` (cleared first) the tokens to
/// append: those accepted, and the bonus token, which is the sample of the first row that differs or, when all agree, of
/// the last. Returns how many were accepted, counted before the output is cut at a stop token or at `max_tokens`.
///
/// A draft token is accepted when it equals the sample of the row before it. Each row samples from its own distribution
/// with noise that depends on the seed, position and token alone, so the tokens are those of ordinary decoding; for a
/// deterministic proposer this is what vLLM's rejection sampling does. Rows behind a rejected token are not sampled.
///
/// A row without a sample (`None`) ends it too: `tokens` has no bonus token then, only those accepted before that row.
pub fn verify(draft: &[u32], tokens: &mut Vec<u32>, mut sample: impl FnMut(usize) -> Option<u32>) -> usize {
    tokens.clear();
    loop {
        let row = tokens.len();
        let Some(token) = sample(row) else { return row };
        tokens.push(token);
        if draft.get(row) != Some(&token) {
            return row;
        }
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
            let mut tokens = vec![99];
            assert_eq!(verify(draft, &mut tokens, |row| Some(sampled[row])), num_accepted);
            assert_eq!(tokens, sampled[..=num_accepted]);
        }
    }

    #[test]
    fn samples_no_row_behind_a_rejected_token() {
        let mut rows = Vec::new();
        verify(&[1, 2, 3], &mut Vec::new(), |row| {
            rows.push(row);
            Some([1, 9][row])
        });
        assert_eq!(rows, [0, 1]);
    }

    #[test]
    fn stops_at_a_row_without_a_sample() {
        for (draft, sampled, accepted) in [
            (&[1, 2, 3][..], &[Some(1), None][..], &[1][..]),
            (&[1, 2], &[Some(1), Some(2), None], &[1, 2]),
            (&[], &[None], &[]),
        ] {
            let mut tokens = Vec::new();
            assert_eq!(verify(draft, &mut tokens, |row| sampled[row]), accepted.len());
            assert_eq!(tokens, accepted);
        }
    }
}
