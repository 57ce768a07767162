//! The block behind the last layer that guesses tokens ahead: multi-token prediction (DeepSeek-V3,
//! arXiv 2412.19437, section 2.2; `graph_mtp` in llama.cpp's src/models, `nextn` in GGUF).
//!
//! For a position it takes the token there and the state that the output head saw at the position before,
//! attends to the positions that it was told, and gives the logits of the next one. From its own guess and
//! its own state it goes on guessing. It has a KV cache of its own.

use std::collections::{HashMap, HashSet};

use crate::engine::EngineParams;
use crate::gguf::{GgufFile, ModelInfo};
use crate::llama::context::{
    BatchInput, BatchRow, Context, ContextParams, Cut, HiddenInput, MTP_STATE_NODE, Tapped,
};
use crate::llama::model::LoadedModel;
use crate::sampling::likeliest;
use crate::slice::SliceCache;
use crate::{LayerRange, ModelError, Result, SequenceId, Token};

/// Rows that whoever tells a block may keep back, of all sequences: counted with its memory.
pub const MOST_UNTOLD: usize = 4096;
/// Most rows that it computes at once: each has room for logits, though only the last one has some.
const MAX_BATCH: u32 = 64;

/// The block, and what it was told of each sequence.
pub struct MtpBlock {
    context: Context,
    /// Its file, which nobody may write to meanwhile.
    file: GgufFile,
    n_embd: usize,
    n_batch: usize,
    /// The position after the last one that was told.
    next: HashMap<SequenceId, u32>,
}

/// Positions of a sequence, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MtpRows {
    /// Position of the first one.
    pub pos: u32,
    /// The token at each.
    pub tokens: Vec<Token>,
    /// What the output head saw at the position before each (llama.cpp's `result_norm`), shape
    /// (n_rows, n_embd).
    pub states: Vec<f32>,
}

impl MtpRows {
    /// The position after the last one.
    pub fn end(&self) -> u32 {
        self.pos + self.tokens.len() as u32
    }

    /// The rows from the `n`-th on, which are no longer among these.
    ///
    /// # Panics
    /// When there are fewer rows.
    pub fn split_off(&mut self, n: usize) -> MtpRows {
        let n_embd = self.states.len().checked_div(self.tokens.len());
        MtpRows {
            pos: self.pos + n as u32,
            tokens: self.tokens.split_off(n),
            states: self.states.split_off(n * n_embd.unwrap_or(0)),
        }
    }
}

/// What is to be guessed of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct MtpWish {
    /// The sequence.
    pub seq: SequenceId,
    /// What follows that it was told of it.
    pub rows: MtpRows,
    /// How many positions to guess at; 0 to tell it of the rows alone.
    pub depth: usize,
}

/// For each position some tokens and their probabilities, the likeliest first.
pub type MtpGuesses = Vec<Vec<(Token, f32)>>;

/// A row of a wish.
struct Told<'a> {
    wish: usize,
    seq: SequenceId,
    pos: u32,
    token: Token,
    state: &'a [f32],
    wants_logits: bool,
}

impl MtpWish {
    /// Its rows; `at` is its place among the wishes.
    fn told(&self, at: usize, n_embd: usize) -> impl Iterator<Item = Told<'_>> {
        let last = self.rows.tokens.len() - 1;
        let rows = self.rows.tokens.iter().zip(self.rows.states.chunks(n_embd));
        rows.enumerate().map(move |(i, (&token, state))| Told {
            wish: at,
            seq: self.seq,
            pos: self.rows.pos + i as u32,
            token,
            state,
            wants_logits: i == last && self.depth > 0,
        })
    }
}

