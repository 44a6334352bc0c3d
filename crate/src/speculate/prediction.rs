//! A predicted output as a source of drafts: what the caller expects, such as a file that is to be changed in one place.

use super::Proposer;

/// Most and least tokens that must agree for the output to be found in the prediction again.
const MOST: usize = 8;
const LEAST: usize = 2;

/// Follows the output through the prediction. Where they part, it looks for the next place where the output's last tokens stand
/// there, and goes on behind it.
#[derive(Clone, Debug)]
pub struct Prediction {
    tokens: Vec<u32>,
    /// Where in it the output is; none where that is not known.
    next: Option<usize>,
    /// How far the output was followed.
    reached: usize,
    /// The output's last tokens.
    last: Vec<u32>,
}

impl Prediction {
    /// Before the first token of an output that may be these tokens.
    pub fn new(tokens: Vec<u32>) -> Self {
        Self { tokens, next: Some(0), reached: 0, last: Vec::new() }
    }

    fn push(&mut self, token: u32) {
        self.last.push(token);
        if self.last.len() > MOST {
            self.last.remove(0);
        }
        self.next = match self.next {
            Some(place) if self.tokens.get(place) == Some(&token) => Some(place + 1),
            _ => self.find(),
        };
        self.reached = self.next.unwrap_or(self.reached);
    }

    /// The place behind the longest run of the output's last tokens: of several the first that is not before what was reached.
    fn find(&self) -> Option<usize> {
        (LEAST..=self.last.len()).rev().find_map(|n| {
            let suffix = &self.last[self.last.len() - n..];
            let places = || (n..=self.tokens.len()).filter(|end| self.tokens[end - n..*end] == *suffix);
            places().find(|end| *end >= self.reached).or_else(|| places().next())
        })
    }
}

impl Proposer for Prediction {
    fn extend(&mut self, tokens: &[u32]) {
        tokens.iter().for_each(|token| self.push(*token));
    }

    fn propose_after(&self, tail: &[u32], max_draft: usize, out: &mut Vec<u32>) {
        out.clear();
        let next = match tail {
            [] => self.next,
            tail => {
                let mut later = self.clone();
                later.extend(tail);
                later.next
            }
        };
        out.extend(next.into_iter().flat_map(|next| &self.tokens[next..]).take(max_draft));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(prediction: &Prediction, tail: &[u32]) -> Vec<u32> {
        let mut out = vec![99];
        prediction.propose_after(tail, 3, &mut out);
        out
    }

    #[test]
    fn it_follows_the_output_and_finds_it_again() {
        let mut prediction = Prediction::new((1..=20).collect());
        assert_eq!(draft(&prediction, &[]), [1, 2, 3]);
        prediction.extend(&[1, 2]);
        assert_eq!(draft(&prediction, &[]), [3, 4, 5]);
        assert_eq!(draft(&prediction, &[3, 4, 5]), [6, 7, 8]);
        // Something else in one place: after two tokens that stand there it goes on.
        prediction.extend(&[3, 90, 91]);
        assert_eq!(draft(&prediction, &[]), [0u32; 0]);
        prediction.extend(&[6]);
        assert_eq!(draft(&prediction, &[]), [0u32; 0]);
        prediction.extend(&[7]);
        assert_eq!(draft(&prediction, &[]), [8, 9, 10]);
        prediction.extend(&(8..=20).collect::<Vec<_>>());
        assert_eq!(draft(&prediction, &[]), [0u32; 0], "it is at its end");
        assert_eq!(draft(&prediction, &[1, 2]), [3, 4, 5], "and may begin anew");
    }

    #[test]
    fn of_several_places_the_next_is_taken() {
        let mut prediction = Prediction::new(vec![1, 2, 30, 4, 1, 2, 31, 5, 1, 2, 32]);
        prediction.extend(&[1, 2, 30, 4, 77, 1, 2]);
        assert_eq!(draft(&prediction, &[]), [31, 5, 1]);
        assert_eq!(draft(&Prediction::new(vec![]), &[]), [0u32; 0]);
    }
}
