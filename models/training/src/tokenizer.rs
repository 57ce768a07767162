//! The byte-level BPE tokenizer: trained here, written into the GGUF, equal to llama.cpp's.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use jupiter_models::gguf::{Array, GgufFile};
use jupiter_models::text::Vocabulary;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{
    AddedToken, DecoderWrapper, Model, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizerWrapper, TokenizerImpl,
};

/// Ends every message; generation stops at it.
pub(crate) const END: &str = "<|end|>";
/// Begins what the user says.
pub(crate) const USER: &str = "<|user|>";
/// Begins what the model says.
pub(crate) const ASSISTANT: &str = "<|assistant|>";
/// The control tokens: ids 0, 1 and 2.
pub(crate) const CONTROLS: [&str; 3] = [END, USER, ASSISTANT];
/// Id of [`END`].
pub(crate) const END_ID: u32 = 0;
const USER_ID: u32 = 1;
const ASSISTANT_ID: u32 = 2;
/// What llama.cpp calls this way of cutting text before the merges: each digit alone, then GPT-2's
/// pattern (`tokenizer.ggml.pre`).
pub(crate) const PRE_TOKENIZER: &str = "smollm";

type Impl = TokenizerImpl<
    BPE,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// A trained tokenizer.
pub(crate) struct Tokenizer {
    inner: Impl,
}

impl Tokenizer {
    /// Learns `n_vocab` tokens from `texts`: the controls, the 256 bytes, then the best merges.
    pub(crate) fn train(
        texts: impl Iterator<Item = String> + Send,
        n_vocab: usize,
    ) -> Result<Self> {
        let mut trainer = BpeTrainer::builder()
            .vocab_size(n_vocab)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(CONTROLS.map(|text| AddedToken::from(text, true)).to_vec())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut inner = cutting(BPE::default());
        inner
            .train(&mut trainer, texts)
            .map_err(|error| anyhow::anyhow!("training the tokenizer: {error}"))?;
        Self::of(inner.get_model().clone())
    }

    /// The tokenizer saved in `path` by [`Tokenizer::save`].
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: train the tokenizer first", path.display()))?;
        let model = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a tokenizer", path.display()))?;
        Self::of(model)
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self.inner.get_model())?;
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// The tokenizer of a GGUF file that [`crate::export`] wrote.
    pub(crate) fn from_gguf(path: &Path) -> Result<Self> {
        let file = GgufFile::open(path)?;
        let strings = |key: &str| match file.metadata().opt_array(key)? {
            Some(Array::Str(texts)) => Ok(texts.clone()),
            _ => bail!("{}: no {key}", path.display()),
        };
        let tokens = strings("tokenizer.ggml.tokens")?;
        let vocab: HashMap<String, u32> = tokens.into_iter().zip(0..).collect();
        let merges = strings("tokenizer.ggml.merges")?;
        let model = serde_json::json!({ "type": "BPE", "vocab": vocab, "merges": merges });
        // The library only reads itself back from text.
        Self::of(serde_json::from_str(&model.to_string())?)
    }

    /// Checks that llama.cpp gives `text` the same tokens, and that they are `text` again.
    ///
    /// # Errors
    /// Names the text and both lists of tokens.
    pub(crate) fn check_against(&self, vocabulary: &Vocabulary, text: &str) -> Result<()> {
        let ours = self.encode(text);
        let theirs: Vec<u32> = vocabulary
            .tokenize(text, false, false)
            .into_iter()
            .map(|token| token as u32)
            .collect();
        ensure!(
            ours == theirs,
            "{text:?}: {ours:?} here, {theirs:?} in llama.cpp"
        );
        let bytes: Vec<u8> = theirs
            .iter()
            .flat_map(|&token| vocabulary.token_bytes(token as i32, false))
            .collect();
        ensure!(bytes == text.as_bytes(), "{text:?} comes back as {bytes:?}");
        Ok(())
    }

    /// Text that spells a control token stays text: the controls are no added tokens here.
    fn of(model: BPE) -> Result<Self> {
        for (id, control) in CONTROLS.iter().enumerate() {
            ensure!(
                model.token_to_id(control) == Some(id as u32),
                "the tokenizer lacks {control} as token {id}"
            );
        }
        Ok(Self {
            inner: cutting(model),
        })
    }

    pub(crate) fn n_vocab(&self) -> usize {
        self.inner.get_model().get_vocab_size()
    }

    /// Tokens of plain text.
    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        // Byte-level BPE without normalizer or truncation has a token for every byte.
        self.inner
            .encode_fast(text, false)
            .map(|encoding| encoding.get_ids().to_vec())
            .unwrap_or_default()
    }

    /// What the user says, and the sign that an answer begins.
    pub(crate) fn user(&self, text: &str) -> Vec<u32> {
        let mut tokens = vec![USER_ID];
        tokens.extend(self.encode(text));
        tokens.extend([END_ID, ASSISTANT_ID]);
        tokens
    }

    /// Each token of text in `tokens` becomes any other text so often, of one; controls stay.
    pub(crate) fn blur(&self, tokens: &mut [u32], share: f64, random: &mut ChaCha8Rng) {
        let text = CONTROLS.len() as u32..self.n_vocab() as u32;
        for token in tokens.iter_mut().filter(|token| text.contains(*token)) {
            if random.random_bool(share) {
                *token = random.random_range(text.clone());
            }
        }
    }

    /// An answer and its end.
    pub(crate) fn answer(&self, text: &str) -> Vec<u32> {
        let mut tokens = self.encode(text);
        tokens.push(END_ID);
        tokens
    }

    /// Tokens by id, in byte-level BPE's spelling of bytes as letters.
    pub(crate) fn tokens(&self) -> Result<Vec<String>> {
        (0..self.n_vocab() as u32)
            .map(|id| {
                let token = self.inner.get_model().id_to_token(id);
                token.with_context(|| format!("token {id} has no text"))
            })
            .collect()
    }

    /// Merges as GGUF holds them: two tokens with a space between, best first.
    pub(crate) fn merges(&self) -> Result<Vec<String>> {
        let model = serde_json::to_value(self.inner.get_model())?;
        let merges = model["merges"].as_array().context("a BPE without merges")?;
        merges
            .iter()
            .map(|merge| match merge.as_array().map(Vec::as_slice) {
                Some([a, b]) => Ok(format!(
                    "{} {}",
                    a.as_str().unwrap_or_default(),
                    b.as_str().unwrap_or_default()
                )),
                _ => merge
                    .as_str()
                    .map(str::to_owned)
                    .context("a merge of two tokens"),
            })
            .collect()
    }
}

