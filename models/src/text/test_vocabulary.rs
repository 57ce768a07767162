//! A vocabulary for this crate's tests: the tokenizer of a generated model.

use std::sync::{Arc, OnceLock};

use super::Vocabulary;
use crate::gguf::GgufFile;
use crate::synth::{self, SynthArch, SynthSpec};

/// The tokenizer of a small generated model (about a thousand tokens, byte-level), made once.
pub(crate) fn vocabulary() -> Arc<Vocabulary> {
    static VOCABULARY: OnceLock<Arc<Vocabulary>> = OnceLock::new();
    Arc::clone(VOCABULARY.get_or_init(|| with_model(1024, |_, vocabulary| Arc::new(vocabulary))))
}

/// Hands a generated model with `n_vocab` tokens and its vocabulary to `use_it`.
pub(crate) fn with_model<T>(n_vocab: u32, use_it: impl FnOnce(&GgufFile, Vocabulary) -> T) -> T {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.gguf");
    let small = SynthSpec::new(SynthArch::Llama);
    let spec = SynthSpec {
        n_layer: 1,
        n_embd: 64,
        n_ff: 64,
        n_vocab,
        tied: true,
        ..small
    };
    synth::write(&spec, &path, &mut |_, _| {}).expect("a generated model");
    let model = GgufFile::open(&path).expect("a valid file");
    let vocabulary = Vocabulary::load(&path).expect("a tokenizer");
    use_it(&model, vocabulary)
}
