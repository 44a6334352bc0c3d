//! One sequence: its tokens, its blocks, its text, and when it ends.

use std::rc::Rc;

use serde::Serialize;
use web_time::Instant;

use super::pooled::Pool;
use crate::config::{Pooling, PoolingParams, SamplingParams};
use crate::metrics::{FinishReason, RequestMetrics, RequestRecorder};
use crate::program::{Change, Draw};
use crate::sample::{Constraint, LogitsProcessor, Mask, Sampler, TokenCounts, TokenLogprob, has_changes, needs_logits};
use crate::speculate::{Acceptance, DraftWindow, HoldRates, NgramProposer, Prediction, Proposer, SpeculativeConfig};
use crate::text::{Detokenizer, StopStrings, Tokenizer};
use crate::{Error, ErrorCode, Result};

/// What one step added to a sequence, or several steps together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SequenceOutput {
    /// The sequence's id, from `add`.
    pub id: u64,
    /// New text, whole characters only; text that may turn out to be a stop string is held back.
    pub text: String,
    /// New tokens, cut at the one that ended the sequence.
    pub token_ids: Vec<u32>,
    /// For each new token its place in its step's draft, from 0, if it was drafted; null if the model alone gave it.
    pub draft_positions: Vec<Option<u32>>,
    /// For each new token whether the request's grammar left no other and it was verified as a draft.
    pub forced: Vec<bool>,
    /// For each new token the sampled one and the most likely; null unless asked for.
    pub logprobs: Option<Vec<Vec<Logprob>>>,
    /// With the first output: for each token of the prompt but the first the token itself and the most likely; null unless asked
    /// for.
    pub prompt_logprobs: Option<Vec<Vec<Logprob>>>,
    /// Set with the last output.
    pub finish_reason: Option<FinishReason>,
    /// What stopped it, where that was one of the request's `stop_token_ids` or `stop` strings.
    pub stop_reason: Option<StopReason>,
    /// What went wrong, with the `finish_reason` `error`.
    pub error: Option<Error>,
    /// What an embedding's prompt came to; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Vec<f32>>,
    /// Set with the last output.
    pub metrics: Option<RequestMetrics>,
}

/// A token's log probability, with its text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Logprob {
    /// The token, its probability and its rank.
    #[serde(flatten)]
    pub token: TokenLogprob,
    /// Its text; bytes that are no whole character show as U+FFFD.
    pub decoded_token: String,
}

/// What stopped a sequence; in JSON the id or the string, as in vLLM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum StopReason {
    /// One of `stop_token_ids`.
    Token(u32),
    /// One of `stop`.
    Text(String),
}

impl SequenceOutput {
    /// Appends what a later step added.
    pub fn extend(&mut self, later: Self) {
        self.text.push_str(&later.text);
        self.token_ids.extend(later.token_ids);
        self.draft_positions.extend(later.draft_positions);
        self.forced.extend(later.forced);
        if let Some(logprobs) = later.logprobs {
            self.logprobs.get_or_insert_default().extend(logprobs);
        }
        self.prompt_logprobs = self.prompt_logprobs.take().or(later.prompt_logprobs);
        self.finish_reason = later.finish_reason;
        self.stop_reason = later.stop_reason;
        self.error = later.error;
        self.embedding = later.embedding;
        self.metrics = later.metrics;
    }

    /// Drops the log probabilities of tokens that the cut left out.
    pub(super) fn cut_logprobs(&mut self) {
        if let Some(logprobs) = &mut self.logprobs {
            logprobs.truncate(self.token_ids.len());
        }
    }
}

/// How one sequence speculates.
#[derive(Clone)]
pub(super) struct Speculation {
    pub config: SpeculativeConfig,
    /// None where a prediction is all there is.
    proposer: Option<NgramProposer>,
    prediction: Option<Prediction>,
    /// Whether the guess is the prediction's.
    predicted: bool,
    acceptance: Acceptance,
    /// What the proposer offers for the next step.
    guess: Vec<u32>,
    /// How many tokens of it are the step's draft.
    depth: usize,
}

