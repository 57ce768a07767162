//! Tiny generated models, and the texts that they have to write.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Result, anyhow, bail};
use jupiter_models::engine::{EngineParams, ReferenceEngine, StageEngine, StepInput, StepOutput};
use jupiter_models::gguf::GgufFile;
use jupiter_models::sampling::{Sampler, SamplingParams};
use jupiter_models::synth::{self, SynthArch, SynthSpec, SynthType};
use jupiter_models::text::Vocabulary;
use jupiter_models::{LayerRange, Row, SequenceId, Token};
use tempfile::TempDir;

/// Rows of a chunk in these tests: small, so that short prompts take several.
pub const CHUNK: u32 = 8;

/// The layers between `cuts`, which ascend, of a model of `n_layer`.
pub fn ranges_between(cuts: &[u32], n_layer: u32) -> Vec<LayerRange> {
    let begins = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([n_layer]);
    begins
        .zip(ends)
        .map(|(begin, end)| LayerRange::new(begin, end))
        .collect()
}

/// Engine parameters for the tiny models.
pub fn engine_params() -> EngineParams {
    EngineParams {
        n_ctx: 512,
        n_seq_max: 4,
        n_batch: CHUNK,
        n_threads: 1,
        ..EngineParams::default()
    }
}

/// The shape of the tiny model. Its products are those of our kernels, whose bits for a row do not
/// depend on what shares its step: texts can be compared exactly, however they came about.
pub fn tiny_spec() -> SynthSpec {
    SynthSpec {
        n_layer: 4,
        n_embd: 64,
        n_head: 4,
        n_head_kv: 2,
        n_ff: 96,
        n_vocab: 320,
        ty: SynthType::Q4_0,
        ..SynthSpec::new(SynthArch::Llama)
    }
}

/// A folder for this process's models and slices, removed by the operating system's cleaning.
pub fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<TempDir> = OnceLock::new();
    SCRATCH
        .get_or_init(|| tempfile::tempdir().expect("a temporary folder"))
        .path()
}

/// The tiny model's file, written on the first call.
///
/// # Errors
/// When it cannot be written.
pub fn tiny_model() -> Result<PathBuf> {
    tiny_model_of(SynthArch::Llama)
}

/// One like it of another architecture; of twice as many layers where some are recurrent, since each stage
/// needs layers of both kinds.
///
/// # Errors
/// When it cannot be written.
pub fn tiny_model_of(arch: SynthArch) -> Result<PathBuf> {
    static WRITTEN: Mutex<Vec<SynthArch>> = Mutex::new(Vec::new());
    let path = scratch().join(format!("tiny-{arch}.gguf"));
    let mut written = WRITTEN.lock().map_err(|_| anyhow!("a writer panicked"))?;
    if !written.contains(&arch) {
        let spec = SynthSpec {
            n_layer: if arch.is_recurrent() { 8 } else { 4 },
            tied: arch.tied().unwrap_or(false),
            arch,
            ..tiny_spec()
        };
        synth::write(&spec, &path, &mut |_, _| {})?;
        written.push(arch);
    }
    Ok(path)
}

/// What the whole model writes after `prompt`, one token at a time, as plain llama.cpp does it.
///
/// # Errors
/// When the engine fails.
pub fn greedy_text(model: &Path, prompt: &[Token], n: usize) -> Result<Vec<Token>> {
    let vocabulary = Vocabulary::load(model)?;
    let mut text = Vec::new();
    reference(model, prompt, n, |logits| {
        let best = (0..logits.len())
            .rev()
            .max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        let token = Token::try_from(best?).ok()?;
        if vocabulary.is_eog(token) {
            return None;
        }
        text.push(token);
        Some(token)
    })?;
    Ok(text)
}

/// What the whole model writes after `prompt` when it is sampled, one token at a time.
///
/// # Errors
/// When the engine fails, or the parameters are wrong.
pub fn sampled_text(
    model: &Path,
    prompt: &[Token],
    n: usize,
    sampling: &SamplingParams,
) -> Result<Vec<Token>> {
    let vocabulary = Arc::new(Vocabulary::load(model)?);
    let mut sampler = Sampler::new(&vocabulary, sampling, prompt, &[])?;
    let mut text = Vec::new();
    reference(model, prompt, n, |logits| {
        let token = sampler.sample(logits);
        if vocabulary.is_eog(token) {
            return None;
        }
        sampler.accept(token);
        text.push(token);
        Some(token)
    })?;
    Ok(text)
}

/// Has the whole model go on for `n` tokens, each as `choose` takes it from the logits.
fn reference(
    model: &Path,
    prompt: &[Token],
    n: usize,
    mut choose: impl FnMut(&[f32]) -> Option<Token>,
) -> Result<()> {
    let file = GgufFile::open(model)?;
    let mut engine = ReferenceEngine::load(&file, &engine_params(), &mut |_| {})?;
    let mut tokens = prompt.to_vec();
    let mut n_computed = 0;
    while tokens.len() < prompt.len() + n {
        let end = tokens.len().min(n_computed + CHUNK as usize);
        let rows: Vec<Row> = (n_computed..end)
            .map(|pos| Row {
                seq_ids: vec![SequenceId(0)],
                pos: pos as u32,
                token: tokens[pos],
                wants_logits: pos + 1 == tokens.len(),
            })
            .collect();
        let StepOutput::Logits(logits) = engine.step(&rows, StepInput::Tokens)? else {
            bail!("the whole model gave hidden states");
        };
        n_computed = end;
        if n_computed == tokens.len() {
            match choose(logits.row(0)) {
                Some(token) => tokens.push(token),
                None => return Ok(()),
            }
        }
    }
    Ok(())
}
