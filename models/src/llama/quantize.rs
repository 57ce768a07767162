//! ggml's tensor types: their names, sizes, and how rows of f32 become them.

use std::ffi::CStr;

use llama_cpp_sys_2 as sys;

use crate::{ModelError, Result};

/// Types by number (`enum ggml_type`), with the values and bytes of a block.
macro_rules! types {
    ($($name:ident = $number:ident, $values:literal, $bytes:literal;)*) => {
        $(
            #[doc = concat!("`", stringify!($number), "`: blocks of ", $values, " values, ", $bytes, " bytes each.")]
            pub const $name: u32 = sys::$number;
        )*
        /// Those that [`quantize_rows`] writes; of the others some abort without an importance matrix.
        const WRITTEN: &[u32] = &[$($name),*];
    };
}

types! {
    F32 = GGML_TYPE_F32, 1, 4;
    F16 = GGML_TYPE_F16, 1, 2;
    BF16 = GGML_TYPE_BF16, 1, 2;
    Q8_0 = GGML_TYPE_Q8_0, 32, 34;
    Q4_0 = GGML_TYPE_Q4_0, 32, 18;
    Q4_1 = GGML_TYPE_Q4_1, 32, 20;
    Q5_0 = GGML_TYPE_Q5_0, 32, 22;
    Q5_1 = GGML_TYPE_Q5_1, 32, 24;
    Q4_K = GGML_TYPE_Q4_K, 256, 144;
    Q5_K = GGML_TYPE_Q5_K, 256, 176;
    Q6_K = GGML_TYPE_Q6_K, 256, 210;
    IQ4_NL = GGML_TYPE_IQ4_NL, 32, 18;
    IQ4_XS = GGML_TYPE_IQ4_XS, 256, 136;
    MXFP4 = GGML_TYPE_MXFP4, 32, 17;
}

/// Most values that one call of [`quantize_rows`] takes: 1 GiB of f32, far above any row group.
const MAX_QUANTIZE_VALUES: usize = 1 << 28;

/// What ggml knows of a tensor type that stores values (removed and unknown types have none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeTraits {
    /// Its name as ggml prints it, e.g. `q4_K`.
    pub name: &'static str,
    /// Values in a block; a row holds whole blocks.
    pub block_values: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
}

/// The traits of `ggml_type`; `None` for numbers that ggml does not know or has removed.
pub fn type_traits(ggml_type: u32) -> Option<TypeTraits> {
    if ggml_type >= sys::GGML_TYPE_COUNT {
        return None;
    }
    // SAFETY: ggml_get_type_traits indexes a static table of GGML_TYPE_COUNT entries, checked above.
    let traits = unsafe { &*sys::ggml_get_type_traits(ggml_type) };
    let block_values = usize::try_from(traits.blck_size).ok()?;
    if block_values == 0 || traits.type_size == 0 || traits.type_name.is_null() {
        return None;
    }
    // SAFETY: type_name of a table entry is a NUL-terminated string literal, never freed.
    let name = unsafe { CStr::from_ptr(traits.type_name) }.to_str().ok()?;
    Some(TypeTraits {
        name,
        block_values,
        block_bytes: traits.type_size,
    })
}

/// The name of `ggml_type` for messages; unknown ones are named by their number.
pub fn type_name(ggml_type: u32) -> String {
    type_traits(ggml_type).map_or_else(|| format!("type {ggml_type}"), |t| t.name.to_owned())
}

/// The name of a type that ggml has removed, and what to do with a model that has it.
pub fn removed_type(ggml_type: u32) -> Option<(&'static str, &'static str)> {
    const Q4_0_NOW: &str = "take the model in Q4_0, which is laid out for the processor on loading";
    const IQ4_NL_NOW: &str =
        "take the model in IQ4_NL, which is laid out for the processor on loading";
    const AGAIN: &str = "quantize the model again";
    Some(match ggml_type {
        4 => ("Q4_2", AGAIN),
        5 => ("Q4_3", AGAIN),
        31 => ("Q4_0_4_4", Q4_0_NOW),
        32 => ("Q4_0_4_8", Q4_0_NOW),
        33 => ("Q4_0_8_8", Q4_0_NOW),
        36 => ("IQ4_NL_4_4", IQ4_NL_NOW),
        37 => ("IQ4_NL_4_8", IQ4_NL_NOW),
        38 => ("IQ4_NL_8_8", IQ4_NL_NOW),
        _ => return None,
    })
}

/// Bytes of a row of `n` values; `None` for unknown types, broken blocks and overflow.
pub fn row_size(ggml_type: u32, n: usize) -> Option<usize> {
    let traits = type_traits(ggml_type)?;
    if !n.is_multiple_of(traits.block_values) {
        return None;
    }
    (n / traits.block_values).checked_mul(traits.block_bytes)
}

