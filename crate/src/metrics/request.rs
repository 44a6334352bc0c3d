//! One request: when what happened to it, and how its speculation went.

use super::derived::ratio;
use serde::Serialize;

/// Why a request ended; in JSON and in labels by vLLM's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// At a stop token or stop string.
    #[default]
    Stop,
    /// At `max_tokens` or `max_model_len`.
    Length,
    /// The caller aborted it.
    Abort,
    /// The engine failed.
    Error,
}

/// What the registry observes of a sequence that is done. Times in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FinishedRequest {
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens of its prompt.
    pub prompt_tokens: usize,
    /// Those of them that the prefix cache had.
    pub cached_prompt_tokens: usize,
    /// Tokens of its output.
    pub generation_tokens: usize,
    /// How often it was put back into the queue.
    pub preemptions: usize,
    /// The parameter, where given.
    pub max_tokens: Option<usize>,
    /// The request it belongs to, if it is the last of its sequences to end.
    pub parent: Option<ParentRequest>,
    /// From arrival to its end.
    pub e2e_time: f64,
    /// From queued to scheduled.
    pub queue_time: f64,
    /// From scheduled to the first token.
    pub prefill_time: f64,
    /// From the first token to the last.
    pub decode_time: f64,
    /// From scheduled to the last token.
    pub inference_time: f64,
}

/// A request with all its `n` sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentRequest {
    /// The parameter `n`.
    pub n: usize,
    /// Output tokens of the longest sequence.
    pub max_generation_tokens: usize,
}

impl FinishedRequest {
    /// Decode time by tokens after the first; 0 with fewer than two tokens, as in vLLM.
    pub fn time_per_output_token(&self) -> f64 {
        match self.generation_tokens {
            0 | 1 => 0.0,
            tokens => self.decode_time / (tokens - 1) as f64,
        }
    }
}

/// How long a request's caller waited for the tokens of a step, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// Since arrival.
    FirstToken(f64),
    /// Since the step before that yielded tokens. One a step, however many tokens it yielded.
    InterToken(f64),
}

/// A request's own metrics (`output.metrics`), by vLLM's names. Times are in the caller's clock, in seconds; null is what
/// has not come to pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RequestMetrics {
    /// Tokens of the prompt.
    pub num_prompt_tokens: usize,
    /// Those of them that the prefix cache had.
    pub num_cached_tokens: usize,
    /// Output tokens.
    pub num_generation_tokens: usize,
    /// Those of them to which a grammar left no other, and which took no step of their own.
    pub num_forced_tokens: usize,
    /// Draft tokens out of the request's prediction that were accepted, and those that were not.
    pub num_accepted_prediction_tokens: usize,
    /// See there.
    pub num_rejected_prediction_tokens: usize,
    /// How often it was put back into the queue.
    pub num_preemptions: usize,
    /// When the request came.
    pub arrival_time: f64,
    /// When it was queued.
    pub queued_ts: f64,
    /// When it first had rows in a step.
    pub scheduled_ts: Option<f64>,
    /// When its first token was there.
    pub first_token_ts: Option<f64>,
    /// When its last token was there.
    pub last_token_ts: Option<f64>,
    /// When it ended.
    pub finished_time: Option<f64>,
    /// From arrival to the first token.
    pub first_token_latency: Option<f64>,
    /// From queued to scheduled.
    pub queue_time: Option<f64>,
    /// From scheduled to the first token.
    pub prefill_time: Option<f64>,
    /// From the first token to the last.
    pub decode_time: Option<f64>,
    /// From scheduled to the last token.
    pub inference_time: Option<f64>,
    /// From arrival to its end.
    pub e2e_time: Option<f64>,
    /// How speculation went; null without.
    pub speculative_decoding: Option<SpeculativeDecoding>,
}

/// A request's speculation, in the fields that vLLM's server reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpeculativeDecoding {
    /// 1 + accepted by steps; 1 without steps.
    pub mean_acceptance_length: f64,
    /// Accepted by drafted; 0 without drafts.
    pub draft_acceptance_rate: f64,
    /// Steps by how many tokens they accepted: 0 to K.
    pub acceptance_histogram: Vec<u64>,
    /// Steps with drafts.
    pub num_spec_steps: u64,
    /// Draft tokens accepted, before any cut.
    pub num_accepted_draft_tokens: u64,
    /// Draft tokens scheduled.
    pub num_draft_tokens: u64,
    /// K.
    pub num_spec_tokens: usize,
}

