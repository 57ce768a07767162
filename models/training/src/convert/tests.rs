//! Published heads and those that come of them compute the same; others are refused.

#![allow(clippy::unwrap_used)]
use candle_core::Device;
use jupiter_models::gguf::GgufFile;
use jupiter_models::medusa::MedusaHeads;

use super::*;
use crate::weights::tests::torch_file;

const N_VOCAB: usize = 5;

type Named = Vec<(String, Tensor)>;

/// Sixteenths below 1, which every type of float holds exactly; of both signs and in no order.
fn value(head: usize, part: usize, i: usize) -> f32 {
    ((i * 7 + i / 3 + head * 5 + part * 3) % 31) as f32 / 16.0 - 15.0 / 16.0
}

fn values(head: usize, part: usize, n: usize) -> Vec<f32> {
    (0..n).map(|i| value(head, part, i)).collect()
}

/// Published heads of width `n_embd`.
fn published(n_heads: usize, n_embd: usize, dtype: DType, prefix: &str) -> Named {
    let parts: [(&str, &[usize]); 3] = [
        ("0.linear.weight", &[n_embd, n_embd]),
        ("0.linear.bias", &[n_embd]),
        ("1.weight", &[N_VOCAB, n_embd]),
    ];
    let mut tensors = Named::new();
    for k in 0..n_heads {
        for (part, (name, shape)) in parts.into_iter().enumerate() {
            let values = values(k, part, shape.iter().product());
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            let tensor = tensor.to_dtype(dtype).unwrap();
            tensors.push((format!("{prefix}{k}.{name}"), tensor));
        }
    }
    tensors
}

/// What the published code computes for head `k` and the state `x`.
fn logits(k: usize, x: &[f32]) -> Vec<f32> {
    let n_embd = x.len();
    let linear = |part, n_out, x: &[f32]| -> Vec<f32> {
        let weights = values(k, part, n_out * n_embd);
        let dot = |row: &[f32]| row.iter().zip(x).map(|(w, x)| w * x).sum();
        weights.chunks(n_embd).map(dot).collect()
    };
    let bias = values(k, 1, n_embd);
    let turned = linear(0, n_embd, x)
        .into_iter()
        .zip(bias)
        .map(|(y, b)| y + b);
    let silu = turned.map(|y| y / (1.0 + (-y).exp()));
    let h: Vec<f32> = x.iter().zip(silu).map(|(x, y)| x + y).collect();
    linear(2, N_VOCAB, &h)
}

