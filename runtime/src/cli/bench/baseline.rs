//! The same work on the whole model with plain llama.cpp: no stages, no actors, no messages.

use std::time::Instant;

use jupiter_models::engine::{EngineParams, ReferenceEngine, StageEngine, StepInput, StepOutput};
use jupiter_models::gguf::GgufFile;
use jupiter_models::kernels::KernelChoice;
use jupiter_models::{Row, SequenceId, Token};

use super::report::Run;

/// llama.cpp's default `n_ubatch`: the chunks in which plain llama.cpp computes a prompt.
const N_UBATCH: u32 = 512;

/// The whole model in one context.
pub(crate) struct Baseline {
    engine: ReferenceEngine,
}

impl Baseline {
    /// Loads the model with the parameters of the pipeline's engines, but llama.cpp's chunks and
    /// kernels.
    pub(crate) fn load(model: &GgufFile, params: &EngineParams) -> anyhow::Result<Self> {
        let params = EngineParams {
            n_seq_max: 1,
            n_batch: N_UBATCH,
            kernels: KernelChoice::Off,
            ..params.clone()
        };
        let engine = ReferenceEngine::load(model, &params, &mut |_| ())?;
        Ok(Self { engine })
    }

    /// Computes a prompt from an empty context, with logits for its last token.
    pub(crate) fn prefill(&mut self, tokens: &[Token]) -> anyhow::Result<Run> {
        self.engine.clear();
        let started = Instant::now();
        self.compute(tokens)?;
        Ok(run(started))
    }

    /// Generates `n_gen` tokens after each of `firsts`, one answer after the other, each token the
    /// most likely one; computing `firsts` themselves is not counted.
    pub(crate) fn generate(&mut self, firsts: &[Token], n_gen: u32) -> anyhow::Result<Run> {
        let mut elapsed_ms = 0.0;
        for first in firsts {
            self.engine.clear();
            let mut token = self.compute(&[*first])?;
            let started = Instant::now();
            for pos in 1..=n_gen {
                token = self.step(&[token], pos, true)?.unwrap_or(token);
            }
            elapsed_ms += run(started).elapsed_ms;
        }
        Ok(Run {
            elapsed_ms,
            busy_ms: Vec::new(),
            steps: Vec::new(),
        })
    }

    /// Computes a prompt in chunks; the most likely next token.
    fn compute(&mut self, tokens: &[Token]) -> anyhow::Result<Token> {
        let mut pos = 0;
        let mut next = None;
        for chunk in tokens.chunks(N_UBATCH as usize) {
            let is_last = pos as usize + chunk.len() == tokens.len();
            next = self.step(chunk, pos, is_last)?;
            pos += chunk.len() as u32;
        }
        next.ok_or_else(|| anyhow::anyhow!("llama.cpp gave no logits"))
    }

    /// One step; the most likely token after its last row, if asked for.
    fn step(&mut self, tokens: &[Token], pos: u32, wanted: bool) -> anyhow::Result<Option<Token>> {
        let last = tokens.len() - 1;
        let rows: Vec<Row> = tokens
            .iter()
            .enumerate()
            .map(|(i, token)| Row {
                seq_ids: vec![SequenceId(0)],
                pos: pos + i as u32,
                token: *token,
                wants_logits: wanted && i == last,
            })
            .collect();
        match self.engine.step(&rows, StepInput::Tokens)? {
            StepOutput::Logits(logits) => Ok(most_likely(&logits.data)),
            StepOutput::Hidden(_) => anyhow::bail!("the whole model gave hidden states"),
        }
    }
}

fn run(started: Instant) -> Run {
    Run {
        elapsed_ms: started.elapsed().as_secs_f64() * 1e3,
        busy_ms: Vec::new(),
        steps: Vec::new(),
    }
}

/// Index of the greatest logit; of equal ones the first.
fn most_likely(logits: &[f32]) -> Option<Token> {
    let mut best: Option<(usize, f32)> = None;
    for (i, logit) in logits.iter().enumerate() {
        if best.is_none_or(|(_, most)| *logit > most) {
            best = Some((i, *logit));
        }
    }
    best.map(|(i, _)| i as Token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_likely_token_has_the_greatest_logit() {
        assert_eq!(most_likely(&[0.5, 2.0, 2.0, -1.0]), Some(1));
        assert_eq!(most_likely(&[]), None);
    }
}
