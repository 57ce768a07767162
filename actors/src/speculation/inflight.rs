//! Several steps of one sequence under way, each going on where the one before ends, if its guesses
//! are right (PipeInfer, arXiv 2407.11798).
//!
//! ```text
//! Planner   InFlight       sends rows with a generation; a verdict commits tokens, or shows that
//!                          what is behind is dead: the generation goes up
//! Stage     StageGate      a cancel overtakes the steps: rows of older generations are dropped
//!                          before computing; the step itself goes on, its KV operations are applied
//! Verifier  VerifierGate   knows from its own verdicts which rows are dead, and never samples there
//! ```
//! The first step of a generation shortens the KV cache to what is committed, so what dead rows left
//! there does not matter, nor that some stages computed them and others did not. Steps stay in order
//! and each is reported, so a lost one is noticed as ever.

mod gates;

use std::collections::VecDeque;

use jupiter_models::{KvOp, Row, SequenceId, Token};

pub use gates::{StageGate, VerifierGate};

use crate::speculation::accept::Next;
use crate::speculation::tree::{Branches, DraftTree};
use crate::speculation::{Result, SpeculationError};

/// The rows of one sequence in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentRows {
    /// Which continuation of the sequence they belong to.
    pub generation: u32,
    /// What has to ride with the step.
    pub kv_ops: Vec<KvOp>,
    /// The root's row, whose token is committed or a guess that a step before is about to judge;
    /// then those of the guesses, parents first.
    pub rows: Vec<Row>,
    /// For each row but the first, which row it follows.
    pub parents: Vec<u16>,
}

/// What the Verifier says of a sequence's rows in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepVerdict {
    /// Position of their first row.
    pub pos: u32,
    /// The last row that is accepted; 0 is the root's.
    pub last: u16,
    /// What comes after it.
    pub next: Next,
}

/// Guesses after one token that were judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// How many tokens after what was verified when they were made, from 1.
    pub depth: u32,
    /// What their source gave each of them, the likeliest first.
    pub probabilities: Vec<Option<f64>>,
    /// Which of them was right.
    pub right: Option<usize>,
}

/// What a report means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepOutcome {
    /// Whether the rows counted at all.
    pub is_live: bool,
    /// Tokens that the text grew by.
    pub accepted: Vec<Token>,
    /// Whether the generation ended.
    pub ends: bool,
    /// To be sent past the steps: rows of generations below are dead.
    pub cancel: Option<u32>,
    /// The guesses that were judged, from the first to the deepest one.
    pub judged: Vec<Judged>,
    /// Rows that the report shows to be in vain: refused ones of the step, and all behind it.
    pub n_wasted: usize,
    /// What has to ride with the next step of whatever sequence.
    pub kv_ops: Vec<KvOp>,
    /// Sequences that the step's branches had, and that are free again.
    pub draft_seqs: Vec<SequenceId>,
}

/// The Planner's side.
#[derive(Clone, Debug)]
pub struct InFlight {
    seq: SequenceId,
    generation: u32,
    /// Whether the next step is the first of a generation that is not the first.
    truncates: bool,
    ended: bool,
    /// Oldest first; those of older generations are dead.
    steps: VecDeque<Sent>,
    /// How many of them are dead.
    n_dead: usize,
}

#[derive(Clone, Debug)]
struct Sent {
    step: u64,
    pos: u32,
    root: Guess,
    tree: DraftTree,
    draft_seqs: Vec<SequenceId>,
    /// Depth of the root; 0 when it is committed.
    depth: u32,
}

/// A token and what its source gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Guess {
    token: Token,
    probability: Option<f64>,
}

impl Sent {
    fn n_rows(&self) -> usize {
        self.tree.len() + 1
    }
}

impl InFlight {
    /// For `seq`, before anything of it is verified. The `generation` is above all that the
    /// sequence's slot had in this epoch.
    pub fn new(seq: SequenceId, generation: u32) -> InFlight {
        InFlight {
            seq,
            generation,
            truncates: false,
            ended: false,
            steps: VecDeque::new(),
            n_dead: 0,
        }
    }

