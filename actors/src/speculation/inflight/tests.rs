//! The three sides together, against a model that knows the target's text.

#![allow(clippy::unwrap_used)]
use jupiter_models::draw::splitmix;
use proptest::prelude::*;

use super::*;

const N_VOCAB: u64 = 7;
const END: Token = 6;

/// The target: the next token is a function of the whole text.
fn target(text: &[Token]) -> Token {
    let hash = text.iter().fold(17, |h, &t| splitmix(h ^ t as u64));
    (hash % N_VOCAB) as Token
}

struct Job {
    step: u64,
    rows: SentRows,
    /// Whether each stage so far computed the rows.
    computed: bool,
}

#[derive(Default)]
struct Stage {
    gate: StageGate,
    inbox: VecDeque<Job>,
    cancels: VecDeque<u32>,
    /// The newest cancel that came.
    cancelled: u32,
    cells: Vec<Token>,
}

/// A pipeline in which everything that can happen next happens in an order that a seed decides.
struct World {
    planner: InFlight,
    /// What the Planner holds for the text.
    text: Vec<Token>,
    stages: Vec<Stage>,
    verifier: VerifierGate,
    /// The text as the Verifier's sampler has it.
    sampled: Vec<Token>,
    reports: VecDeque<(u64, Option<StepVerdict>)>,
    n_sent: u64,
    seed: u64,
    /// Of 256: how often a guess is right.
    luck: u64,
    stops: bool,
}

