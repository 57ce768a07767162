//! A Planner, and a pipeline that exists only as its contract.

use std::collections::HashMap;

use jupiter_models::draw::splitmix;
use jupiter_models::engine::EngineParams;
use jupiter_models::gguf::KvDtype;
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::kernels::KernelChoice;
use jupiter_models::{Row, Token};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use jupiter_models::profile::{LayerShape, ModelProfile};

use super::super::super::{DraftConfig, SplitPolicy, Wish};
use super::super::*;
use crate::RequestId;
use crate::StepId;
use crate::message::{
    DraftGuess, DraftReply, DraftRequest, DraftRows, HeadGuess, NodeCommand, NodeReport,
    StageAssignment, StageTiming,
};
use crate::planning::placement::Objective;
use crate::request::{
    Branch, DraftChoice, ExpandRequest, GenerateRequest, LengthLimit, Oracle, SpeculationParams,
};
use crate::speculation::accept::follow;
use crate::speculation::inflight::VerifierGate;
use crate::speculation::tree::DraftTree;

pub(super) const N_CTX: u32 = 96;
pub(super) const N_SEQ: u32 = 3;
pub(super) const N_SPARE: u32 = 3;
pub(super) const N_BRANCHES: u32 = 4;
pub(super) const CHUNK: u32 = 5;
/// Of 256: how often the heads' first guess is right.
pub(super) const HEADS_LUCK: u64 = 150;
/// The same of the draft model's guesses.
pub(super) const DRAFT_LUCK: u64 = 220;
/// How far the heads guess.
pub(super) const N_HEADS: usize = 3;

/// The Planner and what it believes to be a cluster.
pub(super) struct World {
    pub(super) core: PlannerCore,
    pub(super) now: Instant,
    pub(super) epoch: PlanEpoch,
    pub(super) expected: StepId,
    /// The cells of each sequence: tokens, and which cell it is.
    pub(super) kv: HashMap<SequenceId, Vec<(Token, u64)>>,
    pub(super) n_cells: u64,
    pub(super) opened: Vec<SequenceId>,
    pub(super) gates: HashMap<SequenceId, VerifierGate>,
    /// From which generation on the rows of a sequence are computed.
    pub(super) live_from: HashMap<SequenceId, u32>,
    /// Whether cancels come before the steps that were sent earlier, or never.
    pub(super) hears_cancels: bool,
    /// How requests guess.
    pub(super) source: Guessing,
    /// Whether branches ask to hold their cells.
    pub(super) branches_hold: bool,
    /// What the draft model was asked and has not answered.
    pub(super) wishes: VecDeque<DraftRequest>,
    /// The texts that it knows.
    pub(super) told: HashMap<RequestId, Vec<Token>>,
    /// Steps that were sent and not yet answered.
    pub(super) pipeline: VecDeque<StepHeader>,
    pub(super) n_commands: usize,
    /// What stages take to load, in milliseconds.
    pub(super) load_ms: u64,
}

/// What comes of several branches.
pub(super) struct Expanded {
    pub(super) whole: UnboundedReceiver<StreamEvent>,
    /// Prompts and events.
    pub(super) branches: Vec<(Vec<Token>, UnboundedReceiver<StreamEvent>)>,
}

/// How requests guess.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Guessing {
    None,
    /// An oracle that is right so often.
    Oracle(f64),
    /// Heads, a draft model, and what stood in the text before.
    Auto,
    /// The draft model alone.
    Model,
}

