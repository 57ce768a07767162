//! The metadata side of [`GgufWriter`]: setting and removing keys.

use std::ffi::{CString, c_char};

use llama_cpp_sys_2 as sys;

use super::gguf_writer::{GgufWriter, bad};
use crate::Result;

/// The key that would change the alignment behind the context's back (it is read only on load).
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// `GGUF_MAX_STRING_LENGTH` and `GGUF_MAX_ARRAY_ELEMENTS`: what llama.cpp refuses to read back.
const MAX_LENGTH: usize = 1 << 30;

impl GgufWriter {
    /// Sets `key` to a u32.
    ///
    /// # Errors
    /// As all setters: an empty key, `general.alignment`, a NUL byte, more than 2^30 elements.
    pub fn set_u32(&mut self, key: &str, value: u32) -> Result<()> {
        let key = checked_key(key)?;
        // SAFETY: the context is live, the key non-empty, NUL-terminated and not reserved.
        unsafe { sys::gguf_set_val_u32(self.context.as_ptr(), key.as_ptr(), value) };
        Ok(())
    }

    /// Sets `key` to a u16.
    ///
    /// # Errors
    /// See [`GgufWriter::set_u32`].
    pub fn set_u16(&mut self, key: &str, value: u16) -> Result<()> {
        let key = checked_key(key)?;
        // SAFETY: as in set_u32.
        unsafe { sys::gguf_set_val_u16(self.context.as_ptr(), key.as_ptr(), value) };
        Ok(())
    }

    /// Sets `key` to a u64.
    ///
    /// # Errors
    /// See [`GgufWriter::set_u32`].
    pub fn set_u64(&mut self, key: &str, value: u64) -> Result<()> {
        let key = checked_key(key)?;
        // SAFETY: as in set_u32.
        unsafe { sys::gguf_set_val_u64(self.context.as_ptr(), key.as_ptr(), value) };
        Ok(())
    }

    /// Sets `key` to an i32.
    ///
    /// # Errors
    /// See [`GgufWriter::set_u32`].
    pub fn set_i32(&mut self, key: &str, value: i32) -> Result<()> {
        let key = checked_key(key)?;
        // SAFETY: as in set_u32.
        unsafe { sys::gguf_set_val_i32(self.context.as_ptr(), key.as_ptr(), value) };
        Ok(())
    }

    /// Sets `key` to an f32.
    ///
    /// # Errors
    /// See [`GgufWriter::set_u32`].
    pub fn set_f32(&mut self, key: &str, value: f32) -> Result<()> {
        let key = checked_key(key)?;
        // SAFETY: as in set_u32.
        unsafe { sys::gguf_set_val_f32(self.context.as_ptr(), key.as_ptr(), value) };
        Ok(())
    }

    /// Sets `key` to a bool.
    ///
    /// # Errors
    /// See [`GgufWriter::set_u32`].
    pub fn set_bool(&mut self, key: &str, value: bool) -> Result<()> {
        let key = checked_key(key)?;
        // SAFETY: as in set_u32.
        unsafe { sys::gguf_set_val_bool(self.context.as_ptr(), key.as_ptr(), value) };
        Ok(())
    }

    /// Sets `key` to a string.
    ///
    /// # Errors
    /// See [`GgufWriter::set_u32`].
    pub fn set_str(&mut self, key: &str, value: &str) -> Result<()> {
        let key = checked_key(key)?;
        let value = c_string("a string value", value)?;
        // SAFETY: as in set_u32; the value is NUL-terminated and copied.
        unsafe { sys::gguf_set_val_str(self.context.as_ptr(), key.as_ptr(), value.as_ptr()) };
        Ok(())
    }

    /// Sets `key` to an array of u32.
    ///
    /// # Errors
    /// See [`GgufWriter::set_u32`].
    pub fn set_array_u32(&mut self, key: &str, values: &[u32]) -> Result<()> {
        self.set_array(key, sys::GGUF_TYPE_UINT32, values)
    }

    /// Sets `key` to an array of i32.
    ///
    /// # Errors
    /// See [`GgufWriter::set_u32`].
    pub fn set_array_i32(&mut self, key: &str, values: &[i32]) -> Result<()> {
        self.set_array(key, sys::GGUF_TYPE_INT32, values)
    }

    /// Sets `key` to an array of f32.
    ///
    /// # Errors
    /// See [`GgufWriter::set_u32`].
    pub fn set_array_f32(&mut self, key: &str, values: &[f32]) -> Result<()> {
        self.set_array(key, sys::GGUF_TYPE_FLOAT32, values)
    }

    /// Sets `key` to an array of bool.
    ///
    /// # Errors
    /// See [`GgufWriter::set_u32`].
    pub fn set_array_bool(&mut self, key: &str, values: &[bool]) -> Result<()> {
        self.set_array(key, sys::GGUF_TYPE_BOOL, values)
    }

    /// Sets `key` to an array of strings.
    ///
    /// # Errors
    /// See [`GgufWriter::set_u32`].
    pub fn set_array_str<S: AsRef<str>>(&mut self, key: &str, values: &[S]) -> Result<()> {
        let key = checked_key(key)?;
        checked_length(values.len())?;
        let owned = values
            .iter()
            .map(|value| c_string("a string of an array", value.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        let mut pointers: Vec<*const c_char> = owned.iter().map(|s| s.as_ptr()).collect();
        // SAFETY: as in set_u32; pointers holds n NUL-terminated strings that `owned` keeps alive
        // for the call, which copies them.
        unsafe {
            sys::gguf_set_arr_str(
                self.context.as_ptr(),
                key.as_ptr(),
                pointers.as_mut_ptr(),
                pointers.len(),
            );
        }
        Ok(())
    }

    /// Removes `key`; says whether it was there.
    ///
    /// # Errors
    /// A NUL byte in the key.
    pub fn remove_key(&mut self, key: &str) -> Result<bool> {
        Ok(self.remove(&c_string("a key", key)?))
    }

    fn set_array<T: Copy>(&mut self, key: &str, ty: sys::gguf_type, values: &[T]) -> Result<()> {
        let key = checked_key(key)?;
        checked_length(values.len())?;
        // SAFETY: as in set_u32; `ty` is a type of size_of::<T>() bytes (the callers pair them, bool
        // being one byte of 0 or 1), so `values` holds n of them; they are copied.
        unsafe {
            sys::gguf_set_arr_data(
                self.context.as_ptr(),
                key.as_ptr(),
                ty,
                values.as_ptr().cast(),
                values.len(),
            );
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &CString) -> bool {
        // SAFETY: the context is live and the key NUL-terminated.
        unsafe { sys::gguf_remove_key(self.context.as_ptr(), key.as_ptr()) >= 0 }
    }
}

fn checked_key(key: &str) -> Result<CString> {
    if key.is_empty() || key == ALIGNMENT_KEY {
        return Err(bad(format!(
            "`{key}` cannot be set as a GGUF key: take another name"
        )));
    }
    c_string("a key", key)
}

fn checked_length(n: usize) -> Result<()> {
    if n > MAX_LENGTH {
        return Err(bad(format!(
            "an array of {n} elements is too long: at most {MAX_LENGTH}"
        )));
    }
    Ok(())
}

pub(super) fn c_string(what: &str, value: &str) -> Result<CString> {
    checked_length(value.len())?;
    CString::new(value).map_err(|_| bad(format!("{what} holds a NUL byte: {value:?}")))
}
