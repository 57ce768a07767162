//! The end of a process in which llama.cpp may still compute.

/// Ends the process with the exit status `code`, without exit handlers and without unwinding.
///
/// Handlers would destroy the tables of ggml and llama.cpp (C++ statics) under threads that still
/// load or compute, which ends in "pure virtual method called" or a fault. Whoever leaves this way
/// has flushed its streams and closed what others rely on.
pub fn at_once(code: u8) -> ! {
    // SAFETY: `_exit` takes any status and touches no memory of this process.
    unsafe { libc::_exit(i32::from(code)) }
}
