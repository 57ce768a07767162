//! Why a request gets no answer; each message is one line that says how to mend it.

use std::time::Duration;

use super::{DeadlineKind, Priority};
use crate::RequestId;

/// Why a request was refused or could not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The prompt holds no token.
    #[error("the prompt is empty: send at least one token of text")]
    EmptyPrompt,
    /// The prompt does not fit.
    #[error(
        "the prompt has {n_prompt} tokens and the context {n_ctx}: shorten it or raise -c/--ctx-size"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        n_prompt: u32,
        /// Positions of the context.
        n_ctx: u32,
    },
    /// An answer without tokens.
    #[error("n_predict is 0: ask for at least one token")]
    NothingToGenerate,
    /// An id has to tell requests apart.
    #[error("request {} is being answered: take another id", .id.0)]
    IdTaken {
        /// The id.
        id: RequestId,
    },
    /// There is no such priority.
    #[error("priority is {priority}: send 0, the most urgent, to {}", Priority::LOWEST.level())]
    NoSuchPriority {
        /// What was asked for.
        priority: i64,
    },
    /// The deadline is over when the request comes.
    #[error("deadline_ms is {within_ms}: send 1 or more, or leave it out")]
    DeadlineInThePast {
        /// Milliseconds from now.
        within_ms: i64,
    },
    /// The Verifier cannot sample as asked: a grammar or sampling parameter; in one line.
    #[error("{why}")]
    Unverifiable {
        /// What is wrong.
        why: String,
    },
    /// Too many requests wait.
    #[error("{waiting} requests are waiting already: try again in {retry_after_ms} ms")]
    Busy {
        /// Requests that wait: all of them, or the client's own.
        waiting: usize,
        /// When there is room as far as can be told, in milliseconds.
        retry_after_ms: u64,
    },
    /// Others come first for longer than the deadline leaves; it was not begun.
    #[error(
        "{} within {} ms cannot be any more, {expected_ms} ms are expected: give it more time or a \
         more urgent priority, or ask again later", wanted(*.kind), .within.as_millis()
    )]
    DeadlineOutOfReach {
        /// What was to be there.
        kind: DeadlineKind,
        /// How soon.
        within: Duration,
        /// What it would take from when it was asked.
        expected_ms: u64,
    },
    /// The deadline passed while it waited or was computed; the tokens so far stay valid.
    #[error(
        "{} was not there within {} ms: give it more time or a more urgent priority, or ask for less",
        wanted(*.kind), .within.as_millis()
    )]
    DeadlineMissed {
        /// What was to be there.
        kind: DeadlineKind,
        /// How soon.
        within: Duration,
    },
    /// The model cannot be loaded on the nodes that there are; in one line.
    #[error("{why}")]
    CannotLoad {
        /// What is wrong, and where.
        why: String,
    },
    /// Too few nodes for too long.
    #[error(
        "{n_nodes} of {n_wanted} nodes are there, waited {}: start `jupiter worker` on another \
         machine{}", crate::show_duration(*.waited), in_brackets(.last_fault)
    )]
    TooFewNodes {
        /// Nodes that are there.
        n_nodes: usize,
        /// Nodes that are needed.
        n_wanted: u32,
        /// How long the request waited for them.
        waited: Duration,
        /// What happened last; empty when nothing did.
        last_fault: String,
    },
    /// A fault comes back whenever it is cured.
    #[error(
        "gave up after {n_recoveries} recoveries without a new token; the last fault: {last_fault}"
    )]
    GaveUp {
        /// Recoveries in a row.
        n_recoveries: u32,
        /// What happened last.
        last_fault: String,
    },
    /// The Planner does not come back.
    #[error("the planner failed too often")]
    PlannerFailed,
}

fn wanted(kind: DeadlineKind) -> &'static str {
    match kind {
        DeadlineKind::Answer => "the answer",
        DeadlineKind::FirstToken => "the first token",
    }
}

fn in_brackets(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!(" ({text})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_one_line_that_says_what_was_asked() {
        let within = Duration::from_millis(250);
        let kind = DeadlineKind::FirstToken;
        for (error, told) in [
            (
                RequestError::NoSuchPriority { priority: 9 },
                "priority is 9: send 0, the most urgent, to 7",
            ),
            (
                RequestError::Busy {
                    waiting: 3,
                    retry_after_ms: 40,
                },
                "3 requests are waiting already: try again in 40 ms",
            ),
            (
                RequestError::DeadlineMissed { kind, within },
                "the first token was not there within 250 ms: give it more time or a more urgent \
                 priority, or ask for less",
            ),
            (
                RequestError::DeadlineOutOfReach {
                    kind: DeadlineKind::Answer,
                    within,
                    expected_ms: 900,
                },
                "the answer within 250 ms cannot be any more, 900 ms are expected: give it more \
                 time or a more urgent priority, or ask again later",
            ),
            (
                RequestError::TooFewNodes {
                    n_nodes: 1,
                    n_wanted: 2,
                    waited: Duration::from_secs(5),
                    last_fault: "node b is gone".into(),
                },
                "1 of 2 nodes are there, waited 5 s: start `jupiter worker` on another machine \
                 (node b is gone)",
            ),
        ] {
            assert_eq!(error.to_string(), told);
        }
    }
}
