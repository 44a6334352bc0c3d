//! Stop strings in streamed text.

use crate::error::{Error, ErrorCode, Result};

/// What a piece of text led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopStep {
    /// Text to emit now.
    pub text: String,
    /// The index of the stop string that ended the text, once one has.
    pub hit: Option<usize>,
}

/// Looks for stop strings in a stream. The one whose last character comes first ends the text; of several that end at
/// the same character, the first in the list. So it never matters how the text was cut into pieces.
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    include: bool,
    /// The end of the text so far, as far back as a stop string may have begun.
    tail: String,
    /// How much of `tail` was emitted: none, or all of it where the stop string is part of the output.
    emitted: usize,
    /// How much of `tail` came before `min_tokens`: a stop string must end after it.
    early: usize,
    hit: Option<usize>,
}

impl StopStrings {
    /// Stops at these strings, which the output ends with if `include` and before otherwise.
    pub fn new(stops: Vec<String>, include: bool) -> Result<Self> {
        if let Some(i) = stops.iter().position(String::is_empty) {
            let message = format!("stop[{i}] is empty; a stop string needs at least one character");
            return Err(Error::new(ErrorCode::InvalidParams, message));
        }
        Ok(Self { stops, include, tail: String::new(), emitted: 0, early: 0, hit: None })
    }

    /// The stop string of this index in the list.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.stops.get(index).map(String::as_str)
    }

    /// Takes the next text; returns what can be emitted and whether the text ended. After that, nothing more comes. Where
    /// the text is `early`, no stop string ends in it, though one may begin there (`min_tokens`, as in vLLM).
    pub fn push(&mut self, text: &str, early: bool) -> StopStep {
        if self.hit.is_some() {
            return StopStep { text: String::new(), hit: self.hit };
        }
        self.tail.push_str(text);
        if early {
            self.early = self.tail.len();
        }
        if let Some((end, index)) = self.first_end() {
            self.hit = Some(index);
            let end = if self.include { end } else { end - self.stops[index].len() };
            let text = self.tail[self.emitted.min(end)..end].to_owned();
            self.tail.clear();
            self.emitted = 0;
            return StopStep { text, hit: self.hit };
        }
        let safe = self.tail.len() - self.open_len();
        let until = if self.include { self.tail.len() } else { safe };
        let text = self.tail[self.emitted..until].to_owned();
        self.emitted = until - safe;
        self.early = self.early.saturating_sub(safe);
        self.tail.drain(..safe);
        StopStep { text, hit: None }
    }

    /// The text that was held back for a stop string that did not come.
    pub fn finish(&mut self) -> String {
        let emitted = std::mem::take(&mut self.emitted);
        std::mem::take(&mut self.tail).split_off(emitted)
    }

    /// Where in `tail` the first stop string ends, and which it is.
    fn first_end(&self) -> Option<(usize, usize)> {
        let first = |stop: &String| {
            let from = self.tail.ceil_char_boundary((self.early + 1).saturating_sub(stop.len()));
            Some(from + self.tail[from..].find(stop)? + stop.len())
        };
        self.stops.iter().enumerate().filter_map(|(i, stop)| Some((first(stop)?, i))).min()
    }

    /// The length of the longest end of `tail` that a stop string begins with.
    fn open_len(&self) -> usize {
        let longest = |stop: &String| {
            let starts = stop.char_indices().map(|(i, _)| i).rev().filter(|len| *len <= self.tail.len());
            starts.into_iter().find(|len| self.tail.ends_with(&stop[..*len]))
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(stops: &[&str], include: bool, pieces: &[&str]) -> (Vec<String>, Option<usize>) {
        let mut s = StopStrings::new(stops.iter().map(|s| s.to_string()).collect(), include).unwrap();
        let mut hit = None;
        let mut out: Vec<String> = pieces.iter().map(|p| s.push(p, false)).map(|p| (hit = p.hit, p.text).1).collect();
        out.push(s.finish());
        (out, hit)
    }

    #[test]
    fn holds_back_only_what_may_begin_a_stop_string() {
        assert_eq!(
            steps(&["END"], false, &["an E", "N", "x"]),
            (["an ", "", "ENx", ""].map(String::from).into(), None)
        );
        assert_eq!(
            steps(&["END"], false, &["a E", "NDb", "c"]),
            (["a ", "", "", ""].map(String::from).into(), Some(0))
        );
        assert_eq!(
            steps(&["END"], true, &["a E", "NDb", "c"]),
            (["a E", "ND", "", ""].map(String::from).into(), Some(0))
        );
        assert_eq!(steps(&["END"], false, &["a E"]), (["a ", "E"].map(String::from).into(), None));
        assert_eq!(
            steps(&["終わり"], false, &["これで終", "わり。"]),
            (["これで", "", ""].map(String::from).into(), Some(0))
        );
        assert_eq!(steps(&[], false, &["a", ""]), (["a", "", ""].map(String::from).into(), None));
    }

    #[test]
    fn early_text_may_begin_a_stop_string_but_not_end_one() {
        let mut s = StopStrings::new(vec!["END".into()], false).unwrap();
        let mut push = |text, early| (s.push(text, early).text, s.hit);
        assert_eq!(push("aEND bE", true), ("aEND b".into(), None));
        assert_eq!(push("N", true), (String::new(), None));
        assert_eq!(push("D", true), ("END".into(), None));
        assert_eq!(push(" EN", true), (" ".into(), None));
        assert_eq!(push("Dx", false), (String::new(), Some(0)));
    }

    #[test]
    fn the_first_to_end_wins() {
        assert_eq!(steps(&["abcd", "bc"], false, &["abcd"]).1, Some(1));
        assert_eq!(steps(&["b", "ab"], false, &["xab"]), (["xa", ""].map(String::from).into(), Some(0)));
        assert_eq!(steps(&["ab", "b"], false, &["xab"]), (["x", ""].map(String::from).into(), Some(0)));
    }

    #[test]
    fn refuses_an_empty_stop_string() {
        let error = StopStrings::new(vec!["a".into(), String::new()], false).unwrap_err();
        assert!(error.code == ErrorCode::InvalidParams && error.message.contains("stop[1]"));
    }

    /// What a scan of the whole text gives: character by character after the early bytes, does any stop string end here?
    fn scan(text: &str, early: usize, stops: &[String], include: bool) -> (String, Option<usize>) {
        for end in text.char_indices().map(|(i, c)| i + c.len_utf8()).filter(|end| *end > early) {
            if let Some(hit) = stops.iter().position(|stop| text[..end].ends_with(stop)) {
                let cut = if include { end } else { end - stops[hit].len() };
                return (text[..cut].to_owned(), Some(hit));
            }
        }
        (text.to_owned(), None)
    }

    proptest! {
        #[test]
        fn streaming_equals_scanning(
            pieces in prop::collection::vec("[abé]{0,4}", 0..12),
            stops in prop::collection::vec("[abé]{1,5}", 0..4),
            include in any::<bool>(),
            early in 0..4usize,
        ) {
            let mut stream = StopStrings::new(stops.clone(), include).unwrap();
            let mut out = String::new();
            let mut hit = None;
            for (i, piece) in pieces.iter().enumerate() {
                let step = stream.push(piece, i < early);
                prop_assert!(hit.is_none() || (step.text.is_empty() && step.hit == hit));
                out += &step.text;
                hit = step.hit;
            }
            out += &stream.finish();
            let early_bytes = pieces.iter().take(early).map(String::len).sum();
            prop_assert_eq!((out, hit), scan(&pieces.concat(), early_bytes, &stops, include));
        }
    }
}
