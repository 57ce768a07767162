//! The state machine against a pipeline that exists only as its contract: it checks that rows
//! continue what the KV cache holds, and its next token depends on every token before. Guesses come
//! from an oracle that is often wrong, and from heads that are, too.

#![allow(clippy::unwrap_used)]

mod planned;

use std::collections::HashMap;

use jupiter_models::engine::EngineParams;
use jupiter_models::gguf::KvDtype;
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::{LayerRange, Row, Token};
use proptest::prelude::*;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use jupiter_models::profile::{LayerShape, ModelProfile};

use super::super::{ClusterPhase, DraftConfig, SplitPolicy, Wish};
use super::epochs::MAX_RECOVERIES;
use super::*;
use crate::StepId;
use crate::message::{
    DraftGuess, DraftReply, DraftRequest, DraftRows, HeadGuess, NodeCommand, NodeReport,
    StageAssignment, StageTiming,
};
use crate::planning::placement::Objective;
use crate::request::{DraftChoice, Oracle, SpeculationParams};
use crate::speculation::accept::follow;
use crate::speculation::draw::splitmix;
use crate::speculation::inflight::VerifierGate;
use crate::speculation::tree::DraftTree;

const N_CTX: u32 = 96;
const N_SEQ: u32 = 3;
const N_SPARE: u32 = 3;
const CHUNK: u32 = 5;
/// Of 256: how often the heads' first guess is right.
const HEADS_LUCK: u64 = 150;
/// The same of the draft model's guesses.
const DRAFT_LUCK: u64 = 220;
/// How far the heads guess.
const N_HEADS: usize = 3;

/// The Planner and what it believes to be a cluster.
struct World {
    core: PlannerCore,
    now: Instant,
    epoch: PlanEpoch,
    expected: StepId,
    /// The cells of each sequence: tokens, and which cell it is.
    kv: HashMap<SequenceId, Vec<(Token, u64)>>,
    n_cells: u64,
    opened: Vec<SequenceId>,
    gates: HashMap<SequenceId, VerifierGate>,
    /// From which generation on the rows of a sequence are computed.
    live_from: HashMap<SequenceId, u32>,
    /// Whether cancels come before the steps that were sent earlier, or never.
    hears_cancels: bool,
    /// How requests guess.
    source: Guessing,
    /// What the draft model was asked and has not answered.
    wishes: VecDeque<DraftRequest>,
    /// The texts that it knows.
    told: HashMap<RequestId, Vec<Token>>,
    /// Steps that were sent and not yet answered.
    pipeline: VecDeque<StepHeader>,
    n_commands: usize,
}

/// How requests guess.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Guessing {
    None,
    /// An oracle that is right so often.
    Oracle(f64),
    /// Heads, a draft model, and what stood in the text before.
    Auto,
    /// The draft model alone.
    Model,
}

impl World {
    fn new(n_nodes: u32, split: SplitPolicy) -> Self {
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
            speculation: SpeculationParams::default(),
            medusa: Some("heads".into()),
            draft: Some(DraftConfig {
                node: NodeId("n0".into()),
                model: "d".into(),
            }),
            engine: EngineParams {
                n_ctx: N_CTX,
                n_seq_max: N_SEQ + N_SPARE,
                n_batch: CHUNK,
                n_threads: 1,
                type_k: KvDtype::F16,
                type_v: KvDtype::F16,
                flash_attention: true,
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
            wishes: VecDeque::new(),
            told: HashMap::new(),
            pipeline: VecDeque::new(),
            n_commands: 0,
        };
        for i in 0..n_nodes {
            world.node_up(i);
        }
        world
    }

    fn node_up(&mut self, i: u32) {
        self.core.node_up(NodeId(format!("n{i}")), self.now);
        self.settle();
    }

    fn node_down(&mut self, i: u32) {
        self.core.node_down(&NodeId(format!("n{i}")), self.now);
        self.settle();
    }

    fn ask(&mut self, id: u64, prompt: &[Token], n: u32) -> UnboundedReceiver<StreamEvent> {
        let (sink, events) = unbounded_channel();
        let mut request = GenerateRequest::new(RequestId(id), prompt.to_vec());
        request.n_predict = Some(n);
        request.speculation = Some(self.speculation(id, prompt));
        self.core.generate(request, sink, self.now);
        self.settle();
        events
    }

