//! The KV cache after guesses, refusals, cancels and forks is that of a fresh prefill.

use jupiter_actors::speculation::accept::Next;
use jupiter_actors::speculation::inflight::{InFlight, StepVerdict};
use jupiter_actors::speculation::tree::DraftTree;
use jupiter_models::gguf::ModelInfo;
use jupiter_models::synth::{SynthArch, SynthSpec, SynthType};
use jupiter_models::{KvOp, Row, SequenceId, Token};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kit::{Model, Pipeline, distance, params, prompt, rows};

const N_VOCAB: u32 = 320;
/// Largest difference of logits between batch shapes on models of this size, whose cache is f16; the
/// logits themselves are about 1.
const TOLERANCE: f32 = 5e-2;
const SPARE: [SequenceId; 3] = [SequenceId(5), SequenceId(6), SequenceId(7)];

/// A sequence with steps under way, whose verdicts are chance.
struct World {
    pipeline: Pipeline,
    steps: InFlight,
    text: Vec<Token>,
    spare: Vec<SequenceId>,
    /// Rides with the next step.
    kv_ops: Vec<KvOp>,
    /// Steps that were sent: their number, generation, rows and shape.
    sent: Vec<(u64, u32, Vec<Row>, DraftTree)>,
    n_sent: u64,
    rng: ChaCha8Rng,
}

impl World {
    fn token(&mut self) -> Token {
        self.rng.random_range(10..N_VOCAB as Token)
    }

    fn guesses(&mut self) -> DraftTree {
        let mut tree = DraftTree::new();
        let is_tree = self.steps.n_live() == 0 && self.rng.random_bool(0.5);
        let n_lines = if is_tree { 1 + SPARE.len() } else { 1 };
        for _ in 0..n_lines {
            let line: Vec<Token> = (0..self.rng.random_range(0..4))
                .map(|_| self.token())
                .collect();
            // Lines that begin alike share their rows.
            tree.insert(&line, &[]).unwrap();
        }
        tree
    }

    fn send(&mut self) {
        let tree = self.guesses();
        let is_behind = self.steps.n_live() > 0;
        let is_tree_under_way = self.sent.iter().any(|(.., tree)| !tree.is_line());
        if is_behind && (tree.is_empty() || is_tree_under_way) {
            return;
        }
        let n_spare = tree.leaves().len().saturating_sub(1);
        let spare = self.spare.split_off(self.spare.len() - n_spare);
        let sent = self
            .steps
            .send(self.n_sent, &self.text, &tree, &spare)
            .unwrap();
        let mut ops = std::mem::take(&mut self.kv_ops);
        ops.extend(sent.kv_ops);
        for op in ops {
            self.pipeline.apply(op);
        }
        // Stages hear of a cancel sooner or later: rows that will be dead are computed by some.
        let is_cancelled = self.rng.random_bool(0.2);
        let n_stages = if is_cancelled {
            self.rng.random_range(0..2)
        } else {
            2
        };
        if is_cancelled && is_behind {
            self.pipeline.step_until(&sent.rows, n_stages);
        } else {
            self.pipeline.step(&sent.rows);
        }
        let cancelled = is_cancelled && is_behind;
        let shape = sent_shape(&sent.rows, &sent.parents);
        self.sent
            .push((self.n_sent, sent.generation, sent.rows, shape));
        self.n_sent += 1;
        if cancelled {
            // Only what a refusal kills may be left out: the step before it refuses.
            self.refuse_until_alone();
        }
    }