impl World {
    pub(super) fn new(n_nodes: u32, split: SplitPolicy) -> Self {
        let config = PlannerConfig {
            model: "m".into(),
            model_profile: ModelProfile {
                layers: vec![
                    LayerShape {
                        class: 0,
                        weight_bytes: 10,
                        kv_bytes_per_token: 1,
                    };
                    4
                ],
                embedding_bytes: 0,
                head_bytes: 0,
                tied_head: false,
                buffer_bytes: 0,
                n_embd: 1,
                bytes_per_value: 4.0,
            },
            head: NodeId("n0".into()),
            split,
            wish: Wish::new(Objective::Ttft, 1024, 1),
            adapts: true,
            wait_nodes: n_nodes,
            n_parallel: N_SEQ,
            n_branches: N_BRANCHES,
            speculation: SpeculationParams::default(),
            medusa: Some("heads".into()),
            draft: Some(DraftConfig {
                node: NodeId("n0".into()),
                model: "d".into(),
            }),
            engine: EngineParams {
                n_ctx: N_CTX,
                n_seq_max: N_SEQ + N_BRANCHES + N_SPARE,
                n_batch: CHUNK,
                n_threads: 1,
                type_k: KvDtype::F16,
                type_v: KvDtype::F16,
                flash_attention: true,
                kernels: KernelChoice::Auto,
                n_gpu_layers: 0,
                keeps_states: false,
            },
            chunk: CHUNK,
            payload_dtype: HiddenDtype::F32,
            step_timeout_ms: 1000,
            node_wait_ms: 5000,
            retry_ms: 100,
        };
        let now = Instant::now();
        let mut world = Self {
            core: PlannerCore::new(config, now),
            now,
            epoch: PlanEpoch::default(),
            expected: StepId::default(),
            kv: HashMap::new(),
            n_cells: 0,
            opened: Vec::new(),
            gates: HashMap::new(),
            live_from: HashMap::new(),
            hears_cancels: true,
            source: Guessing::None,
            branches_hold: false,
            wishes: VecDeque::new(),
            told: HashMap::new(),
            pipeline: VecDeque::new(),
            n_commands: 0,
            load_ms: 0,
        };
        for i in 0..n_nodes {
            world.node_up(i);
        }
        world
    }

    pub(super) fn node_up(&mut self, i: u32) {
        self.core.node_up(NodeId(format!("n{i}")), self.now);
        self.settle();
    }

    pub(super) fn node_down(&mut self, i: u32) {
        self.core.node_down(&NodeId(format!("n{i}")), self.now);
        self.settle();
    }

    pub(super) fn ask(
        &mut self,
        id: u64,
        prompt: &[Token],
        n: u32,
    ) -> UnboundedReceiver<StreamEvent> {
        let request = self.request(id, prompt, Some(n));
        self.submit(request)
    }

    fn request(&self, id: u64, prompt: &[Token], n: Option<u32>) -> GenerateRequest {
        GenerateRequest {
            n_predict: n,
            speculation: Some(self.speculation(id, prompt)),
            ..GenerateRequest::new(RequestId(id), prompt.to_vec())
        }
    }

    fn submit(&mut self, request: GenerateRequest) -> UnboundedReceiver<StreamEvent> {
        let (sink, events) = unbounded_channel();
        self.core.generate(request, sink, self.now);
        self.settle();
        events
    }

    /// Asks for as many tokens as fit.
    pub(super) fn ask_for_all(
        &mut self,
        id: u64,
        prompt: &[Token],
    ) -> UnboundedReceiver<StreamEvent> {
        let request = self.request(id, prompt, None);
        self.submit(request)
    }

    /// Asks without leave to keep the cells, but for a request that follows.
    pub(super) fn ask_holding(
        &mut self,
        id: u64,
        prompt: &[Token],
        n: u32,
    ) -> UnboundedReceiver<StreamEvent> {
        self.submit(GenerateRequest {
            cache_prompt: false,
            holds: true,
            ..self.request(id, prompt, Some(n))
        })
    }

    /// Asks for what follows request `follows`.
    pub(super) fn follow(
        &mut self,
        id: u64,
        follows: u64,
        prompt: &[Token],
        n: u32,
    ) -> UnboundedReceiver<StreamEvent> {
        self.submit(GenerateRequest {
            cache_prompt: false,
            follows: Some(RequestId(follows)),
            ..self.request(id, prompt, Some(n))
        })
    }

    /// Asks for a branch after each of `suffixes`, behind `shared`; the branches have the ids after
    /// `id`.
    pub(super) fn expand(
        &mut self,
        id: u64,
        shared: &[Token],
        suffixes: &[Vec<Token>],
        n: u32,
    ) -> Expanded {
        self.expand_within(id, shared, suffixes, Some(n))
    }

    /// The same for as many tokens as fit.
    pub(super) fn expand_for_all(
        &mut self,
        id: u64,
        shared: &[Token],
        suffixes: &[Vec<Token>],
    ) -> Expanded {
        self.expand_within(id, shared, suffixes, None)
    }

    fn expand_within(
        &mut self,
        id: u64,
        shared: &[Token],
        suffixes: &[Vec<Token>],
        n: Option<u32>,
    ) -> Expanded {
        let (sink, whole) = unbounded_channel();
        let mut branches = Vec::new();
        let mut asked = Vec::new();
        for (suffix, id) in suffixes.iter().zip(id + 1..) {
            let (sink, events) = unbounded_channel();
            let prompt = [shared, suffix].concat();
            let request = GenerateRequest {
                holds: self.branches_hold,
                ..self.request(id, &prompt, n)
            };
            branches.push(Branch { request, sink });
            asked.push((prompt, events));
        }
        let request = ExpandRequest {
            id: RequestId(id),
            n_shared: shared.len(),
            cache_prompt: true,
            follows: None,
            branches,
        };
        self.core.expand(request, sink, self.now);
        self.settle();
        Expanded {
            whole,
            branches: asked,
        }
    }

