//! Medusa heads (arXiv 2401.10774): guesses at the tokens after the next one.
//!
//! A GGUF of architecture `medusa`, as `jupiter-training export` writes it. Of head `k`, counted
//! from 0: `medusa.k.block.weight`, shape (`n_embd`, `n_embd`), and `medusa.k.block.bias`
//! (`n_embd`), a residual block; `medusa.k.output.weight`, shape (`n_vocab`, `n_embd`). Head `k`
//! guesses the token `k + 1` places after the one that the model's own output head predicts from
//! the same state.

use std::path::Path;

use crate::gguf::GgufFile;
use crate::llama::dequantize::dequantize_row;
use crate::llama::quantize::Q8_0;
use crate::sampling::likeliest;
use crate::{ModelError, Result, Token};

/// `general.architecture` of such a file.
const ARCHITECTURE: &str = "medusa";
/// More heads than anyone trains; the paper has 5.
const MAX_HEADS: u32 = 16;

/// The heads of a file.
pub struct MedusaHeads {
    n_embd: usize,
    n_vocab: usize,
    heads: Vec<Head>,
}

struct Head {
    block: Matrix,
    bias: Vec<f32>,
    output: Matrix,
}

/// Row-major, a row for each output. Products are bound by memory, so what is Q8_0 in the file stays
/// so; all else is f32.
enum Matrix {
    F32(Vec<f32>),
    /// Blocks of [`BLOCK`] values with a scale each.
    Q8 {
        values: Vec<i8>,
        scales: Vec<f32>,
    },
}

/// Values of a `block_q8_0` (ggml-common.h).
const BLOCK: usize = 32;