/// Follows one sequence from its arrival to its end.
#[derive(Clone, Debug)]
pub struct RequestRecorder {
    metrics: RequestMetrics,
    /// Steps by accepted tokens; none without speculation.
    acceptance_histogram: Option<Vec<u64>>,
    num_draft_tokens: u64,
}

impl RequestRecorder {
    /// A request that comes and is queued now, speculating with at most `k` tokens per step if at all.
    pub fn new(now: f64, num_prompt_tokens: usize, k: Option<usize>) -> Self {
        let metrics = RequestMetrics { num_prompt_tokens, arrival_time: now, queued_ts: now, ..Default::default() };
        Self { metrics, acceptance_histogram: k.map(|k| vec![0; k + 1]), num_draft_tokens: 0 }
    }

    /// It has rows in a step that starts now, and the prefix cache had this much of its prompt. Only the first time counts.
    pub fn on_scheduled(&mut self, now: f64, num_cached_tokens: usize) {
        if self.metrics.scheduled_ts.is_none() {
            self.metrics.scheduled_ts = Some(now);
            self.metrics.num_cached_tokens = num_cached_tokens;
        }
    }

    /// It was put back into the queue.
    pub fn on_preempted(&mut self) {
        self.metrics.num_preemptions += 1;
    }

    /// A step had `num_draft` of its draft tokens and accepted `num_accepted`, before any cut. Without draft tokens it is
    /// no speculative step.
    pub fn on_draft(&mut self, num_draft: usize, num_accepted: usize) {
        let Some(histogram) = self.acceptance_histogram.as_mut().filter(|_| num_draft > 0) else { return };
        if num_draft >= histogram.len() {
            histogram.resize(num_draft + 1, 0);
        }
        histogram[num_accepted.min(num_draft)] += 1;
        self.num_draft_tokens += num_draft as u64;
    }

    /// The draft of a step was out of the request's prediction; see [`on_draft`](Self::on_draft).
    pub fn on_prediction(&mut self, num_draft: usize, num_accepted: usize) {
        let num_accepted = num_accepted.min(num_draft);
        self.metrics.num_accepted_prediction_tokens += num_accepted;
        self.metrics.num_rejected_prediction_tokens += num_draft - num_accepted;
    }

    /// A step had so many tokens that its grammar forced, after the cut.
    pub fn on_forced(&mut self, num_forced: usize) {
        self.metrics.num_forced_tokens += num_forced;
    }

    /// A step yielded `num_tokens` of its tokens, after the cut: what its caller waited for them; none for no tokens.
    pub fn on_tokens(&mut self, now: f64, num_tokens: usize) -> Option<Latency> {
        if num_tokens == 0 {
            return None;
        }
        self.metrics.num_generation_tokens += num_tokens;
        let before = self.metrics.last_token_ts.replace(now);
        Some(match before {
            Some(before) => Latency::InterToken(elapsed(before, now)),
            None => {
                self.metrics.first_token_ts = Some(now);
                Latency::FirstToken(elapsed(self.metrics.arrival_time, now))
            }
        })
    }

    /// Its metrics, were it to end now.
    pub fn finish(&self, now: f64) -> RequestMetrics {
        let RequestMetrics { arrival_time, queued_ts, scheduled_ts, first_token_ts, last_token_ts, .. } = self.metrics;
        let span = |from: Option<f64>, to: Option<f64>| Some(elapsed(from?, to?));
        RequestMetrics {
            finished_time: Some(now),
            first_token_latency: span(Some(arrival_time), first_token_ts),
            queue_time: span(Some(queued_ts), scheduled_ts),
            prefill_time: span(scheduled_ts, first_token_ts),
            decode_time: span(first_token_ts, last_token_ts),
            inference_time: span(scheduled_ts, last_token_ts),
            e2e_time: span(Some(arrival_time), Some(now)),
            speculative_decoding: self.speculative_decoding(),
            ..self.metrics.clone()
        }
    }

