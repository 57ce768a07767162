//! A node's answers to those who measure it: how fast it computes, and how far others are.
//!
//! ```text
//! head                          node a                       node b
//!   |  ---- how fast are you? -->  |                            |
//!   |  <---- compute profile ----  |                            |
//!   |  ---- how far is b? ------>  |  ---- echo, again and ---> |
//!   |  <---- link profile -------  |  <------- again ---------  |
//! ```
//!
//! Links are measured with the queries that zenoh itself carries, between the two nodes that will
//! use them. Both directions are asked for: a node measures what it sends. A message between stages
//! wakes the thread of an engine, which has slept since the last one, and an echo a thread of tokio's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jupiter_actors::NodeId;
use jupiter_actors::planning::profile::{DeviceProfile, LinkProfile};
use jupiter_models::engine::EngineParams;
use serde::{Deserialize, Serialize};
use zenoh::Session;
use zenoh::query::{Query, Queryable};

use crate::error::{ClusterError, Error, Result, zenoh_error};
use crate::net::emulation::EmulatedLink;
use crate::net::entrance;
use crate::net::keys::HeadKeys;

/// Longest question that is read.
const MAX_QUESTION_BYTES: usize = 16 << 10;
/// Round trips of a few bytes, of which the one in the middle counts: each message of a stream has to
/// arrive, not the luckiest. Odd.
const PINGS: usize = 15;
/// Pause before each of them, in which threads and cores fall asleep, as between two steps of a
/// stream.
const PAUSE: Duration = Duration::from_millis(10);
/// First and largest message that bandwidth is measured with.
const BURST_BYTES: (usize, usize) = (64 << 10, 4 << 20);
/// A burst has to take so much longer than a ping for its size to say something.
const MIN_BURST: Duration = Duration::from_millis(20);
/// Bursts of the last size, of which the shortest counts.
const BURSTS: u32 = 3;
/// How long an echo may take: the largest burst over a few megabits a second.
const ECHO_TIMEOUT: Duration = Duration::from_secs(20);
/// Bandwidth of a link that was too fast to be measured, in bytes a millisecond.
const FASTEST_BYTES_PER_MS: f64 = 1e8;

/// What a node is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// How fast does it compute the model in engines like this?
    Compute(Box<EngineParams>),
    /// How far is that node?
    Link(NodeId),
}

/// What it answers, or why it cannot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Compute(Box<DeviceProfile>),
    Link(LinkProfile),
    Failed(String),
}

/// Measures how fast this machine, as that node, computes the model in engines like these. Blocks.
pub(crate) type Measure =
    Arc<dyn Fn(&NodeId, &EngineParams) -> jupiter_models::Result<DeviceProfile> + Send + Sync>;

/// Answers as long as it lives.
pub(crate) struct Respondent {
    _compute: Queryable<()>,
    _echo: Queryable<()>,
}

struct Shared {
    session: Session,
    keys: HeadKeys,
    node: NodeId,
    measure: Measure,
    link: Arc<EmulatedLink>,
}

impl Respondent {
    /// Begins to answer for `node`.
    ///
    /// # Errors
    /// When zenoh refuses the queryables.
    pub(crate) fn start(
        session: &Session,
        keys: &HeadKeys,
        node: &NodeId,
        measure: Measure,
        link: Arc<EmulatedLink>,
    ) -> Result<Self> {
        let tokio = tokio::runtime::Handle::current();
        let shared = Arc::new(Shared {
            session: session.clone(),
            keys: keys.clone(),
            node: node.clone(),
            measure,
            link: link.clone(),
        });
        let spawner = tokio.clone();
        let compute = entrance::queryable(session, keys.measure(node), move |query| {
            spawner.spawn(shared.clone().answer(query));
        })?;
        let echo = entrance::queryable(session, keys.echo(node), move |query| {
            tokio.spawn(echo(link.clone(), query));
        })?;
        Ok(Self {
            _compute: compute,
            _echo: echo,
        })
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, query: Query) {
        let payload = query.payload().map(|p| p.to_bytes()).unwrap_or_default();
        let question = (payload.len() <= MAX_QUESTION_BYTES)
            .then(|| serde_json::from_slice::<Question>(&payload).ok())
            .flatten();
        let answer = match question {
            Some(Question::Compute(params)) => self.compute(*params).await,
            Some(Question::Link(to)) => self.link_to(&to).await.map(Answer::Link),
            None => Err(ClusterError::NoQuestion.into()),
        };
        let answer = answer.unwrap_or_else(|error| Answer::Failed(error.to_string()));
        if let Ok(json) = serde_json::to_vec(&answer)
            && let Err(error) = query.reply(query.key_expr(), json).await
        {
            // Who asked will ask again, or has gone.
            tracing::debug!(%error, "could not answer a measurement");
        }
    }

