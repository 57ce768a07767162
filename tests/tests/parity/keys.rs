//! Files whose keys are missing or hold numbers that no model has: one line, or a model that runs, and
//! never the end of the process.

use std::fs::File;

use jupiter_models::Result;
use jupiter_models::architecture::cuts;
use jupiter_models::engine::{Engine, ReferenceEngine, StageEngine, StepInput};
use jupiter_models::gguf::{Array, GgufFile, ModelInfo, TensorInfo, Value};
use jupiter_models::llama::GgufWriter;
use jupiter_models::synth::{SynthArch, SynthSpec, SynthType};
use jupiter_models::{LayerRange, ModelError};

use crate::kit::{Model, params, rows};

/// What is done to a key.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Missing,
    Zero,
    One,
    Huge,
    /// Of an array: an element less; of anything else: an array.
    Short,
}

const WRONGS: [Wrong; 5] = [
    Wrong::Missing,
    Wrong::Zero,
    Wrong::One,
    Wrong::Huge,
    Wrong::Short,
];

/// Sets `key`, which holds `value`.
fn spoil(writer: &mut GgufWriter, key: &str, value: &Value, wrong: Wrong) -> Result<()> {
    let number = match wrong {
        Wrong::Missing => return writer.remove_key(key).map(|_| ()),
        Wrong::Zero => 0,
        Wrong::One => 1,
        Wrong::Huge => u32::MAX,
        Wrong::Short => 3,
    };
    match (value, wrong) {
        (Value::Array(Array::Uint(all)), Wrong::Short) => {
            let short: Vec<u32> = all.iter().skip(1).map(|&n| n as u32).collect();
            writer.set_array_u32(key, &short)
        }
        (Value::Array(Array::Float(all)), Wrong::Short) => {
            let short: Vec<f32> = all.iter().skip(1).map(|&x| x as f32).collect();
            writer.set_array_f32(key, &short)
        }
        (_, Wrong::Short) => writer.set_array_u32(key, &[number; 2]),
        (Value::Float(_), Wrong::Huge) => writer.set_f32(key, f32::NAN),
        (Value::Float(_), _) => writer.set_f32(key, number as f32),
        (Value::Array(_), _) => writer.set_array_u32(key, &[number; 4]),
        _ => writer.set_u32(key, number),
    }
}

/// The model with one key spoilt.
fn spoilt(model: &Model, key: &str, value: &Value, wrong: Wrong) -> Result<GgufFile> {
    let mut writer = GgufWriter::copy_metadata_of(model.file.path())?;
    spoil(&mut writer, key, value, wrong)?;
    write(model, writer, model.file.tensors())
}

/// The model with these keys and tensors.
fn write(model: &Model, mut writer: GgufWriter, tensors: &[TensorInfo]) -> Result<GgufFile> {
    let path = model.dir.path().join("spoilt.gguf");
    for tensor in tensors {
        writer.add_tensor(&tensor.name, tensor.ggml_type, &tensor.dims)?;
    }
    let mut file = File::create(&path).unwrap();
    writer.write(&mut file, &path, &mut |index, _, sink| {
        sink.put(model.file.tensor_bytes(&tensors[index]))
    })?;
    GgufFile::open(&path)
}

/// Runs it whole, and its first slice.
fn run(model: &Model, file: &GgufFile) -> Result<()> {
    let info = ModelInfo::from_gguf(file)?;
    let tokens = rows(&[0], 0, &[1, 2, 3], true);
    let mut whole = ReferenceEngine::load(file, &params(), &mut |_| {})?;
    whole.step(&tokens, StepInput::Tokens)?;
    let cuts = cuts(&info, false);
    let first = (1..info.n_layer)
        .map(|end| LayerRange::new(0, end))
        .find(|&range| cuts.allows(range, info.n_layer));
    if let Some(range) = first {
        let slice = model.cache().slice(file, range, &mut |_, _| {})?;
        Engine::load(file, &slice, &params(), &mut |_| {})?.step(&tokens, StepInput::Tokens)?;
    }
    Ok(())
}

#[test]
fn no_key_of_any_architecture_ends_the_process() {
    for arch in SynthArch::ALL {
        let model = tiny(arch);
        let prefix = format!("{arch}.");
        let own = |key: &str| key.starts_with(&prefix) || key.starts_with("xielu.");
        let keys = model.file.metadata().iter();
        for (key, value) in keys.filter(|(key, _)| own(key)) {
            for wrong in WRONGS {
                // The last line before an abort.
                eprintln!("{key} {wrong:?}");
                let done = spoilt(&model, key, value, wrong).and_then(|file| run(&model, &file));
                if let Err(error) = done {
                    assert_one_line(&error);
                }
            }
        }
    }
}

#[test]
fn no_tensor_that_is_missing_ends_the_process() {
    for arch in SynthArch::ALL {
        let model = tiny(arch);
        let tensors = model.file.tensors();
        let of_some = |tensor: &&TensorInfo| tensor.layer().is_none_or(|il| il < 2);
        for missing in tensors.iter().filter(of_some) {
            eprintln!("{arch} {}", missing.name);
            let writer = GgufWriter::copy_metadata_of(model.file.path()).unwrap();
            let others = tensors.iter().filter(|tensor| tensor.name != missing.name);
            let others: Vec<TensorInfo> = others.cloned().collect();
            let done = write(&model, writer, &others).and_then(|file| run(&model, &file));
            if let Err(error) = done {
                assert_one_line(&error);
            }
        }
    }
}

/// A model of few layers, which runs.
fn tiny(arch: SynthArch) -> Model {
    let model = Model::new(&SynthSpec {
        n_embd: 64,
        n_ff: 96,
        n_vocab: 300,
        n_expert: 4,
        n_swa: 16,
        n_layer: SynthSpec::new(arch).n_layer.min(4),
        ty: SynthType::Q4_0,
        ..SynthSpec::new(arch)
    });
    run(&model, &model.file).unwrap();
    model
}

fn assert_one_line(error: &ModelError) {
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
}
