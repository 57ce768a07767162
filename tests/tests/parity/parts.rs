//! A model in several files is the model: cut, uncut and by its hash; what is wrong with a part is told.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use jupiter_models::gguf::{GgufFile, ModelInfo};
use jupiter_models::llama::GgufWriter;
use jupiter_models::synth::{SynthArch, SynthSpec};

use crate::kit::{Model, assert_same_bits, params, prompt};

const N_PARTS: usize = 3;

/// Writes `model` as `llama-gguf-split` would: metadata in the first file, a third of the tensors in
/// each.
fn split(model: &GgufFile, dir: &Path) -> Vec<PathBuf> {
    let tensors = model.tensors();
    let each = tensors.len().div_ceil(N_PARTS);
    let write = |(no, tensors): (usize, &[_])| {
        let path = dir.join(format!("m-{:05}-of-{N_PARTS:05}.gguf", no + 1));
        let mut writer = match no {
            0 => GgufWriter::copy_metadata_of(model.path()).unwrap(),
            _ => GgufWriter::new().unwrap(),
        };
        writer.set_u16("split.no", no as u16).unwrap();
        writer.set_u16("split.count", N_PARTS as u16).unwrap();
        let n_tensors = model.tensors().len() as i32;
        writer.set_i32("split.tensors.count", n_tensors).unwrap();
        put_tensors(&mut writer, model, tensors, &path);
        path
    };
    tensors.chunks(each).enumerate().map(write).collect()
}

fn put_tensors(
    writer: &mut GgufWriter,
    model: &GgufFile,
    tensors: &[jupiter_models::gguf::TensorInfo],
    path: &Path,
) {
    for tensor in tensors {
        let (name, dims) = (&tensor.name, &tensor.dims);
        writer.add_tensor(name, tensor.ggml_type, dims).unwrap();
    }
    let mut file = File::create(path).unwrap();
    writer
        .write(&mut file, path, &mut |index, _, sink| {
            sink.put(model.tensor_bytes(&tensors[index]))
        })
        .unwrap();
}

fn tiny(seed: u64) -> Model {
    Model::new(&SynthSpec {
        n_embd: 64,
        n_ff: 64,
        n_vocab: 320,
        seed,
        ..SynthSpec::new(SynthArch::Qwen3)
    })
}

#[test]
fn a_model_in_parts_is_cut_and_run_as_in_one_file() {
    let one = tiny(1);
    let dir = tempfile::tempdir().unwrap();
    let paths = split(&one.file, dir.path());
    let file = GgufFile::open(&paths[0]).unwrap();
    let about = |file: &GgufFile| ModelInfo::from_gguf(file).unwrap();
    assert_eq!(about(&file), about(&one.file));
    let parts = Model { dir, file };
    let prompt = prompt(20, 320);
    let expected = one.reference(&params()).greedy(&prompt, 8, 4);
    for mut pipeline in [
        parts.reference(&params()),
        parts.pipeline(&[2, 4], 6, &params()),
        parts.pipeline(&[1], 6, &params()),
    ] {
        let got = pipeline.greedy(&prompt, 8, 4);
        for (got, expected) in got.steps.iter().zip(&expected.steps) {
            assert_same_bits(got, expected, "in parts");
        }
    }
}

#[test]
fn what_is_wrong_with_a_part_is_told() {
    let (one, other) = (tiny(1), tiny(2));
    let dir = tempfile::tempdir().unwrap();
    let paths = split(&one.file, dir.path());
    let told = |path: &Path| {
        let message = GgufFile::open(path).err().unwrap().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    };
    let hash = || GgufFile::open(&paths[0]).unwrap().content_hash().unwrap();
    let first = hash();
    assert!(
        told(&paths[1]).ends_with("it is part 2 of 3: name the first one, m-00001-of-00003.gguf")
    );

    let renamed = dir.path().join("renamed.gguf");
    fs::copy(&paths[0], &renamed).unwrap();
    assert!(told(&renamed).ends_with("keep the names that end in -00001-of-00003.gguf"));

    let kept = fs::read(&paths[2]).unwrap();
    fs::remove_file(&paths[2]).unwrap();
    assert!(
        told(&paths[0]).ends_with("part 3 of 3 is missing: put m-00003-of-00003.gguf beside it")
    );
    fs::copy(&paths[1], &paths[2]).unwrap();
    assert!(told(&paths[0]).contains("it is part 2 of 3, not part 3 of 3 as its name says"));
    fs::copy(one.file.path(), &paths[2]).unwrap();
    assert!(told(&paths[0]).contains("it is no part of a model, not part 3 of 3"));

    // Of another model of the same shape: other bytes, which only the hash can tell.
    let others = tempfile::tempdir().unwrap();
    let of_other = split(&other.file, others.path());
    fs::copy(&of_other[2], &paths[2]).unwrap();
    assert_ne!(hash(), first);
    // A part with tensors of another one, and one that lacks some.
    let tensors = one.file.tensors();
    let spoil = |tensors: &[_]| {
        let mut writer = GgufWriter::new().unwrap();
        writer.set_u16("split.no", 2).unwrap();
        writer.set_u16("split.count", N_PARTS as u16).unwrap();
        put_tensors(&mut writer, &one.file, tensors, &paths[2]);
        told(&paths[0])
    };
    assert!(spoil(&tensors[..1]).contains("`token_embd.weight` is in part 1 and in part 3"));
    let n = tensors.len();
    assert!(spoil(&tensors[n - 1..]).contains(&format!("expected {n}: they are not of one model")));

    fs::write(&paths[2], kept).unwrap();
    assert_eq!(hash(), first);
}