impl World {
    fn new(n_stages: usize, seed: u64, luck: u64, stops: bool) -> World {
        let prompt = [1, 2, 3];
        let mut stages: Vec<Stage> = (0..n_stages).map(|_| Stage::default()).collect();
        stages
            .iter_mut()
            .for_each(|s| s.cells = prompt[..2].to_vec());
        World {
            planner: InFlight::new(SequenceId(0), 4),
            text: prompt.to_vec(),
            stages,
            verifier: VerifierGate::new(4),
            sampled: prompt.to_vec(),
            reports: VecDeque::new(),
            n_sent: 0,
            seed,
            luck,
            stops,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.seed = splitmix(self.seed);
        self.seed % n
    }

    /// What is target's is a function of the text, so that the end comes when it comes.
    fn next(&self, text: &[Token]) -> Next {
        let token = target(text);
        let ends = self.stops && token == END && text.len() > 20;
        Next { token, ends }
    }

    fn send(&mut self, max_live: u64) {
        if self.planner.ended || self.planner.n_live() as u64 >= max_live {
            return;
        }
        let mut text = self.text.clone();
        text.extend(self.planner.ahead());
        let mut guesses = Vec::new();
        for _ in 0..self.below(4) {
            let is_right = self.below(256) < self.luck;
            let token = target(&text);
            let guess = if is_right {
                token
            } else {
                (token + 1) % N_VOCAB as Token
            };
            guesses.push(guess);
            text.push(guess);
        }
        if guesses.is_empty() && self.planner.n_live() > 0 {
            return;
        }
        let guesses = DraftTree::line(&guesses).unwrap();
        let rows = self
            .planner
            .send(self.n_sent, &self.text, &guesses, &[])
            .unwrap();
        let step = self.n_sent;
        self.n_sent += 1;
        self.stages[0].inbox.push_back(Job {
            step,
            rows,
            computed: true,
        });
    }

    fn compute(&mut self, at: usize) {
        let stage = &mut self.stages[at];
        let Some(mut job) = stage.inbox.pop_front() else {
            return;
        };
        for op in &job.rows.kv_ops {
            match op {
                KvOp::Truncate { pos, .. } => stage.cells.truncate(*pos as usize),
                other => panic!("a line needs no {other:?}"),
            }
        }
        job.computed &= stage.gate.is_live(job.rows.generation);
        if job.computed {
            assert!(
                job.rows.generation >= stage.cancelled,
                "computed after its cancel"
            );
            assert_eq!(
                stage.cells.len(),
                job.rows.rows[0].pos as usize,
                "no gap in the cache"
            );
            stage
                .cells
                .extend(job.rows.rows.iter().map(|row| row.token));
        }
        match self.stages.get_mut(at + 1) {
            Some(next) => next.inbox.push_back(job),
            None => self.verify(&job),
        }
    }

    fn verify(&mut self, job: &Job) {
        let (rows, n_rows) = (&job.rows.rows, job.rows.rows.len());
        let pos = rows[0].pos;
        let is_live = job.computed
            && self
                .verifier
                .admit(job.rows.generation, pos, rows[0].token)
                .unwrap();
        let verdict = is_live.then(|| {
            // The logits of a row are what the last stage's cells say, up to the row.
            let mut n_accepted = 0;
            loop {
                let end = pos as usize + n_accepted + 1;
                let seen = &self.stages[self.stages.len() - 1].cells[..end];
                assert_eq!(
                    seen, self.sampled,
                    "the sampler is asked behind its own text only"
                );
                let next = self.next(seen);
                if !next.ends {
                    self.sampled.push(next.token);
                }
                let drafted = rows.get(n_accepted + 1).map(|row| row.token);
                if drafted == Some(next.token) && !next.ends {
                    n_accepted += 1;
                    continue;
                }
                self.verifier.judged(pos, n_rows, n_accepted, next);
                let last = n_accepted as u16;
                return StepVerdict { pos, last, next };
            }
        });
        self.reports.push_back((job.step, verdict));
    }

    fn report(&mut self) {
        let Some((step, verdict)) = self.reports.pop_front() else {
            return;
        };
        let outcome = self.planner.report(step, verdict).unwrap();
        self.text.extend(&outcome.accepted);
        if let Some(live_from) = outcome.cancel {
            self.stages
                .iter_mut()
                .for_each(|s| s.cancels.push_back(live_from));
        }
    }

    fn cancel(&mut self, at: usize) {
        if let Some(live_from) = self.stages[at].cancels.pop_front() {
            self.stages[at].gate.cancel(live_from);
            self.stages[at].cancelled = live_from;
        }
    }

    fn act(&mut self, max_live: u64) {
        let n_stages = self.stages.len() as u64;
        match self.below(2 + 3 * n_stages) {
            0 => self.send(max_live),
            1 => self.report(),
            other => {
                let at = (other - 2) / 3;
                if (other - 2) % 3 == 0 {
                    self.cancel(at as usize);
                } else {
                    self.compute(at as usize);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn the_text_is_the_targets_own_whatever_happens_when(
        seed: u64,
        n_stages in 1usize..5,
        max_live in 1u64..7,
        luck in 0u64..=256,
        stops: bool,
    ) {
        let mut world = World::new(n_stages, seed, luck, stops);
        for _ in 0..3000 {
            world.act(max_live);
            let n = world.text.len();
            prop_assert!(n <= world.sampled.len());
            prop_assert_eq!(&world.text[..], &world.sampled[..n]);
        }
        let text = world.text.clone();
        for at in 3..text.len() {
            prop_assert_eq!(text[at], target(&text[..at]));
        }
        let ended = world.planner.ended;
        prop_assert!(ended || text.len() > 15, "{} tokens", text.len());
        if ended {
            prop_assert_eq!(target(&text), END);
            let more = DraftTree::line(&[1]).unwrap();
            prop_assert!(world.planner.send(world.n_sent, &text, &more, &[]).is_err());
        }
    }
}

fn next(token: Token) -> Next {
    Next { token, ends: false }
}

fn verdict(pos: u32, last: u16, token: Token) -> Option<StepVerdict> {
    let next = next(token);
    Some(StepVerdict { pos, last, next })
}

fn line(tokens: &[Token]) -> DraftTree {
    DraftTree::line(tokens).unwrap()
}

fn tokens(sent: &SentRows) -> Vec<Token> {
    sent.rows.iter().map(|row| row.token).collect()
}

/// Depth and whether it was right, of guesses that stood alone.
fn judged(outcome: &StepOutcome) -> Vec<(u32, bool)> {
    let one = |judged: &Judged| (judged.depth, judged.right.is_some());
    outcome.judged.iter().map(one).collect()
}

#[test]
fn a_wrong_guess_kills_what_is_behind_and_the_next_step_shortens_the_cache() {
    let seq = SequenceId(5);
    let mut planner = InFlight::new(seq, 0);
    let first = planner.send(0, &[9, 1], &line(&[2, 3]), &[]).unwrap();
    assert_eq!((first.rows[0].pos, tokens(&first)), (1, vec![1, 2, 3]));
    assert_eq!((first.kv_ops, first.parents), (vec![], vec![0, 1]));
    let second = planner.send(1, &[9, 1], &line(&[4, 5]), &[]).unwrap();
    assert_eq!((second.rows[0].pos, tokens(&second)), (4, vec![4, 5]));
    assert_eq!(planner.ahead(), [2, 3, 4, 5]);
    let outcome = planner.report(0, verdict(1, 1, 8)).unwrap();
    assert_eq!(
        (&outcome.accepted[..], outcome.cancel),
        (&[2, 8][..], Some(1))
    );
    assert_eq!(judged(&outcome), [(1, true), (2, false)]);
    assert_eq!(outcome.n_wasted, 3);
    let third = planner.send(2, &[9, 1, 2, 8], &line(&[7]), &[]).unwrap();
    assert_eq!(third.kv_ops, [KvOp::Truncate { seq, pos: 3 }]);
    assert_eq!((tokens(&third), third.generation), (vec![8, 7], 1));
    assert_eq!(planner.report(1, None).unwrap(), StepOutcome::default());
    let outcome = planner.report(2, verdict(3, 1, 6)).unwrap();
    assert_eq!((outcome.accepted, outcome.cancel), (vec![7, 6], None));
    let text = [9, 1, 2, 8, 7, 6];
    let fourth = planner.send(3, &text, &line(&[]), &[]).unwrap();
    assert_eq!(fourth.kv_ops, [], "all was right");
}

#[test]
fn a_step_behind_a_right_one_is_judged_by_its_first_token() {
    let mut planner = InFlight::new(SequenceId(0), 0);
    planner.send(0, &[1], &line(&[]), &[]).unwrap();
    planner.send(1, &[1], &line(&[2, 3]), &[]).unwrap();
    planner.send(2, &[1], &line(&[4]), &[]).unwrap();
    let outcome = planner.report(0, verdict(0, 0, 2)).unwrap();
    assert_eq!((judged(&outcome), outcome.cancel), (vec![(1, true)], None));
    assert_eq!(planner.ahead(), [3, 4]);
    let outcome = planner.report(1, verdict(1, 1, 5)).unwrap();
    assert_eq!(judged(&outcome), [(2, true), (3, false)]);
    assert_eq!((outcome.accepted, outcome.n_wasted), (vec![3, 5], 1));
}

#[test]
fn a_tree_brings_its_branches_and_takes_them_away() {
    let (seq, draft_seq) = (SequenceId(0), SequenceId(7));
    let mut planner = InFlight::new(seq, 0);
    let mut tree = line(&[2, 3]);
    tree.insert(&[4, 5], &[]).unwrap();
    let sent = planner.send(0, &[8, 1], &tree, &[draft_seq]).unwrap();
    let (src, dst) = (seq, draft_seq);
    assert_eq!(sent.kv_ops, [KvOp::Fork { src, dst, len: 1 }]);
    assert_eq!(
        (tokens(&sent), sent.parents),
        (vec![1, 2, 3, 4, 5], vec![0, 1, 0, 3])
    );
    let mut other = planner.clone();
    // The second branch is right.
    let outcome = planner.report(0, verdict(1, 4, 6)).unwrap();
    assert_eq!(outcome.accepted, [4, 5, 6]);
    let moves = KvOp::Fork {
        src: draft_seq,
        dst: seq,
        len: 4,
    };
    assert_eq!(outcome.kv_ops, [moves, KvOp::Drop { seq: draft_seq }]);
    assert_eq!((outcome.draft_seqs, outcome.n_wasted), (vec![draft_seq], 2));
    let at = |depth, n, right| Judged {
        depth,
        probabilities: vec![None; n],
        right,
    };
    assert_eq!(outcome.judged, [at(1, 2, Some(1)), at(2, 1, Some(0))]);
    let next = planner.send(1, &[8, 1, 4, 5, 6], &line(&[]), &[]).unwrap();
    assert_eq!((next.generation, next.rows[0].pos), (1, 4));
    assert_eq!(other.abandon(), [draft_seq]);
    assert!(
        planner.clone().send(2, &[8], &tree, &[]).is_err(),
        "no line behind a step"
    );
}

#[test]
fn what_does_not_fit_is_an_error() {
    let mut planner = InFlight::new(SequenceId(0), 0);
    planner.send(7, &[1], &line(&[2]), &[]).unwrap();
    let error = |result: Result<StepOutcome>| result.err().unwrap().to_string();
    assert!(error(planner.clone().report(8, None)).contains("step is 8, expected 7"));
    assert!(error(planner.clone().report(7, None)).contains("live step"));
    assert!(error(planner.clone().report(7, verdict(1, 0, 2))).contains("position"));
    assert!(error(planner.report(7, verdict(0, 2, 2))).contains("accepted row is 2"));
    assert!(planner.send(8, &[], &line(&[]), &[]).is_err());
    let mut gate = VerifierGate::new(0);
    assert_eq!(gate.admit(0, 5, 1), Ok(true));
    gate.judged(5, 1, 0, next(3));
    assert_eq!(
        gate.admit(0, 6, 4),
        Ok(false),
        "another guess than was sampled"
    );
    assert!(gate.admit(1, 6, 4).is_err());
}