    pub(super) fn speculation(&self, seed: u64, prompt: &[Token]) -> SpeculationParams {
        let source = match self.source {
            Guessing::None => DraftChoice::None,
            Guessing::Auto => DraftChoice::Auto,
            Guessing::Model => DraftChoice::Model,
            Guessing::Oracle(acceptance) => DraftChoice::Oracle(Oracle {
                truth: [prompt, &expected(prompt, N_CTX)].concat().into(),
                n_vocab: 1000,
                acceptance,
                seed,
            }),
        };
        SpeculationParams {
            source,
            ..SpeculationParams::default()
        }
    }

    pub(super) fn tick(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.core.tick(self.now);
        self.settle();
    }

    /// Takes what the Planner sent: loads at once, queues steps.
    pub(super) fn settle(&mut self) {
        loop {
            let outbox = self.core.take_outbox();
            self.core.tell_clients();
            if outbox.is_empty() {
                return;
            }
            for (to, message) in outbox {
                match (to, message) {
                    (
                        Address::Node(node),
                        Message::Command(NodeCommand::Assign {
                            epoch,
                            stages,
                            drafter,
                        }),
                    ) => {
                        self.n_commands += 1;
                        if drafter.is_some() {
                            let (epoch, node) = (epoch, node.clone());
                            let ready = NodeReport::DrafterReady { epoch, node };
                            self.core.node_report(ready, self.now);
                        }
                        self.load(&node, epoch, stages);
                    }
                    (Address::Stage { epoch, stage: 0 }, Message::Step(step)) => {
                        assert_eq!(epoch, step.header.epoch);
                        self.pipeline.push_back(step.header);
                    }
                    (Address::Node(_), Message::Draft(request)) => self.wishes.push_back(request),
                    (Address::Node(_), Message::Cancel(cancel)) => {
                        let live_from = self.live_from.entry(cancel.seq).or_default();
                        *live_from = cancel.live_from.max(*live_from);
                    }
                    (to, message) => panic!("unexpected: {message:?} to {to}"),
                }
            }
        }
    }

