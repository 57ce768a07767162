//! Tries out how a model writes point by point, when nobody asks it anything else: the same questions
//! in one piece and with points, compared by time and judged by form.

use std::time::{Duration, Instant};

use futures::StreamExt;
use jupiter_actors::Inbox;
use jupiter_actors::planner::{ClusterPhase, PlannerMessage};
use jupiter_models::sampling::SamplingParams;

use crate::client::Client;
use crate::client::outliner::{Trial, Trials};
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::client::stream::StreamItem;
use crate::config::OutlineMode;
use crate::error::{Error, Result};
use crate::outline::{BranchEvent, whole_share};
use crate::planner;

/// What is asked: everyday questions of all sorts that suit points, none of those that outlines are
/// evaluated with. Their answers are long and short, so that of the usual ones hardly any is missed.
const QUESTIONS: [&str; 16] = [
    "What are some tips for keeping a kitchen tidy?",
    "How do I repot a house plant?",
    "What are the advantages of a gas stove?",
    "Why do people forget what they have just read?",
    "How does a sewing machine work?",
    "What is the difference between a lake and a pond?",
    "How can I make my old laptop faster?",
    "Which tools belong in a beginner's toolbox?",
    "How do I wash a wool sweater?",
    "Tell me about the history of chess.",
    "Suggest hobbies for a rainy weekend.",
    "Compare trains and buses for daily commuting.",
    "How can I become more confident when I speak to a group?",
    "Why are many old bridges made of stone?",
    "What are the steps to adopt a cat?",
    "Explain how a compass finds north.",
];
/// Most tokens of an answer in one piece: all but endless ones have less. Points have budgets of
/// their own.
const MOST_TOKENS: u32 = 400;
/// How long nobody has to have asked: a command that answers once has ended by then.
const IDLE: Duration = Duration::from_secs(10);
/// Longest wait for the Planner's word on how it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Tries out the model behind `client` when it is idle, and keeps what is found. Who asks meanwhile
/// ends the trial of one question, which is begun again.
pub(crate) async fn when_idle(client: Client, inbox: Inbox) {
    let mut trials = Vec::new();
    while let Some(question) = next(&trials) {
        client.activity().quiet(IDLE).await;
        if !is_running(&inbox).await {
            continue;
        }
        tokio::select! {
            () = client.activity().woken() => {}
            tried = trial(&client, question) => match tried {
                Ok(tried) => trials.push(tried),
                Err(error) => {
                    tracing::info!(%error, "how the model writes point by point stays unknown");
                    return;
                }
            },
        }
    }
    keep(&client, &trials);
}

/// The same at once, unless it is known.
///
/// # Errors
/// When a request fails.
pub(crate) async fn now(client: &Client) -> Result<()> {
    if client.evidence().is_known() {
        return Ok(());
    }
    let mut trials = Vec::new();
    while let Some(question) = next(&trials) {
        trials.push(trial(client, question).await?);
    }
    keep(client, &trials);
    Ok(())
}

/// The next question; none when it is known how the model writes.
fn next(trials: &[Trial]) -> Option<&'static str> {
    let is_open = Trials::verdict(trials, QUESTIONS.len()).is_none();
    let next = QUESTIONS.get(trials.len());
    next.filter(|_| is_open).copied()
}

fn keep(client: &Client, trials: &[Trial]) {
    let found = Trials::of(trials);
    tracing::info!(?found, "how the model writes point by point");
    if let Err(error) = client.evidence().keep(found) {
        tracing::warn!(%error, "what was found of outlines cannot be kept in the cache folder");
    }
}

async fn trial(client: &Client, question: &str) -> Result<Trial> {
    let (plain, _) = timed(client, question, OutlineMode::Off).await?;
    let (outlined, points) = timed(client, question, OutlineMode::Auto).await?;
    Ok(Trial {
        form: whole_share(&points),
        speed: plain.as_secs_f64() / outlined.as_secs_f64().max(1e-6),
    })
}

/// How long an answer took, and the text of each of its points.
async fn timed(
    client: &Client,
    question: &str,
    mode: OutlineMode,
) -> Result<(Duration, Vec<String>)> {
    let options = GenerateOptions {
        n_predict: (mode == OutlineMode::Off).then_some(MOST_TOKENS),
        sampling: SamplingParams::greedy(),
        outline: Some(mode),
        cache_prompt: false,
        ..GenerateOptions::default()
    };
    let begun = Instant::now();
    let mut stream = client.try_out(Prompt::text(question), options).await?;
    let mut points = Vec::new();
    while let Some(item) = stream.next().await {
        match item? {
            StreamItem::Outline { outline, .. } => {
                points.resize(outline.points.len(), String::new());
            }
            StreamItem::Branch(BranchEvent::Text { branch, text }) => points[branch] += &text,
            StreamItem::Done(done) => {
                let has_points = done.outline.is_some_and(|outline| outline.n_points > 0);
                points.truncate(if has_points { points.len() } else { 0 });
                return Ok((begun.elapsed(), points));
            }
            StreamItem::Branch(_) | StreamItem::Token { .. } | StreamItem::Thought { .. } => {}
        }
    }
    Err(Error::Stopped)
}

/// Whether all stages are there: else a trial would wait in the queue, before who asks.
async fn is_running(inbox: &Inbox) -> bool {
    let status = planner::ask(inbox, PlannerMessage::Status, STATUS_TIMEOUT).await;
    status.is_ok_and(|status| status.phase == ClusterPhase::Running)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::outline::{Verdict, decide};

    #[test]
    fn the_questions_suit_points_and_are_no_evaluations() {
        let evaluated = [
            include_str!("../outline/route/questions_held_out.tsv"),
            include_str!("../outline/route/questions_seen.tsv"),
        ];
        for question in QUESTIONS {
            let decision = decide(question);
            assert_eq!(decision.verdict, Verdict::Outline, "{question}");
            assert!(evaluated.iter().all(|all| !all.contains(question)));
        }
    }

    #[test]
    fn one_question_comes_after_the_other() {
        let good = Trial {
            form: 1.0,
            speed: 2.0,
        };
        assert_eq!(next(&[]), Some(QUESTIONS[0]));
        assert_eq!(next(&[good; 3]), Some(QUESTIONS[3]));
        assert_eq!(next(&[good; QUESTIONS.len()]), None);
        assert_eq!(
            next(
                &[Trial {
                    form: 1.0,
                    speed: 0.9
                }; 2]
            ),
            None
        );
    }
}
