//! Files that a user takes for the model: told by name, with what to do instead.

use super::{Header, V, open, reason};
use crate::ModelError;
use crate::gguf::ModelInfo;

/// A file without a model's keys and tensors.
fn bare(pairs: Vec<(&'static str, V)>) -> Header {
    Header {
        pairs,
        tensors: Vec::new(),
        ..Header::default()
    }
}

#[test]
fn files_that_hold_something_else_are_refused_by_name() {
    let check = |header: Header, what: &str, instead: &str| {
        let error = open(&header.bytes())
            .and_then(|file| ModelInfo::from_gguf(&file))
            .unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, ModelError::OtherKind { .. }), "{told}");
        assert!(told.contains(what) && told.contains(instead), "{told}");
        assert!(!told.contains('\n'), "{told}");
    };
    let of_type = |kind| Header::default().set("general.type", V::Str(kind));
    let of_arch = |arch| Header::default().set("general.architecture", V::Str(arch));
    // As converters write them, then with one of their signs alone.
    let projector = bare(vec![
        ("general.type", V::Str("mmproj")),
        ("general.architecture", V::Str("clip")),
        ("clip.vision.block_count", V::U32(27)),
    ]);
    check(projector, "mmproj", "name the language model");
    check(of_arch("clip"), "mmproj", "name the language model");
    check(of_type("adapter"), "a LoRA adapter", "llama-export-lora");
    let adapter = Header::default().set("adapter.type", V::Str("lora"));
    check(adapter, "a LoRA adapter", "llama-export-lora");
    let imatrix = bare(vec![("general.type", V::Str("imatrix"))]);
    check(imatrix, "an importance matrix", "name the model itself");
    let vector = bare(vec![
        ("general.architecture", V::Str("controlvector")),
        ("controlvector.layer_count", V::U32(31)),
    ]);
    check(vector, "a control vector", "name the model itself");
    check(of_arch("medusa"), "Medusa heads", "--medusa");
    for encoder in ["bert", "nomic-bert-moe", "t5encoder", "gemma-embedding"] {
        check(of_arch(encoder), "embeddings", "that generates");
    }
    let embedder = Header::default().set("llama.pooling_type", V::U32(3));
    check(embedder, "embeddings", "that generates");
    let vocabulary = Header {
        tensors: Vec::new(),
        ..Header::default()
    };
    check(
        vocabulary,
        "a vocabulary without weights",
        "name the model itself",
    );

    let unpooled = Header::default().set("llama.pooling_type", V::U32(0));
    let unpooled = open(&unpooled.bytes()).unwrap();
    ModelInfo::from_gguf(&unpooled).unwrap();
    let whole = open(&of_type("model").bytes()).unwrap();
    ModelInfo::from_gguf(&whole).unwrap();
}

#[test]
fn other_architectures_are_named_before_the_keys_that_they_lack() {
    let rwkv = Header::default().set("general.architecture", V::Str("rwkv7"));
    let got = reason(open(&rwkv.bytes()).and_then(|file| ModelInfo::from_gguf(&file)));
    assert_eq!(
        got,
        "architecture `rwkv7` cannot be run: its layers keep a state of the past, and no test has \
         shown that guesses, branches and kept answers are right with it (`jupiter models` lists what \
         can)"
    );
    let gemma = Header::default().set("general.architecture", V::Str("gemma3n"));
    let got = reason(open(&gemma.bytes()).and_then(|file| ModelInfo::from_gguf(&file)));
    assert_eq!(
        got,
        "no test has shown that `gemma3n` models run, and the key `gemma3n.block_count` is missing"
    );
}

#[test]
fn parts_of_a_model_are_refused_by_their_number() {
    let part = bare(vec![("split.no", V::U32(1)), ("split.count", V::U32(3))]);
    let got = reason(open(&part.bytes()));
    assert_eq!(
        got,
        "it is part 2 of 3: name the first one, and keep the names that end in -00001-of-00003.gguf"
    );
    let part = bare(vec![("split.no", V::U32(3)), ("split.count", V::U32(3))]);
    let got = reason(open(&part.bytes()));
    assert_eq!(got, "it says that it is part 4 of 3: download it again");
}

#[test]
fn files_of_other_formats_are_refused_by_name() {
    let check = |bytes: &[u8], part: &str| {
        let got = reason(open(bytes));
        assert!(got.contains(part), "expected {part:?}, got {got:?}");
    };
    check(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
        "git lfs pull",
    );
    check(b"<!DOCTYPE html><html></html>", "a web page");
    check(br#"{"error":"Entry not found"}"#, "JSON");
    check(
        b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}",
        "the safetensors format",
    );
    check(b"PK\x03\x04 archive.pkl", "a PyTorch checkpoint");
    check(b"tjgg\x03\0\0\0", "a GGML format before GGUF");
    check(b"algg\x01\0\0\0", "LoRA adapter");
}
