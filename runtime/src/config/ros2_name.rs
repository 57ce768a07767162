//! Names of nodes of ROS 2.

use crate::error::{Error, Result, Ros2Error};

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

    /// The whole name.
    pub(crate) fn full(&self) -> String {
        self.relative(&self.node)
    }
}

/// Whether ROS takes it as a part of a name.
pub(super) fn is_word(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(|c: char| c.is_ascii_digit())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
