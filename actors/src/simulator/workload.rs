//! What is asked of a simulated cluster: when, how much, and how the answers are written.

use std::f64::consts::TAU;
use std::str::FromStr;

use serde::Deserialize;

use super::SimulationError;
use crate::planning::figure::Figure;
use crate::speculation::draw::uniform;

/// Nanoseconds in a second.
pub(super) const NS_PER_S: f64 = 1e9;
/// Most requests of a run: their latencies are all kept.
pub const MAX_REQUESTS: u32 = 1_000_000;
/// Most tokens of a prompt or an answer; more than any context holds.
pub const MAX_TOKENS: u32 = 1 << 20;
/// Most requests a second: each comes at a nanosecond of its own.
pub const MAX_RATE: f64 = 1e6;
/// Latest arrival, in seconds: thirty years, which fit the clock.
const MAX_SECONDS: f64 = 1e9;

/// Mean tokens of a prompt and of an answer of ShareGPT, as the vLLM paper counts them
/// (arXiv 2309.06180, figure 11).
const SHAREGPT_MEANS: [f64; 2] = [161.31, 337.99];
/// How far lengths spread: the standard deviation of their logarithm. Assumed, so that there are as
/// many long ones as the same figure shows.
const SHAREGPT_SPREADS: [f64; 2] = [1.1, 0.8];
/// Fewest tokens of each, and most, as vLLM's benchmark leaves longer ones out.
const SHAREGPT_BOUNDS: [f64; 2] = [4.0, 1024.0];
/// Mean tokens of a prompt and of an answer of `lognormal`: a question of some sentences, a short answer.
const USUAL_MEANS: [u32; 2] = [200, 60];
/// Longest ones of log-normal lengths, in means: one of a thousand is longer.
const LONGEST_MEANS: f64 = 16.0;

/// A request of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimRequest {
    /// When it comes, in nanoseconds since the run began.
    pub arrives_ns: u64,
    /// Tokens of its prompt.
    pub n_prompt: u32,
    /// Tokens of its answer, which is as long as that; with points those of the outline.
    pub n_predict: u32,
    /// How the answer goes on behind its outline, if it is written point by point.
    pub points: Option<Points>,
}

impl SimRequest {
    /// A request that comes when the run begins, without points.
    pub fn at_once(n_prompt: u32, n_predict: u32) -> Self {
        Self {
            arrives_ns: 0,
            n_prompt,
            n_predict,
            points: None,
        }
    }
}

/// Points of an answer, written side by side behind prompt and outline: each is a request that is part of
/// it, and shares what the Planner lets it share of the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points {
    /// Points of an answer.
    pub n_points: u32,
    /// Tokens of each point's own prompt.
    pub n_prompt: u32,
    /// Tokens that are written of each.
    pub n_predict: u32,
    /// Whether each begins as soon as its line of the outline is written, behind the lines so far, and
    /// not all of them behind the whole outline.
    pub with_lines: bool,
}

/// How long prompts and answers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// As in ShareGPT's conversations: log-normal, of the means that the vLLM paper gives (161 and
    /// 338 tokens), from 4 to 1024 tokens each.
    ShareGpt,
    /// Log-normal, as widely spread as ShareGPT's.
    LogNormal {
        /// Tokens of a prompt, in the mean.
        n_prompt: u32,
        /// Tokens of an answer, in the mean.
        n_predict: u32,
    },
    /// All alike.
    Fixed {
        /// Tokens of the prompt.
        n_prompt: u32,
        /// Tokens of the answer.
        n_predict: u32,
    },
}

