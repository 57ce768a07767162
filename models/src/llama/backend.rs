//! llama.cpp's process-wide state, brought up once.

use std::sync::OnceLock;

use llama_cpp_2::llama_backend::LlamaBackend;

use super::log;

/// The safe wrapper's witness that llama.cpp is up; the first call starts it and takes its log.
///
/// It stays up until the process ends, as models and contexts may live in any thread.
pub(crate) fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        log::init_backend();
        LlamaBackend {}
    })
}
