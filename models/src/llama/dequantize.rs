//! Rows of a tensor become f32, by ggml's own conversion.

use llama_cpp_sys_2 as sys;

use super::quantize::{F32, row_size, type_traits};

/// Whether matrices of this type can be multiplied and looked up: ggml converts them to f32 and
/// has a dot product for them. Indices and the types of intermediate results are not such.
pub fn is_weight_type(ggml_type: u32) -> bool {
    if ggml_type == F32 {
        return true;
    }
    if type_traits(ggml_type).is_none() {
        return false;
    }
    // SAFETY: both functions index static tables of GGML_TYPE_COUNT entries; type_traits has
    // checked that ggml_type is below that.
    unsafe {
        (*sys::ggml_get_type_traits(ggml_type)).to_float.is_some()
            && (*sys::ggml_get_type_traits_cpu(ggml_type))
                .vec_dot
                .is_some()
    }
}

/// Converts one row of `out.len()` values of `ggml_type`; false when `bytes` is not that row or
/// the type has no conversion.
#[must_use]
pub fn dequantize_row(ggml_type: u32, bytes: &[u8], out: &mut [f32]) -> bool {
    if row_size(ggml_type, out.len()) != Some(bytes.len()) {
        return false;
    }
    if ggml_type == F32 {
        let (chunks, _) = bytes.as_chunks::<4>();
        for (value, &chunk) in out.iter_mut().zip(chunks) {
            *value = f32::from_le_bytes(chunk);
        }
        return true;
    }
    // SAFETY: row_size is Some only for types inside the table.
    let Some(to_float) = (unsafe { (*sys::ggml_get_type_traits(ggml_type)).to_float }) else {
        return false;
    };
    // Blocks hold fields of up to 4 bytes; rows of a checked GGUF file are aligned as far as their
    // own size is, so only a caller with other bytes pays for a copy.
    let aligned: Vec<u32>;
    let source = if bytes.as_ptr().addr().is_multiple_of(align_of::<u32>()) {
        bytes.as_ptr()
    } else {
        aligned = bytes
            .chunks(4)
            .map(|chunk| {
                let mut word = [0; 4];
                word[..chunk.len()].copy_from_slice(chunk);
                u32::from_ne_bytes(word)
            })
            .collect();
        aligned.as_ptr().cast()
    };
    // SAFETY: source points to the bytes of out.len() values in whole blocks (row_size agreed),
    // aligned to 4; out has room for as many f32.
    unsafe { to_float(source.cast(), out.as_mut_ptr(), out.len() as i64) };
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::quantize::{F16, Q4_0, Q4_K, Q8_0, quantize_rows};
    use super::*;

    #[test]
    fn rows_come_back_whatever_their_alignment() {
        let row: Vec<f32> = (0..256).map(|i| (i as f32 * 0.11).cos()).collect();
        for (ty, tolerance) in [
            (F32, 0.0),
            (F16, 1e-3),
            (Q8_0, 0.01),
            (Q4_0, 0.2),
            (Q4_K, 0.1),
        ] {
            let bytes = quantize_rows(ty, &row, 256).unwrap();
            let mut shifted = vec![0u8; 1];
            shifted.extend(&bytes);
            let (mut out, mut out_shifted) = (vec![0.0; 256], vec![0.0; 256]);
            assert!(dequantize_row(ty, &bytes, &mut out));
            assert!(dequantize_row(ty, &shifted[1..], &mut out_shifted));
            assert_eq!(out, out_shifted, "type {ty}");
            for (a, b) in row.iter().zip(&out) {
                assert!((a - b).abs() <= tolerance, "type {ty}: {a} {b}");
            }
            assert!(
                !dequantize_row(ty, &bytes[1..], &mut out),
                "type {ty}: a byte too few"
            );
        }
        assert!(!dequantize_row(u32::MAX, &[0; 4], &mut [0.0]));
    }

    #[test]
    fn only_types_with_kernels_are_weights() {
        for ty in [
            F32,
            F16,
            Q8_0,
            Q4_0,
            Q4_K,
            sys::GGML_TYPE_BF16,
            sys::GGML_TYPE_Q6_K,
        ] {
            assert!(is_weight_type(ty), "type {ty}");
        }
        for ty in [
            sys::GGML_TYPE_I8,
            sys::GGML_TYPE_I32,
            sys::GGML_TYPE_F64,
            sys::GGML_TYPE_Q8_K,
            4,
        ] {
            assert!(!is_weight_type(ty), "type {ty}");
        }
    }
}
