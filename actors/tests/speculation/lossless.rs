//! Speculation without loss: the very same text, and over all seeds the same distribution. Chi-square tests on a vocabulary of 5, with enough samples to
//! notice an error of 2 %: shown by wrong rules that have to fail.

use std::sync::OnceLock;

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use jupiter_actors::speculation::SpeculationError;
use jupiter_actors::speculation::accept::{
    Distribution, Next, TypicalParams, Verdict, follow, typical,
};
use jupiter_actors::speculation::draw::uniform;
use jupiter_actors::speculation::tree::DraftTree;
use jupiter_models::Token;
use jupiter_models::draw::splitmix;

const N_VOCAB: Token = 5;
/// Tokens of a text whose distribution is tested: 125 outcomes.
const N_TOKENS: usize = 3;
/// Enough that one token in five with 2 % more or less of its probability is far beyond chance.
const N_SAMPLES: usize = 450_000;

/// A distribution that depends on the last two tokens; `sharp` makes it less even.
fn model(text: &[Token], salt: u64, sharp: i32) -> Distribution {
    let context = text.iter().rev().take(2);
    let state = context.fold(salt, |h, &t| splitmix(h ^ (t as u64 + 1)));
    let weight = |t| uniform(state, t as u64).powi(sharp) + 0.02;
    Distribution::new((0..N_VOCAB).map(|t| (t, weight(t)))).unwrap()
}

fn target(text: &[Token]) -> Distribution {
    static MODELS: OnceLock<Vec<Distribution>> = OnceLock::new();
    MODELS.get_or_init(|| every_context(|text| model(text, 11, 1)))[context(text)].clone()
}

/// Like the target, and not quite.
fn drafter(text: &[Token]) -> Distribution {
    static MODELS: OnceLock<Vec<Distribution>> = OnceLock::new();
    let mixed = |text: &[Token]| {
        let (p, other) = (target(text), model(text, 12, 2));
        let mixed = |t| (t, 0.6 * p.p(t) + 0.4 * other.p(t));
        Distribution::new((0..N_VOCAB).map(mixed)).unwrap()
    };
    MODELS.get_or_init(|| every_context(mixed))[context(text)].clone()
}

/// The last two tokens as a number: nothing is 0.
fn context(text: &[Token]) -> usize {
    let last = text.iter().rev().take(2);
    last.fold(0, |at, &t| at * (N_VOCAB as usize + 1) + t as usize + 1)
}

fn every_context(model: impl Fn(&[Token]) -> Distribution) -> Vec<Distribution> {
    let n = N_VOCAB + 1;
    let text = |at: Token| match (at / n, at % n) {
        (0, 0) => vec![],
        (0, only) => vec![only - 1],
        // No context: a text cannot lack its last token only.
        (last, 0) => vec![last - 1],
        (last, before) => vec![before - 1, last - 1],
    };
    (0..n * n).map(|at| model(&text(at))).collect()
}

fn path_text(text: &[Token], tree: &DraftTree, at: Option<usize>) -> Vec<Token> {
    let mut all = text.to_vec();
    all.extend(tree.path_tokens(at));
    all
}

fn index(text: &[Token]) -> usize {
    text.iter()
        .fold(0, |at, &t| at * N_VOCAB as usize + t as usize)
}

/// The sum of (seen - expected)^2 / expected over all texts of N_TOKENS tokens, and what it exceeds
/// by chance once in 10^4 (Wilson and Hilferty's approximation).
fn chi_square(counts: &[u64]) -> (f64, f64) {
    const Z: f64 = 3.72;
    let n: u64 = counts.iter().sum();
    let mut statistic = 0.0;
    for (at, &seen) in counts.iter().enumerate() {
        let (mut rest, mut text) = (at, [0; N_TOKENS]);
        for token in text.iter_mut().rev() {
            *token = (rest % N_VOCAB as usize) as Token;
            rest /= N_VOCAB as usize;
        }
        let p: f64 = (0..N_TOKENS)
            .map(|i| target(&text[..i]).p(text[i]))
            .product();
        let expected = p * n as f64;
        assert!(expected > 10.0, "{expected} expected of {text:?}");
        statistic += (seen as f64 - expected).powi(2) / expected;
    }
    let df = counts.len() as f64 - 1.0;
    let v = 2.0 / (9.0 * df);
    (statistic, df * (1.0 - v + Z * v.sqrt()).powi(3))
}

/// Texts made by `step`, which adds one or more tokens, counted.
fn count(seed: u64, mut step: impl FnMut(&mut Vec<Token>, &mut dyn FnMut() -> f64)) -> Vec<u64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut counts = vec![0; (N_VOCAB as usize).pow(N_TOKENS as u32)];
    for _ in 0..N_SAMPLES {
        let mut text = Vec::new();
        while text.len() < N_TOKENS {
            step(&mut text, &mut draw);
        }
        counts[index(&text[..N_TOKENS])] += 1;
    }
    counts
}

/// A tree drawn from the drafter: `widths[d]` guesses after each node of depth d, fewer where two are
/// alike.
fn drawn_tree(text: &[Token], widths: &[usize], draw: &mut dyn FnMut() -> f64) -> DraftTree {
    let mut tree = DraftTree::new();
    let mut at = 0;
    while at <= tree.len() {
        let node = at.checked_sub(1);
        let depth = node.map_or(0, |node| tree.nodes()[node].depth as usize);
        let draft = drafter(&path_text(text, &tree, node));
        for _ in 0..widths.get(depth).copied().unwrap_or(0) {
            let token = draft.draw(draw());
            if tree.child(node, token).is_none() {
                tree.push(node, token, None).unwrap();
            }
        }
        at += 1;
    }
    tree
}

