//! The block that guesses ahead computes, in a file of its own, what it computes in the whole model.
#![allow(clippy::unwrap_used)]

use jupiter_models::engine::{
    Engine, EngineParams, KeptStates, ReferenceEngine, StageEngine, StepInput, StepOutput,
};
use jupiter_models::gguf::{GgufFile, ModelInfo};
use jupiter_models::llama::context::{
    BatchInput, BatchRow, Context, ContextParams, Cut, HiddenInput, MTP_STATE_NODE, Tapped,
};
use jupiter_models::llama::model::LoadedModel;
use jupiter_models::mtp::{MtpBlock, MtpGuesses, MtpRows, MtpWish};
use jupiter_models::sampling::likeliest;
use jupiter_models::slice::SliceCache;
use jupiter_models::synth::{self, SynthArch, SynthSpec};
use jupiter_models::{LayerRange, Row, SequenceId, Token};

const SEQ: SequenceId = SequenceId(1);
const N_PROMPT: usize = 5;
const N_TOKENS: usize = 12;
const DEPTH: usize = 3;

fn params() -> EngineParams {
    EngineParams {
        n_ctx: 256,
        n_seq_max: 2,
        n_batch: 4,
        n_threads: 1,
        keeps_states: KeptStates::All,
        ..EngineParams::default()
    }
}

/// A generated model, whose file is changed before it is opened; and its folder.
fn changed(arch: SynthArch, change: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, GgufFile) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let spec = SynthSpec {
        n_vocab: 320,
        ..SynthSpec::new(arch)
    };
    synth::write(&spec, &path, &mut |_, _| ()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    (dir, GgufFile::open(&path).unwrap())
}

/// A greedy text, and the state before each of its tokens but the first.
fn text_and_states(model: &GgufFile) -> (Vec<Token>, Vec<Vec<f32>>) {
    let mut engine = ReferenceEngine::load(model, &params(), &mut |_| ()).unwrap();
    let mut text: Vec<Token> = (20..20 + N_PROMPT as Token).collect();
    let mut states = Vec::new();
    for pos in 0..N_TOKENS {
        let row = Row {
            seq_ids: vec![SEQ],
            pos: pos as u32,
            token: text[pos],
            wants_logits: true,
        };
        let output = engine.step(&[row], StepInput::Tokens).unwrap();
        let StepOutput::Logits(logits) = output else {
            panic!("the whole model gave hidden states");
        };
        states.push(logits.states.of(0).unwrap().to_vec());
        if pos + 1 == text.len() {
            text.push(likeliest(logits.row(0), 1)[0].0);
        }
    }
    (text, states)
}

/// The rows of positions `from` to `end`.
fn rows(text: &[Token], states: &[Vec<f32>], from: usize, end: usize) -> MtpRows {
    MtpRows {
        pos: from as u32,
        tokens: text[from..end].to_vec(),
        states: states[from - 1..end - 1].concat(),
    }
}

fn wish(seq: SequenceId, rows: &MtpRows, depth: usize) -> MtpWish {
    let rows = rows.clone();
    MtpWish { seq, rows, depth }
}

fn guess(block: &mut MtpBlock, seq: SequenceId, rows: &MtpRows, depth: usize) -> MtpGuesses {
    let guesses = block.guess(&[wish(seq, rows, depth)], 2).unwrap();
    guesses.into_iter().next().unwrap()
}