    fn speculation(&self, seed: u64, prompt: &[Token]) -> SpeculationParams {
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

    fn tick(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.core.tick(self.now);
        self.settle();
    }

    /// Takes what the Planner sent: loads at once, queues steps.
    fn settle(&mut self) {
        loop {
            let outbox = self.core.take_outbox();
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

    fn load(&mut self, node: &NodeId, epoch: PlanEpoch, stages: Vec<StageAssignment>) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.expected = StepId::default();
            self.kv.clear();
            self.opened.clear();
            self.gates.clear();
            self.live_from.clear();
            self.pipeline.clear();
        }
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
    fn step(&mut self) -> bool {
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
    fn draft(&mut self) -> bool {
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

    fn compute(&mut self, header: &StepHeader) -> StepReport {
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
    fn dead<'a>(&self, header: &'a StepHeader) -> impl Iterator<Item = &'a DraftRows> {
        let live_from = self.live_from.clone();
        let hears_cancels = self.hears_cancels;
        header.drafts.iter().filter(move |draft| {
            let live_from = live_from.get(&draft.seq).copied().unwrap_or_default();
            hears_cancels && draft.generation < live_from
        })
    }

    fn compute_row(&mut self, row: &Row) {
        self.n_cells += 1;
        for &seq in &row.seq_ids {
            assert!(seq.0 < N_SEQ + N_SPARE);
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
    fn text(&self, seq: SequenceId, pos: u32) -> Vec<Token> {
        let cells = &self.kv[&seq][..=pos as usize];
        cells.iter().map(|&(token, _)| token).collect()
    }

    fn judge(&mut self, header: &StepHeader, draft: &DraftRows) -> Option<Acceptance> {
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

    fn run(&mut self) {
        while self.step() || self.draft() {}
    }
}

/// A token that depends on all before it, and whether it ends the text.
fn next_token(tokens: &[Token]) -> (Token, bool) {
    let mix = |hash: u64, token: &Token| (hash ^ *token as u64).wrapping_mul(0x0100_0000_01b3);
    let hash = tokens.iter().fold(0xcbf2_9ce4_8422_2325, mix) >> 20;
    ((hash % 1000) as Token, hash % 29 == 0)
}

/// What the heads say after `text`: two tokens for each place, of which the first is right more
/// often than the second.
fn guesses(mut text: Vec<Token>) -> Vec<Vec<HeadGuess>> {
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
fn expected(prompt: &[Token], n: u32) -> Vec<Token> {
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
fn read(events: &mut UnboundedReceiver<StreamEvent>) -> (Vec<Token>, Option<StreamEvent>) {
    let mut tokens = Vec::new();
    while let Ok(event) = events.try_recv() {
        match event {
            StreamEvent::Token(token) => tokens.push(token),
            end => return (tokens, Some(end)),
        }
    }
    (tokens, None)
}

#[track_caller]
fn assert_text(
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

#[track_caller]
fn assert_error(events: &mut UnboundedReceiver<StreamEvent>, part: &str) {
    let (_, end) = read(events);
    let Some(StreamEvent::Failed(error)) = end else {
        panic!("{end:?}")
    };
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn a_prompt_is_answered_and_its_chunks_overlap() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let prompt: Vec<Token> = (0..23).collect();
    let mut events = world.ask(1, &prompt, 20);
    assert_eq!(
        world.pipeline.len(),
        3,
        "as many steps in flight as stages, and one more"
    );
    world.run();
    assert_text(&mut events, &prompt, 20);
}

#[test]
fn bad_requests_are_refused_in_a_line() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    assert_error(&mut world.ask(1, &[], 5), "empty");
    assert_error(&mut world.ask(2, &[1; N_CTX as usize], 5), "context 96");
    assert_error(&mut world.ask(3, &[1], 0), "at least one token");
}

#[test]
fn an_answer_ends_where_the_context_does() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt = [3; 90];
    let mut events = world.ask(1, &prompt, 1000);
    world.run();
    let done = assert_text(&mut events, &prompt, 1000);
    assert_eq!(done.reason, FinishReason::Length);
}

#[test]
fn without_a_limit_an_answer_has_its_share_beside_the_prompt() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt = [7; 50];
    let (sink, mut events) = unbounded_channel();
    let request = GenerateRequest::new(RequestId(1), prompt.to_vec());
    world.core.generate(request, sink, world.now);
    world.settle();
    world.run();
    let share = N_CTX / N_SEQ;
    assert_text(&mut events, &prompt, share);
    assert!(expected(&prompt, share).len() > 1, "a text that shows it");
}

#[test]
fn a_request_that_breaks_every_step_takes_no_other_with_it() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut bad = world.ask(1, &[9, 9], 12);
    for n in 0..=MAX_RECOVERIES {
        // Its steps are lost each time; one that comes later is not to blame.
        if n == MAX_RECOVERIES {
            let mut good = world.ask(2, &[1, 2, 3], 12);
            world.pipeline.clear();
            world.tick(2500);
            assert_error(&mut bad, "gave up");
            world.run();
            assert_text(&mut good, &[1, 2, 3], 12);
            return;
        }
        world.pipeline.clear();
        world.tick(2500);
    }
}

#[test]
fn a_lost_node_costs_no_token() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let mut events = world.ask(1, &[1, 2, 3], 12);
    for _ in 0..5 {
        world.step();
    }
    world.node_down(1);
    let placed: Vec<_> = world
        .core
        .status()
        .stages
        .into_iter()
        .map(|s| s.node.0)
        .collect();
    assert_eq!(
        placed,
        ["n0", "n0"],
        "the one that is left holds both stages"
    );
    world.run();
    assert_eq!(assert_text(&mut events, &[1, 2, 3], 12).n_replays, 1);
    world.node_up(1);
    assert_eq!(
        world.core.status().stages[1].node.0,
        "n1",
        "used again when idle"
    );
}

#[test]
fn a_node_that_returns_is_used_again_under_steady_load_too() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let is_long = |prompt: &Vec<Token>| expected(prompt, 60).len() > 40;
    let prompt = (0..).map(|i| vec![i, 1, 2]).find(is_long).unwrap();
    let mut events = world.ask(1, &prompt, 60);
    world.node_down(1);
    world.step();
    world.node_up(1);
    let node = |world: &World| world.core.status().stages[1].node.0.clone();
    for _ in 0..20 {
        world.step();
        world.tick(1000);
        assert_eq!(node(&world), "n0", "the stream is not disturbed at once");
    }
    world.step();
    world.tick(1000);
    assert_eq!(node(&world), "n1");
    world.run();
    assert_text(&mut events, &prompt, 60);
}

#[test]
fn nobody_waits_for_ever_for_a_node() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut events = world.ask(1, &[1, 2], 12);
    world.step();
    world.node_down(0);
    assert_eq!(world.core.status().phase, ClusterPhase::Waiting);
    let mut late = world.ask(2, &[1, 2], 12);
    world.tick(5001);
    world.tick(1);
    assert_error(&mut events, "start `jupiter worker`");
    assert_error(&mut late, "node n0 is gone");
}

#[test]
fn a_step_without_report_is_replayed_and_a_fault_that_stays_is_told() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut events = world.ask(1, &[1, 2], 12);
    world.step();
    world.pipeline.clear();
    world.tick(2500);
    world.run();
    assert_text(&mut events, &[1, 2], 12);

    let mut events = world.ask(2, &[5, 2], 12);
    for _ in 0..=MAX_RECOVERIES {
        world.pipeline.clear();
        world.tick(2500);
    }
    assert_error(&mut events, "gave up after 10 recoveries");
    let mut events = world.ask(3, &[5, 3], 12);
    world.run();
    assert_text(&mut events, &[5, 3], 12);
}

#[test]
fn repeats_are_dropped_and_gaps_are_recovered() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let prompt: Vec<Token> = (0..23).collect();
    let mut events = world.ask(1, &prompt, 12);
    let header = world.pipeline.pop_front().unwrap();
    let report = world.compute(&header);
    world.core.report(report.clone(), world.now);
    world.core.report(report, world.now);
    world.settle();
    assert_eq!(world.core.status().epoch, PlanEpoch(1));
    let lost = world.pipeline.pop_front().unwrap();
    world.compute(&lost);
    world.step();
    assert_eq!(world.core.status().epoch, PlanEpoch(2));
    world.run();
    assert_text(&mut events, &prompt, 12);
}