/// Turns rows of f32, shape (`src.len() / n_per_row`, `n_per_row`), into `ggml_type`.
///
/// # Errors
/// Types other than those above; rows that are empty or not whole blocks;
/// a `src` that is not whole rows.
pub fn quantize_rows(ggml_type: u32, src: &[f32], n_per_row: usize) -> Result<Vec<u8>> {
    if !WRITTEN.contains(&ggml_type) {
        let written: Vec<String> = WRITTEN.iter().map(|ty| type_name(*ty)).collect();
        return Err(bad(format!(
            "cannot quantize to {}: use one of {}",
            type_name(ggml_type),
            written.join(", ")
        )));
    }
    let Some(row_bytes) = row_size(ggml_type, n_per_row).filter(|&bytes| bytes > 0) else {
        let block = type_traits(ggml_type).map_or(1, |t| t.block_values);
        return Err(bad(format!(
            "a row of {n_per_row} values cannot be {}: take a multiple of {block}",
            type_name(ggml_type)
        )));
    };
    if !src.len().is_multiple_of(n_per_row) || src.len() > MAX_QUANTIZE_VALUES {
        return Err(bad(format!(
            "{} values are not whole rows of {n_per_row}, or more than {MAX_QUANTIZE_VALUES}",
            src.len()
        )));
    }
    let n_rows = src.len() / n_per_row;
    let mut out = vec![0u8; n_rows * row_bytes];
    // SAFETY: src holds n_rows * n_per_row floats, out n_rows * row_bytes bytes, n_per_row is a
    // multiple of the type's block; start is 0 and these types need no importance matrix. The
    // block structs are written through pointers that quantize_* casts; Vec<u8> from the system
    // allocator is aligned to 16 bytes at these sizes, and the blocks hold at most 2-byte fields.
    let written = unsafe {
        sys::ggml_quantize_chunk(
            ggml_type,
            src.as_ptr(),
            out.as_mut_ptr().cast(),
            0,
            n_rows as i64,
            n_per_row as i64,
            std::ptr::null(),
        )
    };
    debug_assert_eq!(written, out.len());
    Ok(out)
}

fn bad(what: String) -> ModelError {
    ModelError::BadInput { what }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_match_the_gguf_specification_and_unknown_types_have_none() {
        let check =
            |ty, n, expected| assert_eq!(row_size(ty, n), expected, "type {ty}, {n} values");
        check(F32, 3, Some(12));
        check(F16, 3, Some(6));
        check(Q8_0, 64, Some(68));
        check(Q4_0, 64, Some(36));
        check(Q4_K, 512, Some(288));
        check(Q4_0, 33, None);
        check(F32, usize::MAX, None);
        for ty in [4, 5, 31, 32, 33, 36, 37, 38, sys::GGML_TYPE_COUNT, u32::MAX] {
            check(ty, 256, None);
        }
        assert_eq!(type_name(Q4_K), "q4_K");
        assert_eq!(type_name(999), "type 999");
    }

    #[test]
    fn rows_come_back_within_half_a_step() {
        let src: Vec<f32> = (0..512).map(|i| (i as f32 * 0.37).sin()).collect();
        assert_eq!(
            quantize_rows(F32, &src, 256).unwrap()[4..8],
            src[1].to_le_bytes()
        );
        let halves = quantize_rows(F16, &src, 256).unwrap();
        assert_eq!(halves[2..4], half::f16::from_f32(src[1]).to_le_bytes());
        let blocks = quantize_rows(Q8_0, &src, 256).unwrap();
        assert_eq!(blocks.len(), 544);
        let scale = half::f16::from_le_bytes([blocks[0], blocks[1]]).to_f32();
        for i in 0..32 {
            let value = f32::from(blocks[2 + i] as i8) * scale;
            assert!(
                (value - src[i]).abs() <= scale * 0.51,
                "{i}: {value} for {}",
                src[i]
            );
        }
    }

    #[test]
    fn what_would_abort_in_c_is_an_error() {
        let row = [0.0; 256];
        for (ty, n, n_per_row) in [
            (sys::GGML_TYPE_IQ2_XXS, 256, 256),
            (sys::GGML_TYPE_I32, 256, 256),
            (u32::MAX, 256, 256),
            (Q4_K, 128, 128),
            (Q4_0, 64, 48),
            (F32, 4, 3),
            (F32, 4, 0),
        ] {
            assert!(
                quantize_rows(ty, &row[..n], n_per_row).is_err(),
                "{ty} {n} {n_per_row}"
            );
        }
        assert!(quantize_rows(F32, &[], 4).unwrap().is_empty());
    }
}
