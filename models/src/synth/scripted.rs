//! Models that say a known text, for tests: whatever was said before, the next token follows from
//! the last one alone.
//!
//! Each token has a code, a vector of signs. The embedding of a token is the code of the one that
//! follows it, a token's row of the head is its own code, and the layers between add nothing. So
//! the follower's logit is `n_embd`, and no other comes near.

mod tokens;

use std::collections::HashMap;
use std::path::Path;

use self::tokens::Tokens;
use super::metadata::CHATML;
use super::spec::refuse;
use super::tensors::{self, SynthTensor};
use super::{SynthArch, SynthSpec, SynthType, metadata, write_file};
use crate::Result;
use crate::draw::splitmix;
use crate::llama::GgufWriter;

/// Width of the hidden states: signs of two codes agree by chance in little more than half of so
/// many places, so probabilities other than the follower's are below one in a million.
const N_EMBD: u32 = 128;

/// How text becomes tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScriptedTokenizer {
    /// Byte-level BPE, as Llama 3 and Qwen have it.
    #[default]
    Bpe,
    /// `SentencePiece`, as Llama 2 and Gemma have it.
    Spm,
}

/// A llama model that says a known text. Start from [`ScriptedSpec::saying`].
#[derive(Clone, Debug)]
pub struct ScriptedSpec {
    /// The text, token by token: words with the space before them, and control tokens by name. The
    /// first follows whatever has no other follower, `eos` follows the last.
    pub text: Vec<String>,
    /// More followers, as (token, follower); they beat those of `text`.
    pub transitions: Vec<(String, String)>,
    /// Names of the control tokens.
    pub controls: Vec<String>,
    /// The control token that begins a sequence.
    pub bos: String,
    /// The control token that ends one.
    pub eos: String,
    /// Values of `tokenizer.ggml.<name>`: `add_bos_token`, `add_eos_token`, `add_space_prefix` ..
    pub flags: Vec<(&'static str, bool)>,
    /// The chat template, if there is one.
    pub chat_template: Option<String>,
    /// How text becomes tokens.
    pub tokenizer: ScriptedTokenizer,
    /// Layers, which add nothing.
    pub n_layer: u32,
    /// The context length that the metadata promises.
    pub n_ctx_train: u32,
}

impl ScriptedSpec {
    /// A model of four layers that says `text`, with `ChatML`.
    pub fn saying(text: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            text: owned(text),
            transitions: Vec::new(),
            controls: owned(&["<s>", "<|im_start|>", "<|im_end|>"]),
            bos: "<s>".to_owned(),
            eos: "<|im_end|>".to_owned(),
            flags: vec![("add_bos_token", false)],
            chat_template: Some(CHATML.to_owned()),
            tokenizer: ScriptedTokenizer::default(),
            n_layer: 4,
            n_ctx_train: 4096,
        }
    }

    /// Writes the model to `path`, replacing what was there.
    ///
    /// # Errors
    /// A token with two followers, a `bos` or `eos` that is none of the tokens, an empty text; a
    /// file system that fails or is full.
    pub fn write(&self, path: &Path) -> Result<()> {
        let tokens = self.tokens();
        let followers = self.followers(&tokens)?;
        let shape = SynthSpec {
            n_layer: self.n_layer,
            n_embd: N_EMBD,
            n_head: 2,
            n_head_kv: 1,
            n_ff: 32,
            n_vocab: tokens.texts.len() as u32,
            ty: SynthType::F32,
            n_ctx_train: self.n_ctx_train,
            ..SynthSpec::new(SynthArch::Llama)
        };
        shape.validate()?;
        let mut writer = GgufWriter::new()?;
        writer.set_str("general.architecture", shape.arch.name())?;
        writer.set_str("general.name", "scripted, for tests")?;
        metadata::set_shape(&shape, &mut writer)?;
        self.set_tokenizer(&tokens, &mut writer)?;
        let plan = tensors::plan(&shape);
        for tensor in &plan {
            writer.add_tensor(&tensor.name, tensor.ggml_type, &tensor.dims)?;
        }
        write_file(&writer, path, &mut |index, sink| {
            let values = values(&plan[index], &followers);
            let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
            sink.put(&bytes)
        })
    }

    fn tokens(&self) -> Tokens {
        let pairs = self.transitions.iter().flat_map(|(a, b)| [a, b]);
        let words = self.text.iter().chain(pairs);
        let words: Vec<&str> = words
            .filter(|word| !self.controls.contains(word))
            .map(String::as_str)
            .collect();
        Tokens::new(
            self.tokenizer == ScriptedTokenizer::Spm,
            &self.controls,
            &words,
        )
    }

