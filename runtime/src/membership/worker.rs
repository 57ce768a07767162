//! A worker's side of the membership.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use zenoh::Session;

use super::heads::{Head, Heads};
use super::{ASK_TIMEOUT, Answer, JoinRequest, unwritable};
use crate::error::{ClusterError, Result, zenoh_error};
use crate::net::keys::{HeadKeys, Keys};

/// How long a name may be taken before a worker gives up: a process of that name that was killed
/// keeps it until its lease ends.
const NAME_PATIENCE: Duration = Duration::from_secs(6);

/// Pause before asking again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The heads of which a worker serves one.
pub(crate) struct Choice {
    heads: Heads,
    /// Instances of heads that refused this node while there was another.
    refused: BTreeSet<String>,
}

impl Choice {
    /// Looks for heads, those that are there already included.
    pub(crate) async fn watch(session: &Session, keys: &Keys) -> Result<Self> {
        Ok(Self {
            heads: Heads::watch(session, keys).await?,
            refused: BTreeSet::new(),
        })
    }

    /// Waits for a head of our protocol. Cancel safe.
    ///
    /// # Errors
    /// When all that are there are of another protocol.
    pub(crate) async fn wait(&mut self) -> Result<Head> {
        loop {
            if self.open().next().is_none() {
                // Only what refused is left: its refusal is final then.
                self.refused.clear();
            }
            if let Some(head) = self.open().find(|head| head.is_understood()) {
                return Ok(head.clone());
            }
            if let Some(head) = self.open().next() {
                let who = format!("the head, node {},", head.node);
                let theirs = head.protocol;
                return Err(ClusterError::OtherProtocol { who, theirs }.into());
            }
            self.heads.update().await?;
        }
    }

    /// Leaves `head` aside, which refused this node; false where no other is there.
    pub(crate) fn set_aside(&mut self, head: &Head) -> bool {
        let is_other = |other: &Head| other.instance != head.instance && other.is_understood();
        let has_other = self.open().any(is_other);
        if has_other {
            self.refused.insert(head.instance.clone());
        }
        has_other
    }

    /// Waits until `head` is gone. Cancel safe.
    pub(crate) async fn wait_until_gone(&mut self, head: &Head) -> Result<()> {
        let mut is_told = false;
        while self.heads.is_present(&head.instance) {
            self.heads.update().await?;
            let mut others = self.heads.present();
            if !is_told && let Some(other) = others.find(|o| o.instance != head.instance) {
                is_told = true;
                tracing::warn!(
                    "a second head, node {}, is in this cluster: this worker stays with {} unless \
                     that gives way; two heads want two clusters (--cluster)",
                    other.node,
                    head.node
                );
            }
        }
        Ok(())
    }

    fn open(&self) -> impl Iterator<Item = &Head> {
        let refused = |head: &&Head| !self.refused.contains(&head.instance);
        self.heads.present().filter(refused)
    }
}

/// Asks the head to admit this node, until it does.
///
/// # Errors
/// When the head refuses for good.
pub(crate) async fn join(session: &Session, keys: &HeadKeys, request: &JoinRequest) -> Result<()> {
    let start = Instant::now();
    let payload = serde_json::to_vec(request).map_err(unwritable)?;
    loop {
        match ask(session, keys, &payload).await? {
            Some(Answer::Accepted) => return Ok(()),
            Some(Answer::Refused { why, retry }) if !retry || start.elapsed() > NAME_PATIENCE => {
                return Err(ClusterError::Refused(why).into());
            }
            Some(Answer::Refused { why, .. }) => tracing::info!("not admitted yet: {why}"),
            None => tracing::debug!("the head does not answer yet"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Asks once; none when there is no readable answer.
async fn ask(session: &Session, keys: &HeadKeys, payload: &[u8]) -> Result<Option<Answer>> {
    let replies = session
        .get(keys.join())
        .payload(payload)
        .timeout(ASK_TIMEOUT);
    let replies = replies.await.map_err(zenoh_error)?;
    while let Ok(reply) = replies.recv_async().await {
        if let Ok(sample) = reply.result() {
            let answer = serde_json::from_slice(&sample.payload().to_bytes());
            if let Ok(answer) = answer {
                return Ok(Some(answer));
            }
        }
    }
    Ok(None)
}