    /// Reports the oldest step; `may_accept` whether anything of it may be right.
    fn report(&mut self, may_accept: bool) {
        if self.sent.is_empty() {
            return;
        }
        let (step, generation, rows, tree) = self.sent.remove(0);
        let verdict = (generation == self.steps.generation()).then(|| {
            let mut at = None;
            while may_accept && self.rng.random_bool(0.7) {
                let children: Vec<usize> = tree.children(at).collect();
                if children.is_empty() {
                    break;
                }
                at = Some(children[self.rng.random_range(0..children.len())]);
            }
            let behind = self.sent.first().map(|(.., rows, _)| rows[0].token);
            let is_whole = at.map_or(0, |at| tree.path(Some(at)).len()) == tree.len();
            let token = match behind {
                Some(token) if may_accept && is_whole => token,
                // No guess: those are of the vocabulary from 10 on.
                _ => self.rng.random_range(0..10),
            };
            StepVerdict {
                pos: rows[0].pos,
                last: at.map_or(0, |at| at as u16 + 1),
                next: Next { token, ends: false },
            }
        });
        let outcome = self.steps.report(step, verdict).unwrap();
        self.text.extend(&outcome.accepted);
        self.kv_ops.extend(&outcome.kv_ops);
        self.spare.extend(&outcome.draft_seqs);
    }

    fn refuse_until_alone(&mut self) {
        while !self.sent.is_empty() {
            self.report(false);
        }
    }
}

/// The model in two stages.
fn cut(model: &Model) -> Pipeline {
    let n_layer = ModelInfo::from_gguf(&model.file).unwrap().n_layer;
    let cuts = model.cut_lists();
    let middle = cuts.iter().filter(|cuts| cuts.len() == 1);
    let middle = middle
        .min_by_key(|cuts| cuts[0].abs_diff(n_layer / 2))
        .unwrap();
    model.pipeline(middle, n_layer, &params())
}

/// The guesses of a step as a tree.
fn sent_shape(rows: &[Row], parents: &[u16]) -> DraftTree {
    let mut tree = DraftTree::new();
    for (row, &parent) in rows[1..].iter().zip(parents) {
        let parent = (parent as usize).checked_sub(1);
        tree.push(parent, row.token, None).unwrap();
    }
    tree
}

#[test]
fn after_random_guesses_the_cache_is_that_of_a_fresh_prefill() {
    for arch in SynthArch::ALL {
        let own = SynthSpec::new(arch);
        let model = Model::new(&SynthSpec {
            n_embd: 64,
            n_ff: 96,
            n_vocab: N_VOCAB,
            ty: SynthType::F32,
            ..own
        });
        let is_much_tried = [SynthArch::Llama, SynthArch::Gemma3].contains(&arch);
        for seed in 0..if is_much_tried { 20 } else { 2 } {
            let text = prompt(9, N_VOCAB);
            let mut world = World {
                pipeline: cut(&model),
                steps: InFlight::new(SequenceId(0), 0),
                text: text.clone(),
                spare: SPARE.to_vec(),
                kv_ops: Vec::new(),
                sent: Vec::new(),
                n_sent: 0,
                rng: ChaCha8Rng::seed_from_u64(seed),
            };
            world.pipeline.step(&rows(&[0], 0, &text[..8], true));
            while world.text.len() < 90 {
                match world.rng.random_range(0..5) {
                    0..3 if world.steps.n_live() < 4 => world.send(),
                    _ => world.report(true),
                }
            }
            world.refuse_until_alone();
            world.steps.abandon();
            let pos = world.text.len() as u32 - 1;
            let (text, ops) = (world.text, std::mem::take(&mut world.kv_ops));
            let seq = SequenceId(0);
            for op in ops.into_iter().chain([KvOp::Truncate { seq, pos }]) {
                world.pipeline.apply(op);
            }
            let last = rows(&[0], pos, &text[pos as usize..], true);
            let got = world.pipeline.step(&last);
            let mut fresh = cut(&model);
            for (at, chunk) in text[..pos as usize].chunks(32).enumerate() {
                fresh.step(&rows(&[0], 32 * at as u32, chunk, true));
            }
            let expected = fresh.step(&last);
            let distance = distance(got.row(0), expected.row(0));
            assert!(distance < TOLERANCE, "{arch}, seed {seed}: {distance}");
        }
    }
}