fn commit(text: &mut Vec<Token>, tree: &DraftTree, verdict: &Verdict) {
    text.extend(tree.path_tokens(verdict.path.last().copied()));
    text.push(verdict.next.token);
}

/// Samples with the seed and the number of tokens alone, as the project's sampler does.
fn seeded(target: &Distribution, n_tokens: usize, seed: u64) -> Token {
    target.draw(uniform(seed, n_tokens as u64))
}

/// Follows trees of these widths with a sampler of `target`, which may be another than the one that
/// is tested against; each text has the next seed.
fn followed(
    widths: &'static [usize],
    target: impl Fn(&[Token]) -> Distribution,
) -> impl FnMut(&mut Vec<Token>, &mut dyn FnMut() -> f64) {
    let mut seed = 0;
    move |text, draw| {
        seed += u64::from(text.is_empty());
        let tree = drawn_tree(text, widths, draw);
        let next = |at| {
            let text = path_text(text, &tree, at);
            let token = seeded(&target(&text), text.len(), seed);
            Ok(Next { token, ends: false })
        };
        let verdict = follow(&tree, next).unwrap();
        commit(text, &tree, &verdict);
    }
}

#[test]
fn followed_sampling_keeps_the_distribution_over_seeds() {
    let (statistic, critical) = chi_square(&count(3, followed(&[2, 2], target)));
    assert!(statistic < critical, "{statistic} of {critical}");
}

#[test]
fn an_error_of_two_percent_is_noticed() {
    // A sampler whose target gives one token 2 % more of its probability.
    let biased = |text: &[Token]| {
        let p = target(text);
        let likeliest = (0..N_VOCAB).max_by(|&a, &b| p.p(a).total_cmp(&p.p(b)));
        let weight = |t| p.p(t) * if Some(t) == likeliest { 1.02 } else { 1.0 };
        Distribution::new((0..N_VOCAB).map(|t| (t, weight(t)))).unwrap()
    };
    let (statistic, critical) = chi_square(&count(1, followed(&[1, 1, 1], biased)));
    println!("biased: {statistic:.0} of {critical:.0}");
    assert!(statistic > critical, "{statistic} of {critical}");
    // Accepting what is likely enough is not lossless, and says so.
    let step = |text: &mut Vec<Token>, draw: &mut dyn FnMut() -> f64| {
        let tree = drawn_tree(text, &[2], draw);
        let target = |at| Ok(target(&path_text(text, &tree, at)));
        let verdict = typical(&tree, TypicalParams::default(), target, draw, |_| false).unwrap();
        commit(text, &tree, &verdict);
    };
    let (statistic, critical) = chi_square(&count(1, step));
    assert!(statistic > critical, "{statistic} of {critical}");
}

/// A tree of at most 12 nodes over the vocabulary.
fn any_tree() -> impl Strategy<Value = DraftTree> {
    prop::collection::vec((any::<prop::sample::Index>(), 0..N_VOCAB), 0..12).prop_map(|nodes| {
        let mut tree = DraftTree::new();
        for (at, token) in nodes {
            let parent = at.index(tree.len() + 1).checked_sub(1);
            // A sibling of the same token is refused, which leaves a smaller tree.
            let _ = tree.push(parent, token, None);
        }
        tree
    })
}

proptest! {
    // An integration test has no source folder for failures; they print what to replay.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn followed_text_is_the_text_without_drafts(
        trees in prop::collection::vec(any_tree(), 30),
        seed: u64,
        is_greedy: bool,
    ) {
        let sample = |text: &[Token]| {
            if is_greedy {
                let p = target(text);
                (0..N_VOCAB).max_by(|&a, &b| p.p(a).total_cmp(&p.p(b))).unwrap()
            } else {
                seeded(&target(text), text.len(), seed)
            }
        };
        let mut text = vec![0, 1];
        for tree in &trees {
            // A sampler with state: it is asked once for each token of the text, in order.
            let mut sampled = text.clone();
            let verdict = follow(tree, |at| {
                assert_eq!(path_text(&text, tree, at), sampled);
                let token = sample(&sampled);
                sampled.push(token);
                Ok(Next { token, ends: false })
            }).unwrap();
            commit(&mut text, tree, &verdict);
            prop_assert_eq!(&text, &sampled);
        }
        let mut plain = vec![0, 1];
        while plain.len() < text.len() {
            plain.push(sample(&plain));
        }
        prop_assert_eq!(text, plain);
    }

    #[test]
    fn damaged_probabilities_are_errors_never_tokens(
        tree in any_tree(),
        weights in prop::collection::vec(prop_oneof![
            Just(f64::NAN), Just(f64::INFINITY), Just(-1.0), Just(0.0)], 1..5),
    ) {
        let damaged = |_| Distribution::new((0..).zip(weights.iter().copied()));
        let verdict = typical(&tree, TypicalParams::default(), damaged, || 0.5, |_| false);
        let is_named = matches!(
            verdict,
            Err(SpeculationError::BadProbability { .. } | SpeculationError::BadSum { .. })
        );
        prop_assert!(is_named);
    }
}
