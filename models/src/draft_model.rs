//! A small model that guesses what a larger one with the same vocabulary will write (speculative
//! decoding; Leviathan et al., arXiv 2211.17192).
//!
//! It keeps the text of several answers in its KV cache. Asked again for one, it computes only what
//! is new: what it guessed before and was right is there already.

use std::path::Path;

use crate::engine::{EngineParams, Logits, ReferenceEngine, StageEngine, StepInput, StepOutput};
use crate::gguf::{GgufFile, ModelInfo};
use crate::sampling::likeliest;
use crate::text::Vocabulary;
use crate::{KvOp, ModelError, Result, Row, SequenceId, Token};

/// A line of guesses ends where it is less likely than this as a whole: hardly ever right, and each
/// guess costs a step of the model.
const LEAST_LIKELY: f32 = 0.05;

/// The model and the texts that it holds.
pub struct DraftModel {
    engine: ReferenceEngine,
    n_batch: usize,
    n_cells: usize,
    /// Tokens of the model that it guesses for; it may know more.
    n_vocab: usize,
    slots: Vec<CachedText>,
    n_asked: u64,
}

/// A sequence of the KV cache.
#[derive(Clone, Debug, Default)]
struct CachedText {
    /// Whose text it is; none for a free one.
    text: Option<u64>,
    /// The tokens in the KV cache.
    cached: Vec<Token>,
    /// The text that it was told.
    known: Vec<Token>,
    /// When it was used last.
    used: u64,
}

/// A guess at one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DraftNode {
    /// Index of the guess before it; none: the text.
    pub parent: Option<usize>,
    /// The guess.
    pub token: Token,
    /// Its probability by the draft model, 0 to 1.
    pub probability: f32,
}

/// What a text is to be continued by.
#[derive(Clone, Copy, Debug)]
pub struct DraftTask<'a> {
    /// Names the text.
    pub text: u64,
    /// How many of the tokens that were told of it are still right.
    pub from: usize,
    /// What follows them.
    pub tokens: &'a [Token],
    /// Most guesses after each other; 0 to take the text and guess nothing.
    pub depth: usize,
    /// Most guesses at the same token; all but the likeliest are leaves.
    pub width: usize,
}

/// What comes of a [`DraftTask`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drafted {
    /// How many tokens of the text are known now; fewer than it has when the beginning was
    /// forgotten: then tell it from there.
    pub n_known: usize,
    /// The guesses, parents first.
    pub nodes: Vec<DraftNode>,
}

impl DraftModel {
    /// Loads `file` for a model with the vocabulary `target`.
    ///
    /// # Errors
    /// When it cannot be loaded, and [`ModelError::BadGguf`] when its vocabulary is another one.
    pub fn load(file: &GgufFile, target: &Vocabulary, params: &EngineParams) -> Result<Self> {
        ModelInfo::from_gguf(file)?;
        let own = Vocabulary::load(file.path())?;
        check_vocabulary(file.path(), &own, target)?;
        let engine = ReferenceEngine::load(file, params, &mut |_| ())?;
        Ok(Self {
            engine,
            n_batch: params.n_batch as usize,
            n_cells: params.n_cells() as usize,
            n_vocab: target.n_vocab() as usize,
            slots: vec![CachedText::default(); params.n_seq_max as usize],
            n_asked: 0,
        })
    }

