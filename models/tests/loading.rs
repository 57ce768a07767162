//! Engines that come and go on several threads leave each other alone.
#![allow(clippy::unwrap_used)]

use jupiter_models::engine::{EngineParams, ReferenceEngine, StageEngine, StepInput, StepOutput};
use jupiter_models::gguf::GgufFile;
use jupiter_models::synth::{self, SynthArch, SynthSpec};
use jupiter_models::{Row, SequenceId};

const N_THREADS: u32 = 6;
const N_LOADS: u32 = 150;

/// The logits after a few tokens, of the model loaded anew.
fn logits(path: &std::path::Path) -> Vec<f32> {
    let model = GgufFile::open(path).unwrap();
    let params = EngineParams {
        n_ctx: 256,
        n_seq_max: 1,
        n_batch: 8,
        n_threads: 1,
        ..EngineParams::default()
    };
    let mut engine = ReferenceEngine::load(&model, &params, &mut |_| ()).unwrap();
    let rows: Vec<Row> = (0..4)
        .map(|pos| Row {
            seq_ids: vec![SequenceId(0)],
            pos,
            token: 20 + pos as i32,
            wants_logits: pos == 3,
        })
        .collect();
    let StepOutput::Logits(logits) = engine.step(&rows, StepInput::Tokens).unwrap() else {
        panic!("the whole model gave hidden states");
    };
    logits.row(0).to_vec()
}

/// Pages of a file are given back by the addresses of its mappings, which other threads may have given to
/// memory of their own meanwhile.
#[test]
fn engines_of_one_file_that_come_and_go_compute_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let spec = SynthSpec {
        n_vocab: 320,
        n_layer: 2,
        ..SynthSpec::new(SynthArch::Llama)
    };
    synth::write(&spec, &path, &mut |_, _| ()).unwrap();
    let expected = logits(&path);
    let all_the_same = || (0..N_LOADS).all(|_| logits(&path) == expected);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..N_THREADS).map(|_| scope.spawn(all_the_same)).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    });
}
