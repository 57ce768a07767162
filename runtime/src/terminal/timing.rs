//! What an answer took, in one line.

use std::fmt::Write as _;

use jupiter_actors::request::{Completion, StageUsage};

/// Tokens, times and rates of an answer, and how much of the time each stage computed:
/// `prompt: 9 tokens, 31.2 ms, 288.5 t/s | eval: 32 tokens, 400.0 ms, 77.5 t/s | compute: local
/// 0..8 46%, local 8..16 51%, network and waiting 3%`; and what was used up, where that ended it.
///
/// The shares are those of the time from the first token to the last, or of the prompt's when
/// there is only one token. In a prompt the stages overlap, so its shares may exceed 100 %.
pub fn timing_line(done: &Completion) -> String {
    let cached = match done.n_cached {
        0 => String::new(),
        n => format!(" ({n} cached)"),
    };
    let mut line = format!(
        "prompt: {}{cached}, {:.1} ms, {:.1} t/s | eval: {}, {:.1} ms",
        tokens(done.n_prompt),
        done.prompt_ms,
        rate(done.n_prompt - done.n_cached, done.prompt_ms),
        tokens(done.n_eval),
        done.eval_ms,
    );
    // The first token is the prompt's work.
    let n_later = done.n_eval.saturating_sub(1);
    if n_later > 0 {
        let _ = write!(line, ", {:.1} t/s", rate(n_later, done.eval_ms));
    }
    if let Some(used) = done.outline.as_ref().filter(|used| used.n_points > 0) {
        let _ = write!(line, " | {} points side by side", used.n_points);
    }
    if let Some(used) = done.speculation.as_ref().filter(|used| used.n_drafted > 0) {
        let _ = write!(
            line,
            " | {}: {:.0}% of {} guesses right, {:.2} tokens a step, {} rows in vain",
            used.source,
            used.acceptance() * 100.0,
            used.n_drafted,
            used.tokens_per_step(),
            used.n_wasted,
        );
    }
    line.push_str(&shares(done));
    if let Some(limit) = done.limit {
        let _ = write!(line, " | length: {limit}");
    }
    if done.n_replays > 0 {
        let _ = write!(line, " | replayed {}x after a fault", done.n_replays);
    }
    if done.n_preempted > 0 {
        let _ = write!(line, " | gave way to others {}x", done.n_preempted);
    }
    line
}

/// What each stage had to do of the time, and what nobody had.
fn shares(done: &Completion) -> String {
    let is_answer = done.n_eval > 1;
    let elapsed_ms = if is_answer {
        done.eval_ms
    } else {
        done.prompt_ms
    };
    if elapsed_ms <= 0.0 || done.stages.is_empty() {
        return String::new();
    }
    let mut idle = 100.0;
    let share = |stage: &StageUsage| {
        let busy_ms = if is_answer {
            stage.eval_busy_ms
        } else {
            stage.prompt_busy_ms
        };
        let share = busy_ms / elapsed_ms * 100.0;
        idle -= share;
        format!(" {} {} {share:.0}%", stage.node, stage.layers)
    };
    let shares: Vec<_> = done.stages.iter().map(share).collect();
    let (shares, idle) = (shares.join(","), idle.max(0.0));
    format!(" | compute:{shares}, network and waiting {idle:.0}%")
}

fn tokens(n: u32) -> String {
    if n == 1 {
        "1 token".to_owned()
    } else {
        format!("{n} tokens")
    }
}

fn rate(n_tokens: u32, elapsed_ms: f64) -> f64 {
    if elapsed_ms > 0.0 {
        f64::from(n_tokens) * 1000.0 / elapsed_ms
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use jupiter_actors::NodeId;
    use jupiter_actors::request::{FinishReason, LengthLimit, OutlineUsage, SpeculationUsage};
    use jupiter_models::LayerRange;

    use super::*;

    fn completion(n_eval: u32, eval_ms: f64) -> Completion {
        let stage = |start, end, eval_busy_ms| StageUsage {
            node: NodeId("pi".into()),
            layers: LayerRange::new(start, end),
            prompt_busy_ms: 40.0,
            eval_busy_ms,
        };
        Completion {
            reason: FinishReason::Stop,
            limit: None,
            n_prompt: 10,
            n_cached: 0,
            n_eval,
            prompt_ms: 50.0,
            eval_ms,
            n_replays: 0,
            n_preempted: 0,
            stages: vec![stage(0, 8, 46.0), stage(8, 16, 51.0)],
            speculation: None,
            outline: None,
        }
    }

    #[test]
    fn shares_are_of_the_time_between_tokens() {
        assert_eq!(
            timing_line(&completion(11, 100.0)),
            "prompt: 10 tokens, 50.0 ms, 200.0 t/s | eval: 11 tokens, 100.0 ms, 100.0 t/s | \
             compute: pi 0..8 46%, pi 8..16 51%, network and waiting 3%"
        );
    }

    #[test]
    fn guesses_are_told_when_there_were_any() {
        let mut done = completion(11, 100.0);
        done.speculation = Some(SpeculationUsage {
            source: "ngram",
            n_steps: 4,
            n_tokens: 10,
            n_drafted: 8,
            n_accepted: 6,
            n_wasted: 2,
            predicted_ratio: 1.5,
        });
        let line = timing_line(&done);
        let expected = "| ngram: 75% of 8 guesses right, 2.50 tokens a step, 2 rows in vain |";
        assert!(line.contains(expected), "{line}");
        done.speculation = Some(SpeculationUsage::default());
        assert_eq!(timing_line(&done), timing_line(&completion(11, 100.0)));
    }

    #[test]
    fn points_are_told_of_an_outlined_answer() {
        let mut done = completion(11, 100.0);
        let mut usage = OutlineUsage {
            n_points: 5,
            class: "advice".into(),
            reason: "it asks how".into(),
        };
        done.outline = Some(usage.clone());
        let line = timing_line(&done);
        let expected = "100.0 t/s | 5 points side by side | compute:";
        assert!(line.contains(expected), "{line}");
        usage.n_points = 0;
        done.outline = Some(usage);
        assert_eq!(timing_line(&done), timing_line(&completion(11, 100.0)));
    }

    #[test]
    fn what_is_used_up_is_told() {
        let mut done = completion(11, 100.0);
        for (limit, told) in [
            (LengthLimit::NPredict, "n_predict is reached"),
            (LengthLimit::Context, "the context is full"),
        ] {
            (done.reason, done.limit) = (FinishReason::Length, Some(limit));
            let line = timing_line(&done);
            assert!(line.ends_with(&format!(" | length: {told}")), "{line}");
        }
    }

    #[test]
    fn one_token_is_the_work_of_the_prompt() {
        let line = timing_line(&completion(1, 0.0));
        assert!(
            line.contains("eval: 1 token, 0.0 ms | compute: pi 0..8 80%"),
            "{line}"
        );
        assert!(line.ends_with("network and waiting 0%"), "{line}");
    }
}