impl Speculation {
    /// Speculation over a sequence without tokens, as configured, with a predicted output, or both; none without either.
    pub fn new(config: Option<SpeculativeConfig>, prediction: Option<Vec<u32>>) -> Result<Option<Self>> {
        if config.is_none() && prediction.is_none() {
            return Ok(None);
        }
        let ngram = |config: SpeculativeConfig| NgramProposer::new(config.prompt_lookup_min, config.prompt_lookup_max);
        Ok(Some(Self {
            config: config.unwrap_or(SpeculativeConfig::PREDICTION),
            proposer: config.map(ngram).transpose()?,
            prediction: prediction.map(Prediction::new),
            predicted: false,
            acceptance: Acceptance::default(),
            guess: Vec::new(),
            depth: 0,
        }))
    }

    /// The tokens that each token of the draft is expected to bring.
    pub fn gains<'a>(&'a self, all: &'a HoldRates, price: f64) -> impl Iterator<Item = f64> + 'a {
        self.acceptance.gains(all, price).take(self.depth)
    }

    /// Guesses what follows `context_len` tokens, the last of which are `tail`; see [`DraftWindow::draft`] for `longest`.
    fn propose(&mut self, tail: &[u32], context_len: usize, longest: usize, max_model_len: usize) {
        let k = self.config.num_speculative_tokens;
        // vLLM's placeholders near the end of the context are rows that bring nothing.
        let most = k.min(max_model_len.saturating_sub(context_len).saturating_sub(1));
        self.guess.clear();
        if let Some(prediction) = &self.prediction {
            prediction.propose_after(tail, most, &mut self.guess);
        }
        self.predicted = !self.guess.is_empty();
        match &self.proposer {
            Some(ngram) if !self.predicted && self.config.adaptive => ngram.propose_after(tail, most, &mut self.guess),
            Some(ngram) if !self.predicted => {
                DraftWindow { k, max_model_len }.draft(ngram, tail, context_len, longest, &mut self.guess);
            }
            _ => {}
        }
        self.depth = self.guess.len();
    }
}

/// A request, shared by its `n` sequences.
pub(super) struct Request {
    /// The id of the first sequence, where there are several.
    pub parent: Option<u64>,
    pub prompt: Box<[u32]>,
    pub params: SamplingParams,
    /// Where an embedding is asked for, and no token.
    pub pooling: Option<PoolingParams>,
    /// Without text so far.
    pub stops: StopStrings,
    /// Without tokens so far.
    pub speculation: Option<Speculation>,
    /// What changes its logits, one after the other.
    pub processors: Vec<Box<dyn LogitsProcessor>>,
    /// Without tokens so far.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Tokens at which a sequence ends.
    pub max_len: usize,
    /// Positions promised to a sequence: `max_len`, and the drafts that may reach beyond.
    pub room: usize,
    /// When it came.
    pub arrival: f64,
}

/// A sequence that waits: what it costs does not depend on its prompt's length.
pub(super) struct Waiting {
    pub id: u64,
    pub seed: u64,
    pub request: Rc<Request>,
}

impl Waiting {
    /// Whether it tells how likely its prompt was. Of `n` sequences the first does.
    fn scores(&self) -> bool {
        self.request.params.prompt_logprobs.is_some() && self.request.parent.is_none_or(|first| first == self.id)
    }

    /// The beginning of the prompt whose rows need not be computed again where their keys and values are known.
    pub fn known(&self) -> &[u32] {
        let pools_all = self.request.pooling.is_some_and(|pooling| pooling.pooling == Pooling::Mean);
        if self.scores() || pools_all { &[] } else { &self.request.prompt }
    }
}

impl Request {
    /// Follows one of its sequences from the request's arrival on.
    pub fn recorder(&self) -> RequestRecorder {
        let k = self.speculation.as_ref().map(|s| s.config.num_speculative_tokens);
        RequestRecorder::new(self.arrival, self.prompt.len(), k)
    }
}