    /// Takes what is new of a text, and guesses what follows it. Texts that were not asked for
    /// longest are forgotten when there is no room.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn draft(&mut self, task: &DraftTask<'_>) -> Result<Drafted> {
        let at = self.slot_of(task.text)?;
        let slot = &mut self.slots[at];
        let has_beginning = slot.known.len() >= task.from;
        if has_beginning {
            slot.known.truncate(task.from);
            slot.known.extend_from_slice(task.tokens);
        }
        let n_known = slot.known.len();
        if !has_beginning || n_known == 0 || n_known > self.n_cells {
            return Ok(Drafted {
                n_known,
                nodes: Vec::new(),
            });
        }
        // The last token's logits are wanted, so it is computed in any case.
        let depth = task.depth.min(self.n_cells - n_known);
        self.make_room(at, n_known + depth)?;
        let mut logits = self.catch_up(at)?;
        let mut nodes = Vec::new();
        let (mut parent, mut likelihood) = (None, 1.0);
        for i in 0..depth {
            let guesses = likeliest(&logits[..self.n_vocab.min(logits.len())], task.width.max(1));
            let Some(&(best, probability)) = guesses.first() else {
                break;
            };
            let here = nodes.len();
            nodes.extend(guesses.into_iter().map(|(token, probability)| DraftNode {
                parent,
                token,
                probability,
            }));
            likelihood *= probability;
            if likelihood < LEAST_LIKELY || i + 1 == depth {
                break;
            }
            logits = self.step(at, &[best])?;
            parent = Some(here);
        }
        Ok(Drafted { n_known, nodes })
    }

    /// The slot that holds a text, or a free one for it.
    fn slot_of(&mut self, text: u64) -> Result<usize> {
        self.n_asked += 1;
        let known = self.slots.iter().position(|slot| slot.text == Some(text));
        let oldest = || (0..self.slots.len()).min_by_key(|&at| self.slots[at].used);
        let at = known.or_else(oldest).ok_or_else(|| ModelError::BadInput {
            what: "a draft model needs room for a sequence".into(),
        })?;
        if known.is_none() {
            self.forget(at)?;
            self.slots[at].text = Some(text);
        }
        self.slots[at].used = self.n_asked;
        Ok(at)
    }

    fn forget(&mut self, at: usize) -> Result<()> {
        let seq = SequenceId(at as u32);
        self.engine.apply(KvOp::Drop { seq })?;
        self.slots[at] = CachedText::default();
        Ok(())
    }

    /// Forgets other texts until `n` tokens of slot `at` fit beside them.
    fn make_room(&mut self, at: usize, n: usize) -> Result<()> {
        loop {
            let others = (0..self.slots.len()).filter(|&other| other != at);
            let taken: usize = others.clone().map(|o| self.slots[o].cached.len()).sum();
            if taken + n <= self.n_cells {
                return Ok(());
            }
            let held = others.filter(|&other| !self.slots[other].cached.is_empty());
            let Some(oldest) = held.min_by_key(|&other| self.slots[other].used) else {
                return Ok(());
            };
            self.forget(oldest)?;
        }
    }

    /// Computes what is known of the text and not cached; the logits after its last token.
    fn catch_up(&mut self, at: usize) -> Result<Vec<f32>> {
        let slot = &self.slots[at];
        let same = slot.cached.iter().zip(&slot.known);
        let n_same = same.take_while(|(a, b)| a == b).count();
        let n_kept = n_same.min(slot.known.len() - 1);
        let new = slot.known[n_kept..].to_vec();
        let seq = SequenceId(at as u32);
        self.engine.apply(KvOp::Truncate {
            seq,
            pos: n_kept as u32,
        })?;
        self.slots[at].cached.truncate(n_kept);
        let mut logits = Vec::new();
        for chunk in new.chunks(self.n_batch) {
            logits = self.step(at, chunk)?;
        }
        Ok(logits)
    }

    /// Appends tokens to a slot; the logits after the last one.
    fn step(&mut self, at: usize, tokens: &[Token]) -> Result<Vec<f32>> {
        let begin = self.slots[at].cached.len();
        let row = |(i, &token): (usize, &Token)| Row {
            seq_ids: vec![SequenceId(at as u32)],
            pos: (begin + i) as u32,
            token,
            wants_logits: i + 1 == tokens.len(),
        };
        let rows: Vec<Row> = tokens.iter().enumerate().map(row).collect();
        match self.engine.step(&rows, StepInput::Tokens)? {
            StepOutput::Logits(Logits { data, .. }) => {
                self.slots[at].cached.extend_from_slice(tokens);
                Ok(data)
            }
            StepOutput::Hidden(_) => Err(ModelError::BadStep {
                what: "the whole model gave hidden states".into(),
            }),
        }
    }
}

/// Both have to mean the same by a token. Models of one family pad their vocabularies to different
/// sizes: only the tokens that both have count.
fn check_vocabulary(path: &Path, own: &Vocabulary, target: &Vocabulary) -> Result<()> {
    let n_common = own.n_vocab().min(target.n_vocab());
    let differs = |&token: &Token| own.token_bytes(token, true) != target.token_bytes(token, true);
    let Some(token) = (0..n_common as Token).find(differs) else {
        return Ok(());
    };
    Err(ModelError::BadGguf {
        path: path.to_owned(),
        what: format!(
            "it has another vocabulary than the model (token {token} differs): take a draft model \
             of the same family"
        ),
    })
}