    /// Which token follows each.
    fn followers(&self, tokens: &Tokens) -> Result<Vec<usize>> {
        let Some(first) = self.text.first() else {
            return refuse("a scripted model needs a text of at least one token".to_owned());
        };
        let first = id(tokens, first)?;
        let mut followers = HashMap::new();
        for (i, token) in self.text.iter().enumerate() {
            let next = id(tokens, self.text.get(i + 1).unwrap_or(&self.eos))?;
            let earlier = followers.insert(id(tokens, token)?, next);
            if earlier.is_some_and(|earlier| earlier != next) {
                return refuse(format!("`{token}` has two followers in the text"));
            }
        }
        for (token, next) in &self.transitions {
            followers.insert(id(tokens, token)?, id(tokens, next)?);
        }
        let all = 0..tokens.texts.len();
        Ok(all
            .map(|token| followers.get(&token).copied().unwrap_or(first))
            .collect())
    }

    fn set_tokenizer(&self, tokens: &Tokens, writer: &mut GgufWriter) -> Result<()> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        match self.tokenizer {
            ScriptedTokenizer::Bpe => {
                writer.set_str(&key("model"), "gpt2")?;
                writer.set_str(&key("pre"), "qwen2")?;
                writer.set_array_str(&key("merges"), &tokens.merges)?;
            }
            ScriptedTokenizer::Spm => {
                writer.set_str(&key("model"), "llama")?;
                writer.set_array_f32(&key("scores"), &tokens.scores)?;
            }
        }
        writer.set_array_str(&key("tokens"), &tokens.texts)?;
        writer.set_array_i32(&key("token_type"), &tokens.types)?;
        for (name, token) in [("bos_token_id", &self.bos), ("eos_token_id", &self.eos)] {
            writer.set_u32(&key(name), id(tokens, token)? as u32)?;
        }
        for &(name, value) in &self.flags {
            writer.set_bool(&key(name), value)?;
        }
        match &self.chat_template {
            Some(template) => writer.set_str("tokenizer.chat_template", template),
            None => Ok(()),
        }
    }
}

/// The id of a token, which is a control token or in the text.
fn id(tokens: &Tokens, text: &str) -> Result<usize> {
    match tokens.id(text) {
        Some(id) => Ok(id),
        None => refuse(format!("`{text}` is no token of the scripted model")),
    }
}

fn values(tensor: &SynthTensor, followers: &[usize]) -> Vec<f32> {
    match tensor.name.as_str() {
        "token_embd.weight" => followers.iter().flat_map(|&next| code(next)).collect(),
        "output.weight" => (0..followers.len()).flat_map(code).collect(),
        name if name.ends_with("norm.weight") => vec![1.0; tensor.dims[0] as usize],
        _ => vec![0.0; tensor.dims.iter().product::<u64>() as usize],
    }
}

/// The signs of a token.
fn code(token: usize) -> impl Iterator<Item = f32> {
    let bits = move |i: u64| splitmix(token as u64 * u64::from(N_EMBD) + i) >> 63;
    (0..u64::from(N_EMBD)).map(move |i| if bits(i) == 0 { 1.0 } else { -1.0 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::text::Vocabulary;

    #[test]
    fn no_two_codes_are_alike() {
        let codes: Vec<Vec<f32>> = (0..600).map(|token| code(token).collect()).collect();
        for (i, a) in codes.iter().enumerate() {
            for b in &codes[..i] {
                let product: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                assert!(product < 0.5 * N_EMBD as f32, "{product}");
            }
        }
    }

    #[test]
    fn words_and_control_tokens_are_one_token_each_with_both_tokenizers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scripted.gguf");
        for tokenizer in [ScriptedTokenizer::Bpe, ScriptedTokenizer::Spm] {
            let spec = ScriptedSpec {
                tokenizer,
                flags: vec![("add_space_prefix", false)],
                ..ScriptedSpec::saying(&["Turn", " left", " now", "."])
            };
            spec.write(&path).unwrap();
            let vocabulary = Vocabulary::load(&path).unwrap();
            let tokens = vocabulary.tokenize("Turn left now.<|im_end|>", false, true);
            assert_eq!(tokens.len(), 5, "{tokenizer:?}: {tokens:?}");
            assert_eq!(vocabulary.eos(), tokens.last().copied());
        }
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let path = Path::new("never-written.gguf");
        let error = |spec: ScriptedSpec| spec.write(path).unwrap_err().to_string();
        assert!(error(ScriptedSpec::saying(&[])).contains("needs a text"));
        assert!(error(ScriptedSpec::saying(&["a", "b", "a"])).contains("`a` has two followers"));
        let spec = ScriptedSpec {
            eos: "</s>".to_owned(),
            ..ScriptedSpec::saying(&["a"])
        };
        assert!(error(spec).contains("`</s>` is no token"));
    }
}