    /// The generation of the next step.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Steps out that may still count.
    pub fn n_live(&self) -> usize {
        self.steps.len() - self.n_dead
    }

    /// Rows of the steps out that may still count.
    pub fn n_rows(&self) -> usize {
        self.live().map(Sent::n_rows).sum()
    }

    /// Steps out, dead ones included.
    pub fn n_steps(&self) -> usize {
        self.steps.len()
    }

    /// The guesses under way, behind the text: what further guesses go on from.
    pub fn ahead(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = Vec::new();
        for sent in self.live() {
            tokens.push(sent.root.token);
            tokens.extend(sent.tree.nodes().iter().map(|node| node.token));
        }
        tokens.drain(..1.min(tokens.len()));
        tokens
    }

    /// The rows of the next step, `step` in the Planner's count, behind `text`, of which all but the
    /// last token is computed or under way: that token and `guesses` when nothing of the sequence
    /// is under way, else `guesses` behind what is. Where steps follow each other, they are lines;
    /// the branches of a tree get the sequences `draft_seqs`.
    ///
    /// # Errors
    /// [`SpeculationError::BadTree`] when there is nothing to send, it is no line where it has to be
    /// one, it has more branches than sequences, or it is too far.
    // Long: it says all that is wrong with guesses before it changes anything.
    pub fn send(
        &mut self,
        step: u64,
        text: &[Token],
        guesses: &DraftTree,
        draft_seqs: &[SequenceId],
    ) -> Result<SentRows> {
        let bad = |field, got, expected: &str| SpeculationError::BadTree {
            field,
            got,
            expected: expected.into(),
        };
        let n_ahead = self.n_rows();
        let Some(&last) = text.last().filter(|_| !self.ended) else {
            return Err(bad("length of the text", text.len(), "some, and no end"));
        };
        if n_ahead > 0 && (guesses.is_empty() || !guesses.is_line()) {
            let got = guesses.leaves().len();
            return Err(bad("number of lines behind other steps", got, "1"));
        }
        let (root, tree) = if n_ahead == 0 {
            let (token, probability) = (last, None);
            (Guess { token, probability }, guesses.clone())
        } else {
            let first = guesses.nodes()[0];
            let rest: Vec<_> = guesses.nodes()[1..].iter().collect();
            let mut tree = DraftTree::new();
            for (at, node) in rest.iter().enumerate() {
                tree.push(at.checked_sub(1), node.token, node.probability)?;
            }
            let (token, probability) = (first.token, first.probability);
            (Guess { token, probability }, tree)
        };
        let pos = u32::try_from(text.len() - 1 + n_ahead)
            .map_err(|_| bad("position", text.len(), "below 2^31"))?;
        let branches = Branches::new(&tree, self.seq, draft_seqs, pos)?;
        let mut kv_ops = Vec::new();
        if std::mem::replace(&mut self.truncates, false) {
            let seq = self.seq;
            kv_ops.push(KvOp::Truncate { seq, pos });
        }
        kv_ops.extend(branches.before());
        let row_of = |node: Option<usize>| node.map_or(0, |at| at as u16 + 1);
        let rows = SentRows {
            generation: self.generation,
            kv_ops,
            rows: branches.rows(root.token),
            parents: tree
                .nodes()
                .iter()
                .map(|node| row_of(node.parent))
                .collect(),
        };
        let draft_seqs = branches.draft_seqs().collect();
        self.steps.push_back(Sent {
            step,
            pos,
            root,
            tree,
            draft_seqs,
            depth: n_ahead as u32,
        });
        Ok(rows)
    }