    pub(super) fn load(&mut self, node: &NodeId, epoch: PlanEpoch, stages: Vec<StageAssignment>) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.expected = StepId::default();
            self.kv.clear();
            self.opened.clear();
            self.gates.clear();
            self.live_from.clear();
            self.pipeline.clear();
        }
        self.now += Duration::from_millis(self.load_ms);
        for assignment in stages {
            let memory = EngineMemory {
                weights_bytes: 1,
                kv_bytes: 1,
                compute_bytes: 1,
            };
            let (stage, node) = (assignment.stage, node.clone());
            let ready = NodeReport::StageReady {
                epoch,
                stage,
                node,
                memory,
            };
            self.core.node_report(ready, self.now);
        }
    }

    /// Computes the oldest step and reports it. False when there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some(header) = self.pipeline.pop_front() else {
            return false;
        };
        let report = self.compute(&header);
        self.now += Duration::from_millis(1);
        self.core.report(report, self.now);
        self.settle();
        true
    }

    /// The draft model answers the oldest wish. False when there is none.
    pub(super) fn draft(&mut self) -> bool {
        let Some(request) = self.wishes.pop_front() else {
            return false;
        };
        let text = self.told.entry(request.request).or_default();
        let from = request.from as usize;
        let is_known = from <= text.len();
        if is_known {
            text.truncate(from);
            text.extend(&request.tokens);
        }
        let n_known = text.len() as u32;
        let mut text = text.clone();
        let n_guesses = if is_known { request.depth } else { 0 };
        let guesses = (0..n_guesses).map(|i| {
            let (right, _) = next_token(&text);
            let luck = splitmix(right as u64 ^ text.len() as u64) % 256;
            let token = if luck < DRAFT_LUCK { right } else { 1003 };
            text.push(token);
            DraftGuess {
                parent: i.checked_sub(1).map(|parent| parent as u16),
                token,
                probability: 0.8,
            }
        });
        let reply = DraftReply {
            request: request.request,
            wish: request.wish,
            n_known,
            guesses: guesses.collect(),
            busy_us: 10,
        };
        self.core.drafted(&reply, self.now);
        self.core.drafted(&reply, self.now);
        self.settle();
        true
    }

    pub(super) fn compute(&mut self, header: &StepHeader) -> StepReport {
        assert_eq!((header.epoch, header.step), (self.epoch, self.expected));
        assert!(header.rows.len() <= CHUNK as usize && !header.rows.is_empty());
        self.expected = self.expected.next();
        for op in &header.kv_ops {
            match *op {
                KvOp::Truncate { seq, pos } => {
                    self.kv.entry(seq).or_default().truncate(pos as usize);
                }
                KvOp::Drop { seq } => {
                    self.kv.remove(&seq);
                }
                KvOp::Fork { src, dst, len } => {
                    let shared = self.kv[&src][..len as usize].to_vec();
                    self.kv.insert(dst, shared);
                }
            }
        }
        for open in &header.opens {
            self.opened.push(open.seq);
            self.gates.remove(&open.seq);
        }
        let dead: Vec<usize> = self.dead(header).flat_map(DraftRows::rows).collect();
        for (at, row) in header.rows.iter().enumerate() {
            if !dead.contains(&at) {
                self.compute_row(row);
            }
        }
        let live: Vec<DraftRows> = {
            let dead: Vec<_> = self.dead(header).collect();
            let is_live = |draft: &&DraftRows| !dead.contains(draft);
            header.drafts.iter().filter(is_live).cloned().collect()
        };
        let judged = live.iter().filter_map(|draft| self.judge(header, draft));
        let acceptances = judged.collect();
        let mut cells: Vec<u64> = self.kv.values().flatten().map(|&(_, cell)| cell).collect();
        cells.sort_unstable();
        cells.dedup();
        let n_cells = cells.len();
        assert!(
            n_cells <= N_CTX as usize,
            "{n_cells} cells in a context of {N_CTX}"
        );
        StepReport {
            epoch: header.epoch,
            step: header.step,
            acceptances,
            failures: Vec::new(),
            timings: vec![StageTiming {
                stage: 0,
                began_us: 0,
                waited_us: 0,
                busy_us: 1000,
            }],
        }
    }

    /// The rows that are cancelled.
    pub(super) fn dead<'a>(&self, header: &'a StepHeader) -> impl Iterator<Item = &'a DraftRows> {
        let live_from = self.live_from.clone();
        let hears_cancels = self.hears_cancels;
        header.drafts.iter().filter(move |draft| {
            let live_from = live_from.get(&draft.seq).copied().unwrap_or_default();
            hears_cancels && draft.generation < live_from
        })
    }

    pub(super) fn compute_row(&mut self, row: &Row) {
        self.n_cells += 1;
        for &seq in &row.seq_ids {
            assert!(seq.0 < N_SEQ + N_BRANCHES + N_SPARE);
            let cells = self.kv.entry(seq).or_default();
            assert_eq!(
                cells.len(),
                row.pos as usize,
                "a row continues its sequence"
            );
            cells.push((row.token, self.n_cells));
        }
    }

    /// The text of a sequence up to `pos`.
    pub(super) fn text(&self, seq: SequenceId, pos: u32) -> Vec<Token> {
        let cells = &self.kv[&seq][..=pos as usize];
        cells.iter().map(|&(token, _)| token).collect()
    }

    pub(super) fn judge(&mut self, header: &StepHeader, draft: &DraftRows) -> Option<Acceptance> {
        let rows = &header.rows[draft.rows()];
        let seq = draft.seq;
        assert!(self.opened.contains(&seq), "opened before its first logits");
        assert!(rows.iter().all(|row| row.wants_logits));
        let (pos, generation) = (rows[0].pos, draft.generation);
        let gate = self
            .gates
            .entry(seq)
            .or_insert(VerifierGate::new(generation));
        if !gate.admit(generation, pos, rows[0].token).unwrap() {
            return None;
        }
        let mut tree = DraftTree::new();
        for (row, &parent) in rows[1..].iter().zip(&draft.parents) {
            let parent = (parent as usize).checked_sub(1);
            tree.push(parent, row.token, None).unwrap();
        }
        let text_at = |at: Option<usize>| {
            let row = &rows[at.map_or(0, |at| at + 1)];
            self.text(row.seq_ids[0], row.pos)
        };
        let verdict = follow(&tree, |at| {
            let (token, ends) = next_token(&text_at(at));
            Ok(Next { token, ends })
        });
        let verdict = verdict.unwrap();
        let last = verdict.path.last().copied();
        let mut text = text_at(last);
        text.push(verdict.next.token);
        let gate = self.gates.get_mut(&seq)?;
        gate.judged(pos, rows.len(), verdict.path.len(), verdict.next);
        Some(Acceptance {
            seq,
            pos,
            last: last.map_or(0, |at| at as u16 + 1),
            next_token: verdict.next.token,
            is_eog: verdict.next.ends,
            guesses: guesses(text),
        })
    }

    pub(super) fn run(&mut self) {
        while self.step() || self.draft() {}
    }
}

