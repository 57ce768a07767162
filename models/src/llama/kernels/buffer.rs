//! A buffer type of ggml whose tensors are packed for our kernels when they are set.
//!
//! ggml-backend-impl.h declares these structs for backends; the package exports no headers, so they
//! are repeated here for the llama.cpp that Cargo.toml pins exactly.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use jupiter_kernels::{Kernels, Shape, WeightMemory, WeightType};
use llama_cpp_sys_2 as sys;

/// Alignment of a packed tensor: a line of the processor's caches.
const ALIGNMENT: usize = 64;
/// Name of the buffers in llama.cpp's log.
const NAME: &CStr = c"jupiter";

/// `ggml_backend_buffer_type_i`.
#[repr(C)]
struct BufferTypeInterface {
    get_name: unsafe extern "C" fn(*mut BufferType) -> *const c_char,
    alloc_buffer: unsafe extern "C" fn(*mut BufferType, usize) -> *mut Buffer,
    alloc_buffer_n: Option<unsafe extern "C" fn()>,
    get_alignment: unsafe extern "C" fn(*mut BufferType) -> usize,
    get_max_size: Option<unsafe extern "C" fn()>,
    get_alloc_size: unsafe extern "C" fn(*mut BufferType, *const sys::ggml_tensor) -> usize,
    get_alloc_size_n: Option<unsafe extern "C" fn()>,
    /// Not given: what lies there is not in ggml's layout.
    is_host: Option<unsafe extern "C" fn()>,
}

/// `ggml_backend_buffer_type`.
#[repr(C)]
pub(super) struct BufferType {
    interface: BufferTypeInterface,
    device: sys::ggml_backend_dev_t,
    context: *mut c_void,
}

// SAFETY: nothing in it changes once it is made, and the context is only handed to ggml.
unsafe impl Send for BufferType {}
// SAFETY: see above.
unsafe impl Sync for BufferType {}

/// `ggml_backend_buffer_i`.
#[repr(C)]
#[derive(Clone, Copy)]
struct BufferInterface {
    free_buffer: unsafe extern "C" fn(*mut Buffer),
    get_base: unsafe extern "C" fn(*mut Buffer) -> *mut c_void,
    init_tensor: Option<unsafe extern "C" fn()>,
    memset_tensor: Option<unsafe extern "C" fn()>,
    set_tensor: SetTensor,
    get_tensor: Option<unsafe extern "C" fn()>,
    set_tensor_2d: Option<unsafe extern "C" fn()>,
    get_tensor_2d: Option<unsafe extern "C" fn()>,
    cpy_tensor: Option<unsafe extern "C" fn()>,
    clear: unsafe extern "C" fn(*mut Buffer, u8),
    reset: Option<unsafe extern "C" fn()>,
}

type SetTensor =
    unsafe extern "C" fn(*mut Buffer, *mut sys::ggml_tensor, *const c_void, usize, usize);

/// `ggml_backend_buffer`.
#[repr(C)]
pub(super) struct Buffer {
    interface: BufferInterface,
    buffer_type: *mut BufferType,
    context: *mut c_void,
    size: usize,
    usage: i32,
}

/// What a buffer of ours holds.
struct Weights {
    memory: WeightMemory,
    kernels: Kernels,
}

unsafe extern "C" {
    /// ggml-backend.cpp.
    fn ggml_backend_buffer_init(
        buffer_type: *mut BufferType,
        interface: BufferInterface,
        context: *mut c_void,
        size: usize,
    ) -> *mut Buffer;
}

thread_local! {
    /// The kernels of the model that this thread loads, if it is to have ours.
    static LOADING: Cell<Option<Kernels>> = const { Cell::new(None) };
    /// The first and the last tensor whose size was asked since the last allocation, for the message
    /// when there is no memory.
    static ASKED: Cell<Option<(Name, Name)>> = const { Cell::new(None) };
    /// What there was no memory for.
    static LACKING: Cell<Option<String>> = const { Cell::new(None) };
}

/// `ggml_tensor::name`.
type Name = [c_char; 64];

/// Why the load that has just failed on this thread had no memory, if that was it.
pub(crate) fn lacking_memory() -> Option<String> {
    LACKING.take()
}

/// Runs `load`; weights that it loads on this thread are packed for `kernels`, where these take them.
pub(crate) fn load_with<T>(kernels: Option<Kernels>, load: impl FnOnce() -> T) -> T {
    let before = LOADING.replace(kernels);
    ASKED.set(None);
    let loaded = load();
    LOADING.set(before);
    loaded
}

