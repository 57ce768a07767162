//! Trained weights as GGUF files: the model and its draft, and the Medusa heads beside them.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use jupiter_models::llama::GgufWriter;
use jupiter_models::llama::quantize::{F16, F32, Q8_0, quantize_rows};

use crate::tokenizer::{self, Tokenizer};
use crate::transformer::{NORM_EPS, Parameter, ROPE_BASE, Shape};

/// `GGML_QNT_VERSION`: the layout of quantized blocks.
const QUANTIZATION_VERSION: u32 = 2;
/// Longest context that the model has any use for: four times its longest conversation.
const N_CTX: u32 = 2048;
/// Messages as in training; system messages were not, so they are left out.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{% if message['role'] != 'system' %}\
    {{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}\
    {% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// What may be done with what is trained here.
const LICENSE: &str = "mit or apache-2.0";

/// Type of the matrices; vectors are always F32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MatrixType {
    /// As exact as training: 4 bytes a weight
    F32,
    /// As exact as most published weights: 2 bytes a weight
    F16,
    /// Hardly less exact: 34 bytes for 32 weights
    #[value(name = "q8_0")]
    Q8_0,
}

impl MatrixType {
    /// Its number in ggml.
    pub(crate) fn ggml(self) -> u32 {
        match self {
            Self::F32 => F32,
            Self::F16 => F16,
            Self::Q8_0 => Q8_0,
        }
    }

    /// `llama_ftype` of such a file.
    fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
        }
    }
}

/// A tensor of the file: rows of `n_per_row` values, as ggml multiplies them.
struct Tensor {
    name: String,
    ggml_type: u32,
    dims: Vec<u64>,
    values: Vec<f32>,
}

/// Writes a llama model with its tokenizer.
pub(crate) fn model(
    path: &Path,
    name: &str,
    shape: &Shape,
    parameters: &[Parameter],
    tokenizer: &Tokenizer,
    matrices: MatrixType,
) -> Result<()> {
    let mut writer = general(name, "llama", "model", Some(LICENSE), matrices)?;
    let head_dim = shape.n_embd / shape.n_head;
    for (key, value) in [
        ("context_length", N_CTX as usize),
        ("embedding_length", shape.n_embd),
        ("block_count", shape.n_layer),
        ("feed_forward_length", shape.n_ff),
        ("attention.head_count", shape.n_head),
        ("attention.head_count_kv", shape.n_head_kv),
        ("rope.dimension_count", head_dim),
        ("vocab_size", shape.n_vocab),
    ] {
        writer.set_u32(&format!("llama.{key}"), value as u32)?;
    }
    writer.set_f32("llama.attention.layer_norm_rms_epsilon", NORM_EPS)?;
    writer.set_f32("llama.rope.freq_base", ROPE_BASE)?;
    set_tokenizer(&mut writer, tokenizer)?;
    let mut tensors = Vec::new();
    for parameter in parameters {
        model_tensors(parameter, shape, matrices, &mut tensors)?;
    }
    write(writer, path, &tensors)
}

/// Writes Medusa heads for the model whose file has the BLAKE3 hash `model_hash`.
///
/// Of head `k`: `medusa.k.block.weight` (`n_embd`, `n_embd`) and `medusa.k.block.bias` (`n_embd`),
/// for `h = x + silu(block x + bias)`; `medusa.k.output.weight` (`n_vocab`, `n_embd`), for the
/// logits `output h`. `x` is what the model's own output head sees (llama.cpp's `result_norm`).
pub(crate) fn medusa(
    path: &Path,
    name: &str,
    shape: &Shape,
    parameters: &[Parameter],
    model_hash: &str,
) -> Result<()> {
    let size = MedusaSize {
        n_heads: parameters.len() / 3,
        n_embd: shape.n_embd,
        n_vocab: shape.n_vocab,
    };
    let mut writer = medusa_metadata(name, Some(LICENSE), &size, MatrixType::Q8_0)?;
    writer.set_str("medusa.model.blake3", model_hash)?;
    let mut tensors = Vec::new();
    for parameter in parameters {
        let (head, part) = parameter.name.rsplit_once('.').context("medusa.k.part")?;
        let name = match part {
            "bias" => format!("{head}.block.bias"),
            part => format!("{head}.{part}.weight"),
        };
        let values = parameter.var.flatten_all()?.to_vec1::<f32>()?;
        tensors.push(match *parameter.var.dims() {
            [n_in, n_out] => matrix(name, &values, n_in, 0..n_out, MatrixType::Q8_0),
            _ => vector(name, values),
        });
    }
    write(writer, path, &tensors)
}