/// The model behind the cutting of text that [`PRE_TOKENIZER`] names.
fn cutting(model: BPE) -> Impl {
    let mut inner = Impl::new(model);
    inner.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Digits(Digits::new(true)),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, true)),
    ])));
    inner
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jupiter_world::{Split, World};
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    /// The committed model.
    const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../default/robot-q8_0.gguf");

    fn both() -> (Tokenizer, Vocabulary) {
        let path = Path::new(MODEL);
        (
            Tokenizer::from_gguf(path).unwrap(),
            Vocabulary::load(path).unwrap(),
        )
    }

    #[test]
    fn llama_cpp_reads_training_lines_alike() {
        let (tokenizer, vocabulary) = both();
        let world = World::load().unwrap();
        for index in 0..3000 {
            for turn in world.example(Split::Training, 1, index).turns {
                tokenizer.check_against(&vocabulary, &turn.user).unwrap();
                tokenizer
                    .check_against(&vocabulary, &turn.assistant)
                    .unwrap();
            }
        }
    }

    #[test]
    fn llama_cpp_reads_anything_alike() {
        let (tokenizer, vocabulary) = both();
        let texts = [
            "",
            " ",
            "  two  spaces ",
            "tabs\tand\r\nlines\n\n\n  end  ",
            "it's we'll I'd THEY'RE 'quoted'",
            "12 345.67 -8% 1/2 x²³ Ⅷ ½ ٣",
            "<|end|><|user|>no control<|assistant|>",
            "naïve café Ärger ß 北京 日本語 한국어 עברית हिन्दी",
            "🤖🦾 👩‍🚀 🇩🇪 e\u{301} \u{200b}\u{feff}\u{0}\u{7f}",
            "\u{a0}no-break\u{2003}em\u{3000}wide",
        ];
        for text in texts {
            tokenizer.check_against(&vocabulary, text).unwrap();
        }
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..2000 {
            let n = rng.random_range(0..40);
            let bytes: Vec<u8> = (0..n).map(|_| rng.random()).collect();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            tokenizer.check_against(&vocabulary, &text).unwrap();
            let chars: String = (0..n).map(|_| rng.random::<char>()).collect();
            tokenizer.check_against(&vocabulary, &chars).unwrap();
        }
    }

    #[test]
    fn a_blur_changes_text_as_often_as_asked_and_no_control() {
        let (tokenizer, _) = both();
        let clear: Vec<u32> = (0..250).cycle().take(10_000).collect();
        let mut blurred = clear.clone();
        tokenizer.blur(&mut blurred, 0.1, &mut ChaCha8Rng::seed_from_u64(1));
        let changed = |(a, b): &(&u32, &u32)| a != b;
        let pairs: Vec<_> = clear.iter().zip(&blurred).filter(changed).collect();
        assert!((800..1200).contains(&pairs.len()), "{}", pairs.len());
        let n_controls = CONTROLS.len() as u32;
        assert!(
            pairs
                .iter()
                .all(|(a, b)| **a >= n_controls && **b >= n_controls)
        );
    }

    #[test]
    fn the_same_text_gives_the_same_tokenizer() {
        let world = World::load().unwrap();
        let train = || {
            let texts = (0..200).map(|i| world.example(Split::Training, 0, i));
            let texts = texts.map(|example| example.turns[0].assistant.clone());
            Tokenizer::train(texts, 350).unwrap()
        };
        let (a, b) = (train(), train());
        assert_eq!(a.tokens().unwrap(), b.tokens().unwrap());
        assert_eq!(a.merges().unwrap(), b.merges().unwrap());
    }
}
