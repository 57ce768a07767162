//! The right answers are fed in, and at each token it is asked what the model, its draft model and
//! its Medusa heads had guessed.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use jupiter_models::engine::{
    Engine, EngineParams, ReferenceEngine, StageEngine, StepInput, StepOutput,
};
use jupiter_models::gguf::{GgufFile, ModelInfo};
use jupiter_models::medusa::MedusaHeads;
use jupiter_models::slice::StageSlice;
use jupiter_models::text::{ChatTemplate, Vocabulary};
use jupiter_models::{LayerRange, Row, SequenceId, Token};
use jupiter_world::{Split, World};

use super::{SEED, answers};

/// A conversation as tokens.
struct Tokens {
    tokens: Vec<Token>,
    /// Where the last answer begins.
    answer: usize,
}

/// What a model thinks of the right answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opinion {
    /// Sum of `-ln p` of the right tokens.
    pub nats: f64,
    /// The likeliest token in each place.
    pub best: Vec<Token>,
}

impl Opinion {
    /// `e` to the mean of [`Opinion::nats`] per token.
    pub fn perplexity(&self) -> f64 {
        (self.nats / self.best.len() as f64).exp()
    }
}

/// How often each head's guess was right, and of how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadHits {
    /// Right guesses.
    pub right: u32,
    /// All guesses.
    pub all: u32,
}

/// Answers of held-out examples, for several models with the same tokenizer.
pub struct Text {
    conversations: Vec<Tokens>,
}

impl Text {
    /// The first `n` held-out examples of the stream of all kinds, as the model at `path` reads
    /// them.
    ///
    /// # Errors
    /// When its tokenizer or template cannot be used.
    pub fn new(world: &World, path: &Path, n: u64) -> Result<Self> {
        let vocabulary = Vocabulary::load(path)?;
        let template = ChatTemplate::from_gguf(&GgufFile::open(path)?, &vocabulary)?;
        let template = template.context("the model has no chat template")?;
        let end = *vocabulary.eog_tokens().first().context("no stop token")?;
        let conversations = (0..n)
            .map(|index| {
                let example = world.example(Split::HeldOut, SEED, index);
                let messages = answers::messages(&example);
                let mut tokens = vocabulary.tokenize_chat(&template, &messages)?;
                let answer = tokens.len();
                let last = example.turns.last().context("an example without turns")?;
                tokens.extend(vocabulary.tokenize(&last.assistant, false, false));
                tokens.push(end);
                anyhow::Ok(Tokens { tokens, answer })
            })
            .collect::<Result<_>>()?;
        Ok(Self { conversations })
    }

    /// What the model at `path` thinks of the answers.
    ///
    /// # Errors
    /// When it cannot run.
    pub fn opinion(&self, path: &Path) -> Result<Opinion> {
        let file = GgufFile::open(path)?;
        let mut engine = ReferenceEngine::load(&file, &self.params(), &mut |_| {})?;
        let mut opinion = Opinion::default();
        for conversation in &self.conversations {
            engine.clear();
            let StepOutput::Logits(logits) = feed(&mut engine, conversation)? else {
                bail!("the whole model gave hidden states");
            };
            let right = &conversation.tokens[conversation.answer..];
            ensure!(logits.n_rows == right.len(), "a row for each token");
            for (i, &token) in right.iter().enumerate() {
                let row = logits.row(i);
                opinion.nats += surprise(row, token);
                opinion.best.push(argmax(row)?);
            }
        }
        Ok(opinion)
    }

    /// How often each Medusa head of the file `heads` guesses the right token from the states of
    /// the model at `path`.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn head_hits(&self, path: &Path, heads: &Path) -> Result<Vec<HeadHits>> {
        let heads = MedusaHeads::open(heads)?;
        let model = GgufFile::open(path)?;
        let info = ModelInfo::from_gguf(&model)?;
        ensure!(
            heads.n_embd() == info.n_embd as usize && heads.n_vocab() == info.n_vocab as usize,
            "these heads belong to another model"
        );
        // As the first stage of a model with one more layer: it gives the state after its last
        // layer, which the norm turns into what the heads see.
        let slice = StageSlice {
            path: path.to_owned(),
            range: LayerRange::new(0, info.n_layer),
            n_layer_total: info.n_layer + 1,
            n_embd: info.n_embd,
        };
        let mut engine = Engine::load(&model, &slice, &self.params(), &mut |_| {})?;
        let norm = Norm::of(&model)?;
        let mut hits = vec![HeadHits::default(); heads.n_heads()];
        for conversation in &self.conversations {
            engine.clear();
            let StepOutput::Hidden(states) = feed(&mut engine, conversation)? else {
                bail!("a stage gave logits");
            };
            let rows = states.data.chunks_exact(states.n_embd);
            for (pos, state) in rows.enumerate().skip(conversation.answer - 1) {
                let state = norm.apply(state);
                for (k, hits) in hits.iter_mut().enumerate() {
                    if let Some(&right) = conversation.tokens.get(pos + k + 2) {
                        hits.all += 1;
                        hits.right += u32::from(argmax(&heads.logits(k, &state))? == right);
                    }
                }
            }
        }
        Ok(hits)
    }

    fn params(&self) -> EngineParams {
        let longest = self.conversations.iter().map(|c| c.tokens.len()).max();
        let n_ctx = longest.unwrap_or(1) as u32;
        EngineParams {
            n_ctx,
            n_seq_max: 1,
            n_batch: n_ctx,
            n_threads: 1,
            ..EngineParams::default()
        }
    }
}

/// All but the last token in one step; logits are wanted where a token of the answer follows.
fn feed(engine: &mut dyn StageEngine, conversation: &Tokens) -> Result<StepOutput> {
    let tokens = &conversation.tokens[..conversation.tokens.len() - 1];
    let rows: Vec<Row> = tokens
        .iter()
        .enumerate()
        .map(|(pos, &token)| Row {
            seq_ids: vec![SequenceId(0)],
            pos: pos as u32,
            token,
            wants_logits: pos + 1 >= conversation.answer,
        })
        .collect();
    Ok(engine.step(&rows, StepInput::Tokens)?)
}

/// The norm before the output head.
struct Norm {
    gain: Vec<f32>,
    epsilon: f32,
}

impl Norm {
    fn of(model: &GgufFile) -> Result<Self> {
        let gain = model.tensor("output_norm.weight").context("output_norm")?;
        let bytes = model.tensor_bytes(gain).chunks_exact(4);
        Ok(Self {
            gain: bytes
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            epsilon: model
                .metadata()
                .f32("llama.attention.layer_norm_rms_epsilon")?,
        })
    }

    fn apply(&self, state: &[f32]) -> Vec<f32> {
        let mean = state.iter().map(|x| x * x).sum::<f32>() / state.len() as f32;
        let scale = 1.0 / (mean + self.epsilon).sqrt();
        let scaled = state.iter().zip(&self.gain);
        scaled.map(|(x, gain)| x * scale * gain).collect()
    }
}

/// `-ln softmax(logits)[token]`.
fn surprise(logits: &[f32], token: Token) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    sum.ln() - f64::from(logits[token as usize] - max)
}

fn argmax(logits: &[f32]) -> Result<Token> {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    Ok(Token::try_from(best.context("no logits")?)?)
}