/// What the heads of a file have in common.
pub(crate) struct MedusaSize {
    pub(crate) n_heads: usize,
    pub(crate) n_embd: usize,
    pub(crate) n_vocab: usize,
}

/// A file that says what Medusa heads it holds, and lacks their tensors.
pub(crate) fn medusa_metadata(
    name: &str,
    license: Option<&str>,
    size: &MedusaSize,
    matrices: MatrixType,
) -> Result<GgufWriter> {
    let mut writer = general(name, "medusa", "adapter", license, matrices)?;
    writer.set_u32("medusa.head_count", u32::try_from(size.n_heads)?)?;
    writer.set_u32("medusa.embedding_length", u32::try_from(size.n_embd)?)?;
    writer.set_u32("medusa.vocab_size", u32::try_from(size.n_vocab)?)?;
    Ok(writer)
}

fn general(
    name: &str,
    architecture: &str,
    kind: &str,
    license: Option<&str>,
    matrices: MatrixType,
) -> Result<GgufWriter> {
    let mut writer = GgufWriter::new()?;
    writer.set_str("general.architecture", architecture)?;
    writer.set_str("general.type", kind)?;
    writer.set_str("general.name", name)?;
    if let Some(license) = license {
        writer.set_str("general.license", license)?;
    }
    writer.set_u32("general.file_type", matrices.file_type())?;
    writer.set_u32("general.quantization_version", QUANTIZATION_VERSION)?;
    Ok(writer)
}

fn set_tokenizer(writer: &mut GgufWriter, tokenizer: &Tokenizer) -> Result<()> {
    let n_controls = tokenizer::CONTROLS.len();
    let types: Vec<i32> = (0..tokenizer.n_vocab())
        .map(|id| if id < n_controls { 3 } else { 1 })
        .collect();
    writer.set_str("tokenizer.ggml.model", "gpt2")?;
    writer.set_str("tokenizer.ggml.pre", tokenizer::PRE_TOKENIZER)?;
    writer.set_array_str("tokenizer.ggml.tokens", &tokenizer.tokens()?)?;
    writer.set_array_i32("tokenizer.ggml.token_type", &types)?;
    writer.set_array_str("tokenizer.ggml.merges", &tokenizer.merges()?)?;
    writer.set_u32("tokenizer.ggml.bos_token_id", tokenizer::END_ID)?;
    writer.set_u32("tokenizer.ggml.eos_token_id", tokenizer::END_ID)?;
    writer.set_u32("tokenizer.ggml.padding_token_id", tokenizer::END_ID)?;
    writer.set_bool("tokenizer.ggml.add_bos_token", false)?;
    writer.set_str("tokenizer.chat_template", CHAT_TEMPLATE)?;
    Ok(())
}

/// The tensors of llama.cpp that hold `parameter`: joined matrices are taken apart.
fn model_tensors(
    parameter: &Parameter,
    shape: &Shape,
    matrices: MatrixType,
    tensors: &mut Vec<Tensor>,
) -> Result<()> {
    let values = parameter.var.flatten_all()?.to_vec1::<f32>()?;
    let name = &parameter.name;
    let (block, part) = name.rsplit_once('.').unwrap_or(("", name));
    let head_dim = shape.n_embd / shape.n_head;
    let (q, kv) = (shape.n_embd, shape.n_head_kv * head_dim);
    let parts: &[(&str, std::ops::Range<usize>)] = match part {
        "token_embd" => {
            // Already rows of embeddings: nothing to turn.
            tensors.push(Tensor {
                name: "token_embd.weight".to_owned(),
                ggml_type: matrices.ggml(),
                dims: vec![shape.n_embd as u64, shape.n_vocab as u64],
                values,
            });
            return Ok(());
        }
        "attn_qkv" => &[
            ("attn_q", 0..q),
            ("attn_k", q..q + kv),
            ("attn_v", q + kv..q + 2 * kv),
        ],
        "ffn_gate_up" => &[
            ("ffn_gate", 0..shape.n_ff),
            ("ffn_up", shape.n_ff..2 * shape.n_ff),
        ],
        "attn_output" | "ffn_down" => &[(part, 0..shape.n_embd)],
        _ => {
            tensors.push(vector(format!("{name}.weight"), values));
            return Ok(());
        }
    };
    let n_in = parameter.var.dims()[0];
    for (part, columns) in parts {
        let name = format!("{block}.{part}.weight");
        tensors.push(matrix(name, &values, n_in, columns.clone(), matrices));
    }
    Ok(())
}

