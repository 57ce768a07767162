//! Round trips, snapshots of the bytes, and frames of peers that mean harm.

#![allow(clippy::unwrap_used)]

use jupiter_models::engine::{EngineMemory, EngineParams, KeptStates};
use jupiter_models::gguf::KvDtype;
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::kernels::KernelChoice;
use jupiter_models::sampling::SamplingParams;
use jupiter_models::{KvOp, LayerRange, Row, SequenceId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::message::{
    Acceptance, CancelRows, DraftGuess, DraftKind, DraftReply, DraftRequest, DraftRows,
    DrafterAssignment, HeadGuess, HeadsId, HeadsTiming, NodeCommand, NodeReport, SequenceFailure,
    SequenceOpen, StageAssignment, StageTiming, StepReport,
};
use crate::speculation::accept::{AcceptanceRule, TypicalParams};
use crate::{NodeId, PlanEpoch, RequestId, StepId};

fn seq() -> impl Strategy<Value = SequenceId> {
    any::<u32>().prop_map(SequenceId)
}

fn kv_op() -> impl Strategy<Value = KvOp> {
    prop_oneof![
        (seq(), any::<u32>()).prop_map(|(seq, pos)| KvOp::Truncate { seq, pos }),
        (seq(), seq(), any::<u32>()).prop_map(|(src, dst, len)| KvOp::Fork { src, dst, len }),
        seq().prop_map(|seq| KvOp::Drop { seq }),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    (vec(seq(), 1..4), any::<u32>(), any::<i32>(), any::<bool>()).prop_map(
        |(seq_ids, pos, token, wants_logits)| Row {
            seq_ids,
            pos,
            token,
            wants_logits,
        },
    )
}

fn open() -> impl Strategy<Value = SequenceOpen> {
    let tokens = || vec(any::<i32>(), 0..20);
    (
        seq(),
        any::<u32>(),
        proptest::option::of(".*"),
        tokens(),
        tokens(),
        any::<bool>(),
    )
        .prop_map(|(seq, seed, grammar, prompt, generated, ignore_eos)| {
            let sampling = SamplingParams {
                seed,
                grammar,
                ..SamplingParams::default()
            };
            SequenceOpen {
                seq,
                sampling,
                prompt,
                generated,
                ignore_eos,
                rule: match ignore_eos {
                    true => AcceptanceRule::Exact,
                    false => AcceptanceRule::Typical(TypicalParams::default()),
                },
            }
        })
}

fn draft() -> impl Strategy<Value = DraftRows> {
    let parents = vec(any::<u16>(), 0..5);
    (seq(), any::<u32>(), any::<u32>(), parents).prop_map(
        |(seq, generation, first_row, parents)| DraftRows {
            seq,
            generation,
            first_row,
            n_places: u8::from(parents.is_empty()),
            parents,
        },
    )
}

fn timing() -> impl Strategy<Value = StageTiming> {
    let numbers = (any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>());
    numbers.prop_map(|(stage, began_us, waited_us, busy_us)| StageTiming {
        stage,
        began_us,
        waited_us,
        busy_us,
    })
}

fn step() -> impl Strategy<Value = Message> {
    let payload = prop_oneof![
        Just((0, HiddenDtype::F32)),
        (1..70_u32).prop_map(|n| (n, HiddenDtype::F32)),
        (1..70_u32).prop_map(|n| (n, HiddenDtype::F16)),
        (1..4_u32).prop_map(|n| (n * 32, HiddenDtype::Q8_0)),
    ];
    let ids = (any::<u64>(), any::<u64>(), any::<u32>());
    (
        ids,
        vec(kv_op(), 0..4),
        vec(open(), 0..3),
        (vec(row(), 0..9), vec(draft(), 0..3)),
        payload,
        vec(timing(), 0..3),
    )
        .prop_map(
            |(
                (epoch, step, stage),
                kv_ops,
                opens,
                (rows, drafts),
                (n_embd, payload_dtype),
                timings,
            )| {
                let (epoch, step) = (PlanEpoch(epoch), StepId(step));
                let header = StepHeader {
                    epoch,
                    step,
                    stage,
                    kv_ops,
                    opens,
                    rows,
                    drafts,
                    payload_dtype,
                    n_embd,
                    timings,
                };
                let payload = vec![0xa5; payload_bytes(&header).unwrap()];
                Message::Step(StepBatch { header, payload })
            },
        )
}

fn report() -> impl Strategy<Value = Message> {
    let guess = (any::<i32>(), 0.0..1.0_f32);
    let guess = guess.prop_map(|(token, probability)| HeadGuess { token, probability });
    let acceptance = (
        (seq(), any::<u32>(), any::<u16>()),
        any::<i32>(),
        any::<bool>(),
        vec(vec(guess, 0..3), 0..3),
    )
        .prop_map(
            |((seq, pos, last), next_token, is_eog, guesses)| Acceptance {
                seq,
                pos,
                last,
                next_token,
                is_eog,
                guesses,
            },
        );
    let failure = (seq(), ".*").prop_map(|(seq, why)| SequenceFailure { seq, why });
    (
        any::<u64>(),
        any::<u64>(),
        vec(acceptance, 0..4),
        vec(failure, 0..2),
        vec(timing(), 0..3),
        any::<(u64, u64)>(),
    )
        .prop_map(|(epoch, step, acceptances, failures, timings, heads)| {
            let (epoch, step) = (PlanEpoch(epoch), StepId(step));
            Message::Report(StepReport {
                epoch,
                step,
                acceptances,
                failures,
                timings,
                heads: HeadsTiming {
                    told_us: heads.0,
                    guessed_us: heads.1,
                },
            })
        })
}

fn node_report() -> impl Strategy<Value = Message> {
    let node = || "[a-z]{1,9}".prop_map(NodeId);
    let epoch = || any::<u64>().prop_map(PlanEpoch);
    prop_oneof![
        (epoch(), any::<u32>(), node(), any::<u64>()).prop_map(|(epoch, stage, node, bytes)| {
            let memory = EngineMemory {
                weights_bytes: bytes,
                kv_bytes: bytes / 2,
                compute_bytes: bytes / 3,
            };
            NodeReport::StageReady {
                epoch,
                stage,
                node,
                memory,
            }
        }),
        (epoch(), any::<u32>(), node(), ".*", any::<bool>()).prop_map(
            |(epoch, stage, node, why, restarting)| NodeReport::StageDown {
                epoch,
                stage,
                node,
                why,
                restarting,
            }
        ),
        (epoch(), node()).prop_map(|(epoch, node)| NodeReport::DrafterReady { epoch, node }),
        (node(), 0..3u8, ".*").prop_map(|(node, source, why)| {
            let source = match source {
                0 => DraftKind::Model,
                1 => DraftKind::Mtp,
                _ => DraftKind::Medusa,
            };
            NodeReport::DraftsDown { node, source, why }
        }),
        (proptest::option::of(epoch()), node(), ".*")
            .prop_map(|(epoch, node, what)| NodeReport::StepFault { epoch, node, what }),
    ]
    .prop_map(Message::Node)
}

fn assign(epoch: u64, n: u32) -> Message {
    let stages = (0..n).map(|stage| StageAssignment {
        stage,
        n_stages: n,
        layers: LayerRange::new(stage * 3, stage * 3 + 3),
        model: "0123abcd".into(),
        engine: EngineParams {
            n_ctx: 4096,
            n_seq_max: 4,
            n_batch: 128,
            n_threads: 2,
            type_k: KvDtype::F16,
            type_v: KvDtype::Q8_0,
            flash_attention: true,
            kernels: KernelChoice::Auto,
            n_gpu_layers: 0,
            keeps_states: KeptStates::None,
        },
        payload_dtype: HiddenDtype::F16,
        credits: n + 1,
        heads: (n > 2).then(|| HeadsId::Medusa("heads".into())),
    });
    Message::Command(NodeCommand::Assign {
        epoch: PlanEpoch(epoch),
        stages: stages.collect(),
        drafter: (n == 1).then(|| DrafterAssignment {
            draft: "small".into(),
            engine: EngineParams {
                n_threads: 2,
                ..EngineParams::default()
            },
        }),
    })
}

fn draft_request() -> impl Strategy<Value = Message> {
    let numbers = (any::<u64>(), any::<u32>(), any::<u32>());
    (numbers, vec(any::<i32>(), 0..20), any::<u32>()).prop_map(
        |((request, wish, from), tokens, depth)| {
            Message::Draft(DraftRequest {
                request: RequestId(request),
                wish,
                from,
                tokens,
                depth,
                width: depth / 2,
            })
        },
    )
}

fn draft_reply() -> impl Strategy<Value = Message> {
    let parent = proptest::option::of(any::<u16>());
    let guess =
        (parent, any::<i32>(), 0.0..1.0_f32).prop_map(|(parent, token, probability)| DraftGuess {
            parent,
            token,
            probability,
        });
    let numbers = (any::<u64>(), any::<u32>(), any::<u32>(), any::<u64>());
    (numbers, vec(guess, 0..5)).prop_map(|((request, wish, n_known, busy_us), guesses)| {
        Message::Drafted(DraftReply {
            request: RequestId(request),
            wish,
            n_known,
            guesses,
            busy_us,
        })
    })
}

fn message() -> impl Strategy<Value = Message> {
    let command = (any::<u64>(), 0..4_u32).prop_map(|(epoch, n)| assign(epoch, n));
    let cancel = (any::<u64>(), seq(), any::<u32>(), any::<u64>());
    let cancel = cancel.prop_map(|(epoch, seq, live_from, step)| {
        Message::Cancel(CancelRows {
            epoch: PlanEpoch(epoch),
            seq,
            live_from,
            live_from_step: StepId(step),
        })
    });
    prop_oneof![
        step(),
        report(),
        node_report(),
        command,
        cancel,
        draft_request(),
        draft_reply()
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(message in message()) {
        prop_assert_eq!(decode(&encode(&message)), Ok(message));
    }

    #[test]
    fn a_frame_that_is_cut_or_longer_is_refused(message in message(), cut in any::<prop::sample::Index>()) {
        let mut frame = encode(&message);
        prop_assert!(decode(&frame[..cut.index(frame.len())]).is_err());
        frame.push(0);
        prop_assert!(decode(&frame).is_err());
    }

    #[test]
    fn a_damaged_frame_never_panics(message in message(), flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut frame = encode(&message);
        for (at, byte) in flips {
            let at = at.index(frame.len());
            frame[at] ^= byte;
        }
        let _ = decode(&frame);
    }

    #[test]
    fn noise_never_panics(frame in vec(any::<u8>(), 0..200)) {
        let _ = decode(&frame);
        let mut framed = vec![PROTOCOL_VERSION, frame.first().map_or(1, |b| b % 9), 0, 0];
        framed.extend((frame.len() as u32).to_le_bytes());
        framed.extend(frame);
        let _ = decode(&framed);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn small_step() -> Message {
    let row = |pos, wants_logits| Row {
        seq_ids: vec![SequenceId(1)],
        pos,
        token: 300,
        wants_logits,
    };
    Message::Step(StepBatch {
        header: StepHeader {
            epoch: PlanEpoch(2),
            step: StepId(3),
            stage: 1,
            kv_ops: vec![KvOp::Drop { seq: SequenceId(0) }],
            opens: Vec::new(),
            rows: vec![row(7, false), row(8, true)],
            drafts: vec![DraftRows {
                seq: SequenceId(1),
                generation: 4,
                first_row: 1,
                parents: Vec::new(),
                n_places: 1,
            }],
            payload_dtype: HiddenDtype::F16,
            n_embd: 2,
            timings: vec![StageTiming {
                stage: 0,
                began_us: 500,
                waited_us: 9,
                busy_us: 1000,
            }],
        },
        payload: vec![1, 2, 3, 4, 5, 6, 7, 8],
    })
}

/// The bytes on the wire: when one of these changes, PROTOCOL_VERSION has to change with it.
#[test]
fn the_bytes_of_version_7() {
    assert_eq!(
        hex(&encode(&small_step())),
        "0701000027000000\
         020301010200000201\
         0107fb580200010108fb5802010101\
         04010001010201\
         00fbf40109fbe803\
         0102030405060708"
    );
    let acceptance = Acceptance {
        seq: SequenceId(1),
        pos: 8,
        last: 2,
        next_token: 5,
        is_eog: true,
        guesses: Vec::new(),
    };
    let report = StepReport {
        epoch: PlanEpoch(2),
        step: StepId(3),
        acceptances: vec![acceptance],
        failures: Vec::new(),
        timings: Vec::new(),
        heads: HeadsTiming {
            told_us: 5,
            guessed_us: 6,
        },
    };
    assert_eq!(
        hex(&encode(&Message::Report(report))),
        "070200000d000000020301010802\
         0a010000000506"
    );
    let cancel = CancelRows {
        epoch: PlanEpoch(2),
        seq: SequenceId(1),
        live_from: 3,
        live_from_step: StepId(7),
    };
    assert_eq!(
        hex(&encode(&Message::Cancel(cancel))),
        "070500000400000002010307"
    );
}

#[track_caller]
fn check(frame: &[u8], expected: &str) {
    let error = decode(frame).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_is_wrong_is_named() {
    let good = encode(&small_step());
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    check(&[], "at least 8");
    check(
        &with(0, &[9]),
        "protocol version 9, expected 7: install the same jupiter",
    );
    check(&with(1, &[77]), "unknown kind 77");
    check(&with(2, &[1]), "reserved");
    check(
        &with(4, &u32::MAX.to_le_bytes()),
        "more than the 16777216 allowed",
    );
    check(
        &with(4, &1_000_000_u32.to_le_bytes()),
        "expected at least 1000008",
    );
    check(&with(4, &5_u32.to_le_bytes()), "bad header");
    check(&good[..good.len() - 1], "expected 55");
}

/// A header that claims billions of rows is refused before anything is allocated for them.
#[test]
fn claimed_lengths_are_not_believed() {
    let header = [
        2, 3, 1, 0, 0, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ];
    let mut frame = vec![PROTOCOL_VERSION, 1, 0, 0];
    frame.extend((header.len() as u32).to_le_bytes());
    frame.extend(header);
    check(&frame, "bad header");
}