/// A sequence's part of the steps that were submitted and not taken in yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InFlight {
    /// Rows.
    pub rows: usize,
    /// Tokens that they sample after the known ones and the drafts.
    pub tokens: usize,
    /// Tokens of drafts among the rows.
    pub drafted: usize,
    /// The place of the newest of these tokens among the outputs of the last step.
    pub output: u32,
}

/// A sequence between its admission and its end.
pub struct Sequence {
    pub(super) id: u64,
    pub(super) request: Rc<Request>,
    pub(super) tokens: Vec<u32>,
    pub(super) prompt_len: usize,
    /// Positions whose keys and values are in the cache.
    pub(super) computed: usize,
    /// What the steps in flight compute of it.
    pub(super) in_flight: InFlight,
    /// Prompt tokens that the prefix cache had.
    pub(super) cached: usize,
    pub(super) slot: usize,
    pub(super) blocks: Vec<u32>,
    /// How many of them, the first, are behind the window of every layer and no longer its own.
    pub(super) given_back: usize,
    /// Blocks promised to it at admission and not taken yet.
    pub(super) promised: usize,
    seed: u64,
    /// How likely the prompt's tokens were, as far as they are computed, until they are told; none where nobody asked.
    pub(super) prompt_logprobs: Option<Vec<Vec<Logprob>>>,
    /// What its embedding is made of so far; none where it generates.
    pub(super) pool: Option<Pool>,
    /// Whether the sampler chooses its tokens, and not the runner.
    pub(super) on_cpu: bool,
    /// Tokens so far; none where the choice of the next one does not look at them.
    counts: Option<TokenCounts>,
    pub(super) speculation: Option<Speculation>,
    /// What the output must fit, or why that cannot be told any more.
    constraint: Option<Result<Box<dyn Constraint>>>,
    /// The tokens that must come next, as far as the grammar tells, and how many of them are in the step's draft.
    forced: Vec<u32>,
    forced_depth: usize,
    pub(super) recorder: RequestRecorder,
    detokenizer: Detokenizer,
    stops: StopStrings,
}

impl Sequence {
    /// The state of a sequence that waited, with nothing computed yet. `draws` is its runner's.
    pub(super) fn new(waiting: Waiting, tokenizer: &Tokenizer, draws: bool) -> Self {
        let prompt_logprobs = waiting.scores().then(Vec::new);
        let Waiting { id, seed, request } = waiting;
        let Request { prompt, params, stops, speculation, .. } = &*request;
        let mut speculation = speculation.clone();
        if let Some(speculation) = &mut speculation {
            speculation.proposer.iter_mut().for_each(|ngram| ngram.extend(prompt));
        }
        let mut sequence = Self {
            id,
            prompt_len: prompt.len(),
            prompt_logprobs,
            pool: request.pooling.map(Pool::new),
            computed: 0,
            in_flight: InFlight::default(),
            cached: 0,
            slot: 0,
            blocks: Vec::new(),
            given_back: 0,
            promised: 0,
            on_cpu: false,
            counts: None,
            tokens: prompt.to_vec(),
            seed,
            recorder: request.recorder(),
            detokenizer: Detokenizer::new(tokenizer, prompt, params.skip_special_tokens),
            stops: stops.clone(),
            speculation,
            constraint: request.constraint.as_ref().map(|constraint| constraint.copy()),
            forced: Vec::new(),
            forced_depth: 0,
            request,
        };
        sequence.choose_sampler(draws);
        sequence.force();
        sequence
    }

    /// Whether the runner or the sampler chooses its tokens, with a runner that `draws` or not.
    pub(super) fn choose_sampler(&mut self, draws: bool) {
        let Request { params, processors, .. } = &*self.request;
        self.on_cpu = needs_logits(params, draws) || !processors.is_empty();
        let (prompt, output) = self.tokens.split_at(self.prompt_len);
        self.counts = (self.on_cpu || has_changes(params)).then(|| {
            let mut counts = TokenCounts::new(prompt);
            output.iter().for_each(|token| counts.push(*token));
            counts
        });
    }