/// Whether there is room for weights, cache, results, and what it is not told yet.
fn check_fits(
    weight_bytes: u64,
    info: &ModelInfo,
    params: &EngineParams,
    free_bytes: Option<u64>,
) -> Result<()> {
    // Its attention is that of the layers.
    let layers = (0..info.n_layer).map(|il| LayerRange::new(il, il + 1));
    let n_cells = params.n_cells();
    let cache = layers.map(|layer| info.kv_bytes(layer, n_cells, params.type_k, params.type_v));
    let results = 4 * u64::from(params.n_batch) * u64::from(info.n_vocab);
    let n_untold = u64::from(n_cells).min(MOST_UNTOLD as u64);
    let untold = 4 * n_untold * u64::from(info.n_embd);
    let needed = weight_bytes + cache.max().unwrap_or(0) + results + untold;
    match free_bytes.filter(|&free| free < needed) {
        None => Ok(()),
        Some(free) => Err(ModelError::OutOfMemory {
            what: format!(
                "it needs {} MB, and {} MB are free",
                needed.div_ceil(1_000_000),
                free / 1_000_000
            ),
        }),
    }
}

impl MtpBlock {
    /// Loads the block of `model` for as many sequences and cells as an engine of `params` has, if its
    /// weights, cache and results fit into `free_bytes`.
    ///
    /// # Errors
    /// Where there is none ([`SliceCache::mtp`]), or it cannot be loaded; [`ModelError::OutOfMemory`].
    pub fn load(
        model: &GgufFile,
        slices: &SliceCache,
        params: &EngineParams,
        free_bytes: Option<u64>,
    ) -> Result<Self> {
        let info = ModelInfo::from_gguf(model)?;
        let (path, n_bytes) = slices.mtp(model)?;
        let file = GgufFile::open(&path)?;
        let params = EngineParams {
            n_batch: params.n_batch.min(MAX_BATCH),
            ..params.clone()
        };
        check_fits(n_bytes, &info, &params, free_bytes)?;
        let kernels = params.kernels.kernels()?;
        let loaded = LoadedModel::load(&path, params.n_gpu_layers, kernels, true, &mut |_| ())?;
        let params = ContextParams {
            is_mtp: true,
            ..params.for_context(params.n_cells(), 0)
        };
        let cut = Cut {
            tapped: Tapped::States(MTP_STATE_NODE),
            input: HiddenInput::Plain,
        };
        Ok(Self {
            context: Context::new(loaded, &params, cut)?,
            file,
            n_embd: info.n_embd as usize,
            n_batch: params.n_batch as usize,
            next: HashMap::new(),
        })
    }

    /// Takes the rows of each wish and guesses at the positions after them, for all wishes together: for each
    /// of `depth` the `n` likeliest tokens with their probabilities, the likeliest first, upon the likeliest
    /// ones before. What was told of positions from a wish's first row on is forgotten; so is all before
    /// where its rows do not go on from it.
    ///
    /// # Errors
    /// What the engine refuses. Without room in the cache all is forgotten and nothing guessed.
    ///
    /// # Panics
    /// When a wish has no rows, or their states have another width, or two are of one sequence.
    pub fn guess(&mut self, wishes: &[MtpWish], n: usize) -> Result<Vec<MtpGuesses>> {
        let mut seqs = HashSet::new();
        for wish in wishes {
            let n_rows = wish.rows.tokens.len();
            assert!(n_rows > 0 && wish.rows.states.len() == n_rows * self.n_embd);
            assert!(seqs.insert(wish.seq));
        }
        self.file.check_unwritten()?;
        for wish in wishes {
            self.go_back(wish.seq, wish.rows.pos);
        }
        match self.guessed(wishes, n) {
            Err(ModelError::BadStep { .. }) => {
                self.clear();
                Ok(vec![Vec::new(); wishes.len()])
            }
            guesses => guesses,
        }
    }

    /// Gives `dst` what was told of the first `len` positions of `src`, instead of what it was told.
    pub fn fork(&mut self, src: SequenceId, dst: SequenceId, len: u32) {
        self.forget(dst);
        if let Some(&next) = self.next.get(&src) {
            let next = next.min(len);
            self.context.share(src, dst, next);
            self.next.insert(dst, next);
        }
    }