    fn speculative_decoding(&self) -> Option<SpeculativeDecoding> {
        let acceptance_histogram = self.acceptance_histogram.clone()?;
        let num_spec_steps = acceptance_histogram.iter().sum();
        let num_accepted = acceptance_histogram.iter().zip(0..).map(|(steps, accepted)| steps * accepted).sum();
        Some(SpeculativeDecoding {
            mean_acceptance_length: 1.0 + ratio(num_accepted, num_spec_steps),
            draft_acceptance_rate: ratio(num_accepted, self.num_draft_tokens),
            num_spec_tokens: acceptance_histogram.len() - 1,
            acceptance_histogram,
            num_spec_steps,
            num_accepted_draft_tokens: num_accepted,
            num_draft_tokens: self.num_draft_tokens,
        })
    }
}

impl RequestMetrics {
    /// What the registry observes of this request, less what its metrics do not tell: `reason`, `max_tokens` and `parent`
    /// are the caller's. A phase that never began took no time.
    pub fn finished(&self) -> FinishedRequest {
        FinishedRequest {
            prompt_tokens: self.num_prompt_tokens,
            cached_prompt_tokens: self.num_cached_tokens,
            generation_tokens: self.num_generation_tokens,
            preemptions: self.num_preemptions,
            e2e_time: self.e2e_time.unwrap_or_default(),
            queue_time: self.queue_time.unwrap_or_default(),
            prefill_time: self.prefill_time.unwrap_or_default(),
            decode_time: self.decode_time.unwrap_or_default(),
            inference_time: self.inference_time.unwrap_or_default(),
            ..Default::default()
        }
    }
}

/// Seconds from one moment to another; a clock set back makes no negative time.
fn elapsed(from: f64, to: f64) -> f64 {
    (to - from).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_the_request() {
        let mut request = RequestRecorder::new(10.0, 3, None);
        request.on_scheduled(11.0, 2);
        request.on_scheduled(12.0, 0);
        assert_eq!(request.on_tokens(13.0, 0), None);
        assert_eq!(request.on_tokens(14.0, 1), Some(Latency::FirstToken(4.0)));
        assert_eq!(request.on_tokens(16.0, 3), Some(Latency::InterToken(2.0)));
        let metrics = request.finish(17.0);
        assert_eq!(metrics.queue_time, Some(1.0));
        assert_eq!(metrics.prefill_time, Some(3.0));
        assert_eq!(metrics.decode_time, Some(2.0));
        assert_eq!(metrics.inference_time, Some(5.0));
        assert_eq!(metrics.e2e_time, Some(7.0));
        assert_eq!(metrics.first_token_latency, Some(4.0));
        assert_eq!((metrics.num_prompt_tokens, metrics.num_cached_tokens, metrics.num_generation_tokens), (3, 2, 4));
        assert_eq!(metrics.finished().time_per_output_token(), 2.0 / 3.0);
        assert!(serde_json::to_value(&metrics).unwrap()["speculative_decoding"].is_null());
    }

    #[test]
    fn what_never_came_to_pass_is_null() {
        let metrics = RequestRecorder::new(1.0, 3, Some(2)).finish(2.0);
        assert_eq!((metrics.queue_time, metrics.first_token_ts, metrics.decode_time), (None, None, None));
        let speculation = metrics.speculative_decoding.unwrap();
        assert_eq!(speculation.acceptance_histogram, [0, 0, 0]);
        assert_eq!((speculation.mean_acceptance_length, speculation.draft_acceptance_rate), (1.0, 0.0));
    }

    #[test]
    fn speculation_is_counted_by_step() {
        let mut request = RequestRecorder::new(0.0, 3, Some(3));
        for (num_draft, num_accepted) in [(3, 3), (0, 0), (2, 0), (3, 1)] {
            request.on_draft(num_draft, num_accepted);
        }
        let speculation = request.finish(1.0).speculative_decoding.unwrap();
        assert_eq!(speculation.acceptance_histogram, [1, 1, 0, 1]);
        assert_eq!((speculation.num_spec_steps, speculation.num_accepted_draft_tokens), (3, 4));
        assert_eq!((speculation.num_draft_tokens, speculation.num_spec_tokens), (8, 3));
        assert_eq!(speculation.draft_acceptance_rate, 0.5);
    }
}
