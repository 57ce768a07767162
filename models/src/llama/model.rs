//! A loaded model: the weights of a slice, or of all layers.

use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::RwLockReadGuard;

use jupiter_kernels::Kernels;
use llama_cpp_sys_2 as sys;

use super::kernels::{lacking_memory, load_with};
use super::log::capture;
use super::residency::{mappings_change, release_file_pages};
use crate::{ModelError, Result};

/// While weights are copied out of the mapping, the pages behind them are given back this often, so
/// that loading takes little more memory than running.
const RELEASE_BYTES: u64 = 32 << 20;

/// A load that is running.
struct Loading<'a> {
    report: &'a mut dyn FnMut(f32),
    path: &'a Path,
    n_bytes: u64,
    released: u64,
    /// llama.cpp ends mappings, and parts of them, while it loads; none while it is asked how far it is.
    change: Option<RwLockReadGuard<'static, ()>>,
}

/// Weights that llama.cpp has loaded; freed on drop.
pub struct LoadedModel {
    model: NonNull<sys::llama_model>,
}

// SAFETY: a llama_model owns its buffers, is not bound to the thread that loaded it, and is only
// read after loading.
unsafe impl Send for LoadedModel {}

impl LoadedModel {
    /// Loads the GGUF at `path`, which our own reader must have checked, for `kernels` or, without
    /// them, for llama.cpp's; with a block behind the last layer only where `loads_mtp`. `progress` is
    /// called with 0.0 to 1.0.
    ///
    /// # Errors
    /// [`ModelError::Llama`] with what llama.cpp logged.
    pub fn load(
        path: &Path,
        n_gpu_layers: u32,
        kernels: Option<Kernels>,
        loads_mtp: bool,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let c_path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| {
            ModelError::BadInput {
                what: format!("{}: a path cannot hold a NUL", path.display()),
            }
        })?;
        let n_bytes = std::fs::metadata(path).map_or(0, |about| about.len());
        let mut loading = Loading {
            report: progress,
            path,
            n_bytes,
            released: 0,
            change: Some(mappings_change()),
        };
        let user_data = (&raw mut loading).cast::<c_void>();
        let (model, log) = capture(|| {
            // SAFETY: the path is NUL-terminated and outlives the call; on_progress gets the
            // pointer to `loading`, which outlives the call and which nothing else uses meanwhile;
            // all other pointers are the defaults (null).
            unsafe {
                let mut params = sys::llama_model_default_params();
                params.n_gpu_layers = i32::try_from(n_gpu_layers).unwrap_or(i32::MAX);
                params.load_mode = sys::LLAMA_LOAD_MODE_MMAP;
                params.load_mtp = loads_mtp;
                params.progress_callback = Some(on_progress);
                params.progress_callback_user_data = user_data;
                load_with(kernels, || {
                    sys::llama_model_load_from_file(c_path.as_ptr(), params)
                })
            }
        });
        drop(loading);
        let Some(model) = NonNull::new(model) else {
            let path = path.display();
            return Err(match lacking_memory() {
                Some(what) => ModelError::OutOfMemory {
                    what: format!("{path}: {what}"),
                },
                None => ModelError::Llama {
                    what: format!("cannot load {path}: {}", log.errors()),
                },
            });
        };
        release_file_pages(path);
        Ok(Self { model })
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_model {
        self.model.as_ptr()
    }

    /// Width of the hidden state.
    pub fn n_embd(&self) -> u32 {
        // SAFETY: the model is live.
        unsafe { sys::llama_model_n_embd(self.as_ptr()) }.unsigned_abs()
    }

    /// Values of one row of input; more than [`LoadedModel::n_embd`] where layers take extra input.
    pub fn n_embd_inp(&self) -> u32 {
        // SAFETY: the model is live.
        unsafe { sys::llama_model_n_embd_inp(self.as_ptr()) }.unsigned_abs()
    }

    /// Number of layers that were loaded.
    pub fn n_layer(&self) -> u32 {
        // SAFETY: the model is live.
        unsafe { sys::llama_model_n_layer(self.as_ptr()) }.unsigned_abs()
    }

    /// Whether it writes text token by token.
    pub fn is_decoder(&self) -> bool {
        let model = self.as_ptr();
        // SAFETY: the model is live.
        unsafe {
            sys::llama_model_has_decoder(model)
                && !sys::llama_model_has_encoder(model)
                && !sys::llama_model_is_diffusion(model)
        }
    }

    /// Number of tokens of the vocabulary; 32 for a slice without the head.
    pub fn n_vocab(&self) -> u32 {
        // SAFETY: the model is live, and owns the vocabulary.
        unsafe { sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(self.as_ptr())) }
            .unsigned_abs()
    }
}

impl Drop for LoadedModel {
    fn drop(&mut self) {
        let _change = mappings_change();
        // SAFETY: the model came from llama_model_load_from_file, is freed once, and its context
        // is freed before it (`Context` drops that first).
        unsafe { sys::llama_model_free(self.model.as_ptr()) };
    }
}

/// # Safety
/// `user_data` points to the [`Loading`] of the load that is running.
unsafe extern "C" fn on_progress(progress: f32, user_data: *mut c_void) -> bool {
    // SAFETY: see above. A panic of the callback aborts at this boundary rather than unwinding
    // into C.
    let loading = unsafe { &mut *user_data.cast::<Loading<'_>>() };
    let done = (f64::from(progress) * loading.n_bytes as f64) as u64;
    if done.saturating_sub(loading.released) >= RELEASE_BYTES {
        loading.released = done;
        loading.change = None;
        release_file_pages(loading.path);
        loading.change = Some(mappings_change());
    }
    (loading.report)(progress);
    true
}
