//! Files that lie: each is refused in one line, and no change of bytes makes the reader panic.

use proptest::prelude::*;

use super::header::I32;
use super::{Header, V, open, reason};
use crate::gguf::{KvDtype, ModelInfo};
use crate::llama::quantize::{F16, F32, Q4_0};

#[test]
fn hostile_headers_are_refused_in_one_line() {
    let check = |bytes: &[u8], part: &str| {
        let got = reason(open(bytes));
        assert!(got.contains(part), "expected {part:?}, got {got:?}");
    };
    let good = Header::default();
    let with = |edit: &dyn Fn(&mut Header)| {
        let mut header = Header::default();
        edit(&mut header);
        header.bytes()
    };
    let patched = |at: usize, bytes: &[u8]| {
        let mut out = Header::default().bytes();
        out[at..at + bytes.len()].copy_from_slice(bytes);
        out
    };
    let tensor = |ty: u32, dims: Vec<u64>, offset: Option<u64>| {
        with(&|h| h.tensors = vec![("token_embd.weight", ty, dims.clone(), offset)])
    };

    check(&[], "the file is empty: download it again");
    check(b"GG", "truncated: the magic");
    check(b"PK\x03\x05 zip", "it starts with \"PK\\u{3}\\u{5}\"");
    check(
        &patched(4, &[1, 0, 0, 0]),
        "version 1 is no longer readable",
    );
    check(&patched(4, &[0, 0, 0, 3]), "big endian");
    check(&patched(4, &[9, 0, 0, 0]), "version 9 is unknown");
    check(
        &patched(8, &[0xff; 8]),
        "the tensor count 18446744073709551615 cannot fit",
    );
    check(
        &patched(16, &[0xff; 8]),
        "the key-value count 18446744073709551615 cannot fit",
    );
    check(
        &patched(24, &[0xff; 8]),
        "a key's length 18446744073709551615 cannot fit",
    );
    check(&patched(32, &[0xff; 4]), "key 0 is not UTF-8");
    check(
        &good.clone().set("a", V::Raw(99, vec![0; 8])).bytes(),
        "the unknown value type 99",
    );
    check(
        &good
            .clone()
            .set("a", V::Raw(9, vec![9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]))
            .bytes(),
        "unknown type 9",
    );
    for ty in 0u32..13 {
        let mut array = ty.to_le_bytes().to_vec();
        array.extend(u64::MAX.to_le_bytes());
        let part = if ty == 9 {
            "unknown type 9"
        } else {
            "an array's length 18446744073709551615 cannot fit"
        };
        check(&good.clone().set("a", V::Raw(9, array)).bytes(), part);
    }
    check(
        &with(&|h| h.pairs.push(("llama.block_count", V::U32(3)))),
        "`llama.block_count` is there twice",
    );
    check(&with(&|h| h.pairs.push(("", V::U32(3)))), "is empty");
    check(
        &good.clone().set("split.count", V::U32(3)).bytes(),
        "it is part 1 of 3: name the first one",
    );
    check(
        &good.clone().set("general.alignment", V::U32(0)).bytes(),
        "power of two",
    );
    check(
        &good.clone().set("general.alignment", V::U32(24)).bytes(),
        "power of two",
    );
    check(
        &good.clone().set("general.alignment", V::U32(1)).bytes(),
        "at least 8",
    );
    check(
        &good.clone().set("general.alignment", V::Str("x")).bytes(),
        "power of two",
    );
    check(
        &good
            .clone()
            .set("tokenizer.ggml.tokens", V::Strs(vec!["a", "b", "a"]))
            .bytes(),
        "token 2 of the vocabulary is there twice",
    );
    check(
        &good
            .clone()
            .set("tokenizer.ggml.tokens", V::Strs(vec!["[EMPTY_1]", ""]))
            .bytes(),
        "token 1 of the vocabulary is there twice",
    );

    check(
        &with(&|h| h.tensors.push(("output_norm.weight", F32, vec![64], None))),
        "`output_norm.weight` is there twice",
    );
    check(&with(&|h| h.tensors[0].0 = ""), "1 to 63 bytes");
    check(
        &with(&|h| {
            h.tensors[0].0 = "0123456789012345678901234567890123456789012345678901234567890123"
        }),
        "1 to 63 bytes",
    );
    check(&tensor(F16, vec![], None), "has 0 dims");
    check(&tensor(F16, vec![1; 5], None), "has 5 dims");
    check(&tensor(F16, vec![64, 0], None), "impossible shape [64, 0]");
    check(
        &tensor(F16, vec![1 << 32, 1 << 32], None),
        "impossible shape",
    );
    check(&tensor(F32, vec![1 << 62], None), "impossible shape");
    check(
        &tensor(F32, vec![1 << 40], None),
        "truncated: the tensor `token_embd.weight`",
    );
    check(
        &tensor(Q4_0, vec![33, 2], None),
        "not whole q4_0 blocks of 32",
    );
    check(&tensor(999, vec![64], None), "the unknown type 999");
    for (ty, told) in [
        (
            4,
            "Q4_2, which llama.cpp has removed: quantize the model again",
        ),
        (
            31,
            "Q4_0_4_4, which llama.cpp has removed: take the model in Q4_0",
        ),
        (33, "Q4_0_8_8, which llama.cpp has removed"),
        (
            36,
            "IQ4_NL_4_4, which llama.cpp has removed: take the model in IQ4_NL",
        ),
        (38, "IQ4_NL_8_8, which llama.cpp has removed"),
    ] {
        check(&tensor(ty, vec![64], None), told);
    }
    check(
        &tensor(F16, vec![64, 4], Some(32)),
        "has offset 32, expected 0",
    );
    check(&tensor(F16, vec![64, 4], Some(u64::MAX)), "expected 0");
    let mut cut = good.bytes();
    cut.truncate(cut.len() - 1);
    check(
        &cut,
        "truncated: the tensor `output_norm.weight` ends at byte",
    );
}

