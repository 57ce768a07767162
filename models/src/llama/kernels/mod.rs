//! Our kernels inside an unpatched llama.cpp: an extra buffer type of ggml's CPU backend.
//!
//! ```text
//! load     llama.cpp asks `ops` which weights may lie in our buffers; `buffer` packs these
//! compute  the CPU backend asks `ops` for every operation, and calls it from all its threads
//! ```
//! What `ops` declines is computed by ggml. Before the first model is loaded `self_test` compares
//! products of all types with ggml's own; after a difference the kernels are left out.

#[cfg(kernels)]
mod attend;
#[cfg(kernels)]
mod buffer;
#[cfg(kernels)]
mod cells;
#[cfg(kernels)]
mod ops;
#[cfg(kernels)]
mod product;
#[cfg(kernels)]
mod routing;
#[cfg(kernels)]
mod self_test;
#[cfg(kernels)]
mod team;

use std::sync::OnceLock;

/// Alignment of what lies in the work memory: a line of the processor's caches.
#[cfg(kernels)]
const LINE: usize = 64;

/// Whether the kernels can be used; if not, why.
pub(crate) fn readiness() -> Result<(), &'static str> {
    super::log::init_backend();
    READY
        .get()
        .copied()
        .unwrap_or(Err("llama.cpp has not started"))
}

static READY: OnceLock<Result<(), &'static str>> = OnceLock::new();

/// Puts the buffer type in its place; called once, when llama.cpp has started and before it has
/// loaded a model.
pub(super) fn install() {
    READY.get_or_init(try_install);
}

#[cfg(not(kernels))]
fn try_install() -> Result<(), &'static str> {
    if cfg!(feature = "dynamic-backends") {
        return Err("this program loads ggml's backends when it starts (feature dynamic-backends)");
    }
    Err("they are for Linux on x86-64 and aarch64")
}

#[cfg(not(kernels))]
pub(crate) fn lacking_memory() -> Option<String> {
    None
}

#[cfg(not(kernels))]
#[derive(Default)]
pub(crate) struct WrittenCells;

#[cfg(not(kernels))]
pub(crate) fn decode_with<T>(_: &mut WrittenCells, decode: impl FnOnce() -> T) -> T {
    decode()
}

#[cfg(not(kernels))]
pub(crate) fn load_with<T>(_: Option<jupiter_kernels::Kernels>, load: impl FnOnce() -> T) -> T {
    load()
}

#[cfg(kernels)]
pub(crate) use buffer::{lacking_memory, load_with};
#[cfg(kernels)]
pub(crate) use cells::{WrittenCells, decode_with};

#[cfg(kernels)]
fn try_install() -> Result<(), &'static str> {
    use std::ffi::c_void;

    unsafe extern "C" {
        // shim.cpp.
        fn jupiter_kernels_context(ops: *const ops::Ops) -> *mut c_void;
        fn jupiter_kernels_install(buffer_type: *mut buffer::BufferType);
        fn jupiter_kernels_remove(buffer_type: *mut buffer::BufferType);
    }

    // SAFETY: C++ copies the functions, and gives a context that is never freed.
    let ours = buffer::buffer_type(|| unsafe { jupiter_kernels_context(&ops::OPS) });
    // SAFETY: the buffer type lives for ever, and no other thread uses ggml yet: llama.cpp's start
    // is under way, and everything of ours waits for it.
    unsafe { jupiter_kernels_install(ours) };
    let verdict = self_test::run(ours);
    if let Err(difference) = &verdict {
        // SAFETY: as above.
        unsafe { jupiter_kernels_remove(ours) };
        tracing::warn!(
            "our kernels are left out, since they do not compute what llama.cpp computes \
             ({difference}): please report it"
        );
    }
    verdict.map_err(|_| "their self-test failed")
}

/// A number of things, as ggml has it.
#[cfg(kernels)]
fn count(n: i64) -> usize {
    usize::try_from(n).unwrap_or(0)
}
