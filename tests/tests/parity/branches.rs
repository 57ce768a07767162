//! Forks, draft trees and shortened sequences: slices give the bits that the whole model gives for
//! the same steps, and both agree with each continuation computed alone.

use jupiter_models::engine::Logits;
use jupiter_models::gguf::ModelInfo;
use jupiter_models::synth::{SynthArch, SynthSpec, SynthType};
use jupiter_models::{KvOp, Row, SequenceId, Token};

use crate::kit::{Model, Pipeline, argmax, assert_same_bits, distance, params, prompt, rows};

const N_VOCAB: u32 = 320;
const N_PREFIX: u32 = 20;
/// With F16 weights, other batch shapes move a logit by rounding only.
const TOLERANCE: f32 = 2e-2;

fn model(arch: SynthArch) -> Model {
    let n_ff = if arch.has_experts() { 128 } else { 256 };
    Model::new(&SynthSpec {
        n_embd: 128,
        n_ff,
        n_vocab: N_VOCAB,
        ty: SynthType::F16,
        ..SynthSpec::new(arch)
    })
}

/// The whole model and two ways to cut it, always stepped alike.
struct Trio(Vec<Pipeline>);

impl Trio {
    fn new(model: &Model) -> Trio {
        let params = params();
        let n_layer = ModelInfo::from_gguf(&model.file).unwrap().n_layer;
        let cuts = model.cut_lists();
        let (one, more) = (&cuts[cuts.len() / 3], &cuts[cuts.len() - 1]);
        Trio(vec![
            model.reference(&params),
            model.pipeline(one, n_layer, &params),
            model.pipeline(more, n_layer, &params),
        ])
    }

    fn step(&mut self, rows: &[Row], what: &str) -> Logits {
        let mut results = self.0.iter_mut().map(|pipeline| pipeline.step(rows));
        let whole = results.next().unwrap();
        for (i, cut) in results.enumerate() {
            assert_same_bits(&cut, &whole, &format!("{what}, split {i}"));
        }
        whole
    }

    fn apply(&mut self, op: KvOp) {
        self.0.iter_mut().for_each(|pipeline| pipeline.apply(op));
    }

    fn fork(&mut self, src: u32, dst: u32, len: u32) {
        self.apply(KvOp::Fork {
            src: SequenceId(src),
            dst: SequenceId(dst),
            len,
        });
    }

    fn prefill(&mut self) {
        let prefix = prompt(N_PREFIX as usize, N_VOCAB);
        self.step(&rows(&[0], 0, &prefix, false), "prefix");
    }
}

/// The logits after each of `tokens` behind the prefix, one row a step, by the whole model.
fn alone(model: &Model, tokens: &[Token]) -> Vec<Logits> {
    let mut reference = model.reference(&params());
    reference.step(&rows(&[0], 0, &prompt(N_PREFIX as usize, N_VOCAB), false));
    (N_PREFIX..)
        .zip(tokens)
        .map(|(pos, &t)| reference.step(&rows(&[0], pos, &[t], true)))
        .collect()
}

fn assert_close(got: &[f32], expected: &Logits, what: &str) {
    let d = distance(got, expected.row(0));
    assert!(d < TOLERANCE, "{what}: {d} apart");
}

#[test]
fn branches_of_a_shared_prefix_decode_side_by_side() {
    for arch in SynthArch::ALL {
        let model = model(arch);
        let mut trio = Trio::new(&model);
        trio.prefill();
        let branches: [Vec<Token>; 3] =
            [vec![5, 6, 7, 8], vec![100, 101, 102, 103], vec![9, 9, 9, 9]];
        trio.fork(0, 1, N_PREFIX);
        trio.fork(0, 2, N_PREFIX);
        let alone: Vec<_> = branches
            .iter()
            .map(|tokens| alone(&model, tokens))
            .collect();
        for i in 0..4 {
            let pos = N_PREFIX + i as u32;
            let step: Vec<Row> = (0..3)
                .flat_map(|b| rows(&[b as u32], pos, &[branches[b][i]], true))
                .collect();
            let logits = trio.step(&step, &format!("{arch} branches, token {i}"));
            for (b, alone) in alone.iter().enumerate() {
                let what = format!("{arch} branch {b}, token {i}");
                assert_close(logits.row(b), &alone[i], &what);
            }
        }
    }
}

