//! Each instruction set against the scalar definition, and that definition against f64 and ggml.
#![allow(clippy::unwrap_used)]

mod accuracy;
mod case;

use proptest::prelude::*;

use self::case::{Case, Random, Sight};
use super::*;

fn kinds() -> impl Strategy<Value = WeightType> {
    use WeightType::{Bf16, F16, F32, Q8_0};
    prop::sample::select(vec![F16, F16, F32, Bf16, Q8_0])
}

fn sights() -> impl Strategy<Value = Sight> {
    prop_oneof![
        Just(Sight::All),
        Just(Sight::Causal),
        (1..100usize).prop_map(Sight::Window),
        (1..6usize).prop_map(Sight::Sequences),
        Just(Sight::Some),
        Just(Sight::Biased),
    ]
}

prop_compose! {
    fn cases(odd: bool)(
        rows in prop_oneof![1..4usize, 1..40usize],
        kv_heads in 1..4usize,
        group in prop_oneof![1..5usize, 1..20usize],
        cells in prop_oneof![1..40usize, 1..300usize],
        kinds in [kinds(), kinds()],
        lens in prop_oneof![
            [1..80usize, 1..80usize],
            [1..10usize, 1..16usize].prop_map(|lens| lens.map(|n| 16 * n)),
        ],
        sight in sights(),
        odd in Just(odd),
        (alibi, softcap, sinks, order) in any::<(bool, bool, bool, bool)>(),
        seed in any::<u64>(),
    ) -> (Case, Random) {
        let mut random = Random(seed);
        let mut case = Case::new(&mut random, [rows, kv_heads, group, cells], kinds, lens, sight, odd);
        case.max_bias = if alibi { 8.0 } else { 0.0 };
        case.softcap = if softcap { 5.0 } else { 0.0 };
        case.sinks = sinks.then(|| (0..case.n_heads).map(|_| random.value(odd)).collect());
        let stamps: Vec<u64> = (0..cells).map(|_| random.below(cells) as u64).collect();
        case.order = if order { order_of(&stamps) } else { None };
        (case, random)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_set_computes_the_bits_of_the_scalar_one((case, mut random) in prop_oneof![cases(false), cases(true)]) {
        let expected = case.run(InstructionSet::Scalar, 1);
        for set in InstructionSet::available() {
            let n_parts = 1 + random.below(7);
            prop_assert!(case.run(set, n_parts) == expected, "{set} in {n_parts} parts");
        }
    }

    #[test]
    fn a_row_is_the_same_alone_and_wherever_its_cells_lie((case, mut random) in prop_oneof![cases(false), cases(true)]) {
        let more = random.below(100);
        for set in InstructionSet::available() {
            let batch = case.run(set, 1);
            prop_assert!(case.moved(&mut random, more).run(set, 3) == batch, "{set}: cells moved");
            let row = random.below(case.n_rows);
            let expected = &batch[row * batch.len() / case.n_rows..][..batch.len() / case.n_rows];
            prop_assert!(case.row(row).run(set, 2) == expected, "{set}: alone");
            let alone = case.row(row).moved(&mut random, more);
            prop_assert!(alone.run(set, 1) == expected, "{set}: alone, cells moved");
        }
    }

    #[test]
    fn each_pair_belongs_to_one_part(
        rows in 1..600usize,
        kv_heads in 1..9usize,
        group in 1..20usize,
        n_parts in 1..20usize,
    ) {
        let mut random = Random(1);
        let one = Case::new(&mut random, [1, kv_heads, group, 1], [WeightType::F32; 2], [1, 1], Sight::All, false);
        let attention = Attention { n_rows: rows, ..one.attention(std::ptr::null_mut()) };
        let mut seen = vec![0; kv_heads * rows * group];
        let mut most = 0;
        for part in 0..n_parts {
            let mut own = 0;
            for piece in split::pieces(&attention, part, n_parts) {
                let n = piece.kv_heads.len() * piece.pairs.len();
                own += n;
                prop_assert!(n <= split::most_pairs(&attention));
                for kv_head in piece.kv_heads {
                    for pair in piece.pairs.clone() {
                        seen[kv_head * rows * group + pair] += 1;
                    }
                }
            }
            most = most.max(own);
        }
        prop_assert!(seen.iter().all(|&n| n == 1));
        // Many rows are shared out evenly, one row at least by heads of the cache: reading them
        // twice would cost more than is won.
        if rows * group >= 48 * n_parts {
            prop_assert!(most as f64 <= 1.1 * (seen.len() as f64 / n_parts as f64) + 6.0);
        }
        if rows == 1 {
            prop_assert!(most <= kv_heads.div_ceil(n_parts) * group);
        }
    }
}

#[test]
fn what_a_row_does_not_see_has_no_influence() {
    let mut random = Random(7);
    let kinds = [WeightType::F16; 2];
    let case = Case::new(
        &mut random,
        [9, 1, 4, 90],
        kinds,
        [32, 32],
        Sight::Causal,
        false,
    );
    for set in InstructionSet::available() {
        let expected = case.run(set, 1);
        // The last row alone sees the last cell.
        let last = case.k.len() - 32;
        for poison in [0x7C00, 0xFC00, 0x7E00] {
            let mut poisoned = case.clone();
            poisoned.v[last..].fill(poison);
            let result = poisoned.run(set, 1);
            assert_eq!(result[..8 * 128], expected[..8 * 128], "{set}: {poison:x}");
            assert!(
                result[8 * 128..]
                    .iter()
                    .all(|&x| !f32::from_bits(x).is_finite())
            );
            poisoned.k[last..].fill(poison);
            assert_eq!(
                poisoned.run(set, 1)[..8 * 128],
                expected[..8 * 128],
                "{set}: {poison:x}"
            );
        }
    }
}

#[test]
fn rows_that_see_nothing_are_zero_and_scores_without_end_are_nan() {
    let mut random = Random(3);
    let kinds = [WeightType::F16; 2];
    let case = Case::new(
        &mut random,
        [3, 2, 2, 70],
        kinds,
        [48, 40],
        Sight::Biased,
        false,
    );
    let row = 4 * 40;
    for set in InstructionSet::available() {
        for sinks in [None, Some(vec![0.5; 4])] {
            let mut blind = Case {
                sinks,
                ..case.clone()
            };
            blind.mask.as_mut().unwrap()[70..140].fill(HIDDEN);
            let (seeing, blind) = (case.run(set, 1), blind.run(set, 1));
            assert!(blind[row..2 * row].iter().all(|&x| x == 0), "{set}");
            assert_ne!(blind[..row], vec![0; row]);
            assert_eq!(
                blind[..row] == seeing[..row],
                blind[2 * row..] == seeing[2 * row..]
            );
        }
        let mut endless = case.clone();
        endless.q[0] = f32::INFINITY;
        let result = endless.run(set, 1);
        assert!(
            result[..40].iter().all(|&x| x == f32::NAN.to_bits()),
            "{set}"
        );
        assert_eq!(result[40..], case.run(set, 1)[40..]);
        let sinks = Some(vec![f32::NAN, 0.0, f32::NEG_INFINITY, 200.0]);
        let result = Case {
            sinks,
            ..case.clone()
        }
        .run(set, 1);
        assert!(
            result[..40].iter().all(|&x| x == f32::NAN.to_bits()),
            "{set}"
        );
        assert_eq!(
            result[80..120],
            case.run(set, 1)[80..120],
            "{set}: a sink of -inf is none"
        );
        assert!(
            result[120..160].iter().all(|&x| x == 0),
            "{set}: the sink takes everything"
        );
    }
}

#[test]
fn stamps_that_ascend_need_no_order() {
    assert_eq!(order_of(&[]), None);
    assert_eq!(order_of(&[1, 1, 5, 7]), None);
    assert_eq!(order_of(&[8, 9, 1, 1, 7]), Some(vec![2, 3, 4, 0, 1]));
}

#[test]
fn slopes_are_those_of_ggml() {
    let case = Case::new(
        &mut Random(1),
        [1, 1, 12, 1],
        [WeightType::F32; 2],
        [1, 1],
        Sight::All,
        false,
    );
    let attention = Attention {
        max_bias: 8.0,
        ..case.attention(std::ptr::null_mut())
    };
    let (m0, m1) = (2f32.powf(-8.0 / 8.0), 2f32.powf(-4.0 / 8.0));
    for head in 0..12 {
        let exponent = if head < 8 {
            head + 1
        } else {
            2 * (head - 8) + 1
        };
        let slope = if head < 8 { m0 } else { m1 }.powi(exponent as i32);
        assert!((attention.slope(head) - slope).abs() < 1e-6, "{head}");
    }
    assert_eq!(
        Attention {
            max_bias: 0.0,
            ..attention
        }
        .slope(3),
        1.0
    );
}

#[test]
fn what_does_not_fit_is_not_supported() {
    let case = Case::new(
        &mut Random(1),
        [1, 1, 2, 4],
        [WeightType::F16; 2],
        [8, 8],
        Sight::All,
        false,
    );
    let good = case.attention(std::ptr::null_mut());
    assert!(good.is_supported());
    let k = |kind, len| Attention {
        k: Cells {
            kind,
            len,
            ..good.k
        },
        ..good
    };
    assert!(!k(WeightType::Q4_0, 32).is_supported());
    assert!(!k(WeightType::Q8_0, 48).is_supported());
    assert!(k(WeightType::Q8_0, 64).is_supported());
    assert!(
        !Attention {
            n_kv_heads: 3,
            ..good
        }
        .is_supported()
    );
    assert!(
        !Attention {
            sinks: Some(&[0.0]),
            ..good
        }
        .is_supported()
    );
    assert!(
        !Attention {
            order: Some(&[0, 1]),
            ..good
        }
        .is_supported()
    );
}
