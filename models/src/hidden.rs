//! The activations that travel between stages, and how they are written on the wire.
//!
//! ```text
//! f32   n_rows x n_embd x 4 bytes
//! f16   n_rows x n_embd x 2 bytes
//! q8_0  n_rows x n_embd/32 blocks: scale f16, 32 x i8 (ggml's block_q8_0)
//! ```
//! Everything is little endian; there is no header: the step's header says how many rows there are.

use half::f16;
use serde::{Deserialize, Serialize};

use crate::{ModelError, Result};

/// Values of a `q8_0` block (`QK8_0`).
const BLOCK_VALUES: usize = 32;
/// Bytes of a `q8_0` block: the scale and the values.
const BLOCK_BYTES: usize = 2 + BLOCK_VALUES;

/// How hidden states are written on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenDtype {
    /// 4 bytes a value; nothing is lost.
    #[default]
    F32,
    /// 2 bytes a value; beyond 65504 a value becomes infinite.
    F16,
    /// 34 bytes for 32 values.
    Q8_0,
}

/// Hidden states between two layers.
#[derive(Clone, Debug, PartialEq)]
pub struct HiddenStates {
    /// Number of rows.
    pub n_rows: usize,
    /// Values of a row.
    pub n_embd: usize,
    /// Row-major, shape (n_rows, n_embd).
    pub data: Vec<f32>,
}

impl HiddenDtype {
    /// Bytes of `n_rows` rows of `n_embd` values.
    ///
    /// # Errors
    /// [`ModelError::BadStep`] for `q8_0` rows that are not whole blocks, and for sizes that
    /// overflow.
    pub fn encoded_bytes(self, n_rows: usize, n_embd: usize) -> Result<usize> {
        let n = n_rows.checked_mul(n_embd);
        let bytes = match self {
            HiddenDtype::F32 => n.and_then(|n| n.checked_mul(4)),
            HiddenDtype::F16 => n.and_then(|n| n.checked_mul(2)),
            HiddenDtype::Q8_0 if !n_embd.is_multiple_of(BLOCK_VALUES) => {
                return Err(bad_step(format!(
                    "hidden states of {n_embd} values cannot be sent as q8_0, which needs a \
                     multiple of {BLOCK_VALUES}: use f16"
                )));
            }
            HiddenDtype::Q8_0 => n.and_then(|n| (n / BLOCK_VALUES).checked_mul(BLOCK_BYTES)),
        };
        bytes.ok_or_else(|| bad_step(format!("{n_rows} rows of {n_embd} values are too many")))
    }
}

impl HiddenStates {
    /// Hidden states of shape (`n_rows`, `n_embd`).
    ///
    /// # Errors
    /// [`ModelError::BadStep`] when `data` has another length.
    pub fn new(n_rows: usize, n_embd: usize, data: Vec<f32>) -> Result<HiddenStates> {
        if n_rows.checked_mul(n_embd) != Some(data.len()) {
            return Err(bad_step(format!(
                "{} values are not {n_rows} rows of {n_embd}",
                data.len()
            )));
        }
        Ok(HiddenStates {
            n_rows,
            n_embd,
            data,
        })
    }

    /// One row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.n_embd..(i + 1) * self.n_embd]
    }

    /// The rows at `indices`, in their order.
    ///
    /// # Errors
    /// [`ModelError::BadStep`] for a row that is not there.
    pub fn select(&self, indices: &[usize]) -> Result<HiddenStates> {
        let mut data = Vec::with_capacity(indices.len() * self.n_embd);
        for &i in indices {
            if i >= self.n_rows {
                return Err(bad_step(format!("row {i} of {} is not there", self.n_rows)));
            }
            data.extend_from_slice(self.row(i));
        }
        HiddenStates::new(indices.len(), self.n_embd, data)
    }

    /// The bytes for the wire.
    ///
    /// # Errors
    /// See [`HiddenDtype::encoded_bytes`].
    pub fn encode(&self, dtype: HiddenDtype) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(dtype.encoded_bytes(self.n_rows, self.n_embd)?);
        match dtype {
            HiddenDtype::F32 => self.data.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
            HiddenDtype::F16 => {
                self.data
                    .iter()
                    .for_each(|&x| bytes.extend(f16::from_f32(x).to_le_bytes()));
            }
            HiddenDtype::Q8_0 => {
                let (blocks, _) = self.data.as_chunks::<BLOCK_VALUES>();
                blocks
                    .iter()
                    .for_each(|block| encode_block(block, &mut bytes));
            }
        }
        Ok(bytes)
    }

    /// Reads what [`HiddenStates::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::BadStep`] when `bytes` is not exactly `n_rows` rows of `n_embd` values; then
    /// nothing is allocated.
    pub fn decode(
        bytes: &[u8],
        n_rows: usize,
        n_embd: usize,
        dtype: HiddenDtype,
    ) -> Result<HiddenStates> {
        let expected = dtype.encoded_bytes(n_rows, n_embd)?;
        if bytes.len() != expected {
            return Err(bad_step(format!(
                "{n_rows} rows of {n_embd} values have {expected} bytes, got {}",
                bytes.len()
            )));
        }
        let data = match dtype {
            HiddenDtype::F32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| f32::from_le_bytes(b))
                .collect(),
            HiddenDtype::F16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| f16::from_le_bytes(b).to_f32())
                .collect(),
            HiddenDtype::Q8_0 => {
                let mut data = Vec::with_capacity(n_rows * n_embd);
                for block in bytes.as_chunks::<BLOCK_BYTES>().0 {
                    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
                    data.extend(block[2..].iter().map(|&q| f32::from(q as i8) * scale));
                }
                data
            }
        };
        Ok(HiddenStates {
            n_rows,
            n_embd,
            data,
        })
    }
}

