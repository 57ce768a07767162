//! A context of a loaded model: its KV cache, and steps of rows through its layers.

mod params;

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

pub use self::params::{ContextParams, MAX_SEQUENCES, MAX_THREADS};
use super::kernels::{WrittenCells, decode_with};
use super::log::{Captured, capture};
use super::model::LoadedModel;
pub use super::tap::{ALL_STATES_NODE, HiddenInput, MTP_STATE_NODE, STATE_NODE, Tapped};
use super::tap::{Tap, on_tensor};
use crate::{ModelError, Result, SequenceId, Token};

/// How the context is cut from the whole model.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// What is copied: hidden states instead of logits, or the head's input beside them.
    pub tapped: Tapped,
    /// How hidden states enter.
    pub input: HiddenInput,
}

/// A row for [`Context::decode`].
#[derive(Clone, Copy, Debug)]
pub struct BatchRow<'a> {
    /// The sequences of the row; never empty, each below `n_seq_max`.
    pub seq_ids: &'a [SequenceId],
    /// Its position, below 2^31.
    pub pos: u32,
    /// Whether an output is wanted for it.
    pub output: bool,
}

/// What the rows carry.
#[derive(Clone, Copy, Debug)]
pub enum BatchInput<'a> {
    /// One token for each row.
    Tokens(&'a [Token]),
    /// Hidden states, shape (n_rows, n_embd).
    Hidden(&'a [f32]),
    /// For a block that guesses ahead: each row's token, and the state that the output head saw at the
    /// position before, shape (n_rows, n_embd).
    Both(&'a [Token], &'a [f32]),
}

/// A context and the model it belongs to.
pub struct Context {
    context: NonNull<sys::llama_context>,
    /// Owned; a pointer because C holds it too and writes through it during a step.
    tap: Option<NonNull<Tap>>,
    model: LoadedModel,
    cells: WrittenCells,
    input: HiddenInput,
    n_batch: u32,
    n_seq_max: u32,
    compute_bytes: u64,
}

// SAFETY: context, model and tap are owned by this value alone and bound to no thread; all methods
// that change them take &mut self.
unsafe impl Send for Context {}

impl Context {
    /// A context for `model`.
    ///
    /// # Errors
    /// [`ModelError::Llama`] with what llama.cpp logged.
    pub fn new(model: LoadedModel, params: &ContextParams, cut: Cut) -> Result<Self> {
        if cut.input != HiddenInput::Never && model.n_embd_inp() != model.n_embd() {
            return Err(ModelError::Unsplittable {
                why: "its layers take more than the hidden states as input".into(),
            });
        }
        if !model.is_decoder() {
            return Err(ModelError::Llama {
                what: "the model writes its text otherwise than token by token".into(),
            });
        }
        let tap = Tap::new(model.n_layer(), cut.tapped, cut.input)
            .map(|tap| NonNull::from(Box::leak(Box::new(tap))));
        let (context, log) = capture(|| {
            // SAFETY: the model is live; the callback and its user data match each other, and the
            // tap is freed after the context; all other pointers are the defaults (null).
            unsafe {
                let mut c = params.to_llama();
                if let Some(tap) = tap {
                    c.cb_eval = Some(on_tensor);
                    c.cb_eval_user_data = tap.as_ptr().cast();
                }
                sys::llama_init_from_model(model.as_ptr(), c)
            }
        });
        let Some(context) = NonNull::new(context) else {
            free_tap(tap);
            return Err(ModelError::Llama {
                what: format!("cannot create a context: {}", log.errors()),
            });
        };
        let compute_bytes = log.buffer_bytes("compute") + log.buffer_bytes("output");
        let (n_batch, n_seq_max) = (params.n_batch, params.n_seq_max);
        Ok(Self {
            context,
            tap,
            model,
            cells: WrittenCells::default(),
            input: cut.input,
            n_batch,
            n_seq_max,
            compute_bytes,
        })
    }

    /// The model.
    pub fn model(&self) -> &LoadedModel {
        &self.model
    }

    /// Cells of the KV cache: what was asked for, rounded up by llama.cpp.
    pub fn n_ctx(&self) -> u32 {
        // SAFETY: the context is live.
        unsafe { sys::llama_n_ctx(self.context.as_ptr()) }
    }

    /// Bytes of the buffers for the computation and its outputs.
    pub fn compute_bytes(&self) -> u64 {
        self.compute_bytes
    }

    /// Computes the rows; the outputs of flagged rows, one after the other: hidden states of
    /// `n_embd` values where the context stops at them (all rows must be flagged then), else
    /// logits of `n_vocab` values.
    ///
    /// # Errors
    /// [`ModelError::BadStep`] for more rows than the batch, a sequence id or position that is out
    /// of range, an input of another shape, and when no cells are free;
    /// [`ModelError::Llama`] for what llama.cpp refuses.
    pub fn decode(&mut self, rows: &[BatchRow<'_>], input: BatchInput<'_>) -> Result<Vec<f32>> {
        self.check(rows, input)?;
        let n_outputs = rows.iter().filter(|row| row.output).count();
        self.prepare_tap(rows.len(), n_outputs, input);
        let (status, log) = self.call_decode(rows, input);
        match status {
            0 => self.take_output(n_outputs),
            1 => Err(bad_step(format!(
                "no room for {} rows in a KV cache of {} cells: finish or shorten sequences, or \
                 take a larger context (-c)",
                rows.len(),
                self.n_ctx()
            ))),
            _ => Err(ModelError::Llama {
                what: format!("the step failed: {}", log.errors()),
            }),
        }
    }

    /// Forgets the cells of `seq` from position `from` on.
    pub fn remove(&mut self, seq: SequenceId, from: u32) {
        if let Some(seq) = self.seq_id(seq) {
            let from = i32::try_from(from).unwrap_or(i32::MAX);
            // SAFETY: the memory belongs to the live context, the id is below n_seq_max.
            unsafe { sys::llama_memory_seq_rm(self.memory(), seq, from, -1) };
        }
    }

    /// Makes `dst` share the cells of `src` below position `len`.
    pub fn share(&mut self, src: SequenceId, dst: SequenceId, len: u32) {
        if let (Some(src), Some(dst), 1..) = (self.seq_id(src), self.seq_id(dst), len) {
            let len = i32::try_from(len).unwrap_or(i32::MAX);
            // SAFETY: as in `remove`.
            unsafe { sys::llama_memory_seq_cp(self.memory(), src, dst, 0, len) };
        }
    }

    /// Forgets all cells.
    pub fn clear(&mut self) {
        // SAFETY: the memory belongs to the live context. The data may stay: cells without a
        // sequence are masked.
        unsafe { sys::llama_memory_clear(self.memory(), false) };
    }

    /// First and last position of `seq` that have cells; none for an empty sequence. All positions
    /// between them have cells (llama-kv-cache.cpp, `apply_ubatch`).
    pub fn positions(&self, seq: SequenceId) -> Option<(u32, u32)> {
        let seq = self.seq_id(seq)?;
        // SAFETY: as in `remove`.
        let (min, max) = unsafe {
            (
                sys::llama_memory_seq_pos_min(self.memory(), seq),
                sys::llama_memory_seq_pos_max(self.memory(), seq),
            )
        };
        Some((u32::try_from(min).ok()?, u32::try_from(max).ok()?))
    }

    fn memory(&self) -> sys::llama_memory_t {
        // SAFETY: the context is live.
        unsafe { sys::llama_get_memory(self.context.as_ptr()) }
    }

    /// The id for C, when it is one of this context's.
    fn seq_id(&self, seq: SequenceId) -> Option<i32> {
        (seq.0 < self.n_seq_max).then_some(seq.0 as i32)
    }

    /// The conditions that llama.cpp asserts or reads pointers by.
    fn check(&self, rows: &[BatchRow<'_>], input: BatchInput<'_>) -> Result<()> {
        if rows.is_empty() || rows.len() > self.n_batch as usize {
            return Err(bad_step(format!(
                "{} rows: 1 to {} are possible",
                rows.len(),
                self.n_batch
            )));
        }
        let (tokens, values) = match input {
            BatchInput::Tokens(tokens) => (Some(tokens), None),
            BatchInput::Hidden(values) => (None, Some(values)),
            BatchInput::Both(tokens, values) => (Some(tokens), Some(values)),
        };
        let n_values = rows.len() * self.model.n_embd() as usize;
        for (expected, got) in [
            (rows.len(), tokens.map(<[Token]>::len)),
            (n_values, values.map(<[f32]>::len)),
        ] {
            if let Some(got) = got.filter(|&got| got != expected) {
                return Err(bad_step(format!(
                    "the input of {} rows has {got} values, expected {expected}",
                    rows.len()
                )));
            }
        }
        if let Some(tokens) = tokens {
            let n_vocab = self.model.n_vocab();
            if let Some(token) = tokens.iter().find(|&&t| t < 0 || t as u32 >= n_vocab) {
                return Err(bad_step(format!("token {token} is not below {n_vocab}")));
            }
        }
        let bad_row = rows.iter().any(|row| {
            row.seq_ids.is_empty()
                || row.seq_ids.iter().any(|seq| seq.0 >= self.n_seq_max)
                || row.pos >= i32::MAX as u32
        });
        if bad_row {
            return Err(bad_step(format!(
                "each row needs sequences below {} and a position below 2^31",
                self.n_seq_max
            )));
        }
        Ok(())
    }

    /// The states that entered the output head in the last step, one for each row with logits
    /// ([`Tapped::States`]) or each row ([`Tapped::AllStates`]), shape (n_rows, n_embd); none where the
    /// context does not keep them.
    pub fn take_states(&mut self) -> Option<Vec<f32>> {
        // SAFETY: no step runs, so the tap is ours alone.
        let tap = unsafe { self.tap.as_mut()?.as_mut() };
        let keeps = matches!(tap.tapped(), Tapped::States(_) | Tapped::AllStates(_));
        (keeps && tap.has_output).then(|| std::mem::take(&mut tap.output))
    }

    fn prepare_tap(&mut self, n_rows: usize, n_outputs: usize, input: BatchInput<'_>) {
        let n_embd = self.model.n_embd() as usize;
        let Some(tap) = &mut self.tap else {
            return;
        };
        // SAFETY: no step runs, so the tap is ours alone.
        let tap = unsafe { tap.as_mut() };
        tap.has_output = false;
        tap.has_input = false;
        tap.output.clear();
        let n_tapped = match tap.tapped() {
            Tapped::Hidden(_) | Tapped::AllStates(_) => n_rows,
            Tapped::States(_) => n_outputs,
            Tapped::Nothing => 0,
        };
        tap.output.resize(n_tapped * n_embd, 0.0);
        tap.input.clear();
        if let (true, BatchInput::Hidden(values)) = (tap.writes_input(), input) {
            tap.input.extend_from_slice(values);
        }
    }

    fn call_decode(&mut self, rows: &[BatchRow<'_>], input: BatchInput<'_>) -> (i32, Captured) {
        let mut seq_ids: Vec<i32> = rows
            .iter()
            .flat_map(|row| row.seq_ids.iter().map(|seq| seq.0 as i32))
            .collect();
        let mut n_seq_id: Vec<i32> = rows.iter().map(|row| row.seq_ids.len() as i32).collect();
        let mut pos: Vec<i32> = rows.iter().map(|row| row.pos as i32).collect();
        // With M-RoPE llama.cpp reads four sections of positions beside hidden states; text has
        // its position in the first three (llama-batch.cpp).
        pos.extend_from_within(..);
        pos.extend_from_within(..rows.len());
        pos.resize(4 * rows.len(), 0);
        let mut output: Vec<i8> = rows.iter().map(|row| i8::from(row.output)).collect();
        let mut start = 0;
        let mut seq_id: Vec<*mut i32> = rows
            .iter()
            .map(|row| {
                let first = start;
                start += row.seq_ids.len();
                seq_ids[first..].as_mut_ptr()
            })
            .collect();
        // Every vocabulary has the token 0, that of a stub too.
        let any_tokens: Vec<Token> = vec![0; rows.len()];
        let (token, embd) = match input {
            BatchInput::Tokens(tokens) => (tokens.as_ptr().cast_mut(), std::ptr::null_mut()),
            BatchInput::Hidden(_) if self.input == HiddenInput::OverTokens => {
                (any_tokens.as_ptr().cast_mut(), std::ptr::null_mut())
            }
            BatchInput::Hidden(values) => (std::ptr::null_mut(), values.as_ptr().cast_mut()),
            BatchInput::Both(tokens, values) => {
                (tokens.as_ptr().cast_mut(), values.as_ptr().cast_mut())
            }
        };
        let batch = sys::llama_batch {
            n_tokens: rows.len() as i32,
            token,
            embd,
            pos: pos.as_mut_ptr(),
            n_seq_id: n_seq_id.as_mut_ptr(),
            seq_id: seq_id.as_mut_ptr(),
            logits: output.as_mut_ptr(),
        };
        // SAFETY: all arrays have n_tokens elements (n_tokens * n_embd for embd, `check` compared;
        // four times n_tokens for pos)
        // and live through the call, which copies the batch and does not write to it; ids,
        // positions and tokens are in range (`check`); the batch is no longer than the context's.
        let decode = || unsafe { sys::llama_decode(self.context.as_ptr(), batch) };
        capture(|| decode_with(&mut self.cells, decode))
    }

    fn take_output(&mut self, n_outputs: usize) -> Result<Vec<f32>> {
        if let Some(tap) = &mut self.tap {
            // SAFETY: the step has ended, so the tap is ours alone.
            let tap = unsafe { tap.as_mut() };
            let stops_at_hidden = matches!(tap.tapped(), Tapped::Hidden(_));
            let missed =
                (!tap.input.is_empty() && !tap.has_input) || (stops_at_hidden && !tap.has_output);
            if missed {
                return Err(ModelError::Llama {
                    what:
                        "the graph lacks the tensors between layers, or they have another shape: \
                           this architecture cannot be cut"
                            .into(),
                });
            }
            if stops_at_hidden {
                return Ok(std::mem::take(&mut tap.output));
            }
        }
        let n = n_outputs * self.model.n_vocab() as usize;
        if n == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: the context is live; llama_get_logits waits for the computation.
        let logits = unsafe { sys::llama_get_logits(self.context.as_ptr()) };
        if logits.is_null() {
            return Err(ModelError::Llama {
                what: "the step gave no logits".into(),
            });
        }
        // SAFETY: after a successful step the buffer holds n_vocab f32 for each flagged row, in
        // the batch's order (llama.h, llama_get_logits).
        Ok(unsafe { std::slice::from_raw_parts(logits, n) }.to_vec())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is freed once, before the model (a field) and before the tap that
        // its callback points to.
        unsafe { sys::llama_free(self.context.as_ptr()) };
        free_tap(self.tap.take());
    }
}

fn free_tap(tap: Option<NonNull<Tap>>) {
    if let Some(tap) = tap {
        // SAFETY: it came from Box::leak, and no context refers to it any more.
        drop(unsafe { Box::from_raw(tap.as_ptr()) });
    }
}

fn bad_step(what: String) -> ModelError {
    ModelError::BadStep { what }
}