#[test]
fn what_no_model_can_have_is_refused_before_llama_cpp_asserts() {
    let check = |header: Header, part: &str| {
        let got = reason(open(&header.bytes()).and_then(|file| ModelInfo::from_gguf(&file)));
        assert!(got.contains(part), "expected {part:?}, got {got:?}");
    };
    let good = Header::default;
    check(
        good().without("general.architecture"),
        "the key `general.architecture` is missing",
    );
    check(
        good().set("general.architecture", V::Str("a\nb")),
        "is not a name",
    );
    check(
        good().set("general.architecture", V::U32(1)),
        "must be a string",
    );
    check(
        good().set("llama.block_count", V::U32(0)),
        "is 0: 1 to 512 are possible",
    );
    check(
        good().set("llama.block_count", V::U32(513)),
        "is 513: 1 to 512",
    );
    check(
        good().set("llama.block_count", V::U32(1)),
        "`llama.block_count` is 1, but tensors of layer 1 are there",
    );
    check(
        good()
            .set("llama.block_count", V::U32(3))
            .set("llama.attention.head_count_kv", V::U32(2)),
        "`llama.block_count` is 3, but no tensor of layer 2 is there",
    );
    check(
        good().set("llama.block_count", V::Str("2")),
        "must be a whole number",
    );
    check(
        good().set("llama.embedding_length", V::U32(0)),
        "`llama.embedding_length` is 0",
    );
    check(
        good().set("llama.embedding_length", V::U32(65)),
        "`token_embd.weight` of 65 columns is missing",
    );
    check(
        good().without("llama.attention.head_count"),
        "`llama.attention.head_count` is missing",
    );
    check(
        good().set("llama.attention.head_count", V::U32(0)),
        "layer 0 has 0 heads",
    );
    check(
        good().set("llama.attention.head_count_kv", V::U32(3)),
        "layer 0 has 4 heads and 3 key-value heads",
    );
    check(
        good().set("llama.attention.head_count_kv", V::U32s(vec![4, 0])),
        "layer 1 has 4 heads and 0",
    );
    check(
        good().set("llama.attention.head_count_kv", V::U32s(vec![4, 2])),
        "`llama.attention.head_count_kv` differs between layers, which llama cannot have",
    );
    check(
        good().set("llama.attention.head_count_kv", V::U32s(vec![4])),
        "has 1 elements for 2 layers",
    );
    check(
        good().set("llama.feed_forward_length", V::F32s(vec![1.0; 2])),
        "must hold whole numbers",
    );
    check(
        good().set("llama.attention.value_length", V::U32(8)),
        "keys of 16 and values of 8",
    );
    check(
        good().set("llama.rope.dimension_count", V::U32(8)),
        "`rope.dimension_count` 8 does not fit",
    );
    check(
        good().set("llama.rope.scaling.type", V::Str("magic")),
        "none of none, linear, yarn",
    );
    check(
        good().set("llama.attention.layer_norm_rms_epsilon", V::F32(-1.0)),
        "must be a number from 0 on",
    );
    check(
        good().set("llama.expert_count", V::U32(2000)),
        "is 2000: 0 to 1024",
    );
    check(
        good().set("llama.expert_used_count", V::U32(2)),
        "2 to 2 of 0 experts",
    );
    check(
        good().set("llama.nextn_predict_layers", V::U32(1)),
        "multi-token prediction",
    );
    check(
        good().set("tokenizer.ggml.model", V::Str("rwkv")),
        "the tokenizer `rwkv` is not known",
    );
    check(
        good().without("tokenizer.ggml.tokens"),
        "must list the tokens",
    );
    check(
        good().set("tokenizer.ggml.scores", V::F32s(vec![0.0; 2])),
        "shorter than the list of 4 tokens",
    );
    let mut header = good();
    header.tensors[3].1 = F16;
    check(header, "the tensor `output_norm.weight` cannot be f16");
    let mut header = good();
    header.tensors[0].1 = I32;
    check(header, "the tensor `token_embd.weight` cannot be i32");
}

/// Opens bytes and touches all that was accepted; only panics and aborts fail.
fn survive(bytes: &[u8]) {
    if let Ok(file) = open(bytes) {
        for tensor in file.tensors() {
            assert_eq!(file.tensor_bytes(tensor).len() as u64, tensor.n_bytes);
            tensor.row_bytes();
            tensor.n_rows();
        }
        if let Ok(info) = ModelInfo::from_gguf(&file) {
            info.kv_bytes(info.all_layers(), u32::MAX, KvDtype::F16, KvDtype::Q8_0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        survive(&tail);
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(&tail);
        survive(&bytes);
    }

    #[test]
    fn changed_headers_never_panic(
        changes in proptest::collection::vec((0usize..900, any::<u8>()), 1..6),
        cut in proptest::option::of(0usize..900),
    ) {
        let mut bytes = Header::default().bytes();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        survive(&bytes);
    }

    #[test]
    fn changed_words_never_panic(
        at in 0usize..900,
        word in prop_oneof![any::<u64>(), Just(u64::MAX), Just(1 << 63), Just(u64::from(u32::MAX)), 0u64..40],
    ) {
        let mut bytes = Header::default().bytes();
        if at + 8 <= bytes.len() {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        survive(&bytes);
    }
}
