//! Times of many answers, at equal length.
//!
//! An outlined text has titles and so more tokens than the plain answer to the same question. To
//! compare at equal length, the plain answer is given as many: its first token comes when it came,
//! and each further one takes what its own took on average,
//!
//! ```text
//! first word + (last word - first word) * (tokens of the outlined text - 1)
//!                                       / (tokens of the plain text - 1)
//! ```
//!
//! Tokens are those of the text that the reader sees, titles and numbers included; the outline, the
//! prompts of the points and guesses that were wrong are work that the reader does not see, and
//! count with their time only. What the plain text needs as it is, without titles, is told beside.

use anyhow::Result;
use jupiter::Client;
use jupiter_models::text::Vocabulary;

use super::answer::{Answer, Way, write};
use super::quality::Quality;
use super::questions::Question;

/// What an answer took, in milliseconds from the question.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// When the text in order began.
    pub first_word_ms: f64,
    /// When all points were known; of a plain answer none.
    pub outline_ms: Option<f64>,
    /// When the last piece of the text came.
    pub last_word_ms: f64,
    /// Tokens of the text.
    pub n_tokens: f64,
}

impl Timing {
    /// What an answer took whose text has so many tokens.
    pub fn of(answer: &Answer, n_tokens: usize) -> Self {
        Self {
            first_word_ms: answer.first_word_ms,
            outline_ms: answer.outline_ms,
            last_word_ms: answer.last_word_ms,
            n_tokens: n_tokens as f64,
        }
    }

    /// The median of each time; `timings` are of the same answer.
    fn median(timings: &[Self]) -> Self {
        let median = |of: fn(&Self) -> f64| Spread::of(timings.iter().map(of)).median;
        let outline: Vec<f64> = timings.iter().filter_map(|t| t.outline_ms).collect();
        Self {
            first_word_ms: median(|t| t.first_word_ms),
            outline_ms: (!outline.is_empty()).then(|| Spread::of(outline).median),
            last_word_ms: median(|t| t.last_word_ms),
            n_tokens: median(|t| t.n_tokens),
        }
    }

    /// Milliseconds of each token behind the first.
    pub fn per_token_ms(&self) -> f64 {
        (self.last_word_ms - self.first_word_ms) / (self.n_tokens - 1.0).max(1.0)
    }
}

/// The two answers to a question.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair {
    /// In one piece.
    pub plain: Timing,
    /// Point by point.
    pub outlined: Timing,
}

impl Pair {
    /// When the plain answer would end with as many tokens as the outlined one.
    pub fn plain_at_equal_length_ms(&self) -> f64 {
        let more = (self.outlined.n_tokens - 1.0).max(0.0);
        self.plain.first_word_ms + self.plain.per_token_ms() * more
    }

    /// How many times faster the outlined answer ends, at equal length.
    pub fn ratio(&self) -> f64 {
        self.plain_at_equal_length_ms() / self.outlined.last_word_ms
    }

    /// How many times faster it ends than the plain one, whatever their lengths.
    pub fn ratio_as_it_is(&self) -> f64 {
        self.plain.last_word_ms / self.outlined.last_word_ms
    }
}

/// Median and quartiles.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// A quarter is below.
    pub low: f64,
    /// Half is below.
    pub median: f64,
    /// A quarter is above.
    pub high: f64,
}

impl Spread {
    /// Of these values, between neighbours where none stands at the place; of none, zeros.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * values.len().saturating_sub(1) as f64;
            let (below, above) = (place.floor(), place.ceil());
            let value = |at: f64| values.get(at as usize).copied().unwrap_or(0.0);
            value(below) + (value(above) - value(below)) * (place - below)
        };
        Self {
            low: at(0.25),
            median: at(0.5),
            high: at(0.75),
        }
    }
}

/// What was measured with guesses, or without.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Of each question, medians over the rounds.
    pub pairs: Vec<Pair>,
    /// What the answers of the first round say.
    pub quality: Quality,
}

