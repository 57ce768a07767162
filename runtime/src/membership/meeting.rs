//! Two heads of one cluster meet: which of them goes on.
//!
//! A head that starts refuses to where there is one already. But two may start at the same time, or
//! the network between them may come later. Both would answer every request.
//!
//! ```text
//! head a                                     head b
//!   |  <~~~~~~~ liveliness token of b ~~~~~~~  |
//!   |  ----- standing of a, as a query ----->  |   b compares
//!   |  <-------- standing of b --------------  |   a compares
//! ```
//!
//! Each takes its own standing once for each head that it meets, so that both compare the same two
//! whoever asks, and exactly one gives way. Its token vanishes, and its workers go to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jupiter_actors::planner::PlannerMessage;
use jupiter_actors::{Inbox, NodeId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use zenoh::Session;
use zenoh::query::{Query, Queryable};

use super::ASK_TIMEOUT;
use super::heads::{Head, Heads};
use crate::error::{ClusterError, Result};
use crate::net::entrance;
use crate::net::keys::Keys;
use crate::planner;

/// Pause before a head that did not answer is asked again: its token may be all that is left of it.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long the Planner may take to say what it is busy with: it answers from memory.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest standing that is read: names and numbers are a few hundred bytes.
const MAX_STANDING_BYTES: usize = 16 << 10;

/// What speaks for a head to go on; compared in this order, and the greater one goes on. Whatever
/// is equal, the last one differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Whether it answers requests; `plan` only measures.
    pub answers: bool,
    /// Nodes that compute for it, which would have to load for the other.
    pub n_workers: usize,
    /// Requests that it is computing, which would be lost.
    pub n_live: usize,
    /// For how long it has been a head, in milliseconds. Clocks are not compared: small machines
    /// have none that last.
    pub age_ms: u64,
    pub node: NodeId,
    pub instance: String,
}

impl Standing {
    /// Why this one goes on and `other` does not, for people.
    fn reason(&self, other: &Self) -> String {
        if self.answers != other.answers {
            "answers requests".to_owned()
        } else if self.n_workers != other.n_workers {
            format!("has {} workers, not {}", self.n_workers, other.n_workers)
        } else if self.n_live != other.n_live {
            format!("computes {} answers, not {}", self.n_live, other.n_live)
        } else {
            let age = match self.age_ms {
                ms @ 0..1000 => Duration::from_millis(ms),
                ms => Duration::from_secs(ms / 1000),
            };
            format!(
                "has been there longer ({})",
                humantime::format_duration(age)
            )
        }
    }
}

/// What a head knows of itself.
pub(crate) struct Own {
    pub node: NodeId,
    /// Nodes that have joined.
    pub n_workers: Arc<AtomicUsize>,
    /// Where its Planner is; none for a head that only measures.
    pub planner: Option<Inbox>,
}

/// Meets other heads.
pub(crate) struct Meeting {
    session: Session,
    keys: Keys,
    own: Own,
    instance: String,
    since: Instant,
    heads: Heads,
    asked: mpsc::UnboundedReceiver<Query>,
    _standing: Queryable<()>,
    /// What it said of itself, by the instance of whom it met.
    said: BTreeMap<String, Standing>,
    /// Heads with which it is clear who goes on.
    settled: BTreeSet<String>,
}

impl Meeting {
    pub(crate) async fn start(session: &Session, keys: &Keys, own: Own) -> Result<Self> {
        let instance = session.zid().to_string();
        // Unbounded, as callbacks must not wait; heads meet rarely.
        let (sender, asked) = mpsc::unbounded_channel();
        let standing = entrance::queryable(session, keys.of(&instance).standing(), move |query| {
            // After the end nobody needs an answer.
            let _ = sender.send(query);
        })?;
        Ok(Self {
            session: session.clone(),
            keys: keys.clone(),
            own,
            instance,
            since: Instant::now(),
            heads: Heads::watch(session, keys).await?,
            asked,
            _standing: standing,
            said: BTreeMap::new(),
            settled: BTreeSet::new(),
        })
    }

    /// Waits until another head goes on instead of this one, and says which and why.
    ///
    /// # Errors
    /// When the session has ended.
    pub(crate) async fn lost(mut self) -> Result<String> {
        let mut asks = JoinSet::new();
        let mut again = tokio::time::interval(ASK_AGAIN);
        loop {
            let compared = tokio::select! {
                changed = self.heads.update() => { changed?; None }
                _ = again.tick(), if self.open().next().is_some() => None,
                Some(query) = self.asked.recv() => self.answer(&query).await,
                Some(answer) = asks.join_next() => answer.ok().flatten(),
            };
            if let Some((ours, theirs)) = compared {
                if theirs > ours {
                    return Ok(format!(
                        "the cluster has another head, node {}, which goes on since it {}: this \
                         one ends; give one of them another cluster (--cluster NAME) to have both",
                        theirs.node,
                        theirs.reason(&ours)
                    ));
                }
                self.settle(&ours, &theirs);
            }
            if asks.is_empty() {
                self.ask_all(&mut asks).await;
            }
        }
    }

