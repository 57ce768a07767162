//! Logits in, a token out: biases, penalties, grammar, top-k, top-p, min-p, temperature, draw.
//!
//! The order is the one of llama.cpp's `common/sampling.cpp` with the grammar first, so that top-k
//! and top-p count among the tokens that the grammar allows. top-p, min-p, temperature and the draw
//! are llama.cpp's samplers; they see the shortlist only, never an array of the whole vocabulary.
//!
//! Nothing depends on earlier draws: the draw after n generated tokens is seeded by
//! [`draw_seed`]`(seed, n)`. A sampler that is rebuilt from the history alone therefore goes on
//! with exactly the text that the lost one would have written.

mod gbnf;
mod grammar;
mod matcher;
mod params;
mod recent;
mod shortlist;
pub(crate) mod token_index;

pub use params::{Biased, LogitBias, SamplingParams};

use std::sync::Arc;

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

use crate::draw::splitmix;
use crate::error::{ModelError, Result};
use crate::text::Vocabulary;
use crate::types::Token;
use grammar::Grammar;
use matcher::Matcher;
use recent::Recent;
use shortlist::{Candidate, shortlist};

/// With a grammar: how many of the likeliest tokens are tried one by one, per wanted candidate and
/// at least, before the whole vocabulary is checked against it (about a millisecond for 150k).
const TRIES_PER_CANDIDATE: usize = 4;
const MIN_TRIES: usize = 16;

/// The seed of the draw that follows `n_generated` tokens: the upper half of SplitMix64's output
/// (Steele, Lea and Flood 2014) for the state `(seed << 32) + n_generated`.
///
/// Neighbouring seeds and positions give unrelated draws. The value that would make llama.cpp seed
/// itself from the system, `u32::MAX`, is replaced by 0.
pub fn draw_seed(seed: u32, n_generated: u32) -> u32 {
    let state = u64::from(seed) << 32 | u64::from(n_generated);
    let upper = (splitmix(state) >> 32) as u32;
    if upper == SamplingParams::RANDOM_SEED {
        0
    } else {
        upper
    }
}

/// Chooses the tokens of one sequence.
#[derive(Clone)]
pub struct Sampler {
    vocabulary: Arc<Vocabulary>,
    params: SamplingParams,
    bias: Vec<(Token, f32)>,
    recent: Recent,
    n_generated: u32,
    matcher: Option<Matcher>,
    /// top-p, min-p, temperature; without state.
    narrowing: LlamaSampler,
}

impl Sampler {
    /// The sampler after `prompt` and the tokens generated since.
    ///
    /// # Errors
    /// `BadInput` when a parameter is out of range, the grammar cannot be used, or `generated` does
    /// not follow the grammar.
    pub fn new(
        vocabulary: &Arc<Vocabulary>,
        params: &SamplingParams,
        prompt: &[Token],
        generated: &[Token],
    ) -> Result<Self> {
        params.check_ranges()?;
        let matcher = match &params.grammar {
            Some(text) => {
                let grammar = Grammar::parse(text, &|name| vocabulary.token_named(name))?;
                Some(Matcher::new(Arc::new(grammar)))
            }
            None => None,
        };
        let narrowing = LlamaSampler::chain(
            [
                LlamaSampler::top_p(params.top_p, 0),
                LlamaSampler::min_p(params.min_p, 0),
                LlamaSampler::temp(params.temperature),
            ],
            true,
        );
        let mut sampler = Self {
            vocabulary: Arc::clone(vocabulary),
            bias: params.biases(vocabulary)?,
            recent: Recent::new(params.repeat_last_n),
            params: params.clone(),
            n_generated: 0,
            matcher,
            narrowing,
        };
        for &token in prompt {
            sampler.recent.push(token);
        }
        for (i, &token) in generated.iter().enumerate() {
            if !sampler.allows(token) {
                return Err(ModelError::BadInput {
                    what: format!("generated token {i} ({token}) does not follow the grammar"),
                });
            }
            sampler.accept(token);
        }
        Ok(sampler)
    }

    /// The next token for `logits`, shape (n_vocab); does not [`accept`](Self::accept) it.
    ///
    /// Logits that are not a number count as impossible. Where no token is possible, because the
    /// grammar is at a dead end or complete, a token that ends the generation is returned.
    pub fn sample(&mut self, logits: &[f32]) -> Token {
        match self.candidates(logits).as_slice() {
            [] => self.vocabulary.end_token(),
            [only] => only.token,
            candidates => self.draw(candidates),
        }
    }

    /// The probabilities with which [`sample`](Self::sample) draws for `logits`, over all seeds; in
    /// no order, adding up to 1 within rounding.
    pub fn probabilities(&mut self, logits: &[f32]) -> Vec<(Token, f64)> {
        let candidates = self.candidates(logits);
        let likeliest = match candidates.as_slice() {
            [] => return vec![(self.vocabulary.end_token(), 1.0)],
            [first, rest @ ..] if rest.is_empty() || self.is_beyond_range(first) => {
                return vec![(first.token, 1.0)];
            }
            [first, ..] => *first,
        };
        let max = f64::from(likeliest.logit / self.params.temperature);
        let narrowed = self.narrow(&candidates);
        let weight = |data: &LlamaTokenData| (f64::from(data.logit()) - max).exp();
        let sum: f64 = narrowed.data.iter().map(weight).sum();
        let entry = |data: &LlamaTokenData| (data.id().0, weight(data) / sum);
        narrowed.data.iter().map(entry).collect()
    }

