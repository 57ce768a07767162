//! Types of ROS 2 at run time: interface files, their hashes, and their bytes as JSON and back.
//!
//! - [`idl`]: text of .msg, .srv and .action files to [`Types`]
//! - [`folder`]: the same of a robot's own packages
//! - [`check`]: whether types are complete and of a size that can be
//! - [`hash`]: what ROS knows a type by (REP 2016, `RIHS01`)
//! - [`cdr`]: payloads (XCDR1) to JSON and back
//! - [`number`], [`grammar`]: what a model may write so that its answer is such a message
//! - [`limits`]: whether a message is within limits

mod cdr;
mod check;
mod folder;
mod grammar;
mod hash;
mod idl;
mod limits;
mod number;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

pub(super) use self::grammar::Grammar;

/// What the packages of ROS 2 that are used here define (`make ros2-golden` writes it).
const STANDARD: &str = include_str!("../interfaces/ros.txt");

/// The package that robots build.
const JUPITER: [(&str, &str); 3] = [
    (
        "jupiter_msgs/msg/ChatMessage",
        include_str!("../../../../examples/ros2/jupiter_msgs/msg/ChatMessage.msg"),
    ),
    (
        "jupiter_msgs/srv/Ask",
        include_str!("../../../../examples/ros2/jupiter_msgs/srv/Ask.srv"),
    ),
    (
        "jupiter_msgs/action/Generate",
        include_str!("../../../../examples/ros2/jupiter_msgs/action/Generate.action"),
    ),
];

/// The member that ROS gives to a message without any.
const DUMMY_FIELD: &str = "structure_needs_at_least_one_member";

/// Messages by their full name, as `std_msgs/msg/String`; services and actions by those that they
/// consist of (`std_srvs/srv/Trigger_Request`), and by their own name, which is hashed but never sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Types {
    messages: BTreeMap<String, Vec<Field>>,
    /// What stands in the files of messages, with what people wrote beside the members.
    definitions: BTreeMap<String, String>,
}

/// A member of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) shape: Shape,
    /// What it is where nothing is said.
    default: Option<Value>,
}

/// What a member, or each of its elements, is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    /// Of so many bytes.
    Integer {
        bytes: u8,
        is_signed: bool,
    },
    /// An integer of one byte with a name of its own.
    Byte,
    Float32,
    Float64,
    /// UTF-8, of so many characters at most.
    String(Option<u32>),
    /// UTF-16; known by name and hash only.
    WideString(Option<u32>),
    /// Another message, by its full name.
    Message(String),
}

/// How many there are of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    Array(u32),
    Bounded(u32),
    Sequence,
}

impl Types {
    /// Those of ROS 2's packages and of ours.
    pub(super) fn embedded() -> Result<Self, TypeError> {
        let mut types = Self::default();
        types.add_all(STANDARD)?;
        for (name, text) in JUPITER {
            types.add(name, text)?;
        }
        types.check()?;
        Ok(types)
    }

    /// The whole name of a message: `geometry_msgs/Twist` is `geometry_msgs/msg/Twist`.
    pub(super) fn message_name(said: &str) -> String {
        match said.split('/').collect::<Vec<_>>().as_slice() {
            [package, name] => format!("{package}/msg/{name}"),
            _ => said.to_owned(),
        }
    }

    /// What the files say of a message and those within it, as `ros2 interface show` has it.
    ///
    /// # Errors
    /// A type that is not known.
    pub(super) fn definition(&self, name: &str) -> Result<String, TypeError> {
        let mut names = vec![name.to_owned()];
        let mut text = String::new();
        let mut i = 0;
        while let Some(name) = names.get(i).cloned() {
            for field in self.fields(&name)? {
                if let Kind::Message(inner) = &field.kind
                    && !names.contains(inner)
                {
                    names.push(inner.clone());
                }
            }
            let lines = self.definitions.get(&name).map_or("", String::as_str);
            text += &format!("# {name}\n");
            for line in lines.lines().filter(|line| !line.trim().is_empty()) {
                text += &format!("{}\n", line.trim_end());
            }
            i += 1;
        }
        Ok(text)
    }

    /// The members of a message.
    pub(super) fn fields(&self, name: &str) -> Result<&[Field], TypeError> {
        let fields = self.messages.get(name).map(Vec::as_slice);
        fields.ok_or_else(|| TypeError::Unknown(name.to_owned()))
    }
}

/// Why a definition cannot be used, or a message not be read or written; in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TypeError {
    #[error("{name}, line {line}: {why}")]
    Definition {
        name: String,
        line: usize,
        why: String,
    },
    #[error("{folder}: {why}")]
    Folder { folder: String, why: String },
    #[error("the type {0} is not known")]
    Unknown(String),
    #[error("the type {name}, which {by} names, is not known")]
    UnknownIn { name: String, by: String },
    #[error("the type {0} contains itself")]
    Loop(String),
    #[error("the type {name} is of {what}: more than {max}")]
    TooLarge {
        name: String,
        what: &'static str,
        max: usize,
    },
    #[error("{at}: {why}")]
    Value { at: String, why: String },
    #[error("the message is no CDR of 4 bytes header (00 00 or 00 01) and a body")]
    Header,
    #[error("the message ends at byte {at}, in {field}")]
    Short { at: usize, field: String },
}
