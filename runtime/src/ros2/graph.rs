//! Who else is there: clients whose end ends what they asked for, and endpoints of our names with types
//! of another hash, which would hear nothing of us.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use zenoh::pubsub::Subscriber;
use zenoh::sample::{Sample, SampleKind};
use zenoh::{Session, Wait};

use super::node::Offered;
use super::session::tell_other_domains;
use super::wire::{self, EntityKind, Gid, Token};
use crate::error::{Result, zenoh_error};

/// How long a client may be away before it is gone: a network that comes back, a router that restarts.
const GRACE: Duration = Duration::from_secs(2);

/// Most clients that are watched, and most differing endpoints that are told: a graph is smaller.
const MAX_WATCHED: usize = 10_000;

/// What is known of the graph.
pub(super) struct Graph {
    clients: watch::Receiver<HashSet<Gid>>,
    /// Whether this node is not the only one of its name, and is not the one to stay.
    clashed: watch::Receiver<bool>,
    differing: Arc<Mutex<Differing>>,
    _subscribers: [Subscriber<()>; 2],
}

impl Graph {
    /// For a node of this session. `name` is none behind a bridge, which tells nothing of names and domains;
    /// `is_alone` where no other node is known, and that was not told yet.
    pub(super) fn watch(
        session: &Session,
        domain: u32,
        name: Option<String>,
        is_alone: bool,
    ) -> Result<Arc<Self>> {
        let (sender, clients) = watch::channel(HashSet::new());
        let differing = Arc::new(Mutex::new(Differing::default()));
        let others = differing.clone();
        let own = session.zid().to_string();
        let (clash, clashed) = watch::channel(false);
        let alone = Arc::new(AtomicBool::new(is_alone && name.is_some()));
        let is_alone = alone.clone();
        let hear = move |sample: Sample| {
            let key = sample.key_expr().as_str();
            let Some(token) = Token::parse(key).filter(|token| token.zid != own) else {
                return;
            };
            let is_there = sample.kind() == SampleKind::Put;
            if token.kind == EntityKind::ServiceClient {
                let gid = wire::gid(key);
                sender.send_if_modified(|clients| match is_there {
                    true => clients.len() < MAX_WATCHED && clients.insert(gid),
                    false => clients.remove(&gid),
                });
            }
            if is_there && token.endpoint.is_some() {
                lock(&others).look(token);
            } else if is_there {
                is_alone.store(false, Ordering::Release);
                if Some(&token.node) == name.as_ref() && token.zid < own {
                    clash.send_replace(true);
                }
            }
        };
        let tokens = session.liveliness();
        let tokens = tokens
            .declare_subscriber(wire::all_tokens(domain))
            .history(true);
        let subscriber = tokens.callback(hear).wait().map_err(zenoh_error)?;
        // Those that were there before are told when the session looks around.
        let elsewhere = move |sample: Sample| {
            let token = Token::parse(sample.key_expr().as_str());
            let other = token.filter(|token| token.domain != domain);
            if let (SampleKind::Put, Some(other)) = (sample.kind(), other)
                && alone.swap(false, Ordering::AcqRel)
            {
                tell_other_domains(domain, &BTreeSet::from([other.domain]));
            }
        };
        let nodes = session.liveliness().declare_subscriber(wire::all_nodes());
        let nodes = nodes.callback(elsewhere).wait().map_err(zenoh_error)?;
        Ok(Arc::new(Self {
            clients,
            clashed,
            differing,
            _subscribers: [subscriber, nodes],
        }))
    }

    /// Says of others, once each, who has an endpoint of `offered` with another type.
    pub(super) fn compare_with(&self, offered: &[Offered]) {
        let mut differing = lock(&self.differing);
        differing.offered = Some(offered.to_vec());
        for token in std::mem::take(&mut differing.early) {
            differing.look(token);
        }
    }

    /// Waits until a node of the same name is there: who starts looks for one before, but two may start at the
    /// same time. The one stays whose session has the smaller name. Cancel safe.
    pub(super) async fn clashed(&self) {
        let mut clashed = self.clashed.clone();
        if clashed.wait_for(|clashed| *clashed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until a client that was there is gone. One that is never seen, or has no name, never is.
    /// Cancel safe.
    pub(super) async fn gone(&self, client: Option<Gid>) {
        let Some(client) = client else {
            return std::future::pending().await;
        };
        let mut clients = self.clients.clone();
        loop {
            let until = async |is_there: bool, clients: &mut watch::Receiver<HashSet<Gid>>| {
                let seen = clients.wait_for(|all| all.contains(&client) == is_there);
                seen.await.is_ok()
            };
            if !until(true, &mut clients).await || !until(false, &mut clients).await {
                // The session is closed: nobody hears anything any more.
                return std::future::pending().await;
            }
            tokio::time::sleep(GRACE).await;
            if !clients.borrow().contains(&client) {
                return;
            }
        }
    }
}

/// What is told of other types.
#[derive(Default)]
struct Differing {
    /// Nothing until all of it is declared.
    offered: Option<Vec<Offered>>,
    /// Endpoints that were seen before that.
    early: Vec<Token>,
    told: HashSet<String>,
}

impl Differing {
    fn look(&mut self, token: Token) {
        let Some(offered) = &self.offered else {
            if self.early.len() < MAX_WATCHED {
                self.early.push(token);
            }
            return;
        };
        if let Some(line) = difference(offered, &token)
            && self.told.len() < MAX_WATCHED
            && self.told.insert(line.clone())
        {
            tracing::warn!("{line}");
        }
    }
}

fn lock(differing: &Mutex<Differing>) -> MutexGuard<'_, Differing> {
    differing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line for an endpoint that has the name of ours and another type.
fn difference(offered: &[Offered], token: &Token) -> Option<String> {
    let (topic, ty, hash) = token.endpoint.as_ref()?;
    let ours = offered.iter().find(|ours| ours.topic == *topic)?;
    if ours.ty == *ty && ours.hash == *hash {
        return None;
    }
    let node = &token.node;
    if ours.hash == wire::NO_HASH || hash == wire::NO_HASH {
        return Some(format!(
            "{node} has {topic} with the type {hash}, ours is {}: one of us is of Humble, the other is not \
             (--ros2-distro)",
            ours.hash
        ));
    }
    Some(format!(
        "{node} has {topic} with another type and hears nothing of us there: {ty} {hash}, ours is {} {}: \
         build it with the same definition",
        ours.ty, ours.hash
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn another_hash_is_told_with_the_node_and_both() {
        let ours = Offered {
            topic: "/llm/generate/_action/send_goal".to_owned(),
            ty: "jupiter_msgs::action::dds_::Generate_SendGoal_".to_owned(),
            hash: "RIHS01_aa".to_owned(),
        };
        let token = |hash: &str| {
            let key = format!(
                "@ros2_lv/0/ab/0/3/SC/%/%/robot/%llm%generate%_action%send_goal/\
                 jupiter_msgs::action::dds_::Generate_SendGoal_/{hash}/::,10:,:,:,,"
            );
            Token::parse(&key).unwrap()
        };
        let offered = [ours];
        assert_eq!(difference(&offered, &token("RIHS01_aa")), None);
        let line = difference(&offered, &token("RIHS01_bb")).unwrap();
        for part in ["/robot", "RIHS01_aa", "RIHS01_bb"] {
            assert!(line.contains(part), "{line}");
        }
        let line = difference(&offered, &token(wire::NO_HASH)).unwrap();
        assert!(line.contains("--ros2-distro"), "{line}");
    }
}
