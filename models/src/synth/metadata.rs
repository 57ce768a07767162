//! The metadata of a generated model: what llama.cpp's loader and tokenizer read.

use super::parts::Value;
use super::{SynthSpec, SynthType, tokenizer};
use crate::Result;
use crate::llama::GgufWriter;

/// `GGML_QNT_VERSION`: the layout of quantized blocks.
const QUANTIZATION_VERSION: u32 = 2;
/// The chat template of generated models: `ChatML`, as Jinja.
pub const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + \
    '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Sets every key of the model.
pub(super) fn set_all(spec: &SynthSpec, writer: &mut GgufWriter) -> Result<()> {
    set_general(spec, writer)?;
    set_shape(spec, writer)?;
    set_peculiar(spec, writer)?;
    set_tokenizer(spec, writer)
}

fn set_general(spec: &SynthSpec, writer: &mut GgufWriter) -> Result<()> {
    writer.set_str("general.architecture", spec.arch.name())?;
    writer.set_str("general.type", "model")?;
    // The architecture stays out of the name: for names with "phi3" llama.cpp expects Phi's own
    // special tokens (llama-vocab.cpp) and throws when they are missing.
    writer.set_str(
        "general.name",
        &format!("random weights, seed {}", spec.seed),
    )?;
    writer.set_str(
        "general.description",
        "random weights for tests and benchmarks: untrained, what it writes means nothing",
    )?;
    writer.set_u32("general.file_type", file_type(spec.ty))?;
    writer.set_u32("general.quantization_version", QUANTIZATION_VERSION)
}

/// Sets the sizes.
pub(super) fn set_shape(spec: &SynthSpec, writer: &mut GgufWriter) -> Result<()> {
    let key = |name: &str| format!("{}.{name}", spec.arch);
    let (width, shape) = (spec.head_width(), spec.arch.shape());
    let n_next = u32::from(!shape.next.is_empty());
    for (name, value) in [
        ("context_length", spec.n_ctx_train),
        ("embedding_length", spec.n_embd),
        ("block_count", spec.n_layer + n_next),
        ("feed_forward_length", spec.n_ff),
        ("attention.head_count", spec.n_head),
        ("attention.head_count_kv", spec.n_head_kv),
        ("attention.key_length", width),
        ("attention.value_length", width),
        ("rope.dimension_count", width / shape.rope_share),
        ("vocab_size", spec.n_vocab),
    ] {
        writer.set_u32(&key(name), value)?;
    }
    if n_next > 0 {
        writer.set_u32(&key("nextn_predict_layers"), n_next)?;
    }
    let epsilon = match shape.has_layer_norm {
        true => "attention.layer_norm_epsilon",
        false => "attention.layer_norm_rms_epsilon",
    };
    writer.set_f32(&key(epsilon), shape.epsilon)?;
    writer.set_f32(&key("rope.freq_base"), shape.rope_base)
}

/// What only some architectures have.
fn set_peculiar(spec: &SynthSpec, writer: &mut GgufWriter) -> Result<()> {
    for &(name, value) in spec.arch.shape().keys.iter().copied().flatten() {
        let key = format!("{}.{name}", spec.arch);
        match value {
            Value::U32(value) => writer.set_u32(&key, value)?,
            Value::F32(value) => writer.set_f32(&key, value)?,
            Value::Bool(value) => writer.set_bool(&key, value)?,
            Value::Str(value) => writer.set_str(&key, value)?,
            Value::Of(value) => {
                if let Some(value) = value(spec) {
                    writer.set_u32(&key, value)?;
                }
            }
            Value::All(values) => writer.set_array_u32(&key, &values(spec))?,
            Value::Each(value) => {
                let values: Vec<u32> = (0..spec.n_layer).map(|il| value(spec, il)).collect();
                writer.set_array_u32(&key, &values)?;
            }
            Value::EachBool(value) => {
                let values: Vec<bool> = (0..spec.n_layer).map(value).collect();
                writer.set_array_bool(&key, &values)?;
            }
            Value::Layers(value) => {
                let values: Vec<f32> = (0..spec.n_layer).map(value).collect();
                writer.set_array_f32(name, &values)?;
            }
        }
    }
    Ok(())
}

fn set_tokenizer(spec: &SynthSpec, writer: &mut GgufWriter) -> Result<()> {
    let tokenizer = tokenizer::build(spec.n_vocab);
    writer.set_str("tokenizer.ggml.model", "gpt2")?;
    // Of the byte-level pre-tokenizers one that leaves spaces before punctuation alone.
    writer.set_str("tokenizer.ggml.pre", "qwen2")?;
    writer.set_array_str("tokenizer.ggml.tokens", &tokenizer.tokens)?;
    writer.set_array_i32("tokenizer.ggml.token_type", &tokenizer.types)?;
    writer.set_array_str("tokenizer.ggml.merges", &tokenizer.merges)?;
    writer.set_u32("tokenizer.ggml.bos_token_id", tokenizer::END_OF_TEXT)?;
    writer.set_u32("tokenizer.ggml.eos_token_id", tokenizer::IM_END)?;
    writer.set_u32("tokenizer.ggml.padding_token_id", tokenizer::END_OF_TEXT)?;
    writer.set_bool("tokenizer.ggml.add_bos_token", false)?;
    writer.set_str("tokenizer.chat_template", CHATML)
}

/// `llama_ftype` (llama.h) of a file whose matrices have this type.
const fn file_type(ty: SynthType) -> u32 {
    match ty {
        SynthType::F32 => 0,
        SynthType::F16 => 1,
        SynthType::Q4_0 => 2,
        SynthType::Q4_1 => 3,
        SynthType::Q8_0 => 7,
        SynthType::Q5_0 => 8,
        SynthType::Q5_1 => 9,
        SynthType::Q4K => 14,
        SynthType::Q4KM => 15,
        SynthType::Q5K => 16,
        SynthType::Q6K => 18,
        SynthType::Iq4Nl => 25,
        SynthType::Iq4Xs => 30,
        SynthType::Bf16 => 32,
        SynthType::Mxfp4 => 38,
    }
}
