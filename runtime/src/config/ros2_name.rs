//! Names of nodes of ROS 2.

use crate::error::{Error, Result, Ros2Error};

/// What the node offers in its namespace, beside parameters: topics, services and actions.
pub(super) const OFFERED: [&str; 9] = [
    "prompt",
    "tokens",
    "answer",
    "model",
    "status",
    "reset",
    "ask",
    "generate",
    "generate_response",
];

/// A node's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ros2Name {
    /// Namespace, as `/llm`; `/` for none.
    pub namespace: String,
    /// The name in it.
    pub node: String,
}

impl Ros2Name {
    /// A name, or its last part in the root namespace.
    ///
    /// # Errors
    /// When ROS would not take it.
    pub(super) fn parse(name: &str) -> Result<Self> {
        let (namespace, node) = name.rsplit_once('/').unwrap_or(("", name));
        let namespace = namespace.trim_start_matches('/');
        let is_fine = namespace.is_empty() || namespace.split('/').all(is_word);
        if !is_fine || !is_word(node) || name.len() > 255 {
            return Err(Error::from(Ros2Error::Name(name.to_owned())));
        }
        Ok(Self {
            namespace: format!("/{namespace}"),
            node: node.to_owned(),
        })
    }

    /// A name within the namespace: `answer` of `/llm/jupiter` is `/llm/answer`.
    pub(crate) fn relative(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace.trim_end_matches('/'))
    }

    /// As ROS has it: `/cmd_vel` is whole, `cmd_vel` in the node's namespace. Nothing for what is no name.
    pub(super) fn whole(&self, name: &str) -> Option<String> {
        let whole = match name.starts_with('/') {
            true => name.to_owned(),
            false => self.relative(name),
        };
        whole[1..].split('/').all(is_word).then_some(whole)
    }

    /// The whole name.
    pub(crate) fn full(&self) -> String {
        self.relative(&self.node)
    }
}

/// Another name for something that a node offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remap {
    /// The whole name that it would have.
    pub from: String,
    /// The whole name that it has.
    pub to: String,
}

impl Remap {
    /// Reads `FROM:=TO`, whole names or such in the namespace of `node`, which offers [`OFFERED`].
    ///
    /// # Errors
    /// When ROS would not take a name, or nothing has it.
    pub(super) fn parse(said: &str, node: &Ros2Name) -> Result<Self> {
        let wrong = |why: String| {
            Error::from(Ros2Error::Remap {
                said: said.to_owned(),
                why,
            })
        };
        let form = || wrong("write FROM:=TO with names of ROS, as prompt:=/robot/ask".to_owned());
        let (from, to) = said.split_once(":=").ok_or_else(form)?;
        let (from, to) = (node.whole(from), node.whole(to));
        let (from, to) = (from.ok_or_else(form)?, to.ok_or_else(form)?);
        if !OFFERED.iter().any(|name| node.relative(name) == from) {
            let names = OFFERED.join(", ");
            let why = format!("the node offers nothing of the first name, but {names}");
            return Err(wrong(why));
        }
        Ok(Self { from, to })
    }
}

/// Whether ROS takes it as a part of a name.
fn is_word(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(|c: char| c.is_ascii_digit())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
