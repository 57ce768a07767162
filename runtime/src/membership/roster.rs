//! The head's list of nodes: a pure state machine.

use std::collections::BTreeMap;

use jupiter_actors::NodeId;
use jupiter_actors::codec::PROTOCOL_VERSION;

use super::{Answer, JoinRequest};
use crate::error::ClusterError;

/// The nodes of a cluster, as the head sees them.
pub(crate) struct Roster {
    /// The head's own node.
    own: NodeId,
    /// Content hash of the model that all must have.
    model: String,
    nodes: BTreeMap<NodeId, Member>,
}

/// The process that has a node's name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    instance: String,
    has_token: bool,
    is_accepted: bool,
}

/// What the Planner has to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Up(NodeId),
    Down(NodeId),
}

impl Member {
    fn is_up(&self) -> bool {
        self.has_token && self.is_accepted
    }
}

impl Roster {
    pub(crate) fn new(own: NodeId, model: String) -> Self {
        Self {
            own,
            model,
            nodes: BTreeMap::new(),
        }
    }

    /// A node asks to be admitted. One that is up already starts anew.
    pub(crate) fn join(&mut self, request: &JoinRequest) -> (Answer, Option<Change>) {
        if let Some(refused) = self.refuse(request) {
            return (refused, None);
        }
        let node = &request.node;
        let member = self.nodes.entry(node.clone()).or_insert_with(|| Member {
            instance: request.instance.clone(),
            has_token: false,
            is_accepted: false,
        });
        if member.instance != request.instance {
            // Its predecessor left no token: it asked and died.
            *member = Member {
                instance: request.instance.clone(),
                has_token: false,
                is_accepted: false,
            };
        }
        member.is_accepted = true;
        (
            Answer::Accepted,
            member.is_up().then(|| Change::Up(node.clone())),
        )
    }

    fn refuse(&self, request: &JoinRequest) -> Option<Answer> {
        let node = &request.node;
        let refused = |why: String, retry| Some(Answer::Refused { why, retry });
        if request.protocol != PROTOCOL_VERSION {
            let theirs = u32::from(request.protocol);
            let who = format!("node {node}");
            let why = ClusterError::OtherProtocol { who, theirs };
            return refused(why.to_string(), false);
        }
        if request.model != self.model {
            return refused(
                format!(
                    "node {node} has another model file than the head ({}.. instead of {}..): \
                     copy the head's file to it and name it with -m FILE; where neither names one, \
                     install the same version of jupiter on both",
                    head_of(&request.model),
                    head_of(&self.model)
                ),
                false,
            );
        }
        let taken = self
            .nodes
            .get(node)
            .is_some_and(|member| member.instance != request.instance && member.has_token);
        if *node == self.own || taken {
            // The holder may be a process that died a moment ago.
            return refused(
                format!(
                    "the name {node} is taken by another node: give this one its own (--node NAME)"
                ),
                *node != self.own,
            );
        }
        None
    }

    /// Nodes that are up.
    pub(crate) fn n_up(&self) -> usize {
        self.nodes.values().filter(|member| member.is_up()).count()
    }

    /// A token appeared.
    pub(crate) fn token_up(&mut self, node: NodeId, instance: &str) -> Option<Change> {
        let member = self.nodes.entry(node.clone()).or_insert_with(|| Member {
            instance: instance.to_owned(),
            has_token: false,
            is_accepted: false,
        });
        if member.instance != instance {
            if member.has_token {
                // Refused when it asks, until the holder's token vanishes.
                return None;
            }
            *member = Member {
                instance: instance.to_owned(),
                has_token: false,
                is_accepted: false,
            };
        }
        let was_up = member.is_up();
        member.has_token = true;
        (member.is_up() && !was_up).then_some(Change::Up(node))
    }

    /// A token vanished.
    pub(crate) fn token_down(&mut self, node: NodeId, instance: &str) -> Option<Change> {
        let member = self.nodes.get(&node)?;
        if member.instance != instance {
            return None;
        }
        let was_up = member.is_up();
        self.nodes.remove(&node);
        was_up.then_some(Change::Down(node))
    }
}

/// The first digits of a hash, enough to tell two files apart.
fn head_of(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId(name.into())
    }

    fn request(name: &str, instance: &str) -> JoinRequest {
        JoinRequest::of_this_process(node(name), instance.into(), "abcdefgh12".into())
    }

    fn roster() -> Roster {
        Roster::new(node("head"), "abcdefgh12".into())
    }

    #[test]
    fn a_node_is_up_when_it_has_a_token_and_was_accepted_in_any_order() {
        let mut roster = roster();
        assert_eq!(roster.token_up(node("a"), "1"), None);
        let (answer, change) = roster.join(&request("a", "1"));
        assert_eq!(
            (answer, change),
            (Answer::Accepted, Some(Change::Up(node("a"))))
        );
        assert_eq!(roster.join(&request("b", "1")), (Answer::Accepted, None));
        assert_eq!(roster.token_up(node("b"), "1"), Some(Change::Up(node("b"))));
        assert_eq!(roster.token_up(node("b"), "1"), None);
        assert_eq!(
            roster.token_down(node("b"), "1"),
            Some(Change::Down(node("b")))
        );
        assert_eq!(roster.token_down(node("b"), "1"), None);
    }

    #[test]
    fn joining_again_starts_a_node_anew() {
        let mut roster = roster();
        roster.token_up(node("a"), "1");
        roster.join(&request("a", "1"));
        assert_eq!(
            roster.join(&request("a", "1")).1,
            Some(Change::Up(node("a")))
        );
    }

    #[test]
    fn a_restarted_process_waits_for_its_predecessor_to_vanish() {
        let mut roster = roster();
        roster.token_up(node("a"), "1");
        roster.join(&request("a", "1"));
        assert_eq!(roster.token_up(node("a"), "2"), None);
        let (answer, change) = roster.join(&request("a", "2"));
        assert!(matches!(answer, Answer::Refused { retry: true, .. }) && change.is_none());
        assert_eq!(roster.token_down(node("a"), "2"), None);
        assert_eq!(
            roster.token_down(node("a"), "1"),
            Some(Change::Down(node("a")))
        );
        assert_eq!(roster.join(&request("a", "2")), (Answer::Accepted, None));
        assert_eq!(roster.token_up(node("a"), "2"), Some(Change::Up(node("a"))));
    }

    #[test]
    fn strangers_are_refused_in_one_line_that_names_node_and_remedy() {
        let other_protocol = JoinRequest {
            protocol: 99,
            ..request("a", "1")
        };
        let other_model = JoinRequest {
            model: "x".into(),
            ..request("a", "1")
        };
        for (request, remedy) in [
            (other_protocol, "install the same version"),
            (other_model, "copy the head's file"),
            (request("head", "1"), "--node"),
        ] {
            let (answer, change) = roster().join(&request);
            let Answer::Refused { why, retry: false } = answer else {
                panic!("{answer:?}")
            };
            assert!(
                why.contains(remedy) && why.contains(&request.node.0),
                "{why}"
            );
            assert!(!why.contains('\n') && change.is_none());
        }
    }
}