impl MedusaHeads {
    /// Reads all heads of the file at `path`.
    ///
    /// # Errors
    /// See [`MedusaHeads::from_gguf`], and what [`GgufFile::open`] refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_gguf(&GgufFile::open(path)?)
    }

    /// Reads all heads of `file`.
    ///
    /// # Errors
    /// [`ModelError::BadGguf`] for a file that holds no heads, or tensors of another shape.
    pub fn from_gguf(file: &GgufFile) -> Result<Self> {
        let bad = |what: String| ModelError::BadGguf {
            path: file.path().to_owned(),
            what,
        };
        let architecture = file.metadata().str("general.architecture")?;
        if architecture != ARCHITECTURE {
            return Err(bad(format!(
                "it holds a model of architecture `{architecture}`, not Medusa heads"
            )));
        }
        let n_heads = file.metadata().u32("medusa.head_count")?;
        if !(1..=MAX_HEADS).contains(&n_heads) {
            return Err(bad(format!(
                "{n_heads} heads: 1 to {MAX_HEADS} are possible"
            )));
        }
        let n_embd = file.metadata().u32("medusa.embedding_length")? as usize;
        let n_vocab = file.metadata().u32("medusa.vocab_size")? as usize;
        let heads = (0..n_heads)
            .map(|k| {
                let missing = |name: &str, dims: &[usize]| {
                    bad(format!("`{name}` is missing, or its shape is not {dims:?}"))
                };
                let matrix = |part: &str, dims: [usize; 2]| {
                    let name = format!("medusa.{k}.{part}");
                    Matrix::read(file, &name, dims).ok_or_else(|| missing(&name, &dims))
                };
                let bias = format!("medusa.{k}.block.bias");
                Ok(Head {
                    block: matrix("block.weight", [n_embd, n_embd])?,
                    bias: read_f32(file, &bias, &[n_embd])
                        .ok_or_else(|| missing(&bias, &[n_embd]))?,
                    output: matrix("output.weight", [n_embd, n_vocab])?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            n_embd,
            n_vocab,
            heads,
        })
    }

    /// Number of heads.
    pub fn n_heads(&self) -> usize {
        self.heads.len()
    }

    /// Width of the state that they take.
    pub fn n_embd(&self) -> usize {
        self.n_embd
    }

    /// Number of tokens that they score.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Scores of head `k` for the state `x` (`n_embd`), what the model's own output head sees
    /// (llama.cpp's `result_norm`): `output h` with `h = x + silu(block x + bias)`.
    ///
    /// # Panics
    /// When there is no such head or `x` has another width.
    pub fn logits(&self, k: usize, x: &[f32]) -> Vec<f32> {
        assert_eq!(x.len(), self.n_embd, "a state of another model");
        let head = &self.heads[k];
        let mut state = head.block.product(x);
        for ((state, bias), x) in state.iter_mut().zip(&head.bias).zip(x) {
            let turned = *state + bias;
            *state = x + turned / (1.0 + (-turned).exp());
        }
        head.output.product(&state)
    }

    /// What each head guesses for the state `x` (`n_embd`): its `n` likeliest tokens and their
    /// probabilities, the likeliest first.
    ///
    /// # Panics
    /// When `x` has another width.
    pub fn guess(&self, x: &[f32], n: usize) -> Vec<Vec<(Token, f32)>> {
        (0..self.heads.len())
            .map(|k| likeliest(&self.logits(k, x), n))
            .collect()
    }
}

/// A tensor of `dims` (ggml's order) as f32.
fn read_f32(file: &GgufFile, name: &str, dims: &[usize]) -> Option<Vec<f32>> {
    let tensor = file.tensor(name)?;
    let same = tensor
        .dims
        .iter()
        .map(|&n| n as usize)
        .eq(dims.iter().copied());
    let n_per_row = *dims.first().filter(|&&n| same && n > 0)?;
    let mut values = vec![0f32; dims.iter().product()];
    let rows = file
        .tensor_bytes(tensor)
        .chunks(tensor.row_bytes() as usize);
    for (out, row) in values.chunks_mut(n_per_row).zip(rows) {
        if !dequantize_row(tensor.ggml_type, row, out) {
            return None;
        }
    }
    Some(values)
}

impl Matrix {
    /// A tensor of shape `dims` (ggml's order).
    fn read(file: &GgufFile, name: &str, dims: [usize; 2]) -> Option<Self> {
        let tensor = file.tensor(name)?;
        if tensor.ggml_type != Q8_0 || !dims[0].is_multiple_of(BLOCK) {
            return read_f32(file, name, &dims).map(Self::F32);
        }
        if !tensor.dims.iter().map(|&n| n as usize).eq(dims) {
            return None;
        }
        let (mut values, mut scales) = (Vec::new(), Vec::new());
        for block in file.tensor_bytes(tensor).chunks_exact(2 + BLOCK) {
            scales.push(half::f16::from_le_bytes([block[0], block[1]]).to_f32());
            values.extend(block[2..].iter().map(|&byte| byte as i8));
        }
        Some(Self::Q8 { values, scales })
    }

    /// Each row's dot product with `x`.
    fn product(&self, x: &[f32]) -> Vec<f32> {
        match self {
            Self::F32(values) => values
                .chunks_exact(x.len())
                .map(|row| dot(row, x))
                .collect(),
            Self::Q8 { values, scales } => values
                .chunks_exact(x.len())
                .zip(scales.chunks_exact(x.len() / BLOCK))
                .map(|(row, scales)| dot_q8(row, scales, x))
                .collect(),
        }
    }
}

/// The same for a row in blocks.
fn dot_q8(row: &[i8], scales: &[f32], x: &[f32]) -> f32 {
    let blocks = row.chunks_exact(BLOCK).zip(x.chunks_exact(BLOCK));
    let mut lanes = [0f32; BLOCK];
    for ((row, x), scale) in blocks.zip(scales) {
        for (lane, (&a, b)) in lanes.iter_mut().zip(row.iter().zip(x)) {
            *lane += f32::from(a) * b * scale;
        }
    }
    lanes.iter().sum()
}

/// Sums in several lanes, which the compiler makes one instruction of: the order of a sum of floats
/// is not its to change.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const N_LANES: usize = 16;
    let mut lanes = [0f32; N_LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(N_LANES), b.chunks_exact(N_LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;

    use super::*;
    use crate::llama::GgufWriter;
    use crate::llama::quantize::{F32, quantize_rows};

    /// A file of one head of width 2 and a vocabulary of 3, with `output` of `n_output` rows.
    fn write(path: &Path, architecture: &str, n_output: u64) {
        let mut writer = GgufWriter::new().unwrap();
        writer
            .set_str("general.architecture", architecture)
            .unwrap();
        writer.set_u32("medusa.head_count", 1).unwrap();
        writer.set_u32("medusa.embedding_length", 2).unwrap();
        writer.set_u32("medusa.vocab_size", 3).unwrap();
        let tensors = [
            (
                "medusa.0.block.weight",
                vec![2, 2],
                vec![1.0, 0.0, 0.0, -1.0],
            ),
            ("medusa.0.block.bias", vec![2], vec![0.0, 1.0]),
            (
                "medusa.0.output.weight",
                vec![2, n_output],
                vec![1.0f32, 0.0, 0.0, 1.0, 1.0, 1.0],
            ),
        ];
        for (name, dims, _) in &tensors {
            writer.add_tensor(name, F32, dims).unwrap();
        }
        writer
            .write(&mut File::create(path).unwrap(), path, &mut |i, _, sink| {
                let n: u64 = tensors[i].1.iter().product();
                sink.put(&quantize_rows(F32, &tensors[i].2[..n as usize], 2)?)
            })
            .unwrap();
    }

    #[test]
    fn a_head_is_a_residual_block_and_a_linear_layer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heads.gguf");
        write(&path, "medusa", 3);
        let heads = MedusaHeads::open(&path).unwrap();
        assert_eq!(
            (heads.n_heads(), heads.n_embd(), heads.n_vocab()),
            (1, 2, 3)
        );
        let silu = |x: f32| x / (1.0 + (-x).exp());
        let (a, b) = (2.0 + silu(2.0), 3.0 + silu(-2.0));
        assert_eq!(heads.logits(0, &[2.0, 3.0]), [a, b, a + b]);
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.gguf");
        for (architecture, n_output, why) in [
            ("llama", 3, "not Medusa heads"),
            ("medusa", 2, "medusa.0.output.weight"),
        ] {
            write(&path, architecture, n_output);
            let error = MedusaHeads::open(&path).err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