/// Converts a file of `bytes` and compares its heads with [`logits`], to within `tolerance` of
/// the largest.
fn check(bytes: &[u8], n_embd: usize, matrices: MatrixType, tolerance: f32) {
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["heads", "heads.gguf"].map(|name| folder.path().join(name));
    fs::write(&input, bytes).unwrap();
    let size = convert(&input, &output, matrices).unwrap();
    assert_eq!((size.n_heads, size.n_embd, size.n_vocab), (3, n_embd, 5));
    let file = GgufFile::open(&output).unwrap();
    for part in ["block", "output"] {
        let tensor = file.tensor(&format!("medusa.2.{part}.weight")).unwrap();
        assert_eq!(tensor.ggml_type, matrices.ggml());
    }
    let heads = MedusaHeads::open(&output).unwrap();
    assert_eq!(heads.n_heads(), 3);
    let x: Vec<f32> = (0..n_embd).map(|i| value(1, 1, i + 2)).collect();
    for k in 0..3 {
        let expected = logits(k, &x);
        let largest = expected.iter().fold(0f32, |a, b| a.max(b.abs()));
        assert!(largest > 0.5, "{largest}: too small to tell");
        for (a, b) in heads.logits(k, &x).iter().zip(&expected) {
            let error = (a - b).abs() / largest;
            assert!(error <= tolerance, "head {k}: {a}, not {b}");
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn heads_compute_what_the_published_ones_do() {
    for (dtype, prefix) in [
        (DType::F32, ""),
        (DType::F16, "medusa_head."),
        (DType::BF16, "medusa_heads."),
        (DType::F16, "model.medusa_head."),
    ] {
        let mut tensors = published(3, 6, dtype, prefix);
        // The rest of a model.
        for name in ["lm_head.weight", "model.layers.0.mlp.up_proj.weight"] {
            tensors.push((name.to_owned(), tensors[0].1.clone()));
        }
        let safetensors = safetensors::serialize(tensors.clone(), None).unwrap();
        for bytes in [safetensors, torch_file(&tensors)] {
            check(&bytes, 6, MatrixType::F32, 1e-6);
            check(&bytes, 6, MatrixType::F16, 1e-6);
        }
    }
}

#[test]
fn q8_0_is_close() {
    let tensors = published(3, 64, DType::F16, "");
    check(&torch_file(&tensors), 64, MatrixType::Q8_0, 0.02);
}

#[test]
fn large_tensors_are_converted_in_pieces() {
    let (n_embd, n_vocab) = (64, 2 * CHUNK_VALUES / 64 + 7);
    let mut tensors = published(1, n_embd, DType::F16, "");
    let rows: Vec<f32> = (0..n_vocab).map(|row| (row % 2039) as f32).collect();
    let rows = Tensor::from_vec(rows, (n_vocab, 1), &Device::Cpu).unwrap();
    let rows = rows.broadcast_as((n_vocab, n_embd)).unwrap();
    tensors[2].1 = rows.to_dtype(DType::F16).unwrap().contiguous().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["heads", "heads.gguf"].map(|name| folder.path().join(name));
    safetensors::serialize_to_file(tensors, None, &input).unwrap();
    convert(&input, &output, MatrixType::F16).unwrap();
    let file = GgufFile::open(&output).unwrap();
    let bytes = file.tensor_bytes(file.tensor("medusa.0.output.weight").unwrap());
    assert_eq!(bytes.len(), n_vocab * n_embd * 2);
    let value = |row: usize| {
        let row = &bytes[row * n_embd * 2..][..n_embd * 2];
        let mut out = [0f32; 64];
        assert!(jupiter_models::llama::dequantize::dequantize_row(
            F16, row, &mut out
        ));
        out
    };
    for row in [0, 1, n_vocab / 2, CHUNK_VALUES / 64, n_vocab - 1] {
        assert_eq!(value(row), [(row % 2039) as f32; 64]);
    }
}

/// Why `tensors` cannot be converted to Q8_0; nothing may be written then.
fn refusal(tensors: Named) -> String {
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["heads", "heads.gguf"].map(|name| folder.path().join(name));
    safetensors::serialize_to_file(tensors, None, &input).unwrap();
    fs::write(&output, "as before").unwrap();
    let Err(error) = convert(&input, &output, MatrixType::Q8_0) else {
        panic!("converted");
    };
    assert_eq!(fs::read(&output).unwrap(), b"as before");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(error.chain().count(), 1, "more than one line: {error:?}");
    let message = error.to_string();
    assert!(
        message.starts_with(&input.display().to_string()),
        "{message}"
    );
    message
}

#[test]
fn other_heads_are_refused_with_a_remedy() {
    let tensor = |dims: &[usize]| Tensor::ones(dims, DType::F32, &Device::Cpu).unwrap();
    let good = || published(2, 32, DType::F32, "");
    let with = |name: &str, tensor: Tensor| {
        let mut tensors = good();
        tensors.retain(|(other, _)| other != name);
        tensors.push((name.to_owned(), tensor));
        tensors
    };
    let without = |part: &str| {
        let mut tensors = good();
        tensors.retain(|(name, _)| !name.starts_with(part));
        tensors
    };
    let with_value = |name: &str, value: f32| {
        let dims = match name {
            "1.0.linear.bias" => &[32][..],
            _ => &[32, 32],
        };
        with(name, tensor(dims).affine(f64::from(value), 0.0).unwrap())
    };
    let bytes = Tensor::zeros((32, 32), DType::U8, &Device::Cpu).unwrap();
    for (tensors, why) in [
        (
            vec![("lm_head.weight".to_owned(), tensor(&[2]))],
            "no Medusa head",
        ),
        (
            with("1.1.linear.weight", tensor(&[32, 32])),
            "more than one residual block",
        ),
        (with("1.1.bias", tensor(&[5])), "`1.1.bias` is no part"),
        (
            with("1.0.linear.weight_scale", tensor(&[1])),
            "not quantized",
        ),
        (with("medusa_head.1.1.weight", tensor(&[5, 32])), "keep one"),
        (without("0."), "head 0 is missing"),
        (without("0.1.weight"), "head 0 lacks `0.1.weight`"),
        (without("1.0.linear.bias"), "head 1 lacks `1.0.linear.bias`"),
        (
            with("0.0.linear.weight", tensor(&[32, 31])),
            "[32, 32] would fit",
        ),
        (with("0.0.linear.weight", tensor(&[])), "has shape []"),
        (with("0.0.linear.bias", tensor(&[33])), "[32] would fit"),
        (with("1.1.weight", tensor(&[4, 32])), "[5, 32] would fit"),
        (with("0.1.weight", tensor(&[0, 32])), "has shape [0, 32]"),
        (
            with("1.0.linear.weight", bytes),
            "neither f32, f16 nor bf16",
        ),
        (published(17, 32, DType::F32, ""), "17 heads, more than 16"),
        (published(2, 48, DType::F32, ""), "--type f16"),
        (
            with_value("1.0.linear.weight", f32::NAN),
            "holds the value NaN",
        ),
        (
            with_value("1.0.linear.bias", f32::INFINITY),
            "holds the value inf",
        ),
        (with_value("1.0.linear.weight", 1e7), "--type f32"),
    ] {
        let message = refusal(tensors);
        assert!(message.contains(why), "{message}, not {why}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn as_many_heads_are_converted_as_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["heads", "heads.gguf"].map(|name| folder.path().join(name));
    let tensors = published(MAX_HEADS, 2, DType::F32, "");
    safetensors::serialize_to_file(tensors, None, &input).unwrap();
    convert(&input, &output, MatrixType::F32).unwrap();
    assert_eq!(MedusaHeads::open(&output).unwrap().n_heads(), MAX_HEADS);
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["heads", "none/heads.gguf"].map(|name| folder.path().join(name));
    fs::write(&input, torch_file(&published(1, 2, DType::F32, ""))).unwrap();
    let error = convert(&input, &output, MatrixType::F32).err().unwrap();
    let message = error.to_string();
    assert!(
        message.starts_with(&output.display().to_string()),
        "{message}"
    );
}
