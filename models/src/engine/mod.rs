//! Rows in, hidden states or logits out: a slice of a model with its KV cache.
//!
//! ```text
//! first slice    tokens -> embedding table -> layers -> hidden states
//! middle slice   hidden states             -> layers -> hidden states
//! last slice     hidden states             -> layers -> norm, head -> logits of the rows that want them
//! whole model    tokens ------- llama.cpp, uncut ------> logits of the rows that want them
//! ```
//! Everything is checked before llama.cpp sees it: bad rows are errors, never an abort.

mod compute;
mod emulation;
mod memory;
mod params;
mod rows;
mod states;

use self::compute::Compute;
use self::states::States;
use crate::gguf::{GgufFile, ModelInfo};
use crate::hidden::HiddenStates;
use crate::llama::context::BatchRow;
use crate::slice::StageSlice;
use crate::{KvOp, ModelError, Result, Row, SequenceId, Token};

pub use crate::llama::context::MAX_SEQUENCES;
pub use crate::types::MAX_CELLS;
pub(crate) use emulation::slow_down;
pub use emulation::{Emulation, free_memory_bytes};
pub use memory::{EngineMemory, available_memory_bytes};
pub(crate) use memory::{compute_bytes, kept_bytes, state_bytes};
pub use params::{EngineParams, KeptStates};
pub use states::MAX_RECURRENT_SEQUENCES;

/// What a step's rows carry.
#[derive(Clone, Copy, Debug)]
pub enum StepInput<'a> {
    /// The rows' own tokens: for the first slice and the whole model.
    Tokens,
    /// The hidden states of the stage before, one row for each row.
    Hidden(&'a HiddenStates),
}

/// What a step gives.
#[derive(Clone, Debug, PartialEq)]
pub enum StepOutput {
    /// From every slice but the last: one row for each row.
    Hidden(HiddenStates),
    /// From the last slice.
    Logits(Logits),
}

/// Scores of all tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logits {
    /// Number of rows: those with `wants_logits`, in the step's order.
    pub n_rows: usize,
    /// Scores of a row.
    pub n_vocab: usize,
    /// Row-major, shape (n_rows, n_vocab).
    pub data: Vec<f32>,
    /// What the output head saw, where the engine keeps it ([`EngineParams::keeps_states`]).
    pub states: RowStates,
}

/// What the output head saw of rows of a step (llama.cpp's `result_norm`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowStates {
    /// Which of the step's rows, ascending: those with logits, or where the graph computes it, all.
    pub rows: Vec<u32>,
    /// Row-major, shape (rows.len(), n_embd).
    pub data: Vec<f32>,
}

impl RowStates {
    /// Of a row of the step; none where it was not kept.
    pub fn of(&self, row: usize) -> Option<&[f32]> {
        let at = self.rows.binary_search(&(row as u32)).ok()?;
        self.data
            .chunks_exact(self.data.len() / self.rows.len())
            .nth(at)
    }
}

impl Logits {
    /// One row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.n_vocab..(i + 1) * self.n_vocab]
    }
}

/// What computes a stage.
pub trait StageEngine: Send {
    /// Changes the KV cache.
    ///
    /// # Errors
    /// [`ModelError::BadStep`] for a sequence that is out of range, a fork of more than there is,
    /// and a shortening beyond what a sliding window has kept; nothing is changed then.
    fn apply(&mut self, op: KvOp) -> Result<()>;

    /// Forgets all sequences.
    fn clear(&mut self);