/// What the block guesses after all rows, computed in the whole model's file, row by row.
fn expected(path: &std::path::Path, rows: &MtpRows) -> Vec<Vec<(Token, f32)>> {
    let engine = params();
    let kernels = engine.kernels.kernels().unwrap();
    let loaded = LoadedModel::load(path, 0, kernels, true, &mut |_| ()).unwrap();
    let n_embd = loaded.n_embd() as usize;
    let params = ContextParams {
        n_ctx: engine.n_cells(),
        n_batch: 4,
        n_ubatch: 4,
        n_seq_max: 2,
        n_threads: 1,
        type_k: engine.type_k,
        type_v: engine.type_v,
        flash_attention: true,
        offload: false,
        is_mtp: true,
    };
    let cut = Cut {
        tapped: Tapped::States(MTP_STATE_NODE),
        input: HiddenInput::Plain,
    };
    let mut context = Context::new(loaded, &params, cut).unwrap();
    let mut step = |pos: u32, token: Token, state: &[f32]| {
        let row = BatchRow {
            seq_ids: &[SEQ],
            pos,
            output: true,
        };
        let logits = context.decode(&[row], BatchInput::Both(&[token], state));
        (logits.unwrap(), context.take_states().unwrap())
    };
    let mut last = (Vec::new(), Vec::new());
    for ((pos, &token), state) in (rows.pos..)
        .zip(&rows.tokens)
        .zip(rows.states.chunks(n_embd))
    {
        last = step(pos, token, state);
    }
    let mut guesses = Vec::new();
    for pos in rows.end().. {
        guesses.push(likeliest(&last.0, 2));
        if guesses.len() == DEPTH {
            break;
        }
        last = step(pos, guesses[guesses.len() - 1][0].0, &last.1);
    }
    guesses
}

#[test]
fn a_block_of_its_own_guesses_what_it_guesses_in_the_whole_model() {
    for arch in [
        SynthArch::Qwen35,
        SynthArch::Qwen35Moe,
        SynthArch::Glm4Moe,
        SynthArch::DeepSeek2,
    ] {
        let (dir, model) = changed(arch, |_| ());
        assert!(ModelInfo::from_gguf(&model).unwrap().has_mtp(), "{arch}");
        let (text, states) = text_and_states(&model);
        let slices = SliceCache::new(dir.path().join("slices"));
        let mut block = MtpBlock::load(&model, &slices, &params(), None).unwrap();
        let all = rows(&text, &states, N_PROMPT, N_TOKENS);
        let whole = expected(model.path(), &all);
        assert_eq!(whole.len(), DEPTH);

        // More rows than a batch at once; then told in parts, with guesses between and a wrong end.
        assert_eq!(guess(&mut block, SEQ, &all, DEPTH), whole, "{arch}");
        block.clear();
        let other = SequenceId(0);
        let first = rows(&text, &states, N_PROMPT, N_PROMPT + 3);
        guess(&mut block, SEQ, &first, DEPTH);
        guess(&mut block, other, &first, DEPTH);
        let mut wrong = rows(&text, &states, N_PROMPT + 3, N_TOKENS);
        wrong.tokens.reverse();
        let wrong_guesses = guess(&mut block, SEQ, &wrong, DEPTH);
        assert_ne!(wrong_guesses, whole, "{arch}");
        let rest = rows(&text, &states, N_PROMPT + 3, N_TOKENS);
        assert_eq!(guess(&mut block, SEQ, &rest, 0).len(), 0);
        assert_eq!(guess(&mut block, SEQ, &rest, DEPTH), whole, "{arch}");
        block.forget(SEQ);
        assert_eq!(guess(&mut block, SEQ, &all, DEPTH), whole, "{arch}");

        // Two sequences at once, and one that goes on from the other's beginning.
        block.clear();
        let alone = guess(&mut block, other, &first, 2);
        let both = [wish(SEQ, &all, DEPTH), wish(other, &first, 2)];
        let both = block.guess(&both, 2).unwrap();
        assert_eq!(both, [whole.clone(), alone], "{arch}");
        block.clear();
        guess(&mut block, SEQ, &first, 0);
        block.fork(SEQ, other, first.end());
        assert_eq!(guess(&mut block, other, &rest, DEPTH), whole, "{arch}");
    }
}

