//! Sizes and types of a context, for llama.cpp.

use llama_cpp_sys_2 as sys;

use crate::gguf::KvDtype;

/// `LLAMA_MAX_SEQ` (llama-cparams.h): sequence ids are below it.
pub const MAX_SEQUENCES: u32 = 256;
/// `GGML_MAX_N_THREADS` (ggml.h).
pub const MAX_THREADS: u32 = 512;

/// Sizes and types of a context; checked by the engine.
#[derive(Clone, Copy, Debug)]
pub struct ContextParams {
    /// Cells of the KV cache.
    pub n_ctx: u32,
    /// Most rows of a call.
    pub n_batch: u32,
    /// Most rows that are computed at once.
    pub n_ubatch: u32,
    /// Sequence ids are below it.
    pub n_seq_max: u32,
    /// Threads that compute.
    pub n_threads: u32,
    /// Type of the cached keys.
    pub type_k: KvDtype,
    /// Type of the cached values.
    pub type_v: KvDtype,
    /// Whether attention is computed in one fused operation.
    pub flash_attention: bool,
    /// Whether the KV cache lies with the layers on their device.
    pub offload: bool,
    /// Whether it is the block behind the last layer that computes, and not the layers.
    pub is_mtp: bool,
}

impl ContextParams {
    /// As llama.cpp takes them, with the defaults for all else.
    pub(super) fn to_llama(self) -> sys::llama_context_params {
        // SAFETY: it takes nothing, and the pointers of what it returns are null.
        let mut c = unsafe { sys::llama_context_default_params() };
        c.n_ctx = self.n_ctx;
        // llama.cpp asserts that a batch has room for one output of every sequence.
        c.n_batch = self.n_batch.max(self.n_seq_max);
        c.n_ubatch = self.n_ubatch;
        c.n_seq_max = self.n_seq_max;
        c.n_threads = self.n_threads as i32;
        c.n_threads_batch = self.n_threads as i32;
        c.flash_attn_type = if self.flash_attention {
            sys::LLAMA_FLASH_ATTN_TYPE_ENABLED
        } else {
            sys::LLAMA_FLASH_ATTN_TYPE_DISABLED
        };
        c.type_k = ggml_type(self.type_k);
        c.type_v = ggml_type(self.type_v);
        if self.is_mtp {
            c.ctx_type = sys::LLAMA_CONTEXT_TYPE_MTP;
        }
        c.offload_kqv = self.offload;
        c.op_offload = self.offload;
        // One cache for all sequences, so that forks share cells.
        c.kv_unified = true;
        // Sliding-window layers keep all positions, so that a sequence can be shortened.
        c.swa_full = true;
        c.no_perf = true;
        c
    }
}

fn ggml_type(dtype: KvDtype) -> sys::ggml_type {
    match dtype {
        KvDtype::F16 => sys::GGML_TYPE_F16,
        KvDtype::Q8_0 => sys::GGML_TYPE_Q8_0,
    }
}