    /// How the runner samples the token at `position`, for which row with output; none where it does not, or greedily.
    pub(super) fn draw(&self, output: u32, position: u32) -> Option<Draw> {
        let params = &self.request.params;
        (!self.on_cpu && !params.is_greedy()).then(|| params.draw(output, position, self.seed))
    }

    /// What the runner does to the logits of the row after so many tokens of the draft.
    pub(super) fn changes(&self, row: (u32, usize), draft: usize, eos: &[u32]) -> impl Iterator<Item = Change> + use<> {
        let counts = self.counts.as_ref().filter(|_| !self.on_cpu);
        let changes = counts.map(|counts| {
            let draft: Vec<u32> = self.draft().take(draft).copied().collect();
            super::changes(row, &self.request.params, counts, &draft, eos)
        });
        changes.into_iter().flatten()
    }

    /// Positions of tokens, known or in flight, that no step has rows for. None after what is certainly the last token.
    pub(super) fn pending(&self) -> usize {
        let InFlight { rows, tokens, .. } = self.in_flight;
        let len = self.tokens.len() + tokens;
        if tokens > 0 && len >= self.request.max_len { 0 } else { len - self.computed - rows }
    }

    /// Whether its next row follows from its newest token alone where it has no draft: the device may put that in.
    pub(super) fn can_carry(&self) -> bool {
        self.counts.is_none() && self.speculation.as_ref().is_none_or(|speculation| speculation.config.adaptive)
    }

    /// Whether it drafts at all.
    pub(super) fn drafts(&self) -> bool {
        self.speculation.is_some()
    }

    /// Whether it tells how likely its prompt was, and has not told yet.
    pub(super) fn scores(&self) -> bool {
        self.prompt_logprobs.is_some()
    }

    /// Like [`Waiting::known`].
    pub(super) fn known(&self) -> &[u32] {
        let pools_all = self.pool.as_ref().is_some_and(Pool::takes_all);
        if self.scores() || pools_all { &[] } else { &self.request.prompt }
    }

    /// That its keys and values are gone. Its tokens and its draft stay.
    pub(super) fn forget_computed(&mut self) {
        self.blocks.clear();
        (self.computed, self.given_back, self.promised) = (0, 0, 0);
        self.in_flight = InFlight::default();
        self.prompt_logprobs.iter_mut().for_each(Vec::clear);
        self.pool = self.request.pooling.map(Pool::new);
    }

    /// The blocks that are its own.
    pub(super) fn own_blocks(&self) -> &[u32] {
        &self.blocks[self.given_back..]
    }

    /// The draft tokens for the next step: those that the grammar forces, then what was guessed.
    pub(super) fn draft(&self) -> impl Iterator<Item = &u32> {
        let guess = self.speculation.as_ref().map_or(&[][..], |s| &s.guess[..s.depth]);
        self.forced[..self.forced_depth].iter().chain(guess)
    }

    /// How many of them are forced, and how many there are.
    pub(super) fn draft_len(&self) -> (usize, usize) {
        (self.forced_depth, self.forced_depth + self.speculation.as_ref().map_or(0, |s| s.depth))
    }

    /// Leaves at most `most` draft tokens, the forced ones first. A guess follows all of these or is none.
    pub(super) fn trim_draft(&mut self, most: usize) {
        self.forced_depth = self.forced.len().min(most);
        self.trim_guess(most - self.forced_depth);
    }

    /// Leaves at most `most` tokens of the guess.
    pub(super) fn trim_guess(&mut self, most: usize) {
        if let Some(speculation) = &mut self.speculation {
            speculation.depth = speculation.depth.min(most);
        }
    }