#[test]
fn a_model_that_cannot_be_loaded_is_told_to_everyone() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut events = world.ask(1, &[1, 2], 12);
    let down = NodeReport::StageDown {
        epoch: world.epoch,
        stage: 0,
        node: NodeId("n0".into()),
        why: "no room".into(),
        restarting: false,
    };
    world.core.node_report(down, world.now);
    assert_error(&mut events, "no room");
    assert_error(&mut world.ask(2, &[1], 1), "no room");
}

#[test]
fn a_command_is_repeated_until_it_is_answered() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let before = world.n_commands;
    world.core.new_epoch(world.now);
    world.core.take_outbox();
    world.tick(150);
    assert_eq!(world.n_commands, before + 1);
    assert_eq!(world.core.status().phase, ClusterPhase::Running);
}

#[test]
fn the_next_turn_computes_only_what_is_new() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt: Vec<Token> = (0..20).collect();
    let mut events = world.ask(1, &prompt, 4);
    world.run();
    assert_text(&mut events, &prompt, 4);
    let mut next = prompt.clone();
    next.extend(expected(&prompt, 4));
    next.push(7);
    let mut events = world.ask(2, &next, 4);
    assert_eq!(world.pipeline[0].rows[0].pos, 23);
    world.run();
    assert_eq!(assert_text(&mut events, &next, 4).n_cached, 23);
}

