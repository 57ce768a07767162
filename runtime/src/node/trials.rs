//! Tries out how a model writes point by point, when nobody asks it anything else: the same questions
//! in one piece and with points, compared by time and judged by form.

use std::time::{Duration, Instant};

use futures::StreamExt;
use jupiter_actors::Inbox;
use jupiter_actors::planner::{ClusterPhase, PlannerMessage};
use jupiter_models::sampling::SamplingParams;

use crate::client::Client;
use crate::client::outliner::Trials;
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::client::stream::StreamItem;
use crate::config::OutlineMode;
use crate::error::{Error, Result};
use crate::outline::{BranchEvent, whole_share};
use crate::planner;

/// What is asked: a few everyday questions whose answers are lists by nature.
const QUESTIONS: [&str; 5] = [
    "What are some tips for sleeping better?",
    "How do I prepare for a job interview?",
    "What are the advantages of riding a bicycle?",
    "How can I save money every month?",
    "Why is regular exercise important?",
];
/// Most tokens of an answer in one piece: all but endless ones have less. Points have budgets of
/// their own.
const MOST_TOKENS: u32 = 400;
/// How long nobody has to have asked: a command that answers once has ended by then.
const IDLE: Duration = Duration::from_secs(10);
/// Longest wait for the Planner's word on how it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// What one question told.
#[derive(Clone, Copy, Debug)]
struct Trial {
    form: f64,
    speed: f64,
}

/// Tries out the model behind `client` when it is idle, and keeps what is found. Who asks meanwhile
/// ends the trial of one question, which is begun again.
pub(crate) async fn when_idle(client: Client, inbox: Inbox) {
    let mut trials = Vec::new();
    while trials.len() < QUESTIONS.len() {
        client.activity().quiet(IDLE).await;
        if !is_running(&inbox).await {
            continue;
        }
        let next = trial(&client, QUESTIONS[trials.len()]);
        tokio::select! {
            () = client.activity().woken() => {}
            tried = next => match tried {
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
    for question in QUESTIONS {
        trials.push(trial(client, question).await?);
    }
    keep(client, &trials);
    Ok(())
}

fn keep(client: &Client, trials: &[Trial]) {
    let form = trials.iter().map(|trial| trial.form).sum::<f64>() / trials.len() as f64;
    let mut speeds: Vec<f64> = trials.iter().map(|trial| trial.speed).collect();
    speeds.sort_by(f64::total_cmp);
    let (speed, worst_speed) = (speeds[speeds.len() / 2], speeds[0]);
    let found = Trials {
        form,
        speed,
        worst_speed,
    };
    tracing::info!(?found, "how the model writes point by point");
    if let Err(error) = client.evidence().keep(found) {
        tracing::warn!(%error, "what was found of outlines cannot be kept in the cache folder");
    }
}

async fn trial(client: &Client, question: &str) -> Result<Trial> {
    let (plain, _) = timed(client, question, OutlineMode::Off).await?;
    let (outlined, points) = timed(client, question, OutlineMode::On).await?;
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
    let mut stream = client.write(Prompt::text(question), options, 0).await?;
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
            StreamItem::Branch(_) | StreamItem::Token { .. } => {}
        }
    }
    Err(Error::Stopped)
}

/// Whether all stages are there: else a trial would wait in the queue, before who asks.
async fn is_running(inbox: &Inbox) -> bool {
    let status = planner::ask(inbox, PlannerMessage::Status, STATUS_TIMEOUT).await;
    status.is_ok_and(|status| status.phase == ClusterPhase::Running)
}
