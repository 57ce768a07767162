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
    Branch, DraftChoice, EventSink, ForkRequest, GenerateRequest, Oracle, SpeculationParams,
    StreamEvent,
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

    /// The words of a client that asks now. Requests and texts have the same numbers.
    pub(super) fn ask(&mut self, request: usize) -> PlannerMessage {
        let SimRequest {
            n_prompt,
            n_predict,
            points,
            ..
        } = self.asked[request];
        let text = Text(request as u32);
        let prompt = text.tokens(n_prompt as usize);
        if let Some(points) = points.filter(|_| n_predict == 0) {
            return self.ask_points(request, prompt, points.n_points);
        }
        let sink = self.listen(request);
        let asked = GenerateRequest {
            holds: points.is_some_and(|points| !points.with_lines),
            cache_prompt: points.is_none_or(|points| points.with_lines),
            ..self.asks(request as u64, text, prompt, n_predict)
        };
        PlannerMessage::Generate(asked, sink)
    }

    /// Asks for the points of an answer behind what is `shared`.
    fn ask_points(
        &mut self,
        request: usize,
        shared: Vec<jupiter_models::Token>,
        n_points: u32,
    ) -> PlannerMessage {
        let branch = |_| {
            let (request, sink) = self.ask_point(request, &shared);
            Branch { request, sink }
        };
        let branches = (0..n_points).map(branch).collect();
        // Nobody listens to what is shared: it has no text of its own, and ends with its branches.
        let sink = self.listen(request);
        // Beyond all texts.
        let id = RequestId(u64::from(u32::MAX) + request as u64 + 1);
        let asked = ForkRequest {
            cache_prompt: false,
            follows: Some(RequestId(request as u64)),
            ..ForkRequest::new(id, shared.len(), branches)
        };
        PlannerMessage::Fork(asked, sink)
    }

    /// Asks for one more point of a request, behind what it `begins` with.
    fn ask_point(
        &mut self,
        request: usize,
        begins: &[jupiter_models::Token],
    ) -> (GenerateRequest, EventSink) {
        let (n_own, n_predict) = self.asked[request]
            .points
            .map_or((1, 1), |points| (points.n_prompt, points.n_predict));
        let number = self.streams.len();
        self.streams.push(Stream::new(request, false));
        let text = Text(number as u32);
        let own = (begins.len()..).take(n_own as usize);
        let mut prompt = begins.to_vec();
        prompt.extend(own.map(|pos| text.token(pos)));
        let asked = self.asks(number as u64, text, prompt, n_predict);
        (asked, self.listen(number))
    }

    /// Asks for the next point of an outline whose line of it is written, if points begin so.
    fn ask_next_point(&mut self, request: usize) -> Option<PlannerMessage> {
        let asked = self.asked[request];
        let points = asked.points_with_lines()?;
        let outline = self.streams.get_mut(request)?;
        let line_ends = (asked.n_predict * (outline.n_begun + 1)).div_ceil(points.n_points);
        if outline.n_begun == points.n_points || outline.n_tokens < line_ends {
            return None;
        }
        outline.n_begun += 1;
        let begins = Text(request as u32).tokens((asked.n_prompt + line_ends) as usize);
        let (point, sink) = self.ask_point(request, &begins);
        let follows = Some(RequestId(request as u64));
        let point = GenerateRequest { follows, ..point };
        Some(PlannerMessage::Generate(point, sink))
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
                    return self.end(stream, now_ns, None);
                }
                Ok(StreamEvent::Failed(error)) => {
                    return self.end(stream, now_ns, Some(error.to_string()));
                }
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => {
                    let why = "the planner forgot the request".to_owned();
                    return self.end(stream, now_ns, Some(why));
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

    /// A stream is over. An outline is followed by its points; an answer is complete with the last
    /// of them.
    fn end(&mut self, stream: usize, now_ns: u64, error: Option<String>) -> Option<PlannerMessage> {
        self.streams[stream].events = None;
        self.open.remove(&stream);
        let request = self.streams[stream].request;
        let asked = self.asked[request];
        if self.answered[request].error.is_some() {
            return None;
        }
        if error.is_some() {
            self.answered[request].error = error;
            self.n_unanswered -= 1;
            return None;
        }
        if let Some(points) = asked.points_with_lines() {
            if stream == request {
                self.answered[request].outline_ns = Some(now_ns - asked.arrives_ns);
            }
            self.answered[request].total_ns = now_ns - asked.arrives_ns;
            let mut open = self.open.iter();
            let is_open = open.any(|&other| self.streams[other].request == request);
            let has_all = self.streams[request].n_begun == points.n_points;
            self.n_unanswered -= usize::from(has_all && !is_open);
            return None;
        }
        if let Some(points) = asked.points {
            if stream == request && self.streams[stream].n_tokens > 0 {
                self.streams[stream].n_tokens = 0;
                self.answered[request].outline_ns = Some(now_ns - asked.arrives_ns);
                let n_shared = (asked.n_prompt + asked.n_predict) as usize;
                let shared = Text(request as u32).tokens(n_shared);
                return Some(self.ask_points(request, shared, points.n_points));
            }
            if stream != request {
                self.answered[request].total_ns = now_ns - asked.arrives_ns;
                return None;
            }
        }
        // For points: what was shared ends when all of them have.
        self.answered[request].total_ns = now_ns - asked.arrives_ns;
        self.n_unanswered -= 1;
        None
    }
}
