#![allow(clippy::unwrap_used)]
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use proptest::prelude::*;
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::text::test_vocabulary::vocabulary;

/// A grammar that random logits soon meet the end of, with alternatives on the way.
const GRAMMAR: &str = "root ::= item (\",\" item){1,9}\nitem ::= [a-z]{1,6} | \"[\" root? \"]\"";

/// What a model might say after `history`: random, and the same for the same history.
fn logits(history: &[Token], n_vocab: usize) -> Vec<f32> {
    let seed = history
        .iter()
        .fold(7u64, |h, &t| h.wrapping_mul(31).wrapping_add(t as u64 + 1));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Quarters make ties.
    (0..n_vocab)
        .map(|_| f32::from(rng.random_range(-40i8..40)) / 4.0)
        .collect()
}

/// `n` tokens after `history`, until the generation ends.
fn generate(sampler: &mut Sampler, mut history: Vec<Token>, n: usize) -> Vec<Token> {
    let vocabulary = vocabulary();
    let n_before = history.len();
    for _ in 0..n {
        let token = sampler.sample(&logits(&history, vocabulary.n_vocab() as usize));
        history.push(token);
        if vocabulary.is_eog(token) {
            break;
        }
        sampler.accept(token);
    }
    history.split_off(n_before)
}

fn params() -> impl Strategy<Value = SamplingParams> {
    (
        prop_oneof![Just(0.0f32), 0.1f32..3.0],
        prop_oneof![Just(0), 1..100i32],
        prop_oneof![Just(1.0f32), 0.0f32..1.0],
        prop_oneof![Just(0.0f32), 0.0f32..1.0],
        prop_oneof![Just(1.0f32), 0.5f32..2.0],
        -1..20i32,
        any::<u32>(),
        prop_oneof![Just(None), Just(Some(GRAMMAR.to_owned()))],
    )
        .prop_map(
            |(temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, seed, grammar)| {
                SamplingParams {
                    temperature,
                    top_k,
                    top_p,
                    min_p,
                    repeat_penalty,
                    repeat_last_n,
                    seed,
                    grammar,
                    logit_bias: Vec::new(),
                }
            },
        )
}