    /// The tokens that are possible, the likeliest first.
    fn candidates(&mut self, logits: &[f32]) -> Vec<Candidate> {
        let n_wanted = match self.params.top_k {
            _ if self.params.temperature <= 0.0 => 1,
            k if k > 0 => k as usize,
            _ => logits.len(),
        };
        let biased = (!self.bias.is_empty()).then(|| {
            let mut biased = logits.to_vec();
            for &(token, bias) in &self.bias {
                if let Some(logit) = biased.get_mut(token as usize) {
                    *logit += bias;
                }
            }
            biased
        });
        let logits = biased.as_deref().unwrap_or(logits);
        let penalised = self.recent.penalise(logits, self.params.repeat_penalty);
        let logits = penalised.as_deref().unwrap_or(logits);
        match &self.matcher {
            Some(_) => self.allowed_shortlist(logits, n_wanted),
            None => shortlist(logits, n_wanted),
        }
    }

    /// Takes `token` as the next one of the sequence.
    pub fn accept(&mut self, token: Token) {
        self.recent.push(token);
        self.n_generated = self.n_generated.wrapping_add(1);
        if let Some(matcher) = &mut self.matcher {
            // The end of the generation leaves the text, and so the place in the grammar, as it is.
            if !(self.vocabulary.is_eog(token) && matcher.is_complete()) {
                matcher.accept(token, &self.vocabulary.token_bytes(token, false));
            }
        }
    }

    /// Whether the grammar, if any, allows `token` next.
    fn allows(&mut self, token: Token) -> bool {
        let Some(matcher) = &mut self.matcher else {
            return true;
        };
        if self.vocabulary.is_eog(token) {
            return matcher.is_complete();
        }
        matcher.allows(token, &self.vocabulary.token_bytes(token, false))
    }

    /// The likeliest `n_wanted` of the tokens that the grammar allows.
    ///
    /// Mostly they are among the likeliest of all, so these are tried first.
    fn allowed_shortlist(&mut self, logits: &[f32], n_wanted: usize) -> Vec<Candidate> {
        let n_tries = n_wanted.saturating_mul(TRIES_PER_CANDIDATE).max(MIN_TRIES);
        if n_tries < logits.len() {
            let mut likeliest = shortlist(logits, n_tries);
            let all_tried = likeliest.len() < n_tries;
            likeliest.retain(|candidate| self.allows(candidate.token));
            if all_tried || likeliest.len() >= n_wanted {
                likeliest.truncate(n_wanted);
                return likeliest;
            }
        }
        let vocabulary = Arc::clone(&self.vocabulary);
        let index = vocabulary.token_index();
        let Some(matcher) = &mut self.matcher else {
            return shortlist(logits, n_wanted);
        };
        let mut masked = vec![f32::NEG_INFINITY; logits.len()];
        let mut unmask = |token: Token| {
            if let (Some(to), Some(from)) =
                (masked.get_mut(token as usize), logits.get(token as usize))
            {
                *to = *from;
            }
        };
        matcher.allowed_tokens(index, &mut unmask);
        if matcher.is_complete() {
            index.eog().iter().copied().for_each(unmask);
        }
        shortlist(&masked, n_wanted)
    }

    /// A token of `candidates` (likeliest first), by top-p, min-p, temperature and chance.
    fn draw(&mut self, candidates: &[Candidate]) -> Token {
        let likeliest = candidates[0];
        if self.is_beyond_range(&likeliest) {
            return likeliest.token;
        }
        let mut narrowed = self.narrow(candidates);
        let seed = draw_seed(self.params.seed, self.n_generated);
        narrowed.apply_sampler(&mut LlamaSampler::dist(seed));
        narrowed
            .selected_token()
            .map_or(likeliest.token, |token| token.0)
    }

    /// Beyond the numbers' range there is no softmax; the likeliest token is the limit.
    fn is_beyond_range(&self, likeliest: &Candidate) -> bool {
        !(likeliest.logit / self.params.temperature).is_finite()
    }

    /// What top-p and min-p leave of `candidates` (likeliest first), divided by the temperature.
    fn narrow(&mut self, candidates: &[Candidate]) -> LlamaTokenDataArray {
        let data = candidates
            .iter()
            .map(|c| LlamaTokenData::new(LlamaToken(c.token), c.logit, 0.0))
            .collect();
        let mut array = LlamaTokenDataArray::new(data, true);
        array.apply_sampler(&mut self.narrowing);
        array
    }

    /// A number in 0..1 for what is drawn next, by the seed.
    pub fn uniform(&self) -> f64 {
        f64::from(draw_seed(self.params.seed, self.n_generated)) / f64::from(u32::MAX)
    }
}

/// The `n` likeliest tokens and their probabilities by the softmax of `logits`, the likeliest first;
/// no sampling parameter counts.
pub fn likeliest(logits: &[f32], n: usize) -> Vec<(Token, f32)> {
    let best = shortlist(logits, n);
    let max = best.first().map_or(0.0, |first| first.logit);
    let sum: f32 = logits.iter().map(|logit| (logit - max).exp()).sum();
    let share = |c: &Candidate| (c.token, (c.logit - max).exp() / sum);
    best.iter().map(share).collect()
}

#[cfg(test)]
mod tests;
