//! Those who ask: what they are told, and when.

use std::collections::BTreeSet;

use jupiter_models::sampling::SamplingParams;
use tokio::sync::mpsc::{UnboundedReceiver, error::TryRecvError, unbounded_channel};

use super::outcome::Answered;
use super::text::{N_VOCAB, Text};
use super::workload::SimRequest;
use crate::RequestId;
use crate::planner::PlannerMessage;
use crate::request::{
    DraftChoice, EventSink, GenerateRequest, Oracle, SpeculationParams, StreamEvent,
};

/// How tokens are guessed ahead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guesses {
    /// How often a guess is right, 0 to 1.
    pub acceptance: f64,
    /// Most tokens of a guess; without it, as many as the Planner would take.
    pub draft_max: Option<u32>,
    /// Most steps of an answer on their way at once; without it, as many as pay.
    pub in_flight: Option<u32>,
    /// Of the guesses that are wrong.
    pub seed: u64,
}

/// All that asked so far.
pub(super) struct Clients<'a> {
    asked: &'a [SimRequest],
    guesses: Option<Guesses>,
    /// By text: each request has one, and each point of an answer.
    streams: Vec<Stream>,
    /// Those that wait for an answer.
    open: BTreeSet<usize>,
    pub(super) answered: Vec<Answered>,
    pub(super) gaps_ns: Vec<u64>,
    pub(super) n_unanswered: usize,
    pub(super) n_rows_in_vain: u64,
    pub(super) n_preempted: u64,
    pub(super) n_cached: u64,
}

struct Stream {
    request: usize,
    events: Option<UnboundedReceiver<StreamEvent>>,
    is_outline: bool,
    last_ns: u64,
    n_tokens: u32,
    /// Of an outline: points that began.
    n_begun: u32,
}

impl Stream {
    fn new(request: usize, is_outline: bool) -> Self {
        Self {
            request,
            events: None,
            is_outline,
            last_ns: 0,
            n_tokens: 0,
            n_begun: 0,
        }
    }
}

impl<'a> Clients<'a> {
    pub(super) fn new(asked: &'a [SimRequest], guesses: Option<Guesses>) -> Self {
        let stream =
            |(request, asked): (usize, &SimRequest)| Stream::new(request, asked.points.is_some());
        Self {
            asked,
            guesses,
            streams: asked.iter().enumerate().map(stream).collect(),
            open: BTreeSet::new(),
            answered: vec![Answered::default(); asked.len()],
            gaps_ns: Vec::new(),
            n_unanswered: asked.len(),
            n_rows_in_vain: 0,
            n_preempted: 0,
            n_cached: 0,
        }
    }

    /// The words of a client that asks now; none where it has no more to ask than points, of which
    /// [`Clients::hear`] tells. Requests and texts have the same numbers.
    pub(super) fn ask(&mut self, request: usize) -> Option<PlannerMessage> {
        let SimRequest {
            n_prompt,
            n_predict,
            ..
        } = self.asked[request];
        if n_predict == 0 {
            return None;
        }
        let text = Text(request as u32);
        let prompt = text.tokens(n_prompt as usize);
        let asked = self.asks(request as u64, text, prompt, n_predict);
        Some(PlannerMessage::Generate(asked, self.listen(request)))
    }

    /// Asks for the next point of an outline of which enough is written.
    fn ask_next_point(&mut self, request: usize) -> Option<PlannerMessage> {
        let asked = self.asked[request];
        let points = asked.points?;
        let outline = self.streams.get_mut(request)?;
        let line_ends = match points.with_lines {
            true => (asked.n_predict * (outline.n_begun + 1)).div_ceil(points.n_points),
            false => asked.n_predict,
        };
        if outline.n_begun == points.n_points || outline.n_tokens < line_ends {
            return None;
        }
        outline.n_begun += 1;
        let mut prompt = Text(request as u32).tokens((asked.n_prompt + line_ends) as usize);
        let number = self.streams.len();
        self.streams.push(Stream::new(request, false));
        let text = Text(number as u32);
        let own = (prompt.len()..).take(points.n_prompt as usize);
        prompt.extend(own.map(|pos| text.token(pos)));
        let point = GenerateRequest {
            part_of: Some(RequestId(request as u64)),
            ..self.asks(number as u64, text, prompt, points.n_predict)
        };
        Some(PlannerMessage::Generate(point, self.listen(number)))
    }

    fn listen(&mut self, stream: usize) -> EventSink {
        let (sink, events) = unbounded_channel();
        self.streams[stream].events = Some(events);
        self.open.insert(stream);
        sink
    }