#[test]
fn biases_make_tokens_likelier_or_impossible() {
    let vocabulary = vocabulary();
    let n_vocab = vocabulary.n_vocab() as usize;
    let logits = logits(&[1, 2], n_vocab);
    let sample = |logit_bias: Vec<LogitBias>| {
        let params = SamplingParams {
            logit_bias,
            ..SamplingParams::greedy()
        };
        let sampler = Sampler::new(&vocabulary, &params, &[], &[]);
        sampler.map(|mut sampler| sampler.sample(&logits))
    };
    let of = |token, bias| LogitBias {
        of: Biased::Token(token),
        bias,
    };
    let first = sample(Vec::new()).unwrap();
    let other = (first + 1) % n_vocab as Token;
    assert_eq!(sample(vec![of(other, 1e6)]).unwrap(), other);
    assert_ne!(sample(vec![of(first, f32::NEG_INFINITY)]).unwrap(), first);
    let text = "ab";
    let tokens = vocabulary.tokenize(text, false, false);
    let by_text = LogitBias {
        of: Biased::Text(text.to_owned()),
        bias: 1e6,
    };
    assert!(tokens.contains(&sample(vec![by_text]).unwrap()));
    let error = sample(vec![of(n_vocab as Token, 1.0)])
        .unwrap_err()
        .to_string();
    assert!(error.contains("logit_bias"), "{error}");
    let long = LogitBias {
        of: Biased::Text("ab ".repeat(1000)),
        bias: 1.0,
    };
    for wrong in [vec![of(1, f32::NAN)], vec![of(1, 1.0); 1000], vec![long]] {
        assert!(sample(wrong).unwrap_err().to_string().contains("at most"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The promise that recovery rests on.
    #[test]
    fn a_sampler_rebuilt_at_any_point_goes_on_with_the_same_text(
        params in params(),
        prompt in prop::collection::vec(0..1000i32, 0..30),
        cut in 0usize..40,
    ) {
        let vocabulary = vocabulary();
        let mut whole = Sampler::new(&vocabulary, &params, &prompt, &[]).unwrap();
        let tokens = generate(&mut whole, prompt.clone(), 40);
        let cut = cut.min(tokens.len().saturating_sub(1));
        let (before, after) = tokens.split_at(cut);
        let mut rebuilt = Sampler::new(&vocabulary, &params, &prompt, before).unwrap();
        let history = [prompt.as_slice(), before].concat();
        prop_assert_eq!(generate(&mut rebuilt, history, 40 - cut), after);
    }

    /// The grammar comes first: what is drawn is what llama.cpp's grammar, penalties and greedy
    /// choice give, over an array of all tokens.
    #[test]
    fn greedy_agrees_with_llama_cpp(
        prompt in prop::collection::vec(0..1000i32, 0..30),
        repeat_penalty in prop_oneof![Just(1.0f32), 0.5f32..2.0],
        repeat_last_n in 0..20i32,
        grammar in any::<bool>(),
    ) {
        let vocabulary = vocabulary();
        let params = SamplingParams {
            repeat_penalty,
            repeat_last_n,
            grammar: grammar.then(|| GRAMMAR.to_owned()),
            ..SamplingParams::greedy()
        };
        let mut ours = Sampler::new(&vocabulary, &params, &prompt, &[]).unwrap();
        let n_vocab = vocabulary.n_vocab() as i32;
        let mut penalties =
            LlamaSampler::penalties(n_vocab, repeat_last_n, repeat_penalty, 0.0, 0.0);
        penalties.accept_many(prompt.iter().map(|&token| LlamaToken(token)));
        let mut their_grammar = grammar.then(|| vocabulary.grammar_of_llama_cpp(GRAMMAR));
        let mut history = prompt;
        for _ in 0..20 {
            let logits = logits(&history, n_vocab as usize);
            let data = (0..).zip(&logits)
                .map(|(token, &logit)| LlamaTokenData::new(LlamaToken(token), logit, 0.0))
                .collect();
            let mut array = LlamaTokenDataArray::new(data, false);
            if let Some(grammar) = &mut their_grammar {
                array.apply_sampler(grammar);
            }
            array.apply_sampler(&mut penalties);
            array.apply_sampler(&mut LlamaSampler::greedy());
            let theirs = array.selected_token().unwrap();
            let token = ours.sample(&logits);
            prop_assert_eq!(token, theirs.0);
            if vocabulary.is_eog(token) {
                break;
            }
            ours.accept(token);
            penalties.accept(theirs);
            if let Some(grammar) = &mut their_grammar {
                grammar.accept(theirs);
            }
            history.push(token);
        }
    }

    /// Trying the likeliest first is only a shorter way to the same shortlist.
    #[test]
    fn the_allowed_shortlist_is_the_masked_vocabulary_cut_to_size(
        history in prop::collection::vec(0..1000i32, 0..30),
        n_wanted in 1usize..60,
        n_generated in 0usize..12,
    ) {
        let vocabulary = vocabulary();
        let params = SamplingParams {
            grammar: Some(GRAMMAR.to_owned()),
            ..SamplingParams::greedy()
        };
        let mut sampler = Sampler::new(&vocabulary, &params, &history, &[]).unwrap();
        let generated = generate(&mut sampler, history, n_generated);
        let logits = logits(&generated, vocabulary.n_vocab() as usize);
        let masked: Vec<f32> = (0..).zip(&logits)
            .map(|(token, &l)| if sampler.allows(token) { l } else { f32::NEG_INFINITY })
            .collect();
        let shortlisted = sampler.allowed_shortlist(&logits, n_wanted);
        prop_assert_eq!(shortlisted, shortlist(&masked, n_wanted));
    }
}

#[test]
fn text_under_a_grammar_follows_it_and_ends() {
    let vocabulary = vocabulary();
    let mut n_ended = 0;
    for seed in 0..40 {
        let params = SamplingParams {
            grammar: Some(GRAMMAR.to_owned()),
            seed,
            ..Default::default()
        };
        let mut sampler = Sampler::new(&vocabulary, &params, &[seed as Token], &[]).unwrap();
        let tokens = generate(&mut sampler, vec![seed as Token], 400);
        if let Some((&last, text)) = tokens.split_last() {
            n_ended += usize::from(vocabulary.is_eog(last) && !text.is_empty());
        }
    }
    assert!(n_ended > 30, "{n_ended} of 40 texts ended");
}

#[test]
fn draws_follow_the_probabilities() {
    let vocabulary = vocabulary();
    let params = SamplingParams {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: 5,
        ..Default::default()
    };
    let mut sampler = Sampler::new(&vocabulary, &params, &[], &[]).unwrap();
    let probabilities = [0.5f32, 0.25, 0.125, 0.125];
    let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
    let n = 20_000;
    let mut counts = [0u32; 4];
    for _ in 0..n {
        let token = sampler.sample(&logits);
        counts[token as usize] += 1;
        sampler.accept(token);
    }
    for (count, p) in counts.into_iter().zip(probabilities) {
        let expected = n as f32 * p;
        let deviation = (expected * (1.0 - p)).sqrt();
        // Four deviations: one seed in 15 000 would fail, and this seed does not.
        assert!(
            (count as f32 - expected).abs() < 4.0 * deviation,
            "{counts:?}"
        );
    }
}

#[test]
fn sampling_again_at_the_same_place_gives_the_same_token() {
    let vocabulary = vocabulary();
    let params = SamplingParams {
        temperature: 5.0,
        top_k: 0,
        ..Default::default()
    };
    let mut sampler = Sampler::new(&vocabulary, &params, &[], &[]).unwrap();
    let logits = logits(&[], 1024);
    assert_eq!(sampler.sample(&logits), sampler.sample(&logits));
}

#[test]
fn no_number_no_choice_and_no_range_are_survived() {
    let vocabulary = vocabulary();
    let end = vocabulary.end_token();
    for temperature in [0.0, 0.8, 1e-30] {
        let params = SamplingParams {
            temperature,
            ..Default::default()
        };
        let mut sampler = Sampler::new(&vocabulary, &params, &[-5, Token::MAX], &[]).unwrap();
        assert_eq!(sampler.sample(&[]), end);
        assert_eq!(sampler.sample(&[f32::NAN, f32::NEG_INFINITY]), end);
        assert_eq!(
            sampler.sample(&[f32::NAN, 1.0, f32::NAN, f32::NEG_INFINITY]),
            1
        );
        assert_eq!(sampler.sample(&[0.0, f32::INFINITY, 1.0]), 1);
        assert_eq!(sampler.sample(&[f32::MIN, f32::MAX]), 1);
    }
}

#[test]
fn bad_parameters_and_histories_are_refused_in_one_line() {
    let vocabulary = vocabulary();
    let good = SamplingParams::default;
    let cases = [
        (
            SamplingParams {
                temperature: f32::NAN,
                ..good()
            },
            "temperature",
        ),
        (
            SamplingParams {
                top_p: 1.5,
                ..good()
            },
            "top_p is 1.5",
        ),
        (
            SamplingParams {
                min_p: -0.1,
                ..good()
            },
            "min_p",
        ),
        (
            SamplingParams {
                repeat_penalty: 0.0,
                ..good()
            },
            "repeat_penalty is 0",
        ),
        (
            SamplingParams {
                grammar: Some("root ::=".into()),
                ..good()
            },
            "",
        ),
        (
            SamplingParams {
                grammar: Some("root ::= x".into()),
                ..good()
            },
            "line 1: the rule `x`",
        ),
        (
            SamplingParams {
                grammar: Some("a\0b".into()),
                ..good()
            },
            "grammar, line 1",
        ),
    ];
    for (params, expected) in cases {
        match Sampler::new(&vocabulary, &params, &[], &[]) {
            Ok(_) => assert_eq!(expected, "", "{params:?} was taken"),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains(expected) && !error.contains('\n'), "{error}");
            }
        }
    }
    let params = SamplingParams {
        grammar: Some(GRAMMAR.to_owned()),
        ..good()
    };
    let other = vocabulary.tokenize("]", false, false);
    let error = Sampler::new(&vocabulary, &params, &[], &other)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("does not follow the grammar"), "{error}");
    // Accepted all the same, the sampler ends the text instead of the process.
    let mut sampler = Sampler::new(&vocabulary, &params, &[], &[]).unwrap();
    sampler.accept(other[0]);
    assert!(vocabulary.is_eog(sampler.sample(&logits(&[], 1024))));
}

#[test]
fn the_seed_of_a_draw_is_as_documented() {
    // SplitMix64 from state 0 begins with 0xE220A8397B1DCDAF.
    assert_eq!(draw_seed(0, 0), 0xE220_A839);
    let mut seen: Vec<u32> = (0..100)
        .flat_map(|seed| (0..100).map(move |n| draw_seed(seed, n)))
        .collect();
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 9_990);
}

#[test]
fn a_random_seed_is_fixed_once() {
    let mut params = SamplingParams::default();
    params.fix_seed();
    assert_ne!(params.seed, SamplingParams::RANDOM_SEED);
    let fixed = params.clone();
    params.fix_seed();
    assert_eq!(params, fixed);
}