    /// Forgets what was told of `seq` from position `pos` on.
    pub fn truncate(&mut self, seq: SequenceId, pos: u32) {
        if let Some(next) = self.next.get_mut(&seq).filter(|next| **next > pos) {
            *next = pos;
            self.context.remove(seq, pos);
        }
    }

    /// Forgets what was told of `seq`.
    pub fn forget(&mut self, seq: SequenceId) {
        if self.next.remove(&seq).is_some() {
            self.context.remove(seq, 0);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.next.clear();
        self.context.clear();
    }

    /// Makes `pos` the next position of `seq`.
    fn go_back(&mut self, seq: SequenceId, pos: u32) {
        match self.next.get(&seq) {
            Some(&next) if pos <= next => self.context.remove(seq, pos),
            _ => self.forget(seq),
        }
    }

    fn guessed(&mut self, wishes: &[MtpWish], n: usize) -> Result<Vec<MtpGuesses>> {
        let n_embd = self.n_embd;
        let mut ends = vec![None; wishes.len()];
        let told: Vec<Told<'_>> = wishes
            .iter()
            .enumerate()
            .flat_map(|(at, wish)| wish.told(at, n_embd))
            .collect();
        for rows in told.chunks(self.n_batch) {
            self.step(rows, &mut ends)?;
        }
        for wish in wishes {
            self.next.insert(wish.seq, wish.rows.end());
        }
        let mut guesses: Vec<MtpGuesses> = vec![Vec::new(); wishes.len()];
        loop {
            let mut states: Vec<(usize, Token, Vec<f32>)> = Vec::new();
            for (at, (end, wish)) in ends.iter_mut().zip(wishes).enumerate() {
                let Some((logits, state)) = end.take() else {
                    continue;
                };
                let best = likeliest(&logits, n);
                let token = best.first().map(|&(token, _)| token);
                guesses[at].push(best);
                if let Some(token) = token.filter(|_| guesses[at].len() < wish.depth) {
                    states.push((at, token, state));
                }
            }
            if states.is_empty() {
                break;
            }
            let rows = states.iter().map(|(at, token, state)| Told {
                wish: *at,
                seq: wishes[*at].seq,
                pos: wishes[*at].rows.end() + guesses[*at].len() as u32 - 1,
                token: *token,
                state,
                wants_logits: true,
            });
            let rows: Vec<Told<'_>> = rows.collect();
            for rows in rows.chunks(self.n_batch) {
                self.step(rows, &mut ends)?;
            }
        }
        for wish in wishes {
            self.context.remove(wish.seq, wish.rows.end());
        }
        Ok(guesses)
    }

    /// Computes rows; those that want logits leave them, and their states, in `ends` of their wish.
    fn step(&mut self, told: &[Told<'_>], ends: &mut [Option<(Vec<f32>, Vec<f32>)>]) -> Result<()> {
        let seq_ids: Vec<[SequenceId; 1]> = told.iter().map(|told| [told.seq]).collect();
        let rows = told.iter().zip(&seq_ids).map(|(told, seq_ids)| BatchRow {
            seq_ids,
            pos: told.pos,
            output: told.wants_logits,
        });
        let rows: Vec<BatchRow<'_>> = rows.collect();
        let tokens: Vec<Token> = told.iter().map(|told| told.token).collect();
        let states: Vec<f32> = told.iter().flat_map(|told| told.state).copied().collect();
        let logits = self
            .context
            .decode(&rows, BatchInput::Both(&tokens, &states))?;
        let states = self.context.take_states().unwrap_or_default();
        let n_vocab = self.context.model().n_vocab() as usize;
        let outputs = logits.chunks(n_vocab).zip(states.chunks(self.n_embd));
        let wanted = told.iter().filter(|told| told.wants_logits);
        for (told, (logits, state)) in wanted.zip(outputs) {
            ends[told.wish] = Some((logits.to_vec(), state.to_vec()));
        }
        Ok(())
    }
}