    /// Computes the rows and appends them to their sequences.
    ///
    /// # Errors
    /// [`ModelError::BadStep`] for rows that cannot be computed, [`ModelError::BadGguf`] when a file
    /// that is mapped was written to, [`ModelError::Llama`] for what llama.cpp refuses. After an error
    /// the rows' sequences hold what they held, or less.
    fn step(&mut self, rows: &[Row], input: StepInput<'_>) -> Result<StepOutput>;

    /// What it occupies.
    fn memory(&self) -> EngineMemory;
}

/// The engine of a slice.
pub struct Engine {
    compute: Compute,
    /// Of a model with recurrent layers; the context knows the sequences of all others.
    states: Option<States>,
    is_first: bool,
    n_seq_max: u32,
    n_rows_max: u32,
    n_swa: Option<u32>,
    memory: EngineMemory,
    /// The files that weights and embeddings are mapped from.
    files: Vec<GgufFile>,
}

impl Engine {
    /// Loads `slice`. `model` is the file that the slice was cut from; only a first slice needs
    /// it, for the embedding table. `progress` gets 0.0 to 1.0.
    ///
    /// # Errors
    /// Parameters that cannot be ([`ModelError::BadInput`]), a file that is not what it was
    /// ([`ModelError::BadGguf`]), less free memory than is needed ([`ModelError::OutOfMemory`],
    /// before anything is allocated), and what llama.cpp refuses.
    pub fn load(
        model: &GgufFile,
        slice: &StageSlice,
        params: &EngineParams,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Engine> {
        Engine::load_within(model, slice, params, available_memory_bytes(), progress)
    }

    /// [`Engine::load`] where `free_bytes` of memory can be had; without knowledge of it
    /// everything fits.
    pub(crate) fn load_within(
        model: &GgufFile,
        slice: &StageSlice,
        params: &EngineParams,
        free_bytes: Option<u64>,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Engine> {
        let file = match slice.is_whole() {
            true => model.clone(),
            false => GgufFile::open(&slice.path)?,
        };
        let info = ModelInfo::from_gguf(&file)?;
        if info.n_layer != slice.range.len() || info.n_embd != slice.n_embd {
            return Err(ModelError::BadGguf {
                path: slice.path.clone(),
                what: format!("it does not hold layers {}: slice it again", slice.range),
            });
        }
        params.check(&info)?;
        let mut memory = EngineMemory::expected(&file, &info, slice, params);
        memory.check_fits(free_bytes, slice, params)?;
        let compute = Compute::load(model, &file, &info, slice, params, progress)?;
        memory.compute_bytes = compute.context.compute_bytes();
        let n_rows_max = params.n_batch.min(compute.context.n_ctx());
        Ok(Engine {
            n_rows_max,
            states: info.recurrent.map(|recurrent| {
                States::new(params, n_rows_max, recurrent.attends.contains(&true))
            }),
            files: match compute.embedding {
                Some(_) => vec![file, model.clone()],
                None => vec![file],
            },
            compute,
            is_first: slice.is_first(),
            n_seq_max: params.n_seq_max,
            n_swa: info.sliding_window.map(|window| window.n_swa),
            memory,
        })
    }

    /// Cells of the KV cache: `n_ctx` of the parameters, rounded up to a multiple of 256; with recurrent
    /// layers 256 more.
    pub fn n_ctx(&self) -> u32 {
        self.compute.context.n_ctx()
    }

    /// Number of tokens that logits are about; 32 for a slice that gives none.
    pub fn n_vocab(&self) -> u32 {
        self.compute.context.model().n_vocab()
    }

    fn n_embd(&self) -> usize {
        self.compute.context.model().n_embd() as usize
    }

    /// First and last position of a sequence.
    fn positions(&self, seq: SequenceId) -> Option<(u32, u32)> {
        match &self.states {
            Some(states) => states.positions(seq),
            None => self.compute.context.positions(seq),
        }
    }

    /// Checks that a stage of this kind takes what the rows carry.
    fn check_input(&self, rows: &[Row], input: StepInput<'_>) -> Result<()> {
        match (input, self.is_first) {
            (StepInput::Tokens, true) => Ok(()),
            (StepInput::Hidden(hidden), false) => {
                let n_embd = self.n_embd();
                if (hidden.n_rows, hidden.n_embd) == (rows.len(), n_embd) {
                    return Ok(());
                }
                Err(bad_step(format!(
                    "hidden states of shape ({}, {}), expected ({}, {n_embd})",
                    hidden.n_rows,
                    hidden.n_embd,
                    rows.len()
                )))
            }
            (StepInput::Tokens, false) => Err(bad_step(
                "this stage takes hidden states, not tokens".into(),
            )),
            (StepInput::Hidden(_), true) => Err(bad_step(
                "the first stage takes tokens, not hidden states".into(),
            )),
        }
    }
}

impl StageEngine for Engine {
    fn apply(&mut self, op: KvOp) -> Result<()> {
        rows::check_op(op, self.n_seq_max, self.n_swa, |seq| self.positions(seq))?;
        if let Some(states) = &mut self.states {
            states.apply(&mut self.compute.context, op);
            return Ok(());
        }
        let context = &mut self.compute.context;
        match op {
            KvOp::Truncate { seq, pos } => context.remove(seq, pos),
            KvOp::Fork { src, dst, len } => {
                context.remove(dst, 0);
                context.share(src, dst, len);
            }
            KvOp::Drop { seq } => context.remove(seq, 0),
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.compute.context.clear();
        if let Some(states) = &mut self.states {
            states.forget();
        }
    }

    fn step(&mut self, rows: &[Row], input: StepInput<'_>) -> Result<StepOutput> {
        self.files.iter().try_for_each(GgufFile::check_unwritten)?;
        rows::check_rows(rows, self.n_rows_max, self.n_seq_max, |seq| {
            self.positions(seq)
        })?;
        self.check_input(rows, input)?;
        let (data, states) = match &mut self.states {
            Some(states) => states.step(&mut self.compute, rows, input)?,
            None => {
                let gives_all = self.compute.gives_all();
                let tokens: Vec<Token> = rows.iter().map(|row| row.token).collect();
                let batch = rows.iter().map(|row| BatchRow {
                    seq_ids: &row.seq_ids,
                    pos: row.pos,
                    output: gives_all || row.wants_logits,
                });
                let batch: Vec<BatchRow<'_>> = batch.collect();
                self.compute.decode(&batch, input, &tokens)?
            }
        };
        if self.compute.is_last {
            let n_rows = rows.iter().filter(|row| row.wants_logits).count();
            let is_kept = |row: &Row| self.compute.keeps_all || row.wants_logits;
            let kept = (0..).zip(rows).filter(|(_, row)| is_kept(row));
            let states = match states.is_empty() {
                true => RowStates::default(),
                false => RowStates {
                    rows: kept.map(|(at, _)| at).collect(),
                    data: states,
                },
            };
            return Ok(StepOutput::Logits(Logits {
                n_rows,
                n_vocab: self.n_vocab() as usize,
                data,
                states,
            }));
        }
        Ok(StepOutput::Hidden(HiddenStates::new(
            rows.len(),
            self.n_embd(),
            data,
        )?))
    }

    fn memory(&self) -> EngineMemory {
        self.memory
    }
}

/// The whole model by plain llama.cpp, without cuts and callbacks: what slices are compared with,
/// in tests and in the benchmark.
pub struct ReferenceEngine(Engine);

impl ReferenceEngine {
    /// Loads all of `model`, whatever its architecture.
    ///
    /// # Errors
    /// See [`Engine::load`].
    pub fn load(
        model: &GgufFile,
        params: &EngineParams,
        progress: &mut dyn FnMut(f32),
    ) -> Result<ReferenceEngine> {
        let info = ModelInfo::from_gguf(model)?;
        let whole = StageSlice {
            path: model.path().to_owned(),
            range: info.all_layers(),
            n_layer_total: info.n_layer,
            n_embd: info.n_embd,
        };
        Engine::load(model, &whole, params, progress).map(ReferenceEngine)
    }

    /// Number of tokens that logits are about.
    pub fn n_vocab(&self) -> u32 {
        self.0.n_vocab()
    }
}

impl StageEngine for ReferenceEngine {
    fn apply(&mut self, op: KvOp) -> Result<()> {
        self.0.apply(op)
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn step(&mut self, rows: &[Row], input: StepInput<'_>) -> Result<StepOutput> {
        self.0.step(rows, input)
    }

    fn memory(&self) -> EngineMemory {
        self.0.memory()
    }
}

fn bad_step(what: String) -> ModelError {
    ModelError::BadStep { what }
}
