//! What may be said of how tokens are chosen.

use serde::{Deserialize, Serialize};

use super::grammar::Grammar;
use crate::Token;
use crate::error::{ModelError, Result};
use crate::text::Vocabulary;

/// Most tokens with a bias: each draw walks over them.
const MAX_BIASES: usize = 512;

/// How the next token is chosen; the names, meanings and defaults of llama.cpp.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// Divides the logits; 0 and below: always the likeliest token (the lowest id of equals).
    pub temperature: f32,
    /// Only the k likeliest tokens; 0 and below: all.
    pub top_k: i32,
    /// Only the likeliest tokens that together reach this probability, 0..=1; 1: all.
    pub top_p: f32,
    /// Only tokens at least this likely, relative to the likeliest, 0..=1; 0: all.
    pub min_p: f32,
    /// Positive logits of recent tokens are divided by it, negative multiplied; above 0; 1: off.
    pub repeat_penalty: f32,
    /// How many tokens are recent, prompt included; 0: none, -1: all.
    pub repeat_last_n: i32,
    /// Seed of the draws; [`SamplingParams::RANDOM_SEED`] asks for one chosen at random.
    pub seed: u32,
    /// A GBNF grammar that the text must follow.
    pub grammar: Option<String>,
    /// What is added to the logits of some tokens.
    pub logit_bias: Vec<LogitBias>,
}

/// What is added to the logit of a token, or of each token of a text; minus infinity forbids them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogitBias {
    /// Which ones.
    pub of: Biased,
    /// In the units of logits: e to its power times as likely, beside one without.
    pub bias: f32,
}

/// Tokens with a bias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Biased {
    /// This one.
    Token(Token),
    /// Those of this text.
    Text(String),
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            seed: Self::RANDOM_SEED,
            grammar: None,
            logit_bias: Vec::new(),
        }
    }
}

impl SamplingParams {
    /// The seed that asks for a random one (`LLAMA_DEFAULT_SEED`).
    pub const RANDOM_SEED: u32 = u32::MAX;

    /// The likeliest token each time.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Puts a random seed in the place of [`Self::RANDOM_SEED`].
    ///
    /// Whoever admits a request calls this once, before the parameters travel: a [`Sampler`] takes
    /// any seed as it is, since it must be rebuilt to the same state.
    pub fn fix_seed(&mut self) {
        while self.seed == Self::RANDOM_SEED {
            self.seed = rand::random();
        }
    }

    /// Checks the ranges and the grammar, but for names of tokens in it, which [`Sampler::new`] looks up.
    ///
    /// # Errors
    /// `BadInput` naming the parameter, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        self.check_ranges()?;
        let any_token = |_: &str| Some(0);
        let grammar = self.grammar.as_deref();
        grammar.map_or(Ok(()), |text| Grammar::parse(text, &any_token).map(|_| ()))
    }

    pub(super) fn check_ranges(&self) -> Result<()> {
        let checks = [
            (
                "temperature",
                self.temperature,
                self.temperature.is_finite(),
                "a finite number",
            ),
            (
                "top_p",
                self.top_p,
                (0.0..=1.0).contains(&self.top_p),
                "between 0 and 1",
            ),
            (
                "min_p",
                self.min_p,
                (0.0..=1.0).contains(&self.min_p),
                "between 0 and 1",
            ),
            (
                "repeat_penalty",
                self.repeat_penalty,
                self.repeat_penalty.is_finite() && self.repeat_penalty > 0.0,
                "above 0 (1 is off)",
            ),
        ];
        for (name, value, fits, allowed) in checks {
            if !fits {
                return Err(ModelError::BadInput {
                    what: format!("{name} is {value}, but must be {allowed}"),
                });
            }
        }
        let n_biases = self.logit_bias.len();
        let has_nan = |entry: &LogitBias| entry.bias.is_nan() || entry.bias == f32::INFINITY;
        if n_biases > MAX_BIASES || self.logit_bias.iter().any(has_nan) {
            return Err(ModelError::BadInput {
                what: format!(
                    "logit_bias: send at most {MAX_BIASES}, each a number or false (has {n_biases})"
                ),
            });
        }
        Ok(())
    }

    /// Each token with what is added to its logit.
    ///
    /// # Errors
    /// `BadInput` for a token that the vocabulary does not have.
    pub(super) fn biases(&self, vocabulary: &Vocabulary) -> Result<Vec<(Token, f32)>> {
        let mut biases = Vec::new();
        for LogitBias { of, bias } in &self.logit_bias {
            let tokens = match of {
                Biased::Text(text) => vocabulary.tokenize(text, false, false),
                Biased::Token(token) => vec![*token],
            };
            for token in tokens {
                if u32::try_from(token).is_ok_and(|token| token < vocabulary.n_vocab()) {
                    biases.push((token, *bias));
                    continue;
                }
                return Err(ModelError::BadInput {
                    what: format!(
                        "logit_bias: token {token} is not 0 to {}",
                        vocabulary.n_vocab() - 1
                    ),
                });
            }
        }
        match biases.len() {
            0..=MAX_BIASES => Ok(biases),
            n => Err(ModelError::BadInput {
                what: format!("logit_bias: {n} tokens, at most {MAX_BIASES} may have one"),
            }),
        }
    }
}