/// Has all questions answered in all four ways, in turns, so many rounds; after `warm_up`, which
/// does not count. Gives what was measured without guesses and with them. `on_miss` gets the
/// questions of which the answers differ in facts, or have faults.
///
/// # Errors
/// When a request fails.
pub async fn measure(
    client: &Client,
    vocabulary: &Vocabulary,
    questions: &[Question],
    warm_up: &[Question],
    rounds: usize,
    on_miss: &mut dyn FnMut(&Question, &Answer, &Answer),
) -> Result<[Measured; 2]> {
    for question in warm_up {
        for way in Way::ALL {
            write(client, &question.messages, way).await?;
        }
    }
    let n = questions.len();
    let mut timings = vec![[const { Vec::new() }; Way::ALL.len()]; n];
    let mut answers = vec![[const { None }; Way::ALL.len()]; n];
    for round in 0..rounds {
        for turn in 0..n * Way::ALL.len() {
            // The ways take turns, each at another question: so the same question does not come
            // again while its cells are still there, which would spare one way some work.
            let (i, way) = (turn / Way::ALL.len(), (turn + round) % Way::ALL.len());
            let i = (i + way * n / Way::ALL.len()) % n;
            let answer = write(client, &questions[i].messages, Way::ALL[way]).await?;
            let n_tokens = vocabulary.tokenize(&answer.text, false, false).len();
            timings[i][way].push(Timing::of(&answer, n_tokens));
            answers[i][way].get_or_insert(answer);
        }
    }
    let mut measured = [Measured::default(), Measured::default()];
    for ((question, timings), answers) in questions.iter().zip(timings).zip(answers) {
        for (guesses, measured) in [false, true].into_iter().zip(&mut measured) {
            let place = |is_outlined| {
                let way = Way {
                    is_outlined,
                    guesses,
                };
                Way::ALL.iter().position(|&w| w == way).unwrap_or(0)
            };
            let (plain, outlined) = (place(false), place(true));
            measured.pairs.push(Pair {
                plain: Timing::median(&timings[plain]),
                outlined: Timing::median(&timings[outlined]),
            });
            if let (Some(plain), Some(outlined)) = (&answers[plain], &answers[outlined]) {
                let quality = Quality::of(&question.check, plain, outlined);
                measured.quality += quality;
                if !quality.is_perfect() {
                    on_miss(question, plain, outlined);
                }
            }
        }
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_answer_is_stretched_behind_its_first_word() {
        let timing = |first_word_ms, last_word_ms, n_tokens| Timing {
            first_word_ms,
            last_word_ms,
            n_tokens,
            outline_ms: None,
        };
        let pair = Pair {
            plain: timing(20.0, 120.0, 51.0),
            outlined: timing(40.0, 70.0, 101.0),
        };
        assert_eq!(pair.plain.per_token_ms(), 2.0);
        assert_eq!(pair.plain_at_equal_length_ms(), 220.0);
        assert_eq!(pair.ratio(), 220.0 / 70.0);
        assert_eq!(pair.ratio_as_it_is(), 120.0 / 70.0);
        assert_eq!(timing(20.0, 20.0, 1.0).per_token_ms(), 0.0);
    }

    #[test]
    fn quartiles_stand_between_neighbours() {
        let spread = |values: &[f64]| {
            let spread = Spread::of(values.iter().copied());
            (spread.low, spread.median, spread.high)
        };
        assert_eq!(spread(&[5.0, 1.0, 3.0, 2.0, 4.0]), (2.0, 3.0, 4.0));
        assert_eq!(spread(&[1.0, 2.0]), (1.25, 1.5, 1.75));
        assert_eq!(spread(&[7.0]), (7.0, 7.0, 7.0));
        assert_eq!(spread(&[]), (0.0, 0.0, 0.0));
    }
}
