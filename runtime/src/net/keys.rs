//! All key expressions, built in one place.
//!
//! ```text
//! jupiter/<cluster>/node/<node>/alive/<instance>  liveliness token of one process of that node
//! jupiter/<cluster>/head/alive/<protocol>/<node>/<instance>  liveliness token of the head
//! jupiter/<cluster>/generate                      public: queryable that streams its replies
//! jupiter/<cluster>/prompt/<id>                   public: prompts of clients that only publish,
//! jupiter/<cluster>/completion/<id>               and what becomes of them
//! jupiter/<cluster>/client/<name>                 public: liveliness tokens of clients that ask
//! jupiter/<cluster>/status                        public: queryable that tells how it is going
//!
//! jupiter/<cluster>/of/<head>/...                 what belongs to one head, by its instance:
//!   planner                                       frames for its Planner
//!   join                                          queryable: a node asks to be admitted
//!   standing                                      queryable: another head asks who goes on
//!   node/<node>                                   frames for the Supervisor of a node
//!   node/<node>/measure                           queryable: how fast it is, how far others are
//!   node/<node>/echo                              queryable: answers with nothing
//!   stage/<epoch>/<i>                             activations
//!   accept/<epoch>                                step reports for the Planner
//! ```
//!
//! The instance in a token (the id of a zenoh session) tells a restarted process from the
//! one that died a moment ago, whose token is still there until its lease ends. Where two heads meet,
//! neither takes what is meant for the other: their epochs count alike.

use jupiter_actors::{Address, NodeId, PlanEpoch};

use crate::error::ConfigError;

/// Longest name of a cluster or node, in bytes: keys travel with every declaration.
const MAX_NAME_BYTES: usize = 64;

/// The key expressions of one cluster.
#[derive(Clone, Debug)]
pub struct Keys {
    root: String,
}

impl Keys {
    /// The keys of `cluster`.
    ///
    /// # Errors
    /// When the name cannot be one chunk of a key expression.
    pub fn new(cluster: &str) -> Result<Self, ConfigError> {
        check_name("cluster", cluster)?;
        Ok(Self {
            root: format!("jupiter/{cluster}"),
        })
    }

    /// What belongs to the head whose session has the id `instance`.
    pub fn of(&self, instance: &str) -> HeadKeys {
        HeadKeys {
            root: format!("{}/of/{instance}", self.root),
        }
    }

    /// The liveliness token of one process of `node`.
    pub fn node_token(&self, node: &NodeId, instance: &str) -> String {
        format!("{}/node/{node}/alive/{instance}", self.root)
    }

    /// The tokens of all nodes.
    pub fn node_tokens(&self) -> String {
        format!("{}/node/*/alive/*", self.root)
    }

    /// Node and instance of a key that [`Keys::node_token`] built.
    pub fn parse_node_token(&self, key: &str) -> Option<(NodeId, String)> {
        let (node, instance) = key
            .strip_prefix(&self.root)?
            .strip_prefix("/node/")?
            .split_once("/alive/")?;
        let is_one_node = is_name(node) && is_name(instance);
        is_one_node.then(|| (NodeId(node.to_owned()), instance.to_owned()))
    }

    /// The liveliness token of the head.
    pub fn head_token(&self, protocol: u32, node: &NodeId, instance: &str) -> String {
        format!("{}/head/alive/{protocol}/{node}/{instance}", self.root)
    }

    /// The tokens of heads of any protocol version.
    pub fn head_tokens(&self) -> String {
        format!("{}/head/alive/*/*/*", self.root)
    }

    /// Protocol version, node and instance of a key that [`Keys::head_token`] built.
    pub fn parse_head_token(&self, key: &str) -> Option<(u32, NodeId, String)> {
        let (protocol, rest) = key
            .strip_prefix(&self.root)?
            .strip_prefix("/head/alive/")?
            .split_once('/')?;
        let (node, instance) = rest.split_once('/')?;
        let protocol = protocol.parse().ok()?;
        let is_one_node = is_name(node) && is_name(instance);
        is_one_node.then(|| (protocol, NodeId(node.to_owned()), instance.to_owned()))
    }

    /// The public queryable.
    pub fn generate(&self) -> String {
        format!("{}/generate", self.root)
    }

    /// The public queryable of how it is going.
    pub fn status(&self) -> String {
        format!("{}/status", self.root)
    }

    /// Prompts of every client that only publishes.
    pub fn prompts(&self) -> String {
        format!("{}/prompt/*", self.root)
    }

    /// The id of a key that matches [`Keys::prompts`].
    pub fn parse_prompt<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(self.root.as_str())?
            .strip_prefix("/prompt/")
    }

    /// What becomes of the prompt `id`.
    pub fn completion(&self, id: &str) -> String {
        format!("{}/completion/{id}", self.root)
    }

    /// The liveliness token of the client `name`.
    pub fn client(&self, name: &str) -> String {
        format!("{}/client/{name}", self.root)
    }

    /// The tokens of all clients.
    pub fn clients(&self) -> String {
        self.client("*")
    }

    /// The name in a key that [`Keys::client`] built.
    pub fn parse_client<'a>(&self, key: &'a str) -> Option<&'a str> {
        let name = key
            .strip_prefix(self.root.as_str())?
            .strip_prefix("/client/")?;
        is_name(name).then_some(name)
    }
}