    /// Takes the report of the oldest step; none as verdict: its rows were dead.
    ///
    /// # Errors
    /// [`SpeculationError::BadVerdict`] for another step, a live step without verdict, and a verdict
    /// on other rows: the bookkeeping of Planner and Verifier has come apart.
    pub fn report(&mut self, step: u64, verdict: Option<StepVerdict>) -> Result<StepOutcome> {
        let bad = |field, got, expected: String| SpeculationError::BadVerdict {
            sequence: "steps in flight",
            field,
            got,
            expected,
        };
        let oldest = self.steps.front().map(|sent| sent.step);
        let Some(sent) = self.steps.pop_front().filter(|sent| sent.step == step) else {
            let expected = oldest.map_or("none".into(), |step| step.to_string());
            return Err(bad("step", step, expected));
        };
        if self.n_dead > 0 {
            self.n_dead -= 1;
            return Ok(StepOutcome::default());
        }
        let Some(verdict) = verdict else {
            return Err(bad("verdicts of a live step", 0, "1".into()));
        };
        if verdict.pos != sent.pos {
            let got = u64::from(verdict.pos);
            return Err(bad("position", got, sent.pos.to_string()));
        }
        if verdict.last as usize > sent.tree.len() {
            let (got, expected) = (u64::from(verdict.last), sent.tree.len());
            return Err(bad("accepted row", got, format!("at most {expected}")));
        }
        self.settle(&sent, verdict)
    }

    fn settle(&mut self, sent: &Sent, verdict: StepVerdict) -> Result<StepOutcome> {
        let StepVerdict { last, next, .. } = verdict;
        let last = (last as usize).checked_sub(1);
        let path = sent.tree.path(last);
        let mut accepted = sent.tree.path_tokens(last);
        if !next.ends {
            accepted.push(next.token);
        }
        let mut judged = judge(&sent.tree, &path, sent.depth);
        let n_refused = sent.tree.len() - path.len();
        let goes_on = match self.live().next() {
            _ if n_refused > 0 => false,
            Some(behind) => {
                let is_right = behind.root.token == next.token && !next.ends;
                judged.push(Judged {
                    depth: behind.depth,
                    probabilities: vec![behind.root.probability],
                    right: is_right.then_some(0),
                });
                is_right
            }
            None => !next.ends,
        };
        self.ended = next.ends;
        let mut outcome = StepOutcome {
            is_live: true,
            accepted,
            ends: next.ends,
            judged,
            n_wasted: n_refused,
            cancel: None,
            kv_ops: Vec::new(),
            draft_seqs: sent.draft_seqs.clone(),
        };
        if !sent.draft_seqs.is_empty() {
            let branches = Branches::new(&sent.tree, self.seq, &sent.draft_seqs, sent.pos)?;
            outcome.kv_ops = branches.after(last);
        }
        if !goes_on {
            outcome.n_wasted += self.n_rows();
            let has_dead = self.n_live() > 0;
            self.begin_generation();
            outcome.cancel = has_dead.then_some(self.generation);
        }
        Ok(outcome)
    }

    /// The sequences that branches of trees under way have.
    pub fn lent(&self) -> impl Iterator<Item = SequenceId> {
        let draft_seqs = self.steps.iter().flat_map(|sent| &sent.draft_seqs);
        draft_seqs.copied()
    }

    /// Gives up all that is under way; the branches' sequences, which are to be dropped.
    pub fn abandon(&mut self) -> Vec<SequenceId> {
        self.begin_generation();
        let draft_seqs = self.steps.iter().flat_map(|sent| sent.draft_seqs.clone());
        draft_seqs.collect()
    }

    /// What is out is dead.
    fn begin_generation(&mut self) {
        self.generation += 1;
        self.truncates = true;
        self.n_dead = self.steps.len();
    }

    fn live(&self) -> impl Iterator<Item = &Sent> {
        self.steps.range(self.n_dead..)
    }
}

/// What the accepted `path` says of the guesses of `tree`, whose root has `depth`.
fn judge(tree: &DraftTree, path: &[usize], depth: u32) -> Vec<Judged> {
    let parents = std::iter::once(None).chain(path.iter().copied().map(Some));
    let mut judged = Vec::new();
    for (i, parent) in parents.enumerate() {
        let guesses: Vec<usize> = tree.children(parent).collect();
        if guesses.is_empty() {
            break;
        }
        let right = path
            .get(i)
            .and_then(|at| guesses.iter().position(|g| g == at));
        judged.push(Judged {
            depth: depth + i as u32 + 1,
            probabilities: guesses
                .iter()
                .map(|&g| tree.nodes()[g].probability)
                .collect(),
            right,
        });
    }
    judged
}

#[cfg(test)]
mod tests;