    /// Other heads that are there, where it is not clear who goes on.
    fn open(&self) -> impl Iterator<Item = &Head> {
        self.heads
            .present()
            .filter(|head| head.instance != self.instance && !self.settled.contains(&head.instance))
    }

    fn settle(&mut self, ours: &Standing, theirs: &Standing) {
        if self.settled.insert(theirs.instance.clone()) {
            tracing::warn!(
                "another head, node {}, is in this cluster: it gives way to this one, which {}",
                theirs.node,
                ours.reason(theirs)
            );
        }
    }

    /// Asks those with which it is open who goes on.
    async fn ask_all(&mut self, asks: &mut JoinSet<Option<(Standing, Standing)>>) {
        let open: Vec<Head> = self.open().cloned().collect();
        for head in open {
            if !head.is_understood() {
                let who = format!("another head of this cluster, node {},", head.node);
                let theirs = head.protocol;
                tracing::warn!("{}", ClusterError::OtherProtocol { who, theirs });
                self.settled.insert(head.instance);
                continue;
            }
            let ours = self.standing_for(&head.instance).await;
            let key = self.keys.of(&head.instance).standing();
            asks.spawn(ask(self.session.clone(), key, ours));
        }
    }

    /// What it says of itself to `other`, always the same.
    async fn standing_for(&mut self, other: &str) -> Standing {
        if let Some(said) = self.said.get(other) {
            return said.clone();
        }
        let standing = Standing {
            answers: self.own.planner.is_some(),
            n_workers: self.own.n_workers.load(Ordering::Relaxed),
            n_live: self.n_live().await,
            age_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            node: self.own.node.clone(),
            instance: self.instance.clone(),
        };
        self.said.insert(other.to_owned(), standing.clone());
        standing
    }

    /// Requests that are being computed; none where nobody says.
    async fn n_live(&self) -> usize {
        let Some(inbox) = &self.own.planner else {
            return 0;
        };
        // One that is being started again is not waited for longer either.
        let status = planner::ask(inbox, PlannerMessage::Status, BUSY_TIMEOUT);
        match tokio::time::timeout(BUSY_TIMEOUT, status).await {
            Ok(Ok(status)) => status.n_live,
            _ => 0,
        }
    }

    /// Answers another head; the standings of both, if it made itself understood.
    async fn answer(&mut self, query: &Query) -> Option<(Standing, Standing)> {
        let theirs = read(&query.payload()?.to_bytes())?;
        let ours = self.standing_for(&theirs.instance).await;
        let json = serde_json::to_vec(&ours).ok()?;
        if let Err(error) = query.reply(query.key_expr(), json).await {
            // It asks again.
            tracing::debug!(%error, "could not answer another head");
        }
        Some((ours, theirs))
    }
}

/// Asks another head; nothing when there is no readable answer.
async fn ask(session: Session, key: String, ours: Standing) -> Option<(Standing, Standing)> {
    let json = serde_json::to_vec(&ours).ok()?;
    let replies = session.get(key).payload(json).timeout(ASK_TIMEOUT).await;
    let replies = replies.ok()?;
    while let Ok(reply) = replies.recv_async().await {
        if let Ok(sample) = reply.result()
            && let Some(theirs) = read(&sample.payload().to_bytes())
        {
            return Some((ours, theirs));
        }
    }
    None
}

fn read(json: &[u8]) -> Option<Standing> {
    if json.len() > MAX_STANDING_BYTES {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(answers: bool, n_workers: usize, n_live: usize, age_ms: u64) -> Standing {
        Standing {
            answers,
            n_workers,
            n_live,
            age_ms,
            node: NodeId("a".into()),
            instance: "1".into(),
        }
    }

    #[test]
    fn the_head_goes_on_whose_end_would_cost_more() {
        let from_least_to_most = [
            (standing(false, 9, 0, 9_000_000), ""),
            (standing(true, 0, 0, 5), "answers requests"),
            (standing(true, 0, 0, 90_000), "longer (1m 30s)"),
            (standing(true, 0, 1, 0), "1 answers, not 0"),
            (standing(true, 2, 0, 0), "2 workers, not 0"),
        ];
        for pair in from_least_to_most.windows(2) {
            let ((less, _), (more, reason)) = (&pair[0], &pair[1]);
            assert!(more > less, "{more:?} {less:?}");
            assert!(more.reason(less).contains(reason), "{}", more.reason(less));
        }
    }

    #[test]
    fn one_of_two_equals_goes_on() {
        let a = standing(true, 1, 0, 7);
        let other_node = Standing {
            node: NodeId("b".into()),
            ..a.clone()
        };
        let same_name = Standing {
            instance: "2".into(),
            ..a.clone()
        };
        assert!(other_node > a && same_name > a && other_node > same_name);
    }
}