/// The kernels of the model that this thread loads.
pub(super) fn loading() -> Option<Kernels> {
    LOADING.get()
}

/// Our buffer type, made once, with `context` as C++ has made it.
pub(super) fn buffer_type(context: impl FnOnce() -> *mut c_void) -> *mut BufferType {
    static TYPE: OnceLock<BufferType> = OnceLock::new();
    let made = TYPE.get_or_init(|| BufferType {
        interface: BufferTypeInterface {
            get_name,
            alloc_buffer,
            alloc_buffer_n: None,
            get_alignment,
            get_max_size: None,
            get_alloc_size,
            get_alloc_size_n: None,
            is_host: None,
        },
        // SAFETY: looks a device up in ggml's registry; the CPU is always there.
        device: unsafe { sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU) },
        context: context(),
    });
    ptr::from_ref(made).cast_mut()
}

/// The kernels of a tensor that lies in a buffer of ours; none for others.
///
/// # Safety
/// `tensor` is null or a live tensor.
pub(super) unsafe fn kernels_of(tensor: *const sys::ggml_tensor) -> Option<Kernels> {
    // SAFETY: by contract.
    let buffer = unsafe { tensor.as_ref() }?.buffer.cast::<Buffer>();
    // SAFETY: buffers of live tensors are live, and all of ggml's have this layout.
    let buffer = unsafe { buffer.as_ref() }?;
    let is_ours = ptr::fn_addr_eq(buffer.interface.set_tensor, set_tensor as SetTensor);
    // SAFETY: a buffer with our function has our context.
    is_ours.then(|| unsafe { &*buffer.context.cast::<Weights>() }.kernels)
}

/// Type and shape of a tensor of weights: of each of its `ne[2]` matrices.
///
/// `None` where the kernels do not take it.
pub(super) fn packing(tensor: &sys::ggml_tensor) -> Option<(WeightType, Shape, usize)> {
    let weights = WeightType::from_ggml(tensor.type_)?;
    let [n_cols, n_rows, _, 1] = tensor.ne.map(|n| usize::try_from(n).unwrap_or(0)) else {
        return None;
    };
    let shape = Shape { n_rows, n_cols };
    let bytes = jupiter_kernels::packed_bytes(weights, shape)?;
    // A file's rows lie one behind the other; views of weights do not become weights.
    let file_bytes = weights.row_bytes(n_cols)?;
    let is_contiguous = tensor.nb[1] == file_bytes && tensor.nb[2] == file_bytes * n_rows;
    (is_contiguous && tensor.view_src.is_null()).then_some((weights, shape, bytes))
}

unsafe extern "C" fn get_name(_: *mut BufferType) -> *const c_char {
    NAME.as_ptr()
}

unsafe extern "C" fn get_alignment(_: *mut BufferType) -> usize {
    ALIGNMENT
}

/// # Safety
/// `tensor` is a live tensor.
unsafe extern "C" fn get_alloc_size(_: *mut BufferType, tensor: *const sys::ggml_tensor) -> usize {
    // SAFETY: by contract.
    let tensor = unsafe { &*tensor };
    let first = ASKED.get().map_or(tensor.name, |(first, _)| first);
    ASKED.set(Some((first, tensor.name)));
    match packing(tensor) {
        Some((_, _, bytes)) => bytes * usize::try_from(tensor.ne[2]).unwrap_or(1),
        // SAFETY: the tensor is live.
        None => unsafe { sys::ggml_nbytes(tensor) },
    }
}

/// # Safety
/// `buffer_type` is ours; called by ggml while a model is loaded.
unsafe extern "C" fn alloc_buffer(buffer_type: *mut BufferType, size: usize) -> *mut Buffer {
    let asked = ASKED.take();
    let Some(kernels) = loading() else {
        return ptr::null_mut();
    };
    let Ok(memory) = WeightMemory::new(size) else {
        // SAFETY: ggml ends names with a NUL.
        let text = |name: &Name| unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy();
        let tensors = asked.map_or(String::new(), |(first, last)| {
            format!(" ({} to {})", text(&first), text(&last))
        });
        LACKING.set(Some(format!(
            "there is no memory for {} MB of weights{tensors}: take more stages, or a smaller model",
            size.div_ceil(1_000_000)
        )));
        return ptr::null_mut();
    };
    let weights = Box::into_raw(Box::new(Weights { memory, kernels }));
    let interface = BufferInterface {
        free_buffer,
        get_base,
        init_tensor: None,
        memset_tensor: None,
        set_tensor,
        get_tensor: None,
        set_tensor_2d: None,
        get_tensor_2d: None,
        cpy_tensor: None,
        clear,
        reset: None,
    };
    // SAFETY: the interface matches the context; ggml calls free_buffer once.
    unsafe { ggml_backend_buffer_init(buffer_type, interface, weights.cast(), size) }
}