    async fn compute(self: Arc<Self>, params: EngineParams) -> Result<Answer> {
        let measure = move || (self.measure)(&self.node, &params);
        let measured = tokio::task::spawn_blocking(measure);
        let device = measured.await.map_err(|_| Error::Stopped)??;
        Ok(Answer::Compute(Box::new(device)))
    }

    /// Latency and bandwidth of what this node sends to `to`.
    async fn link_to(&self, to: &NodeId) -> Result<LinkProfile> {
        let mut pings = Vec::new();
        for _ in 0..PINGS {
            tokio::time::sleep(PAUSE).await;
            pings.push(self.round_trip(to, 1).await?);
        }
        pings.sort();
        let (usual, ping) = (pings[PINGS / 2], pings[0]);
        let (mut n_bytes, most) = BURST_BYTES;
        let mut burst = self.round_trip(to, n_bytes).await?;
        while burst.saturating_sub(ping) < MIN_BURST && n_bytes < most {
            n_bytes *= 4;
            burst = self.round_trip(to, n_bytes).await?;
        }
        for _ in 1..BURSTS {
            burst = burst.min(self.round_trip(to, n_bytes).await?);
        }
        Ok(LinkProfile {
            from: self.node.clone(),
            to: to.clone(),
            latency_ms: usual.as_secs_f64() * 1e3 / 2.0,
            bytes_per_ms: bytes_per_ms(n_bytes, burst.saturating_sub(ping)),
        })
    }

    /// Time until `to` has answered a message of `n_bytes`, which takes as many threads as it would
    /// between engines.
    async fn round_trip(&self, to: &NodeId, n_bytes: usize) -> Result<Duration> {
        let payload = vec![0_u8; n_bytes];
        let begin = Instant::now();
        hold_back(&self.link, n_bytes).await;
        let replies = self
            .session
            .get(self.keys.echo(to))
            .payload(payload)
            .timeout(ECHO_TIMEOUT)
            .await
            .map_err(zenoh_error)?;
        let reply = replies.recv_async().await;
        let took = begin.elapsed();
        match reply.is_ok_and(|reply| reply.result().is_ok()) {
            true => Ok(took),
            false => {
                let (from, to) = (self.node.clone(), to.clone());
                Err(ClusterError::NotReached { from, to }.into())
            }
        }
    }
}

async fn echo(link: Arc<EmulatedLink>, query: Query) {
    hold_back(&link, 1).await;
    if let Err(error) = query.reply(query.key_expr(), Vec::new()).await {
        tracing::debug!(%error, "could not echo");
    }
}

async fn hold_back(link: &EmulatedLink, n_bytes: usize) {
    if let Some(arrival) = link.arrival(n_bytes, Instant::now()) {
        tokio::time::sleep_until(arrival.into()).await;
    }
}

fn bytes_per_ms(n_bytes: usize, took: Duration) -> f64 {
    let ms = took.as_secs_f64() * 1e3;
    if ms > 0.0 {
        (n_bytes as f64 / ms).min(FASTEST_BYTES_PER_MS)
    } else {
        FASTEST_BYTES_PER_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidth_is_finite_however_short_the_burst_was() {
        assert_eq!(bytes_per_ms(1000, Duration::from_millis(10)), 100.0);
        assert_eq!(bytes_per_ms(1000, Duration::ZERO), FASTEST_BYTES_PER_MS);
    }
}
