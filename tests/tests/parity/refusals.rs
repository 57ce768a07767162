//! What cannot be split or run says so in one line, and never aborts.

use jupiter_models::engine::{Engine, EngineParams, MAX_CELLS, StageEngine, StepInput};
use jupiter_models::gguf::GgufFile;
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::hidden::HiddenStates;
use jupiter_models::llama::GgufWriter;
use jupiter_models::profile::ModelProfile;
use jupiter_models::slice::StageSlice;
use jupiter_models::split::{Weights, split_by_weight};
use jupiter_models::synth::{SynthArch, SynthSpec};
use jupiter_models::{KvOp, LayerRange, Result, SequenceId};

use crate::kit::{Model, params, rows};

fn tiny(arch: SynthArch) -> SynthSpec {
    SynthSpec {
        n_embd: 64,
        n_ff: 64,
        n_vocab: 320,
        ..SynthSpec::new(arch)
    }
}

fn message<T>(result: Result<T>) -> String {
    let message = result.err().expect("a refusal").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

fn slice(model: &Model, start: u32, end: u32) -> Result<StageSlice> {
    model
        .cache()
        .slice(&model.file, LayerRange::new(start, end), &mut |_, _| {})
}

#[test]
fn models_of_27_billion_stay_whole() {
    let model = Model::new(&SynthSpec {
        n_layer: 46,
        ..tiny(SynthArch::Gemma2)
    });
    assert_eq!(
        message(slice(&model, 0, 23)),
        "this model cannot be split: the model has 46 layers, and gemma2 chooses constants by that \
         count; run it on one machine (--stages 1)"
    );
    assert!(slice(&model, 0, 46).unwrap().is_whole());
}

/// A file of that architecture with a table of embeddings, and nothing else.
fn only_a_table(model: &Model, arch: &str) -> GgufFile {
    let path = model.dir.path().join(arch);
    let mut writer = GgufWriter::new().unwrap();
    writer.set_str("general.architecture", arch).unwrap();
    for key in ["block_count", "embedding_length", "context_length"] {
        writer.set_u32(&format!("{arch}.{key}"), 64).unwrap();
    }
    writer
        .add_tensor("token_embd.weight", 0, &[64, 32])
        .unwrap();
    let mut file = std::fs::File::create(&path).unwrap();
    writer
        .write(&mut file, &path, &mut |_, _, sink| {
            sink.hole();
            Ok(())
        })
        .unwrap();
    GgufFile::open(&path).unwrap()
}

#[test]
fn other_architectures_are_refused_by_name_or_run_whole() {
    let model = Model::new(&tiny(SynthArch::Llama));
    for allow in [false, true] {
        let cache = model.cache().allow_unproven(allow);
        let slice = |arch: &str, n_layer| {
            let file = only_a_table(&model, arch);
            let sliced = cache.slice(&file, LayerRange::new(0, n_layer), &mut |_, _| {});
            (file, sliced)
        };
        assert_eq!(
            message(slice("mamba", 64).1),
            "architecture `mamba` cannot be run: its layers keep a state of the past, and no test has \
             shown that guesses, branches and kept answers are right with it (`jupiter models` lists \
             what can)"
        );
        assert_eq!(
            message(slice("gemma3n", 32).1),
            "this model cannot be split: what the layers of `gemma3n` models need of each other is \
             not known here; run it on one machine (--stages 1)"
        );
        // Whole it is llama.cpp that refuses what is not a model, and the process lives.
        let (file, whole) = slice("gemma3n", 64);
        let whole = whole.unwrap();
        assert!(whole.is_whole());
        let loaded = Engine::load(&file, &whole, &params(), &mut |_| {});
        assert!(message(loaded).starts_with("llama.cpp: cannot load "));
        let cut = slice("olmoe", 32).1;
        match allow {
            false => assert!(message(cut).contains("--allow-unproven tries it")),
            true => assert!(!cut.unwrap().is_whole()),
        }
    }
}

#[test]
fn splits_that_cannot_be_are_named() {
    let model = Model::new(&tiny(SynthArch::Qwen3));
    let profile = ModelProfile::from_gguf(&model.file, &params(), HiddenDtype::F32).unwrap();
    let layers = profile.layers.iter();
    let weights = Weights {
        embedding: profile.embedding_bytes,
        layers: layers.map(|layer| layer.weight_bytes).collect(),
        head: profile.head_bytes,
    };
    assert_eq!(
        message(split_by_weight(&weights, 7, &profile.cuts)),
        "7 stages for 6 layers: take 1 to 6 stages"
    );
    let ranges = split_by_weight(&weights, 3, &profile.cuts).unwrap();
    assert_eq!((ranges.len(), ranges[0].start, ranges[2].end), (3, 0, 6));
    assert_eq!(
        message(slice(&model, 4, 9)),
        "layers 4..9 are not in 0..6, or there are none"
    );
}

#[test]
fn a_context_beyond_the_memory_is_refused_before_it_is_taken() {
    let model = Model::new(&tiny(SynthArch::Llama));
    let slice = slice(&model, 0, 3).unwrap();
    // The mask of 2^16 rows on 2^22 cells alone would be more than a terabyte.
    let huge = EngineParams {
        n_ctx: MAX_CELLS,
        n_batch: 1 << 16,
        ..params()
    };
    let got = message(Engine::load(&model.file, &slice, &huge, &mut |_| {}));
    assert!(
        got.starts_with("layers 0..3 need ") && got.ends_with("or more stages"),
        "{got}"
    );
    assert!(got.contains("KV cache of 4194304 cells"), "{got}");
}

#[test]
fn rows_that_cannot_be_computed_are_refused_and_the_engine_goes_on() {
    let model = Model::new(&tiny(SynthArch::Llama));
    let mut first = model.engine(LayerRange::new(0, 3), &params());
    let mut last = model.engine(LayerRange::new(3, 6), &params());
    let good = rows(&[0], 0, &[1, 2], true);
    let mut refuse = |rows: &[_], expected: &str| {
        assert_eq!(
            message(first.step(rows, StepInput::Tokens)),
            format!("bad step: {expected}")
        );
    };
    refuse(&[], "0 rows: 1 to 64 are possible");
    refuse(
        &rows(&[0], 0, &[1; 65], true),
        "65 rows: 1 to 64 are possible",
    );
    refuse(
        &rows(&[8], 0, &[1], true),
        "sequence s8 is not below 8 (-np)",
    );
    refuse(
        &rows(&[0], 3, &[1], true),
        "row 0 has position 3 of s0, expected 0",
    );
    refuse(&rows(&[0], 0, &[320], true), "token 320 is not below 320");
    refuse(&rows(&[0], 0, &[-1], true), "token -1 is not below 320");

    let hidden = HiddenStates::new(1, 64, vec![0.0; 64]).unwrap();
    assert_eq!(
        message(first.step(&good, StepInput::Hidden(&hidden))),
        "bad step: the first stage takes tokens, not hidden states"
    );
    assert_eq!(
        message(last.step(&good, StepInput::Tokens)),
        "bad step: this stage takes hidden states, not tokens"
    );
    assert_eq!(
        message(last.step(&good, StepInput::Hidden(&hidden))),
        "bad step: hidden states of shape (1, 64), expected (2, 64)"
    );
    let ops = KvOp::Fork {
        src: SequenceId(0),
        dst: SequenceId(1),
        len: 1,
    };
    assert_eq!(
        message(first.apply(ops)),
        "bad step: 1 positions of s0 cannot be forked, it has 0"
    );
    first.step(&good, StepInput::Tokens).unwrap();
    first.apply(ops).unwrap();
}

#[test]
fn a_full_cache_is_told_and_room_made_by_dropping() {
    let model = Model::new(&tiny(SynthArch::Gemma2));
    let mut engine = model.engine(LayerRange::new(0, 2), &params());
    for seq in 0..4 {
        engine
            .step(&rows(&[seq], 0, &[1; 64], false), StepInput::Tokens)
            .unwrap();
    }
    let more = rows(&[5], 0, &[1], false);
    assert_eq!(
        message(engine.step(&more, StepInput::Tokens)),
        "bad step: no room for 1 rows in a KV cache of 256 cells: finish or shorten sequences, or \
         take a larger context (-c)"
    );
    engine.apply(KvOp::Drop { seq: SequenceId(2) }).unwrap();
    engine.step(&more, StepInput::Tokens).unwrap();
    engine.clear();
    for seq in 0..4 {
        engine
            .step(&rows(&[seq], 0, &[1; 64], false), StepInput::Tokens)
            .unwrap();
    }
}

#[test]
fn odd_sizes_do_not_abort() {
    let model = Model::new(&tiny(SynthArch::Llama));
    let slice = slice(&model, 0, 3).unwrap();
    // Fewer rows than sequences, and a batch beyond the context.
    for (n_ctx, n_batch, n_seq_max) in [(1, 1, 256), (300, 1, 8), (256, 4096, 1)] {
        let params = EngineParams {
            n_ctx,
            n_batch,
            n_seq_max,
            ..params()
        };
        let mut engine = Engine::load(&model.file, &slice, &params, &mut |_| {}).unwrap();
        engine
            .step(&rows(&[n_seq_max - 1], 0, &[1], false), StepInput::Tokens)
            .unwrap();
        assert!(engine.n_ctx().is_multiple_of(256));
        let memory = engine.memory();
        assert!(memory.weights_bytes > 0 && memory.kv_bytes > 0 && memory.compute_bytes > 0);
    }
    let zero = EngineParams {
        n_ctx: 0,
        ..params()
    };
    assert!(message(Engine::load(&model.file, &slice, &zero, &mut |_| {})).contains("(-c) is 0"));
}

#[test]
fn a_slice_that_was_exchanged_is_noticed() {
    let model = Model::new(&tiny(SynthArch::Llama));
    let two = slice(&model, 0, 2).unwrap();
    let exchanged = StageSlice {
        range: LayerRange::new(0, 3),
        ..two
    };
    let got = message(Engine::load(
        &model.file,
        &exchanged,
        &params(),
        &mut |_| {},
    ));
    assert!(
        got.ends_with("it does not hold layers 0..3: slice it again"),
        "{got}"
    );
}