    /// Looks up which tokens the grammar forces next. What fails here fails again at the next mask, where it is told.
    fn force(&mut self) {
        self.forced.clear();
        if let Some(Ok(constraint)) = &mut self.constraint {
            // Drafts as far as the output may go, but for the step's last token, which is sampled.
            let most = (self.request.max_len - self.tokens.len()).saturating_sub(1);
            self.forced = constraint.forced(most).unwrap_or_default();
        }
        self.forced_depth = self.forced.len();
    }

    /// Drafts what follows: what the grammar forces, then a guess, as far as the grammar allows it. See [`DraftWindow::draft`]
    /// for `longest`; gives how long the guess took.
    pub(super) fn propose(&mut self, longest: usize, max_model_len: usize) -> Option<f64> {
        self.force();
        let speculation = self.speculation.as_mut()?;
        let started = Instant::now();
        speculation.propose(&self.forced, self.tokens.len() + self.forced.len(), longest, max_model_len);
        let seconds = started.elapsed().as_secs_f64();
        if let Some(Ok(constraint)) = &mut self.constraint
            && !speculation.guess.is_empty()
        {
            let whole = [self.forced.as_slice(), &speculation.guess].concat();
            let allowed = constraint.validate(&whole).unwrap_or(0);
            speculation.guess.truncate(allowed.saturating_sub(self.forced.len()));
            speculation.depth = speculation.guess.len();
        }
        Some(seconds)
    }

    /// Whether the guess is out of the request's prediction.
    pub(super) fn predicted(&self) -> bool {
        self.speculation.as_ref().is_some_and(|s| s.predicted)
    }

    /// The guess and how many tokens of it are the draft, to hold beside the sequence.
    pub(super) fn take_guess(&mut self) -> (Vec<u32>, usize) {
        let take = |s: &mut Speculation| (std::mem::take(&mut s.guess), std::mem::take(&mut s.depth));
        self.speculation.as_mut().map_or_else(Default::default, take)
    }

    /// Returns the memory of [`take_guess`](Self::take_guess), and learns from the tokens that came.
    pub(super) fn give_back(&mut self, guess: Vec<u32>, tokens: &[u32], all: &mut HoldRates) {
        if let Some(speculation) = &mut self.speculation {
            speculation.acceptance.observe(&guess, tokens, all);
            speculation.guess = guess;
            speculation.guess.clear();
        }
    }

    /// How likely the prompt's token at `place` was, by the row of logits before it.
    pub(super) fn score(&mut self, place: usize, logits: &[f32], sampler: &mut Sampler, tokenizer: &Tokenizer) {
        let (Some(scores), Some(n)) = (&mut self.prompt_logprobs, self.request.params.prompt_logprobs) else { return };
        let decoded =
            |token: TokenLogprob| Logprob { decoded_token: tokenizer.decode(&[token.token_id], false), token };
        scores.push(sampler.score(logits, self.tokens[place], n as usize).into_iter().map(decoded).collect());
    }

    /// Takes the forced tokens of the draft out of the sequence.
    pub(super) fn take_forced(&mut self) -> Vec<u32> {
        self.forced.truncate(std::mem::take(&mut self.forced_depth));
        std::mem::take(&mut self.forced)
    }

    /// Samples the token after all those so far from its row of logits, which is overwritten, or from what its processors made of it.
    /// None where its grammar allows
    /// no more.
    ///
    /// # Errors
    /// `grammar_failed`.
    pub(super) fn sample(
        &mut self,
        logits: &mut [f32],
        processed: Option<&Result<Vec<f32>>>,
        sampler: &mut Sampler,
        tokenizer: &Tokenizer,
        mask: &mut Mask,
        output: &mut SequenceOutput,
    ) -> Result<Option<u32>> {
        let Some(counts) = &mut self.counts else { return Ok(Some(0)) };
        let position = (self.prompt_len + counts.output().len()) as u32;
        let processed = processed.map(|row| row.as_deref().map_err(Clone::clone)).transpose()?;
        let sampled = match &mut self.constraint {
            Some(Ok(constraint)) => {
                constraint.mask(mask)?;
                if mask.is_empty() {
                    return Ok(None);
                }
                let sampled =
                    sampler.sample(logits, &self.request.params, counts, self.seed, position, processed, Some(mask));
                constraint.commit(sampled.token)?;
                sampled
            }
            Some(Err(error)) => return Err(error.clone()),
            None => sampler.sample(logits, &self.request.params, counts, self.seed, position, processed, None),
        };
        counts.push(sampled.token);
        if let Some(logprobs) = sampled.logprobs {
            let decoded = |id| tokenizer.decode(&[id], false);
            let named = logprobs.into_iter().map(|token| Logprob { decoded_token: decoded(token.token_id), token });
            output.logprobs.get_or_insert_default().push(named.collect());
        }
        Ok(Some(sampled.token))
    }