impl FromStr for Lengths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}`: take sharegpt, lognormal, lognormal:200,60 for means of prompt and \
                 answer, or fixed:260,64 for all alike"
            )
        };
        let tokens = |text: &str| {
            let n = text.trim().parse::<u32>().ok();
            n.filter(|n| (1..=MAX_TOKENS).contains(n))
                .ok_or_else(|| format!("`{text}`: a number of tokens is 1 to {MAX_TOKENS}"))
        };
        let [n_prompt, n_predict] = USUAL_MEANS;
        let (kind, lengths) = match text {
            "sharegpt" => return Ok(Self::ShareGpt),
            "lognormal" => {
                return Ok(Self::LogNormal {
                    n_prompt,
                    n_predict,
                });
            }
            _ => text.split_once(':').ok_or_else(wrong)?,
        };
        let (n_prompt, n_predict) = lengths.split_once(',').ok_or_else(wrong)?;
        let (n_prompt, n_predict) = (tokens(n_prompt)?, tokens(n_predict)?);
        match kind {
            "fixed" => Ok(Self::Fixed {
                n_prompt,
                n_predict,
            }),
            "lognormal" => Ok(Self::LogNormal {
                n_prompt,
                n_predict,
            }),
            _ => Err(wrong()),
        }
    }
}

/// `n_requests` that come at random, `rate` of them a second (a Poisson process), the first at once.
///
/// # Errors
/// For a rate or a number that cannot be.
pub fn arrivals(
    rate: f64,
    n_requests: u32,
    lengths: Lengths,
    seed: u64,
) -> Result<Vec<SimRequest>, SimulationError> {
    let bad = |field, got, expected| SimulationError::BadValue {
        field,
        got,
        expected,
    };
    if !(rate > 0.0 && rate <= MAX_RATE) {
        let expected = "more than 0, at most 1000000 requests a second".to_owned();
        return Err(bad("the rate", Figure(rate).to_string(), expected));
    }
    if !(1..=MAX_REQUESTS).contains(&n_requests) {
        let expected = format!("1 to {MAX_REQUESTS}");
        return Err(bad(
            "the number of requests",
            n_requests.to_string(),
            expected,
        ));
    }
    let mut arrives_s: f64 = 0.0;
    let mut request = |i: u32| {
        // Four draws a request, whichever of them are used.
        let draw = |k: u64| uniform(seed, 4 * u64::from(i) + k);
        if i > 0 {
            arrives_s -= (1.0 - draw(0)).ln() / rate;
        }
        let (n_prompt, n_predict) = lengths.draw([draw(1), draw(2), draw(3)]);
        SimRequest {
            arrives_ns: (arrives_s * NS_PER_S) as u64,
            n_prompt,
            n_predict,
            points: None,
        }
    };
    let requests = (0..n_requests).map(&mut request).collect();
    if arrives_s > MAX_SECONDS {
        let expected = format!(
            "so many that {n_requests} requests come within {MAX_SECONDS} seconds, not {}",
            Figure(arrives_s)
        );
        return Err(bad("the rate", Figure(rate).to_string(), expected));
    }
    Ok(requests)
}

impl Lengths {
    fn draw(self, draws: [f64; 3]) -> (u32, u32) {
        match self {
            Self::Fixed {
                n_prompt,
                n_predict,
            } => (n_prompt, n_predict),
            Self::ShareGpt => {
                let [fewest, most] = SHAREGPT_BOUNDS;
                log_normal(SHAREGPT_MEANS, fewest, [most; 2], draws)
            }
            Self::LogNormal {
                n_prompt,
                n_predict,
            } => {
                let means = [n_prompt, n_predict].map(f64::from);
                let most = means.map(|mean| (LONGEST_MEANS * mean).min(f64::from(MAX_TOKENS)));
                log_normal(means, 1.0, most, draws)
            }
        }
    }
}

/// Tokens of a prompt and of an answer, from draws of 0 to 1.
fn log_normal(means: [f64; 2], fewest: f64, most: [f64; 2], draws: [f64; 3]) -> (u32, u32) {
    // Two normal numbers (Box and Muller).
    let radius = (-2.0 * (1.0 - draws[0]).ln()).sqrt();
    let normal = [(TAU * draws[1]).cos(), (TAU * draws[1]).sin()];
    let length = |at: usize| {
        let spread = SHAREGPT_SPREADS[at];
        let median = means[at].ln() - spread * spread / 2.0;
        let length = (median + spread * radius * normal[at]).exp();
        length.clamp(fewest, most[at]) as u32
    };
    (length(0), length(1))
}

/// A line of a trace: a request that was, as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceLine {
    /// When it came, in seconds since some moment.
    pub arrives_s: f64,
    /// Tokens of its prompt.
    pub n_prompt: u32,
    /// Tokens of its answer.
    pub n_predict: u32,
}

/// The requests of a trace, each with the number of its line, from 1; the first comes at once.
///
/// # Errors
/// With the number of the first line that cannot be: out of order, negative, no tokens.
pub fn traced(lines: &[(usize, TraceLine)]) -> Result<Vec<SimRequest>, SimulationError> {
    let refuse = |line: usize, problem: String| Err(SimulationError::Trace { line, problem });
    let Some((_, first)) = lines.first() else {
        return refuse(1, "there is no request".to_owned());
    };
    if let Some((line, _)) = lines.get(MAX_REQUESTS as usize) {
        let problem = format!("at most {MAX_REQUESTS} requests are simulated");
        return refuse(*line, problem);
    }
    let mut before_s = first.arrives_s;
    let mut requests = Vec::with_capacity(lines.len());
    for &(line, asked) in lines {
        if !(0.0..=MAX_SECONDS).contains(&asked.arrives_s) {
            let problem = format!(
                "arrives_s is {}, expected 0 to {MAX_SECONDS} seconds",
                Figure(asked.arrives_s)
            );
            return refuse(line, problem);
        }
        if asked.arrives_s < before_s {
            let problem = format!(
                "arrives_s is {}, before the line above it: sort the lines by it",
                asked.arrives_s
            );
            return refuse(line, problem);
        }
        for (field, n) in [("n_prompt", asked.n_prompt), ("n_predict", asked.n_predict)] {
            if !(1..=MAX_TOKENS).contains(&n) {
                let problem = format!("{field} is {n}, expected 1 to {MAX_TOKENS} tokens");
                return refuse(line, problem);
            }
        }
        before_s = asked.arrives_s;
        requests.push(SimRequest {
            arrives_ns: ((asked.arrives_s - first.arrives_s) * NS_PER_S) as u64,
            n_prompt: asked.n_prompt,
            n_predict: asked.n_predict,
            points: None,
        });
    }
    Ok(requests)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_as_often_and_are_as_long_as_asked() {
        let requests = arrivals(4.0, 20_000, Lengths::ShareGpt, 1).unwrap();
        let seconds = requests.last().unwrap().arrives_ns as f64 / NS_PER_S;
        assert!((seconds / 5_000.0 - 1.0).abs() < 0.03, "{seconds}");
        let mean = |of: fn(&SimRequest) -> u32| {
            requests.iter().map(|r| f64::from(of(r))).sum::<f64>() / requests.len() as f64
        };
        // The longest are cut off.
        let (prompt, answer) = (mean(|r| r.n_prompt), mean(|r| r.n_predict));
        assert!((prompt / 161.0 - 1.0).abs() < 0.1, "{prompt}");
        assert!((answer / 338.0 - 1.0).abs() < 0.1, "{answer}");
        let around = "lognormal".parse().unwrap();
        let usual = arrivals(4.0, 20_000, around, 1).unwrap();
        let mean = |of: fn(&SimRequest) -> u32| {
            usual.iter().map(|r| f64::from(of(r))).sum::<f64>() / usual.len() as f64
        };
        let (prompt, answer) = (mean(|r| r.n_prompt), mean(|r| r.n_predict));
        assert!((prompt / 200.0 - 1.0).abs() < 0.1, "{prompt}");
        assert!((answer / 60.0 - 1.0).abs() < 0.1, "{answer}");
        assert_eq!(requests[0].arrives_ns, 0);
        assert_eq!(
            requests,
            arrivals(4.0, 20_000, Lengths::ShareGpt, 1).unwrap()
        );
        assert_ne!(
            requests,
            arrivals(4.0, 20_000, Lengths::ShareGpt, 2).unwrap()
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = arrivals(rate, 1, Lengths::ShareGpt, 1).unwrap_err();
            assert!(error.to_string().contains("the rate is"), "{error}");
        }
        for (rate, told) in [(1e-300, "the rate is 1e-300"), (1e300, "the rate is 1e300")] {
            let error = arrivals(rate, 2, Lengths::ShareGpt, 1).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
        assert!(
            arrivals(1e-300, 1, Lengths::ShareGpt, 1).is_ok(),
            "it comes at once"
        );
        let bad = [
            "",
            "fixed:",
            "fixed:1",
            "fixed:0,1",
            "fixed:-4,4",
            "short",
            "short:1,1",
        ];
        for text in bad.into_iter().chain(["lognormal:", "lognormal:9999999,1"]) {
            assert!(text.parse::<Lengths>().is_err(), "{text}");
        }
        let line = |arrives_s, n_prompt, n_predict| TraceLine {
            arrives_s,
            n_prompt,
            n_predict,
        };
        let traced = |lines: &[TraceLine]| {
            let numbered: Vec<_> = (1..).zip(lines.iter().copied()).collect();
            super::traced(&numbered)
        };
        for (lines, told) in [
            (vec![], "line 1: there is no request"),
            (vec![line(-1.0, 1, 1)], "line 1: arrives_s is -1"),
            (vec![line(f64::NAN, 1, 1)], "line 1: arrives_s is NaN"),
            (vec![line(2.0, 1, 1), line(1.0, 1, 1)], "line 2: arrives_s"),
            (vec![line(1.0, 1, 1), line(1.0, 0, 1)], "line 2: n_prompt"),
            (vec![line(1.0, 1, u32::MAX)], "line 1: n_predict"),
        ] {
            let error = traced(&lines).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        let requests = traced(&[line(7.5, 10, 20), line(8.0, 1, 1)]).unwrap();
        assert_eq!(requests[0].arrives_ns, 0);
        assert_eq!(requests[1].arrives_ns, 500_000_000);
    }
}