#[test]
fn a_verdict_for_a_cancelled_request_is_not_its_successors() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let (sink, _events) = unbounded_channel();
    let mut request = GenerateRequest::new(RequestId(1), vec![1, 2, 3]);
    request.cache_prompt = false;
    world.core.generate(request, sink, world.now);
    world.settle();
    world.core.cancel(RequestId(1), world.now);
    // The same slot and the same length, asked while the old step is on its way.
    let mut events = world.ask(2, &[4, 5, 6], 12);
    assert_eq!(
        world.pipeline[1].rows[0].seq_ids,
        world.pipeline[0].rows[0].seq_ids
    );
    world.run();
    assert_text(&mut events, &[4, 5, 6], 12);
}

#[test]
fn a_client_may_hold_its_answer_for_complete() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut events = world.ask(1, &[1, 2, 3], 12);
    world.step();
    world.core.finish(RequestId(1), world.now);
    world.core.finish(RequestId(1), world.now);
    world.settle();
    let (tokens, end) = read(&mut events);
    assert_eq!(tokens, expected(&[1, 2, 3], 12)[..1]);
    let Some(StreamEvent::Done(done)) = end else {
        panic!("{end:?}")
    };
    assert_eq!((done.reason, done.n_eval), (FinishReason::Stop, 1));
    world.run();
    assert_eq!(world.core.status().n_live, 0);
}

#[test]
fn guesses_bring_the_same_text_in_fewer_steps() {
    for (source, most_steps) in [
        (Guessing::Oracle(0.9), 14),
        (Guessing::Oracle(0.0), 40),
        (Guessing::Auto, 25),
        (Guessing::Model, 20),
    ] {
        for hears_cancels in [true, false] {
            let mut world = World::new(2, SplitPolicy::Stages(2));
            (world.source, world.hears_cancels) = (source, hears_cancels);
            let is_long = |prompt: &Vec<Token>| expected(prompt, 30).len() == 30;
            let prompt = (0..).map(|i| vec![i, 1, 2]).find(is_long).unwrap();
            let mut events = world.ask(1, &prompt, 30);
            world.run();
            let done = assert_text(&mut events, &prompt, 30);
            let used = done.speculation.unwrap();
            assert!(used.n_steps <= most_steps, "{source:?}: {used:?}");
            assert_eq!(used.n_tokens, 30);
        }
    }
}

#[test]
fn a_cancelled_answer_leaves_no_work_behind() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    world.source = Guessing::Oracle(1.0);
    let is_long = |prompt: &Vec<Token>| expected(prompt, 60).len() == 60;
    let prompt = (0..).map(|i| vec![i, 1, 2]).find(is_long).unwrap();
    let _events = world.ask(1, &prompt, 60);
    let has_guesses = |header: &StepHeader| header.rows.len() > 1 && header.rows[0].pos > 4;
    while !world.pipeline.iter().any(has_guesses) {
        world.step();
    }
    let n_computed = world.n_cells;
    world.core.cancel(RequestId(1), world.now);
    world.settle();
    world.run();
    assert_eq!(
        world.n_cells, n_computed,
        "no row of it is computed any more"
    );
}

#[test]
fn what_was_cancelled_is_computed_again_in_the_next_turn() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    world.source = Guessing::Oracle(1.0);
    let is_long = |prompt: &Vec<Token>| expected(prompt, 60).len() == 60;
    let prompt = (0..).map(|i| vec![i, 1, 2]).find(is_long).unwrap();
    let mut events = world.ask(1, &prompt, 60);
    // The client has enough while steps are on their way.
    while world.pipeline.len() < 2 || world.kv.values().all(|cells| cells.len() < 20) {
        assert!(world.step());
    }
    world.core.finish(RequestId(1), world.now);
    world.settle();
    let (answer, _) = read(&mut events);
    let next = [&prompt[..], &answer, &[7]].concat();
    let mut events = world.ask(2, &next, 5);
    world.run();
    let done = assert_text(&mut events, &next, 5);
    assert!(done.n_cached as usize >= next.len() - 2, "{done:?}");
}

