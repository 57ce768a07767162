//! Valid files are read; what hostile ones get is in [`hostile`].
#![allow(clippy::unwrap_used)]

mod header;
mod hostile;
mod kinds;

use std::fs;
use std::path::Path;

use super::*;
use crate::LayerRange;

pub(crate) use header::{Header, V};

/// Writes `bytes` to `path`.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

/// Hyperparameters of a small model of that architecture.
pub(crate) fn info(arch: &str, n_layer: u32) -> ModelInfo {
    ModelInfo {
        arch: arch.into(),
        name: None,
        n_layer,
        n_blocks: n_layer,
        n_embd: 64,
        n_vocab: 32,
        n_ctx_train: 128,
        n_head: vec![2; n_layer as usize],
        n_head_kv: vec![1; n_layer as usize],
        n_embd_head_k: 32,
        n_embd_head_v: 32,
        n_embd_head_k_swa: 32,
        n_embd_head_v_swa: 32,
        n_ff: 96,
        n_expert: 0,
        expert_step: 1,
        shares_across_layers: false,
        sliding_window: None,
        recurrent: None,
        latent: None,
        tied_head: true,
    }
}

fn open(bytes: &[u8]) -> Result<GgufFile> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    write_file(&path, bytes);
    GgufFile::open(&path)
}

/// The reason of a refusal, without the path; it must be one line.
fn reason<T>(result: Result<T>) -> String {
    let message = result.err().expect("a refusal").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
        .split_once("not a usable GGUF file: ")
        .map_or(message.clone(), |(_, what)| what.into())
}

#[test]
fn a_valid_file_is_read() {
    let file = open(&Header::default().bytes()).unwrap();
    assert_eq!(file.tensors().len(), 4);
    let q = file.tensor("blk.0.attn_q.weight").unwrap();
    assert_eq!(
        (q.n_bytes, q.row_bytes(), q.n_rows(), q.layer()),
        (64 * 36, 36, 64, Some(0))
    );
    assert_eq!(file.tensor_bytes(q).len(), 64 * 36);
    assert_eq!(file.tensor_bytes(q)[0], 0, "64 * 4 * 2 bytes precede it");
    let mut read = [0; 3];
    file.read_tensor(q, 2, &mut read).unwrap();
    assert_eq!(read, file.tensor_bytes(q)[2..5]);
    assert!(file.read_tensor(q, q.n_bytes - 2, &mut read).is_err());

    let info = ModelInfo::from_gguf(&file).unwrap();
    assert_eq!(
        (info.n_layer, info.n_embd, info.n_vocab, info.n_ff),
        (2, 64, 4, 96)
    );
    assert_eq!((info.n_head, info.n_head_kv), (vec![4, 4], vec![2, 2]));
    assert!(info.tied_head && info.sliding_window.is_none());

    for header in [
        Header {
            version: 2,
            ..Header::default()
        },
        Header {
            alignment: 64,
            ..Header::default()
        }
        .set("general.alignment", V::U32(64)),
    ] {
        let file = open(&header.bytes()).unwrap();
        assert_eq!(file.tensors().last().unwrap().n_bytes, 256);
    }
}

#[test]
fn per_layer_kv_bytes_follow_heads_and_types() {
    let info = ModelInfo {
        n_head_kv: vec![2, 1],
        n_embd_head_k: 16,
        n_embd_head_v: 16,
        ..info("llama", 2)
    };
    let bytes = |a, b, k, v| info.kv_bytes(LayerRange::new(a, b), 256, k, v);
    // Heads of 16 values: 2 heads in layer 0, 1 in layer 1.
    assert_eq!(bytes(0, 1, KvDtype::F16, KvDtype::F16), 256 * 2 * 32 * 2);
    assert_eq!(
        bytes(0, 2, KvDtype::F16, KvDtype::F16),
        256 * 2 * (32 + 16) * 2
    );
    assert_eq!(bytes(0, 1, KvDtype::Q8_0, KvDtype::F16), 256 * (34 + 64));
    assert_eq!(bytes(1, 9, KvDtype::F16, KvDtype::F16), 256 * 2 * 16 * 2);
}

#[test]
fn a_missing_file_is_named() {
    let error = GgufFile::open("/no/such/model.gguf")
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with("/no/such/model.gguf: No such file"),
        "{error}"
    );
    let dir = tempfile::tempdir().unwrap();
    assert!(reason(GgufFile::open(dir.path())).contains("not a regular file"));
}
