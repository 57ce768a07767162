//! The block behind the last layer that guesses tokens ahead: multi-token prediction (DeepSeek-V3,
//! arXiv 2412.19437, section 2.2; `graph_mtp` in llama.cpp's src/models, `nextn` in GGUF).
//!
//! For a position it takes the token there and the state that the output head saw at the position before,
//! attends to the positions that it was told, and gives the logits of the next one. From its own guess and
//! its own state it goes on guessing. It has a KV cache of its own.

use std::collections::HashMap;

use crate::engine::EngineParams;
use crate::gguf::{GgufFile, ModelInfo};
use crate::llama::context::{
    BatchInput, BatchRow, Context, ContextParams, Cut, HiddenInput, MTP_STATE_NODE, Tapped,
};
use crate::llama::model::LoadedModel;
use crate::sampling::likeliest;
use crate::slice::SliceCache;
use crate::{LayerRange, ModelError, Result, SequenceId, Token};

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
}

/// Whether there is room for weights, cache and results.
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
    let needed = weight_bytes + cache.max().unwrap_or(0) + results;
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

    /// Takes `rows` of `seq` and guesses at the positions after them: for each of `depth` the `n` likeliest
    /// tokens with their probabilities, the likeliest first, upon the likeliest ones before. `depth` may be
    /// 0. What was told of positions from the first row on is forgotten; so is all before where the rows do
    /// not go on from it.
    ///
    /// # Errors
    /// What the engine refuses. Without room in the cache all is forgotten and nothing guessed.
    ///
    /// # Panics
    /// When there are no rows, or their states have another width.
    pub fn guess(
        &mut self,
        seq: SequenceId,
        rows: &MtpRows,
        depth: usize,
        n: usize,
    ) -> Result<Vec<Vec<(Token, f32)>>> {
        let width = rows.tokens.len() * self.n_embd;
        assert!(!rows.tokens.is_empty() && rows.states.len() == width);
        self.file.check_unwritten()?;
        self.go_back(seq, rows.pos);
        match self.guessed(seq, rows, depth, n) {
            Err(ModelError::BadStep { .. }) => {
                self.clear();
                Ok(Vec::new())
            }
            guesses => guesses,
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

    fn guessed(
        &mut self,
        seq: SequenceId,
        rows: &MtpRows,
        depth: usize,
        n: usize,
    ) -> Result<Vec<Vec<(Token, f32)>>> {
        let chunks = rows.tokens.chunks(self.n_batch);
        let states = rows.states.chunks(self.n_batch * self.n_embd);
        let (mut pos, mut logits) = (rows.pos, Vec::new());
        for (tokens, states) in chunks.zip(states) {
            let is_last = pos + tokens.len() as u32 == rows.end();
            logits = self.step(seq, pos, (tokens, states), is_last && depth > 0)?;
            pos += tokens.len() as u32;
        }
        self.next.insert(seq, pos);
        let mut guesses = Vec::with_capacity(depth);
        while guesses.len() < depth {
            let best = likeliest(&logits, n);
            let token = best.first().map(|&(token, _)| token);
            guesses.push(best);
            let state = self.context.take_states();
            let (Some(token), Some(state)) = (token, state) else {
                break;
            };
            if guesses.len() < depth {
                logits = self.step(seq, pos, (&[token], &state), true)?;
                pos += 1;
            }
        }
        self.context.remove(seq, rows.end());
        Ok(guesses)
    }

    /// The logits after the last row, where they are wanted.
    fn step(
        &mut self,
        seq: SequenceId,
        pos: u32,
        (tokens, states): (&[Token], &[f32]),
        wants_logits: bool,
    ) -> Result<Vec<f32>> {
        let seq_ids = [seq];
        let rows: Vec<BatchRow<'_>> = (pos..)
            .zip(1..=tokens.len())
            .map(|(pos, n)| BatchRow {
                seq_ids: &seq_ids,
                pos,
                output: wants_logits && n == tokens.len(),
            })
            .collect();
        self.context.decode(&rows, BatchInput::Both(tokens, states))
    }
}