#[derive(Clone, Debug)]
enum Event {
    Ask {
        prompt: Vec<Token>,
        n: u32,
        source: Guessing,
    },
    Cancel(usize),
    Steps(usize),
    LoseStep,
    RepeatReport,
    NodeDown(u32),
    NodeUp(u32),
    Tick(u64),
    Drafts(usize),
    /// The draft model's node forgets what it knew, and what it was asked.
    LoseDrafts,
    PlannerPanics,
}

fn event() -> impl Strategy<Value = Event> {
    // Few different tokens, so that prompts share beginnings and the prompt cache is hit.
    let prompt = proptest::collection::vec(0..2_i32, 1..40);
    let source = prop_oneof![
        Just(Guessing::None),
        Just(Guessing::Auto),
        Just(Guessing::Model),
        Just(Guessing::Oracle(0.5)),
        Just(Guessing::Oracle(0.9)),
    ];
    prop_oneof![
        4 => (prompt, 1..20_u32, source).prop_map(|(prompt, n, source)| Event::Ask { prompt, n, source }),
        1 => (0..8_usize).prop_map(Event::Cancel),
        8 => (1..12_usize).prop_map(Event::Steps),
        1 => Just(Event::LoseStep),
        1 => Just(Event::RepeatReport),
        1 => (0..3_u32).prop_map(Event::NodeDown),
        2 => (0..3_u32).prop_map(Event::NodeUp),
        1 => (1..3000_u64).prop_map(Event::Tick),
        4 => (1..5_usize).prop_map(Event::Drafts),
        1 => Just(Event::LoseDrafts),
        1 => Just(Event::PlannerPanics),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_text_is_right(
        events in proptest::collection::vec(event(), 1..40),
        hears_cancels: bool,
    ) {
        let mut world = World::new(3, SplitPolicy::Stages(2));
        world.hears_cancels = hears_cancels;
        let mut asked = Vec::new();
        for event in events {
            match event {
                Event::Ask { prompt, n, source } => {
                    world.source = source;
                    let stream = world.ask(asked.len() as u64, &prompt, n);
                    asked.push((prompt, n, Some(stream)));
                }
                Event::Cancel(i) if i < asked.len() => {
                    asked[i].2 = None;
                    world.core.cancel(RequestId(i as u64), world.now);
                    world.settle();
                }
                Event::Cancel(_) => {}
                Event::Steps(n) => (0..n).for_each(|_| { world.step(); }),
                Event::LoseStep => { world.pipeline.clear(); world.tick(3000); }
                Event::RepeatReport => {
                    if let Some(header) = world.pipeline.pop_front() {
                        let report = world.compute(&header);
                        world.core.report(report.clone(), world.now);
                        world.core.report(report, world.now);
                        world.settle();
                    }
                }
                // One node always stays, so that nothing has to be given up.
                Event::NodeDown(i) => if i > 0 { world.node_down(i) },
                Event::NodeUp(i) => world.node_up(i),
                Event::Tick(ms) => world.tick(ms),
                Event::Drafts(n) => (0..n).for_each(|_| { world.draft(); }),
                Event::LoseDrafts => { world.wishes.clear(); world.told.clear(); world.tick(3000); }
                Event::PlannerPanics => { world.core.resume(world.now); world.settle(); }
            }
        }
        world.run();
        for (prompt, n, stream) in &mut asked {
            let Some(stream) = stream else { continue };
            match read(stream) {
                (tokens, Some(StreamEvent::Done(_))) => {
                    prop_assert_eq!(tokens, expected(prompt, *n));
                }
                // More than ten faults in a row are given up, in a clear error.
                (_, Some(StreamEvent::Failed(error))) => {
                    prop_assert!(error.to_string().contains("gave up"), "{}", error);
                }
                end => prop_assert!(false, "a request was forgotten: {:?}", end),
            }
        }
        let status = world.core.status();
        prop_assert_eq!((status.n_live, status.n_waiting), (0, 0));
        prop_assert!(status.stages.iter().all(|s| s.layers != LayerRange::new(0, 4)));
    }
}
