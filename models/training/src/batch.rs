//! Conversations as rows of tokens, one behind the other without padding.

use std::ops::Range;
use std::sync::Arc;

use jupiter_world::{Example, Kind, Split, World};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::tokenizer::Tokenizer;

/// Rows for one pass, and what comes after each row that counts.
pub(crate) struct Batch {
    /// Tokens of all conversations.
    pub(crate) tokens: Vec<u32>,
    /// The rows of each conversation.
    pub(crate) segments: Arc<[Range<usize>]>,
    /// Rows whose next token belongs to an answer, ascending.
    pub(crate) rows: Vec<u32>,
    /// That next token.
    pub(crate) targets: Arc<[u32]>,
    /// For each target, how many more tokens its answer has after it.
    pub(crate) remaining: Vec<u32>,
}

/// Of long answers, one in so many is read to its end: of the others only the beginning, which tells what
/// was understood, so that more questions are read in the same time.
const WHOLE_EVERY: u64 = 3;
const CUT_TOKENS: usize = 32;
/// How often a token of a question is another one, drawn from all: people use words that no training holds,
/// and a question must be understood by the others. Single questions, not where each word counts.
const BLURRED: f64 = 0.025;
const BLURRED_KINDS: [Kind; 8] = [
    Kind::Define,
    Kind::Purpose,
    Kind::Fact,
    Kind::Compare,
    Kind::Long,
    Kind::Refuse,
    Kind::Unknown,
    Kind::Ability,
];

/// Conversations of the endless stream that one worker takes: every `step`-th.
pub(crate) struct Stream<'a> {
    pub(crate) world: &'a World,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) split: Split,
    pub(crate) seed: u64,
    /// The example that comes next.
    pub(crate) next: u64,
    pub(crate) step: u64,
}

impl Stream<'_> {
    /// Conversations until at least `n_tokens` rows are full.
    pub(crate) fn batch(&mut self, n_tokens: usize) -> Batch {
        let mut packer = Packer::default();
        while packer.tokens.len() < n_tokens {
            let example = self.world.example(self.split, self.seed, self.next);
            let is_cut = example.kind == Kind::Long && !self.next.is_multiple_of(WHOLE_EVERY);
            let n_most = if is_cut { CUT_TOKENS } else { usize::MAX };
            let is_blurred = self.split == Split::Training && BLURRED_KINDS.contains(&example.kind);
            let mut blur = is_blurred.then(|| ChaCha8Rng::seed_from_u64(self.seed ^ self.next));
            self.next += self.step;
            packer.add(&example, n_most, self.tokenizer, blur.as_mut());
        }
        packer.finish()
    }
}

#[derive(Default)]
struct Packer {
    tokens: Vec<u32>,
    segments: Vec<Range<usize>>,
    rows: Vec<u32>,
    targets: Vec<u32>,
    remaining: Vec<u32>,
}

impl Packer {
    /// With at most `n_most` tokens of each answer, and questions blurred by `blur`.
    fn add(
        &mut self,
        example: &Example,
        n_most: usize,
        tokenizer: &Tokenizer,
        mut blur: Option<&mut ChaCha8Rng>,
    ) {
        let start = self.tokens.len();
        for turn in &example.turns {
            let mut question = tokenizer.user(&turn.user);
            if let Some(random) = &mut blur {
                tokenizer.blur(&mut question, BLURRED, random);
            }
            self.tokens.extend(question);
            let answer = tokenizer.answer(&turn.assistant);
            let n = answer.len().min(n_most);
            for (i, token) in answer.into_iter().take(n).enumerate() {
                self.rows.push(self.tokens.len() as u32 - 1);
                self.targets.push(token);
                self.remaining.push((n - 1 - i) as u32);
                self.tokens.push(token);
            }
        }
        // Nothing is predicted from the very last token.
        self.tokens.pop();
        self.segments.push(start..self.tokens.len());
    }

    fn finish(self) -> Batch {
        Batch {
            tokens: self.tokens,
            segments: self.segments.into(),
            rows: self.rows,
            targets: self.targets.into(),
            remaining: self.remaining,
        }
    }
}
