//! llama.cpp's log: it goes to `tracing`, and into the errors of the calls that wrote it.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Once;

use llama_cpp_sys_2 as sys;

/// Most lines kept of one call; a load writes a few hundred.
const MAX_LINES: usize = 4096;
/// Most error lines that a message repeats: the last ones say the most.
const MAX_QUOTED_LINES: usize = 3;

/// A line of the log.
struct Line {
    level: sys::ggml_log_level,
    text: String,
}

/// What llama.cpp logged during a call on the same thread.
pub struct Captured(Vec<Line>);

thread_local! {
    /// The lines of the call that runs on this thread, while one is captured.
    static LINES: RefCell<Option<Vec<Line>>> = const { RefCell::new(None) };
}

impl Captured {
    /// The last warnings and errors as one line, or a hint where there are none.
    pub fn errors(&self) -> String {
        let is_error = |line: &&Line| line.level >= sys::GGML_LOG_LEVEL_ERROR;
        let is_warning = |line: &&Line| line.level == sys::GGML_LOG_LEVEL_WARN;
        let last = |filter: fn(&&Line) -> bool| {
            let lines: Vec<&str> = self
                .0
                .iter()
                .filter(filter)
                .map(|line| line.text.as_str())
                .collect();
            lines[lines.len().saturating_sub(MAX_QUOTED_LINES)..].join("; ")
        };
        match (last(is_error), last(is_warning)) {
            (errors, _) if !errors.is_empty() => errors,
            (_, warnings) if !warnings.is_empty() => warnings,
            _ => "no reason was logged; run with -v for more".to_owned(),
        }
    }

    /// Bytes of the buffers of that kind ("compute", "model", "KV"), as llama.cpp logged them:
    /// lines like `CPU compute buffer size =   12.34 MiB`. It has no other way of telling in C.
    pub fn buffer_bytes(&self, kind: &str) -> u64 {
        let marker = format!("{kind} buffer size =");
        let mib: f64 = self
            .0
            .iter()
            .filter_map(|line| line.text.split_once(&marker))
            .filter_map(|(_, rest)| rest.split_whitespace().next()?.parse::<f64>().ok())
            .sum();
        (mib * 1024.0 * 1024.0) as u64
    }
}

/// Starts llama.cpp, once per process, and sends its log to `tracing`.
pub fn init_backend() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        // SAFETY: on_line matches ggml_log_callback, needs no user data and never unwinds;
        // llama_backend_init has no preconditions and is called once.
        unsafe {
            sys::llama_log_set(Some(on_line), std::ptr::null_mut());
            sys::llama_backend_init();
        }
        super::kernels::install();
        // SAFETY: loading the backends has no preconditions.
        #[cfg(feature = "dynamic-backends")]
        unsafe {
            sys::ggml_backend_load_all();
        }
    });
}

/// Runs `call` and gives what llama.cpp logged on this thread meanwhile.
pub fn capture<T>(call: impl FnOnce() -> T) -> (T, Captured) {
    init_backend();
    let outer = LINES.replace(Some(Vec::new()));
    let value = call();
    (value, Captured(LINES.replace(outer).unwrap_or_default()))
}

/// # Safety
/// `text` is null or a NUL-terminated string that lives for the call, as ggml's logger passes it.
unsafe extern "C" fn on_line(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: see above.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let line = text.trim_end();
    // Progress dots come as continuations.
    if level == sys::GGML_LOG_LEVEL_CONT || line.trim_matches('.').is_empty() {
        return;
    }
    match level {
        sys::GGML_LOG_LEVEL_ERROR => tracing::warn!(target: "llama.cpp", "{line}"),
        sys::GGML_LOG_LEVEL_WARN => tracing::info!(target: "llama.cpp", "{line}"),
        sys::GGML_LOG_LEVEL_INFO => tracing::debug!(target: "llama.cpp", "{line}"),
        _ => tracing::trace!(target: "llama.cpp", "{line}"),
    }
    if level < sys::GGML_LOG_LEVEL_INFO {
        return;
    }
    // At thread exit the lines may be gone; then nobody waits for them.
    let _ = LINES.try_with(|lines| {
        if let Ok(mut lines) = lines.try_borrow_mut()
            && let Some(lines) = lines.as_mut()
            && lines.len() < MAX_LINES
        {
            lines.push(Line {
                level,
                text: line.to_owned(),
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_sizes_are_read_from_the_lines() {
        let line = |level, text: &str| Line {
            level,
            text: text.to_owned(),
        };
        let captured = Captured(vec![
            line(
                sys::GGML_LOG_LEVEL_INFO,
                "sched_reserve:        CPU compute buffer size =     1.50 MiB",
            ),
            line(
                sys::GGML_LOG_LEVEL_INFO,
                "sched_reserve:      CUDA0 compute buffer size =     2.00 MiB",
            ),
            line(sys::GGML_LOG_LEVEL_WARN, "a warning"),
            line(sys::GGML_LOG_LEVEL_ERROR, "first"),
            line(sys::GGML_LOG_LEVEL_ERROR, "second"),
        ]);
        assert_eq!(captured.buffer_bytes("compute"), 3584 * 1024);
        assert_eq!(captured.buffer_bytes("KV"), 0);
        assert_eq!(captured.errors(), "first; second");
        assert_eq!(
            Captured(vec![line(sys::GGML_LOG_LEVEL_WARN, "w")]).errors(),
            "w"
        );
    }
}