/// # Safety
/// `buffer` is live and ours.
unsafe fn weights<'a>(buffer: *mut Buffer) -> &'a mut Weights {
    // SAFETY: our buffers have such a context until they are freed, and ggml calls for one buffer
    // from one thread at a time.
    unsafe { &mut *(*buffer).context.cast::<Weights>() }
}

/// # Safety
/// `buffer` is ours and is not used afterwards.
unsafe extern "C" fn free_buffer(buffer: *mut Buffer) {
    // SAFETY: the context came from Box::into_raw, and ggml frees a buffer once.
    drop(unsafe { Box::from_raw((*buffer).context.cast::<Weights>()) });
}

/// # Safety
/// `buffer` is live and ours.
unsafe extern "C" fn get_base(buffer: *mut Buffer) -> *mut c_void {
    // SAFETY: by contract.
    unsafe { weights(buffer) }.memory.as_mut_ptr().cast()
}

/// # Safety
/// `buffer` is live and ours.
unsafe extern "C" fn clear(buffer: *mut Buffer, value: u8) {
    // SAFETY: by contract.
    unsafe { weights(buffer) }.memory.bytes_mut().fill(value);
}

/// Packs a tensor.
///
/// # Safety
/// `tensor` lies in `buffer`, which is ours; `data` holds all its bytes as a file has them.
unsafe extern "C" fn set_tensor(
    _: *mut Buffer,
    tensor: *mut sys::ggml_tensor,
    data: *const c_void,
    offset: usize,
    size: usize,
) {
    // SAFETY: by contract.
    let tensor = unsafe { &*tensor };
    let Some((weights, shape, bytes)) = packing(tensor) else {
        unreachable!("only tensors that can be packed are put here");
    };
    let n_matrices = usize::try_from(tensor.ne[2]).unwrap_or(0);
    // SAFETY: the tensor is live.
    let n_bytes = unsafe { sys::ggml_nbytes(tensor) };
    // llama.cpp sets weights in one piece.
    assert!(offset == 0 && size == n_bytes, "a part of a tensor is set");
    let (Some(data), Some(packed)) = (
        NonNull::new(data.cast_mut().cast::<u8>()),
        NonNull::new(tensor.data.cast::<u8>()),
    ) else {
        return;
    };
    // SAFETY: data holds n_bytes; get_alloc_size has reserved n_matrices * bytes at the tensor's
    // address; nobody else uses either during the call.
    let (source, packed) = unsafe {
        (
            std::slice::from_raw_parts(data.as_ptr(), n_bytes),
            std::slice::from_raw_parts_mut(packed.as_ptr(), n_matrices * bytes),
        )
    };
    let matrices = source.chunks_exact(n_bytes / n_matrices.max(1));
    for (source, packed) in matrices.zip(packed.chunks_exact_mut(bytes)) {
        jupiter_kernels::pack(weights, shape, source, packed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_that_ends_is_told_with_the_tensors_and_how_much() {
        super::super::readiness().unwrap();
        let buffer_type = buffer_type(|| unreachable!("it is there since the start"));
        // SAFETY: a struct of numbers and null pointers.
        let mut tensor: sys::ggml_tensor = unsafe { std::mem::zeroed() };
        tensor.type_ = sys::GGML_TYPE_Q4_0;
        (tensor.ne, tensor.nb) = ([64, 1 << 44, 1, 1], [18, 36, 36 << 44, 36 << 44]);
        for (to, from) in tensor.name.iter_mut().zip(b"output.weight") {
            *to = from.cast_signed() as c_char;
        }
        load_with(Some(Kernels::best()), || {
            // SAFETY: the tensor lives through the calls.
            let buffer = unsafe {
                let size = get_alloc_size(buffer_type, &raw const tensor);
                alloc_buffer(buffer_type, size)
            };
            assert!(buffer.is_null());
        });
        assert_eq!(
            lacking_memory().unwrap(),
            "there is no memory for 633318698 MB of weights (output.weight to output.weight): take \
             more stages, or a smaller model"
        );
        assert_eq!(lacking_memory(), None);
    }
}