fn vector(name: String, values: Vec<f32>) -> Tensor {
    Tensor {
        name,
        ggml_type: F32,
        dims: vec![values.len() as u64],
        values,
    }
}

/// Columns of a matrix of `n_in` rows, each as a row of the tensor.
fn matrix(
    name: String,
    values: &[f32],
    n_in: usize,
    columns: std::ops::Range<usize>,
    matrices: MatrixType,
) -> Tensor {
    let width = values.len() / n_in;
    Tensor {
        name,
        ggml_type: matrices.ggml(),
        dims: vec![n_in as u64, columns.len() as u64],
        values: columns
            .flat_map(|column| (0..n_in).map(move |row| values[row * width + column]))
            .collect(),
    }
}

fn write(mut writer: GgufWriter, path: &Path, tensors: &[Tensor]) -> Result<()> {
    for tensor in tensors {
        writer.add_tensor(&tensor.name, tensor.ggml_type, &tensor.dims)?;
    }
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    writer.write(&mut file, path, &mut |index, _, sink| {
        let tensor = &tensors[index];
        let n_per_row = tensor.dims[0] as usize;
        sink.put(&quantize_rows(tensor.ggml_type, &tensor.values, n_per_row)?)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jupiter_models::engine::{
        EngineParams, ReferenceEngine, StageEngine, StepInput, StepOutput,
    };
    use jupiter_models::gguf::GgufFile;
    use jupiter_models::{Row, SequenceId};

    use super::*;
    use crate::batch::Batch;
    use crate::transformer::Transformer;

    #[test]
    fn llama_cpp_computes_the_same_logits() {
        let world = jupiter_world::World::load().unwrap();
        let texts = (0..300).map(|i| {
            let example = world.example(jupiter_world::Split::Training, 0, i);
            example.turns[0].assistant.clone()
        });
        let tokenizer = Tokenizer::train(texts, 320).unwrap();
        let shape = Shape {
            n_vocab: 320,
            n_embd: 64,
            n_layer: 2,
            n_head: 4,
            n_head_kv: 2,
            n_ff: 96,
        };
        let transformer = Transformer::new(shape.clone(), 5).unwrap();
        // Fresh weights are too small to tell two ways of computing apart.
        for parameter in transformer.parameters() {
            let scaled = (parameter.var.as_tensor() * 5.0).unwrap();
            parameter.var.set(&scaled).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let parameters = transformer.parameters();
        model(
            &path,
            "test",
            &shape,
            parameters,
            &tokenizer,
            MatrixType::F32,
        )
        .unwrap();

        let tokens: Vec<u32> = (0..40).map(|i| (i * 37 + 11) % 320).collect();
        let batch = Batch {
            segments: std::iter::once(0..tokens.len()).collect(),
            rows: (0..tokens.len() as u32).collect(),
            targets: tokens.clone().into(),
            remaining: vec![0; tokens.len()],
            tokens: tokens.clone(),
        };
        let hidden = transformer.hidden(&batch).unwrap();
        let ours = transformer.logits(&hidden).unwrap();
        let ours = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();

        let params = EngineParams {
            n_ctx: 64,
            n_seq_max: 1,
            n_threads: 1,
            flash_attention: false,
            ..EngineParams::default()
        };
        let file = GgufFile::open(&path).unwrap();
        let mut engine = ReferenceEngine::load(&file, &params, &mut |_| {}).unwrap();
        let rows: Vec<Row> = tokens
            .iter()
            .enumerate()
            .map(|(pos, &token)| Row {
                seq_ids: vec![SequenceId(0)],
                pos: pos as u32,
                token: token as i32,
                wants_logits: true,
            })
            .collect();
        let StepOutput::Logits(theirs) = engine.step(&rows, StepInput::Tokens).unwrap() else {
            panic!("no logits");
        };
        let largest = ours.iter().map(|x| x.abs()).fold(0f32, f32::max);
        assert!(largest > 1.0, "{largest}: too small to tell");
        for (a, b) in ours.iter().zip(&theirs.data) {
            // The KV cache is F16.
            assert!((a - b).abs() < 0.01 * largest, "{a} here, {b} in llama.cpp");
        }
    }
}
