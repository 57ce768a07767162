//! What can go wrong with a node of ROS 2.

/// Why the node of ROS 2 is not there; each message says how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ros2Error {
    /// No name that ROS 2 takes.
    #[error(
        "ros2_name {0:?}: write namespace and node as /llm/jupiter, of letters, digits and `_`, no \
         digit first"
    )]
    Name(String),
    /// Another name that cannot be.
    #[error("ros2_remap {said:?}: {why}")]
    Remap {
        /// As it was said.
        said: String,
        /// What is wrong.
        why: String,
    },
    /// No domain of ROS 2.
    #[error("the ROS domain {0:?}: give a number from 0 to 232 (--ros2-domain, ROS_DOMAIN_ID)")]
    Domain(String),
    /// Two nodes of one name would both answer.
    #[error(
        "a node {name} is in ROS domain {domain} already: stop it, or take another name (--ros2-name)"
    )]
    TwoNodes {
        /// The name.
        name: String,
        /// Where it is.
        domain: u32,
    },
    /// Nobody answers where the robot's router should be.
    #[error(
        "no zenoh router answers at {endpoint}: start one there (ros2 run rmw_zenoh_cpp rmw_zenohd; with \
         --ros2-bridge zenoh-bridge-ros2dds), or be the router (--ros2 router)"
    )]
    NoRouter {
        /// Where one was looked for.
        endpoint: String,
    },
    /// Something else listens where this node was to be the router.
    #[error(
        "{endpoint} is in use: be a client of what is there (--ros2 {endpoint}), or the router elsewhere \
         (--ros2 router@tcp/0.0.0.0:PORT)"
    )]
    RouterInUse {
        /// Where it was to listen.
        endpoint: String,
    },
    /// The robot's own configuration of zenoh, which the environment or a flag names, cannot be used.
    #[error("{variable}: {why}")]
    Environment {
        /// The variable, or the flag.
        variable: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A definition of an interface that cannot be used.
    #[error("ROS 2 interfaces: {0}")]
    Interface(String),
    /// A topic or limit without a node.
    #[error("{0:?} is for a node of ROS 2: say where it is too (--ros2 router)")]
    NoNode(String),
    /// A topic for messages that cannot be.
    #[error("ros2_topic {said:?}: {why}")]
    Topic {
        /// As it was said, or its name.
        said: String,
        /// What is wrong.
        why: String,
    },
    /// A limit that cannot be.
    #[error("ros2_limit {said:?}: {why}")]
    Limit {
        /// As it was said, or its field.
        said: String,
        /// What is wrong.
        why: String,
    },
}

impl Ros2Error {
    pub(crate) fn topic(said: &str, why: impl ToString) -> Self {
        let (said, why) = (said.to_owned(), why.to_string());
        Self::Topic { said, why }
    }

    pub(crate) fn limit(said: &str, why: impl ToString) -> Self {
        let (said, why) = (said.to_owned(), why.to_string());
        Self::Limit { said, why }
    }
}