/// A token that depends on all before it, and whether it ends the text.
pub(super) fn next_token(tokens: &[Token]) -> (Token, bool) {
    let mix = |hash: u64, token: &Token| (hash ^ *token as u64).wrapping_mul(0x0100_0000_01b3);
    let hash = tokens.iter().fold(0xcbf2_9ce4_8422_2325, mix) >> 20;
    ((hash % 1000) as Token, hash % 29 == 0)
}

/// What the heads say after `text`: two tokens for each place, of which the first is right more
/// often than the second.
pub(super) fn guesses(mut text: Vec<Token>) -> Vec<Vec<HeadGuess>> {
    let guess = |token, probability| HeadGuess { token, probability };
    let mut head = || {
        let (right, _) = next_token(&text);
        let luck = splitmix(right as u64 + text.len() as u64) % 256;
        text.push(right);
        match luck < HEADS_LUCK {
            true => vec![guess(right, 0.6), guess(1001, 0.2)],
            false => vec![guess(1002, 0.6), guess(right, 0.2)],
        }
    };
    (0..N_HEADS).map(|_| head()).collect()
}

/// The text that a request has to bring, whatever happens.
pub(super) fn expected(prompt: &[Token], n: u32) -> Vec<Token> {
    let mut tokens = prompt.to_vec();
    for _ in 0..n.min(N_CTX - prompt.len() as u32) {
        let (token, is_eog) = next_token(&tokens);
        if is_eog {
            break;
        }
        tokens.push(token);
    }
    tokens.split_off(prompt.len())
}

/// The tokens of a stream and its last event.
pub(super) fn read(
    events: &mut UnboundedReceiver<StreamEvent>,
) -> (Vec<Token>, Option<StreamEvent>) {
    let mut tokens = Vec::new();
    while let Ok(event) = events.try_recv() {
        match event {
            StreamEvent::Token(token) => tokens.push(token),
            StreamEvent::End(_) => {}
            end => return (tokens, Some(end)),
        }
    }
    (tokens, None)
}

#[track_caller]
pub(super) fn assert_text(
    events: &mut UnboundedReceiver<StreamEvent>,
    prompt: &[Token],
    n: u32,
) -> Completion {
    let (tokens, end) = read(events);
    assert_eq!(tokens, expected(prompt, n));
    let Some(StreamEvent::Done(done)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(done.n_eval as usize, tokens.len());
    done
}

/// A prompt of `n_prompt` tokens whose text fills the context.
pub(super) fn endless(n_prompt: usize, seed: Token) -> Vec<Token> {
    let mut prompts = (seed..).map(|i| vec![i; n_prompt]);
    let is_endless =
        |prompt: &Vec<Token>| expected(prompt, N_CTX).len() + n_prompt == N_CTX as usize;
    prompts.find(is_endless).unwrap()
}

/// The answer to a request for all that fits: it may be cut, but not before its share.
#[track_caller]
pub(super) fn assert_all_that_fits(
    events: &mut UnboundedReceiver<StreamEvent>,
    prompt: &[Token],
) -> Completion {
    let (tokens, end) = read(events);
    let Some(StreamEvent::Done(done)) = end else {
        panic!("{end:?}")
    };
    let whole = expected(prompt, N_CTX);
    assert!(whole.starts_with(&tokens), "{tokens:?}");
    assert!(
        tokens.len() >= whole.len().min((N_CTX / N_SEQ) as usize),
        "{done:?}"
    );
    let is_cut = done.reason == FinishReason::Length;
    assert_eq!(done.limit, is_cut.then_some(LengthLimit::Context));
    assert!(is_cut || tokens == whole);
    done
}

#[track_caller]
pub(super) fn assert_error(events: &mut UnboundedReceiver<StreamEvent>, part: &str) {
    let (_, end) = read(events);
    let Some(StreamEvent::Failed(error)) = end else {
        panic!("{end:?}")
    };
    assert!(error.to_string().contains(part), "{error}");
}