#[test]
fn a_draft_tree_is_verified_in_one_step_and_the_accepted_branch_goes_on() {
    //        20      21      22
    // root --+- 11 --+- 12 -- 13    sequence 1
    //   7    |       +- 14 -- 15    sequence 2
    //        +- 16 ---- 17 -- 18    sequence 3
    for arch in SynthArch::ALL {
        let model = model(arch);
        let mut trio = Trio::new(&model);
        trio.prefill();
        for seq in 1..=3 {
            trio.fork(0, seq, N_PREFIX);
        }
        let tree: Vec<Row> = [
            rows(&[0, 1, 2, 3], N_PREFIX, &[7], true),
            rows(&[1, 2], N_PREFIX + 1, &[11], true),
            rows(&[3], N_PREFIX + 1, &[16], true),
            rows(&[1], N_PREFIX + 2, &[12, 13], true),
            rows(&[2], N_PREFIX + 2, &[14, 15], true),
            rows(&[3], N_PREFIX + 2, &[17, 18], true),
        ]
        .concat();
        let logits = trio.step(&tree, &format!("{arch} tree"));
        for (branch, at) in [
            ([7, 11, 12, 13], [0, 1, 3, 4]),
            ([7, 11, 14, 15], [0, 1, 5, 6]),
            ([7, 16, 17, 18], [0, 2, 7, 8]),
        ] {
            for (expected, i) in alone(&model, &branch).iter().zip(at) {
                assert_close(
                    logits.row(i),
                    expected,
                    &format!("{arch} {branch:?}, row {i}"),
                );
            }
        }

        // Sequence 2 is accepted: it becomes 0, the others go.
        trio.fork(2, 0, N_PREFIX + 4);
        for seq in 1..=3 {
            trio.apply(KvOp::Drop {
                seq: SequenceId(seq),
            });
        }
        let mut tokens = vec![7, 11, 14, 15];
        let mut next = 55;
        for i in 0..6 {
            tokens.push(next);
            let rows = rows(&[0], N_PREFIX + 4 + i, &[next], true);
            let logits = trio.step(&rows, &format!("{arch} after the tree, token {i}"));
            let expected = alone(&model, &tokens).pop().unwrap();
            assert_close(
                logits.row(0),
                &expected,
                &format!("{arch} after the tree, token {i}"),
            );
            next = argmax(logits.row(0));
        }
    }
}

#[test]
fn rejected_drafts_leave_no_trace() {
    for arch in SynthArch::ALL {
        let model = model(arch);
        let mut trio = Trio::new(&model);
        trio.prefill();
        trio.step(&rows(&[0], N_PREFIX, &[7, 200, 201, 202], true), "draft");
        trio.apply(KvOp::Truncate {
            seq: SequenceId(0),
            pos: N_PREFIX + 1,
        });
        for (i, (expected, token)) in alone(&model, &[7, 30, 31])
            .iter()
            .zip([7, 30, 31])
            .enumerate()
        {
            if i > 0 {
                let what = format!("{arch} after a rejection, token {i}");
                let logits = trio.step(&rows(&[0], N_PREFIX + i as u32, &[token], true), &what);
                assert_close(logits.row(0), expected, &what);
            }
        }
    }
}

#[test]
fn chunks_of_several_prompts_and_decode_rows_share_a_step() {
    for arch in [SynthArch::Llama, SynthArch::Gemma3] {
        let model = model(arch);
        let mut trio = Trio::new(&model);
        trio.prefill();
        // Rows without logits take part without an output.
        let mixed = [
            rows(&[0], N_PREFIX, &[7], true),
            rows(&[4], 0, &prompt(9, 50), false),
            rows(&[5], 0, &[1, 2, 3], true),
        ]
        .concat();
        let logits = trio.step(&mixed, "mixed");
        assert_eq!(logits.n_rows, 4);
        assert_close(logits.row(0), &alone(&model, &[7])[0], "the decode row");
        // A step that wants nothing gives nothing.
        assert_eq!(trio.step(&rows(&[5], 3, &[4], false), "silent").n_rows, 0);
        let logits = trio.step(
            &[
                rows(&[5], 4, &[5], true),
                rows(&[0], N_PREFIX + 1, &[8], true),
            ]
            .concat(),
            "after",
        );
        assert_close(logits.row(1), &alone(&model, &[7, 8])[1], "the decode row");
    }
}
