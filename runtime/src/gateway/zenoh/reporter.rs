//! Answers whoever asks how the cluster is doing.

use std::time::{Duration, Instant};

use jupiter_actors::Inbox;
use jupiter_actors::planner::PlannerMessage;
use tokio::sync::mpsc;
use zenoh::Session;
use zenoh::query::{Query, Queryable};

use crate::error::Result;
use crate::net::entrance;
use crate::net::keys::Keys;
use crate::planner;
use crate::status::StatusReport;
use crate::task::AbortOnDrop;

/// Most questions that wait; more are left without an answer.
const MAX_QUESTIONS: usize = 16;

/// How long the Planner may take: it answers between two steps.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers as long as it lives.
pub(super) struct Reporter {
    _entrance: Queryable<()>,
    _answering: AbortOnDrop,
}

impl Reporter {
    /// Begins to answer.
    ///
    /// # Errors
    /// When zenoh refuses the queryable.
    pub(super) fn start(session: &Session, keys: &Keys, inbox: Inbox) -> Result<Self> {
        let (sender, mut questions) = mpsc::channel::<Query>(MAX_QUESTIONS);
        let ask = move |query| {
            if sender.try_send(query).is_err() {
                tracing::debug!("too many ask how it is going");
            }
        };
        let key = keys.status();
        let entrance = entrance::queryable(session, key.clone(), ask)?;
        let began = Instant::now();
        let answering = async move {
            while let Some(query) = questions.recv().await {
                let Some(report) = report(&inbox, began).await else {
                    continue;
                };
                if let Err(error) = query.reply(key.as_str(), report).await {
                    tracing::debug!(%error, "nobody takes how it is going");
                }
            }
        };
        Ok(Self {
            _entrance: entrance,
            _answering: AbortOnDrop(tokio::spawn(answering)),
        })
    }
}

/// None while the Planner does not answer: who asked asks again.
async fn report(inbox: &Inbox, began: Instant) -> Option<Vec<u8>> {
    let status = planner::ask(inbox, PlannerMessage::Status, PATIENCE).await;
    let report = StatusReport::new(&status.ok()?, began, Instant::now());
    serde_json::to_vec(&report).ok()
}