/// The key expressions of one head.
#[derive(Clone, Debug)]
pub struct HeadKeys {
    root: String,
}

impl HeadKeys {
    /// Where frames for `address` are published.
    pub fn address(&self, address: &Address) -> String {
        match address {
            Address::Stage { epoch, stage } => self.stage(*epoch, *stage),
            Address::Accept { epoch } => format!("{}/accept/{}", self.root, epoch.0),
            Address::Node(node) => self.node(node),
            Address::Head => self.planner(),
        }
    }

    /// Activations for a stage.
    pub fn stage(&self, epoch: PlanEpoch, stage: u32) -> String {
        format!("{}/stage/{}/{stage}", self.root, epoch.0)
    }

    /// Step reports of every epoch.
    pub fn accept_all(&self) -> String {
        format!("{}/accept/*", self.root)
    }

    /// Frames for the Supervisor of `node`.
    pub fn node(&self, node: &NodeId) -> String {
        format!("{}/node/{node}", self.root)
    }

    /// Where `node` is asked to measure.
    pub fn measure(&self, node: &NodeId) -> String {
        format!("{}/node/{node}/measure", self.root)
    }

    /// Where `node` answers with nothing, so that others can measure the way to it.
    pub fn echo(&self, node: &NodeId) -> String {
        format!("{}/node/{node}/echo", self.root)
    }

    /// Frames for the Planner.
    pub fn planner(&self) -> String {
        format!("{}/planner", self.root)
    }

    /// Where nodes ask to be admitted.
    pub fn join(&self) -> String {
        format!("{}/join", self.root)
    }

    /// Where another head asks which of the two goes on.
    pub fn standing(&self) -> String {
        format!("{}/standing", self.root)
    }
}

/// Checks that `name` can be one chunk of a key expression; `what` names it in the error.
///
/// # Errors
/// When it is empty, too long, or holds other characters than letters, digits, `.`, `_` and `-`.
pub fn check_name(what: &str, name: &str) -> Result<(), ConfigError> {
    if is_name(name) {
        return Ok(());
    }
    Err(ConfigError::Name {
        what: what.to_owned(),
        name: name.to_owned(),
        max_bytes: MAX_NAME_BYTES,
    })
}

/// Whether `name` is one chunk of a key expression, and no wildcard.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use zenoh::key_expr::KeyExpr;

    fn keys() -> Keys {
        Keys::new("home").unwrap()
    }

    #[test]
    fn every_key_is_a_valid_key_expression_and_no_two_kinds_meet() {
        let node = NodeId("cam-1".into());
        let (ours, theirs) = (keys().of("a1"), keys().of("b2"));
        let all = [
            ours.stage(PlanEpoch(3), 1),
            theirs.stage(PlanEpoch(3), 1),
            ours.accept_all(),
            theirs.accept_all(),
            ours.node(&node),
            theirs.node(&node),
            ours.measure(&node),
            ours.echo(&node),
            ours.planner(),
            ours.join(),
            ours.standing(),
            keys().node_tokens(),
            keys().head_tokens(),
            keys().generate(),
            keys().prompts(),
            keys().completion("7"),
            keys().clients(),
        ];
        for (i, a) in all.iter().enumerate() {
            let a = KeyExpr::new(a.as_str()).unwrap();
            for b in &all[i + 1..] {
                assert!(
                    !a.intersects(&KeyExpr::new(b.as_str()).unwrap()),
                    "{a} meets {b}"
                );
            }
        }
    }

    #[test]
    fn tokens_are_read_back() {
        let node = NodeId("cam-1".into());
        let token = keys().node_token(&node, "abc");
        assert_eq!(
            keys().parse_node_token(&token),
            Some((node.clone(), "abc".into()))
        );
        let head = keys().head_token(2, &node, "abc");
        assert_eq!(
            keys().parse_head_token(&head),
            Some((2, node, "abc".into()))
        );
        assert_eq!(
            keys().parse_node_token("jupiter/other/node/a/alive/b"),
            None
        );
        assert_eq!(
            keys().parse_head_token("jupiter/home/head/alive/x/a/b"),
            None
        );
        assert_eq!(keys().parse_prompt("jupiter/home/prompt/42"), Some("42"));
        let client = keys().client("cam-1.7");
        assert_eq!(keys().parse_client(&client), Some("cam-1.7"));
        for wild in [
            keys().parse_node_token(&keys().node_tokens()).map(|_| ()),
            keys()
                .parse_head_token("jupiter/home/head/alive/3/*/x")
                .map(|_| ()),
            keys().parse_client(&keys().clients()).map(|_| ()),
            keys().parse_client("jupiter/home/client/**").map(|_| ()),
        ] {
            assert_eq!(wild, None);
        }
    }

    #[test]
    fn names_that_would_break_a_key_are_refused() {
        for bad in ["", "a/b", "*", "$x", "a?b", "a#", "ä", " ", &"x".repeat(65)] {
            let error = Keys::new(bad).unwrap_err().to_string();
            assert!(
                error.contains("cluster name") && !error.contains('\n'),
                "{error}"
            );
        }
        Keys::new(&"x".repeat(64)).unwrap();
    }
}