/// As `quantize_row_q8_0_ref` (ggml-quants.c): the largest value becomes 127.
fn encode_block(block: &[f32; BLOCK_VALUES], bytes: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    bytes.extend(f16::from_f32(scale).to_le_bytes());
    bytes.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
}

fn bad_step(what: String) -> ModelError {
    ModelError::BadStep { what }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::llama::quantize::{Q8_0, quantize_rows};
    use proptest::prelude::*;

    fn states() -> impl Strategy<Value = HiddenStates> {
        (0usize..5, 1usize..4).prop_flat_map(|(n_rows, n_blocks)| {
            let n = n_rows * n_blocks * BLOCK_VALUES;
            proptest::collection::vec(-60_000.0f32..60_000.0, n).prop_map(move |data| {
                HiddenStates {
                    n_rows,
                    n_embd: n_blocks * BLOCK_VALUES,
                    data,
                }
            })
        })
    }

    fn round_trip(states: &HiddenStates, dtype: HiddenDtype) -> HiddenStates {
        let bytes = states.encode(dtype).unwrap();
        assert_eq!(
            bytes.len(),
            dtype.encoded_bytes(states.n_rows, states.n_embd).unwrap()
        );
        HiddenStates::decode(&bytes, states.n_rows, states.n_embd, dtype).unwrap()
    }

    proptest! {
        #[test]
        fn f32_keeps_every_bit(states in states()) {
            prop_assert_eq!(round_trip(&states, HiddenDtype::F32), states);
        }

        #[test]
        fn f16_and_q8_0_stay_within_their_step(states in states()) {
            for (a, b) in states.data.iter().zip(round_trip(&states, HiddenDtype::F16).data) {
                prop_assert!((a - b).abs() <= a.abs() / 1024.0 + 1e-4, "{} {}", a, b);
            }
            let back = round_trip(&states, HiddenDtype::Q8_0);
            for (block, back) in states.data.chunks(32).zip(back.data.chunks(32)) {
                let largest = block.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                for (a, b) in block.iter().zip(back) {
                    prop_assert!((a - b).abs() <= largest / 127.0 * 0.6 + largest / 1000.0);
                }
            }
        }

        #[test]
        fn q8_0_is_ggmls(data in proptest::collection::vec(-100.0f32..100.0, 64)) {
            let states = HiddenStates { n_rows: 1, n_embd: 64, data };
            let ours = states.encode(HiddenDtype::Q8_0).unwrap();
            prop_assert_eq!(ours, quantize_rows(Q8_0, &states.data, 64).unwrap());
        }

        #[test]
        fn other_lengths_are_refused(n in 0usize..600, rows in 0usize..9, embd in 0usize..70) {
            for dtype in [HiddenDtype::F32, HiddenDtype::F16, HiddenDtype::Q8_0] {
                let fits = dtype.encoded_bytes(rows, embd).ok() == Some(n);
                let got = HiddenStates::decode(&vec![0; n], rows, embd, dtype);
                prop_assert_eq!(got.is_ok(), fits);
            }
        }
    }

    #[test]
    fn impossible_shapes_are_refused_with_one_line() {
        let states = HiddenStates {
            n_rows: 1,
            n_embd: 33,
            data: vec![0.0; 33],
        };
        assert_eq!(
            states.encode(HiddenDtype::Q8_0).unwrap_err().to_string(),
            "bad step: hidden states of 33 values cannot be sent as q8_0, which needs a multiple \
             of 32: use f16"
        );
        assert!(HiddenStates::decode(&[], usize::MAX, 64, HiddenDtype::F32).is_err());
        assert!(HiddenStates::new(2, 3, vec![0.0; 5]).is_err());
    }

    #[test]
    fn not_a_number_and_infinity_survive_or_stay_harmless() {
        let data = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0];
        let states =
            HiddenStates::new(1, 32, data.iter().copied().cycle().take(32).collect()).unwrap();
        let back = round_trip(&states, HiddenDtype::F32);
        assert!(back.data[0].is_nan() && back.data[1] == f32::INFINITY);
        round_trip(&states, HiddenDtype::F16);
        round_trip(&states, HiddenDtype::Q8_0);
    }
}