    fn asks(
        &self,
        id: u64,
        text: Text,
        prompt: Vec<jupiter_models::Token>,
        n_predict: u32,
    ) -> GenerateRequest {
        let source = match self.guesses {
            None => DraftChoice::None,
            Some(guesses) => {
                let behind = (prompt.len()..).take(n_predict as usize);
                let answer = behind.map(|pos| text.token(pos));
                DraftChoice::Oracle(Oracle {
                    truth: prompt.iter().copied().chain(answer).collect(),
                    n_vocab: N_VOCAB,
                    acceptance: guesses.acceptance,
                    seed: guesses.seed ^ id,
                })
            }
        };
        let default = SpeculationParams::default();
        let draft_max = self.guesses.and_then(|guesses| guesses.draft_max);
        let in_flight = self.guesses.and_then(|guesses| guesses.in_flight);
        GenerateRequest {
            n_predict: Some(n_predict),
            sampling: SamplingParams {
                seed: text.0,
                ..SamplingParams::default()
            },
            ignore_eos: true,
            speculation: Some(SpeculationParams {
                source,
                draft_max: draft_max.unwrap_or(default.draft_max),
                in_flight,
                ..default
            }),
            ..GenerateRequest::new(RequestId(id), prompt)
        }
    }

    /// Hears what the Planner told a stream, up to what its client says to that; none when all was heard.
    pub(super) fn hear(&mut self, stream: usize, now_ns: u64) -> Option<PlannerMessage> {
        loop {
            if self.streams[stream].is_outline
                && let Some(asked) = self.ask_next_point(stream)
            {
                return Some(asked);
            }
            let event = self.streams[stream].events.as_mut()?.try_recv();
            match event {
                Ok(StreamEvent::Token(_)) => self.take_token(stream, now_ns),
                Ok(StreamEvent::End(_)) => {}
                Ok(StreamEvent::Done(done)) => {
                    self.n_preempted += u64::from(done.n_preempted);
                    self.n_cached += u64::from(done.n_cached);
                    let wasted = done.speculation.map_or(0, |usage| usage.n_wasted);
                    self.n_rows_in_vain += u64::from(wasted);
                    self.end(stream, now_ns, None);
                    return None;
                }
                Ok(StreamEvent::Failed(error)) => {
                    self.end(stream, now_ns, Some(error.to_string()));
                    return None;
                }
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => {
                    let why = "the planner forgot the request".to_owned();
                    self.end(stream, now_ns, Some(why));
                    return None;
                }
            }
        }
    }

    /// The request that a stream belongs to; its own stream has the same number.
    pub(super) fn request_of(&self, stream: usize) -> usize {
        self.streams[stream].request
    }

    /// Whether nobody waits for an answer now.
    pub(super) fn are_silent(&self) -> bool {
        self.open.is_empty()
    }

    /// The streams that wait for an answer.
    pub(super) fn waiting(&self) -> Vec<usize> {
        self.open.iter().copied().collect()
    }

    fn take_token(&mut self, stream: usize, now_ns: u64) {
        let Stream {
            request,
            is_outline,
            last_ns,
            n_tokens,
            ..
        } = &mut self.streams[stream];
        if *n_tokens > 0 && !*is_outline {
            self.gaps_ns.push(now_ns - *last_ns);
        }
        (*last_ns, *n_tokens) = (now_ns, *n_tokens + 1);
        let answered = &mut self.answered[*request];
        if !*is_outline {
            let arrived_ns = self.asked[*request].arrives_ns;
            answered.ttft_ns.get_or_insert(now_ns - arrived_ns);
            answered.n_tokens += 1;
        }
    }

    /// A stream is over; an answer is complete with the last of its points.
    fn end(&mut self, stream: usize, now_ns: u64, error: Option<String>) {
        self.streams[stream].events = None;
        self.open.remove(&stream);
        let request = self.streams[stream].request;
        let asked = self.asked[request];
        let answered = &mut self.answered[request];
        if answered.error.is_some() {
            return;
        }
        if error.is_some() {
            answered.error = error;
            self.n_unanswered -= 1;
            return;
        }
        let since_ns = now_ns - asked.arrives_ns;
        answered.total_ns = since_ns;
        if stream == request && asked.points.is_some() {
            answered.outline_ns = Some(since_ns);
        }
        let mut open = self.open.iter();
        let is_open = open.any(|&other| self.streams[other].request == request);
        let n_points = asked.points.map_or(0, |points| points.n_points);
        let has_all = self.streams[request].n_begun == n_points;
        self.n_unanswered -= usize::from(has_all && !is_open);
    }
}