#[test]
fn the_states_of_a_prompt_are_kept_of_rows_without_logits_too() {
    for arch in [SynthArch::Qwen35, SynthArch::Qwen35Moe] {
        let (dir, model) = changed(arch, |_| ());
        let (text, states) = text_and_states(&model);
        let slices = SliceCache::new(dir.path().join("slices"));
        let n_layer = ModelInfo::from_gguf(&model).unwrap().n_layer;
        let mut hidden = None;
        for range in [LayerRange::new(0, 4), LayerRange::new(4, n_layer)] {
            let slice = slices.slice(&model, range, &mut |_, _| ()).unwrap();
            let mut engine = Engine::load(&model, &slice, &params(), &mut |_| ()).unwrap();
            let row = |(pos, token): (usize, &Token)| Row {
                seq_ids: vec![SEQ],
                pos: pos as u32,
                token: *token,
                wants_logits: pos + 1 == params().n_batch as usize,
            };
            let rows: Vec<Row> = text.iter().enumerate().map(row).take(4).collect();
            let input = hidden.as_ref().map_or(StepInput::Tokens, StepInput::Hidden);
            match engine.step(&rows, input).unwrap() {
                StepOutput::Hidden(states) => hidden = Some(states),
                StepOutput::Logits(logits) => {
                    assert_eq!(logits.states.rows, [0, 1, 2, 3], "{arch}");
                    for (at, state) in states.iter().take(4).enumerate() {
                        assert_eq!(logits.states.of(at), Some(&state[..]), "{arch}: row {at}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_model_without_a_block_says_so_and_a_full_cache_guesses_nothing() {
    let (dir, plain) = changed(SynthArch::Llama, |_| ());
    let slices = SliceCache::new(dir.path().join("slices"));
    let error = MtpBlock::load(&plain, &slices, &params(), None)
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("no block for multi-token prediction"),
        "{error}"
    );

    let (_dir, model) = changed(SynthArch::Qwen35, |_| ());
    let error = MtpBlock::load(&model, &slices, &params(), Some(1_000_000));
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("it needs") && error.contains("1 MB are free"),
        "{error}"
    );
    let (text, states) = text_and_states(&model);
    let mut block = MtpBlock::load(&model, &slices, &params(), None).unwrap();
    let mut long = rows(&text, &states, N_PROMPT, N_TOKENS);
    let (tokens, values) = (long.tokens.clone(), long.states.clone());
    while long.tokens.len() < 300 {
        long.tokens.extend(&tokens);
        long.states.extend(&values);
    }
    assert!(guess(&mut block, SEQ, &long, DEPTH).is_empty());
    let all = rows(&text, &states, N_PROMPT, N_TOKENS);
    assert_eq!(guess(&mut block, SEQ, &all, DEPTH).len(), DEPTH);
}

/// Where `text` ends in the file.
fn behind(bytes: &[u8], text: &str) -> usize {
    let mut windows = bytes.windows(text.len());
    windows
        .position(|window| window == text.as_bytes())
        .unwrap()
        + text.len()
}

/// Writes the value of a key of four bytes, which stands behind its name and type.
fn set(bytes: &mut [u8], key: &str, value: [u8; 4]) {
    let at = behind(bytes, key) + 4;
    bytes[at..at + 4].copy_from_slice(&value);
}

#[test]
fn what_llama_cpp_asserts_of_a_block_is_refused_before() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(Change, &str); 3] = [
        (
            |bytes| {
                set(
                    bytes,
                    "glm4moe.leading_dense_block_count",
                    99_u32.to_le_bytes(),
                )
            },
            "leading_dense_block_count",
        ),
        (
            |bytes| {
                let at = behind(bytes, "nextn.eh_proj.weight") - 1;
                bytes[at] = b'X';
            },
            "nextn.eh_proj.weight` is missing",
        ),
        (
            |bytes| {
                let last = SynthSpec::new(SynthArch::Glm4Moe).n_layer;
                let at = behind(bytes, &format!("blk.{last}.ffn_gate_inp.weight")) - 1;
                bytes[at] = b'X';
            },
            "ffn_gate_inp.weight` is missing",
        ),
    ];
    for (change, expected) in changes {
        let (dir, model) = changed(SynthArch::Glm4Moe, change);
        let slices = SliceCache::new(dir.path().join("slices"));
        let error = MtpBlock::load(&model, &slices, &params(), None);
        let error = error.err().unwrap().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
    let key = "nemotron_h.attention.layer_norm_rms_epsilon";
    let negative = (-1_f32).to_le_bytes();
    let (_dir, model) = changed(SynthArch::NemotronH, |bytes| set(bytes, key, negative));
    let error = ModelInfo::from_gguf(&model).unwrap_err().to_string();
    assert!(error.contains("layer_norm_rms_epsilon"), "{error}");
}
