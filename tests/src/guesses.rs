//! Sources of guesses for tests.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Result;
use jupiter_actors::request::{DraftChoice, Oracle, SpeculationParams};
use jupiter_models::Token;
use jupiter_models::gguf::{GgufFile, ModelInfo};
use jupiter_models::llama::GgufWriter;
use jupiter_models::llama::quantize::{F32, quantize_rows};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Number of generated Medusa heads.
const N_HEADS: u32 = 3;

/// How to guess with `source`, with at most `in_flight` steps on their way.
pub fn guessing(source: DraftChoice, in_flight: Option<u32>) -> SpeculationParams {
    SpeculationParams {
        source,
        in_flight,
        ..SpeculationParams::default()
    }
}

/// A source that knows that `answer` follows `prompt`, and says it with probability `acceptance`.
pub fn oracle(prompt: &[Token], answer: &[Token], acceptance: f64, seed: u64) -> DraftChoice {
    DraftChoice::Oracle(Oracle {
        truth: [prompt, answer].concat().into(),
        n_vocab: 300,
        acceptance,
        seed,
    })
}

/// Writes Medusa heads of random weights for a model; what they guess is hardly ever right.
///
/// # Errors
/// When the model cannot be read or the file not be written.
pub fn random_heads(model: &Path, path: PathBuf) -> Result<PathBuf> {
    let info = ModelInfo::from_gguf(&GgufFile::open(model)?)?;
    let mut writer = GgufWriter::new()?;
    writer.set_str("general.architecture", "medusa")?;
    writer.set_u32("medusa.head_count", N_HEADS)?;
    writer.set_u32("medusa.embedding_length", info.n_embd)?;
    writer.set_u32("medusa.vocab_size", info.n_vocab)?;
    let (n_embd, n_vocab) = (u64::from(info.n_embd), u64::from(info.n_vocab));
    let mut shapes = Vec::new();
    for k in 0..N_HEADS {
        for (part, dims) in [
            ("block.weight", vec![n_embd, n_embd]),
            ("block.bias", vec![n_embd]),
            ("output.weight", vec![n_embd, n_vocab]),
        ] {
            writer.add_tensor(&format!("medusa.{k}.{part}"), F32, &dims)?;
            shapes.push(dims);
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    writer.write(&mut File::create(&path)?, &path, &mut |i, _, sink| {
        let n: u64 = shapes[i].iter().product();
        let values: Vec<f32> = (0..n).map(|_| rng.random_range(-1.0..1.0)).collect();
        sink.put(&quantize_rows(F32, &values, shapes[i][0] as usize)?)
    })?;
    Ok(path)
}
