//! llama.cpp's own chat templates, which have names and are no Jinja.

use std::ffi::{CStr, CString};
use std::os::raw::c_char;

use llama_cpp_sys_2 as sys;

/// Bytes that a template writes around each message, about; more are asked for where they do not do.
const BYTES_AROUND: usize = 64;

/// The names of all of them, in order.
pub(crate) fn built_in_templates() -> Vec<&'static str> {
    // SAFETY: with a length of 0 nothing is written; the number of templates is returned.
    let n = unsafe { sys::llama_chat_builtin_templates(std::ptr::null_mut(), 0) };
    let mut names = vec![std::ptr::null(); usize::try_from(n).unwrap_or(0)];
    // SAFETY: `names` has room for as many pointers as it says.
    unsafe { sys::llama_chat_builtin_templates(names.as_mut_ptr(), names.len()) };
    names
        .into_iter()
        // SAFETY: every pointer was written, to a NUL-terminated key of a static map.
        .filter_map(|name| unsafe { CStr::from_ptr(name) }.to_str().ok())
        .collect()
}

/// What the template `name` makes of `messages` (role, content), with `add_assistant` up to where
/// the model's turn begins. None when llama.cpp does not know the name, or gives no text.
pub(crate) fn apply_template(
    name: &CStr,
    messages: &[(CString, CString)],
    add_assistant: bool,
) -> Option<String> {
    let chat: Vec<_> = messages
        .iter()
        .map(|(role, content)| sys::llama_chat_message {
            role: role.as_ptr(),
            content: content.as_ptr(),
        })
        .collect();
    let n_bytes = |(role, content): &(CString, CString)| role.count_bytes() + content.count_bytes();
    let n_guess = messages
        .iter()
        .map(|m| n_bytes(m) + BYTES_AROUND)
        .sum::<usize>()
        + BYTES_AROUND;
    let mut text = vec![0_u8; n_guess];
    loop {
        // SAFETY: name and messages are NUL-terminated and outlive the call; at most `text.len()`
        // bytes are written to `text`, and the length of the whole is returned.
        let n = unsafe {
            sys::llama_chat_apply_template(
                name.as_ptr(),
                chat.as_ptr(),
                chat.len(),
                add_assistant,
                text.as_mut_ptr().cast::<c_char>(),
                i32::try_from(text.len()).ok()?,
            )
        };
        let n = usize::try_from(n).ok()?;
        if n <= text.len() {
            text.truncate(n);
            return String::from_utf8(text).ok();
        }
        text.resize(n, 0);
    }
}
