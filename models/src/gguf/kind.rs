//! Files that are something else than a language model, told by name with what to do instead.

use super::{Array, GgufFile, Value};
use crate::{ModelError, Result};

/// Files of other formats, by how they begin.
const OTHER_FORMATS: [(&[u8], &str); 8] = [
    (
        b"version https://git-lfs",
        "it is a pointer of Git LFS and not the file: get that with `git lfs pull`",
    ),
    (b"<", "it is a web page: download the file itself"),
    (
        b"{",
        "it is JSON: download the file itself, or convert the model to GGUF",
    ),
    (
        b"PK\x03\x04",
        "it is a PyTorch checkpoint or an archive: unpack it, or convert the model to GGUF",
    ),
    (b"lmgg", OLD_GGML),
    (b"tjgg", OLD_GGML),
    (b"fmgg", OLD_GGML),
    (
        b"algg",
        "it is a LoRA adapter of an older format: merge it into its model and convert that to GGUF",
    ),
];
const OLD_GGML: &str = "it is of a GGML format before GGUF: convert the model again";

/// What a GGUF file can be besides a language model: its name, and what to do.
const ADAPTER: Kind = (
    "a LoRA adapter",
    "merge it into its model with `llama-export-lora`, and name the merged file",
);
const PROJECTOR: Kind = (
    "a projector of images or sound (mmproj)",
    "name the language model that it belongs to; only text is read here",
);
const IMATRIX: Kind = (
    "an importance matrix, which serves to quantize",
    "name the model itself",
);
const CONTROL_VECTOR: Kind = ("a control vector", "name the model itself");
const MEDUSA: Kind = (
    "Medusa heads",
    "name them with --medusa, and the model that they were trained for with -m",
);
const VOCABULARY: Kind = (
    "a vocabulary without weights",
    "name the model itself; convert it without --vocab-only",
);
const EMBEDDER: Kind = (
    "a model of embeddings or rankings, which writes no text",
    "name a model that generates",
);

type Kind = (&'static str, &'static str);

/// Encoders by `general.architecture`, beside all that have `bert` in it.
const ENCODERS: [&str; 3] = ["t5encoder", "gemma-embedding", "llama-embed"];

/// What the bytes of a file are that is no GGUF, where that can be told.
pub(super) fn other_format(bytes: &[u8]) -> Option<&'static str> {
    // The header's length, and a JSON object.
    if bytes.get(8..10) == Some(b"{\"") {
        return Some("it is in the safetensors format: convert the model to GGUF");
    }
    let begins = |(magic, _): &&(&[u8], _)| bytes.starts_with(magic);
    OTHER_FORMATS.iter().find(begins).map(|(_, what)| *what)
}

impl GgufFile {
    /// # Errors
    /// [`ModelError::OtherKind`] for a file that holds something else than a language model.
    pub(super) fn check_is_model(&self) -> Result<()> {
        self.other_kind().map_or(Ok(()), |(what, instead)| {
            Err(ModelError::OtherKind {
                path: self.path().to_owned(),
                what,
                instead,
            })
        })
    }

    fn other_kind(&self) -> Option<Kind> {
        let text = |key| match self.metadata().get(key) {
            Some(Value::Str(text)) => text.as_str(),
            _ => "",
        };
        let has = |key| self.metadata().get(key).is_some();
        match text("general.type") {
            "adapter" => return Some(ADAPTER),
            "mmproj" => return Some(PROJECTOR),
            "imatrix" => return Some(IMATRIX),
            _ => {}
        }
        let arch = text("general.architecture");
        match arch {
            "clip" => return Some(PROJECTOR),
            "controlvector" => return Some(CONTROL_VECTOR),
            "medusa" => return Some(MEDUSA),
            _ if arch.contains("bert") || ENCODERS.contains(&arch) => return Some(EMBEDDER),
            _ => {}
        }
        // Files of before there was a type.
        for (key, kind) in [
            ("adapter.type", ADAPTER),
            ("imatrix.chunk_count", IMATRIX),
            ("controlvector.layer_count", CONTROL_VECTOR),
        ] {
            if has(key) {
                return Some(kind);
            }
        }
        // `LLAMA_POOLING_TYPE_NONE` is 0: all others make one vector of a text.
        let pooling = self.metadata().get(&format!("{arch}.pooling_type"));
        if matches!(pooling, Some(Value::Uint(1..))) {
            return Some(EMBEDDER);
        }
        let tokens = self.metadata().get("tokenizer.ggml.tokens");
        let has_tokens = matches!(tokens, Some(Value::Array(Array::Str(_))));
        (self.tensors().is_empty() && has_tokens).then_some(VOCABULARY)
    }
}