    /// Appends a sampled token; sets `output.finish_reason` when it is the last.
    pub(super) fn append(&mut self, token: u32, tokenizer: &Tokenizer, output: &mut SequenceOutput) {
        self.tokens.push(token);
        if let (Some(counts), false) = (&mut self.counts, self.on_cpu) {
            counts.push(token);
        }
        if let Some(speculation) = &mut self.speculation {
            speculation.proposer.iter_mut().for_each(|ngram| ngram.extend(&[token]));
            speculation.prediction.iter_mut().for_each(|prediction| prediction.extend(&[token]));
        }
        output.token_ids.push(token);
        // A grammar allows it where the output is complete, and then nothing more.
        let completes = self.constraint.is_some() && tokenizer.eos_ids().contains(&token);
        let may_stop = completes || self.tokens.len() - self.prompt_len >= self.request.params.min_tokens;
        let is_eos = completes || (!self.request.params.ignore_eos && tokenizer.eos_ids().contains(&token));
        let is_stop = self.request.params.stop_token_ids.contains(&token);
        let stops = may_stop && (is_eos || is_stop);
        // The token that stops is among the ids; as text it is what a stop string is.
        if !stops || self.request.params.include_stop_str_in_output {
            let text = self.detokenizer.push(tokenizer, token);
            let step = self.stops.push(&text, self.is_early());
            output.text.push_str(&step.text);
            if let Some(stop) = step.hit {
                output.finish_reason = Some(FinishReason::Stop);
                output.stop_reason = self.stops.get(stop).map(|text| StopReason::Text(text.to_owned()));
                return;
            }
        }
        if stops {
            output.finish_reason = Some(FinishReason::Stop);
            output.stop_reason = (!is_eos).then_some(StopReason::Token(token));
        } else if self.tokens.len() >= self.request.max_len {
            output.finish_reason = Some(FinishReason::Length);
        }
        if output.finish_reason.is_some() {
            self.flush_text(output);
        }
    }

    /// That a row of logits holds a NaN or an infinity.
    pub(super) fn corrupted(&self) -> Error {
        let message = format!(
            "the logits behind token {} of this sequence hold a NaN or an infinity, so there is no next token; the \
             model's file is damaged or overflows on this adapter: load another file or quantisation of it",
            self.tokens.len()
        );
        Error::new(ErrorCode::CorruptedLogits, message)
    }

    /// Ends it without a further token: with an error, or since its grammar allows none.
    pub(super) fn end(&mut self, error: Option<Error>, output: &mut SequenceOutput) {
        output.finish_reason = Some(if error.is_some() { FinishReason::Error } else { FinishReason::Stop });
        output.error = error;
        self.flush_text(output);
    }

    /// Whether its last token is one of the first `min_tokens`: only text after them can end a stop string.
    fn is_early(&self) -> bool {
        self.tokens.len() - self.prompt_len <= self.request.params.min_tokens
    }

    /// Puts the text that was held back for a stop string into `output`. Bytes of a character whose end has not come are no
    /// text, as in vLLM.
    pub(super) fn flush_text(&mut self, output: &mut SequenceOutput) {
        output.text.push_str(&self.stops.finish());
    }
}
