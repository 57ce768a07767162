//! What rmw_zenoh writes on the wire: keys, liveliness tokens, attachments.
//!
//! ```text
//! key         <domain>/<topic>/<type>/<hash>                  0/llm/answer/std_msgs::msg::dds_::String_/RIHS01_df66..
//! token       @ros2_lv/<domain>/<zid>/<nid>/<eid>/<kind>/<enclave>/<namespace>/<node>[/<topic>/<type>/<hash>/<qos>]
//!             kinds: NN node, MP publisher, MS subscription, SS service, SC its client; `/` is written `%`
//! attachment  i64 sequence, i64 time in ns, 0x10, 16 bytes gid; little endian
//! gid         XXH3-128 of the token
//! ```
//!
//! Source: ros2/rmw_zenoh, `liveliness_utils.cpp` and `attachment_helpers.cpp`.

use std::time::{SystemTime, UNIX_EPOCH};

use twox_hash::XxHash3_128;

/// What stands for a type's hash in Humble.
pub(super) const NO_HASH: &str = "TypeHashNotSupported";

/// What all tokens begin with.
const ADMIN: &str = "@ros2_lv";

/// Bytes of a gid.
const GID_BYTES: u8 = 16;

/// An endpoint as ROS names it.
pub(super) type Gid = [u8; GID_BYTES as usize];

/// What an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntityKind {
    Node,
    Publisher,
    Subscription,
    Service,
    ServiceClient,
}

impl EntityKind {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Node => "NN",
            Self::Publisher => "MP",
            Self::Subscription => "MS",
            Self::Service => "SS",
            Self::ServiceClient => "SC",
        }
    }

    fn of_code(code: &str) -> Option<Self> {
        let all = [
            Self::Node,
            Self::Publisher,
            Self::Subscription,
            Self::Service,
            Self::ServiceClient,
        ];
        all.into_iter().find(|kind| kind.code() == code)
    }
}

/// How messages of a topic are kept; what is not said is rmw_zenoh's default (reliable, volatile).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Qos {
    /// The last ten.
    Plain,
    /// The last one, also for who comes later.
    Latched,
}

impl Qos {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "::,10:,:,:,,",
            Self::Latched => ":1:,1:,:,:,,",
        }
    }
}

/// What others can know of an endpoint, or of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) domain: u32,
    pub(super) zid: String,
    pub(super) kind: EntityKind,
    /// As `/llm/jupiter`.
    pub(super) node: String,
    /// Topic or service, its type as on the wire, and the type's hash; nothing of a node.
    pub(super) endpoint: Option<(String, String, String)>,
}

/// A key expression for the tokens of all nodes of all domains.
pub(super) fn all_nodes() -> String {
    format!("{ADMIN}/*/*/*/*/NN/**")
}

/// A key expression for all tokens of a domain.
pub(super) fn all_tokens(domain: u32) -> String {
    format!("{ADMIN}/{domain}/**")
}

/// The token of a node or, with its topic, type, hash and QoS, an endpoint. `ids` are those of the node
/// and the endpoint; namespace and node are separate: `/` and `jupiter` for `/jupiter`.
pub(super) fn token(
    (domain, zid): (u32, &str),
    ids: (u32, u32),
    kind: EntityKind,
    (namespace, node): (&str, &str),
    endpoint: Option<(&str, &str, &str, Qos)>,
) -> String {
    let (nid, eid) = ids;
    let namespace = mangled(namespace);
    let kind = kind.code();
    let head = format!("{ADMIN}/{domain}/{zid}/{nid}/{eid}/{kind}/%/{namespace}/{node}");
    match endpoint {
        None => head,
        Some((topic, ty, hash, qos)) => {
            let (topic, ty, qos) = (mangled(topic), dds_type(ty), qos.code());
            format!("{head}/{topic}/{ty}/{hash}/{qos}")
        }
    }
}

impl Token {
    /// Reads a token; nothing for what is none.
    pub(super) fn parse(key: &str) -> Option<Self> {
        let parts: Vec<&str> = key.split('/').collect();
        let (head, rest) = parts.split_at_checked(9)?;
        let [admin, domain, zid, _, _, kind, _, namespace, node] = head else {
            return None;
        };
        if *admin != ADMIN {
            return None;
        }
        let namespace = namespace.replace('%', "/");
        let endpoint = match rest {
            [topic, ty, hash, _qos] => {
                let topic = topic.replace('%', "/");
                Some((topic, (*ty).to_owned(), (*hash).to_owned()))
            }
            _ => None,
        };
        Some(Self {
            domain: domain.parse().ok()?,
            zid: (*zid).to_owned(),
            kind: EntityKind::of_code(kind)?,
            node: format!("{}/{node}", namespace.trim_end_matches('/')),
            endpoint,
        })
    }
}

/// The key of a topic or service, `topic` as `/llm/answer`.
pub(super) fn key(domain: u32, topic: &str, ty: &str, hash: &str) -> String {
    let (topic, ty) = (topic.trim_matches('/'), dds_type(ty));
    format!("{domain}/{topic}/{ty}/{hash}")
}

/// `std_msgs/msg/String` as `std_msgs::msg::dds_::String_`.
pub(super) fn dds_type(ty: &str) -> String {
    match ty.split('/').collect::<Vec<_>>().as_slice() {
        [package, kind, name] => format!("{package}::{kind}::dds_::{name}_"),
        _ => ty.to_owned(),
    }
}

/// The gid of the endpoint that has this token.
pub(super) fn gid(token: &str) -> Gid {
    XxHash3_128::oneshot(token.as_bytes()).to_le_bytes()
}

fn mangled(name: &str) -> String {
    match name {
        "" => "%".to_owned(),
        name => name.replace('/', "%"),
    }
}

/// What travels beside each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) sequence: i64,
    pub(super) stamp_ns: i64,
    pub(super) gid: Gid,
}

impl Attachment {
    /// Of a message that is sent now.
    pub(super) fn now(sequence: i64, gid: Gid) -> Self {
        let stamp_ns = now_ns();
        Self {
            sequence,
            stamp_ns,
            gid,
        }
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(33);
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.stamp_ns.to_le_bytes());
        bytes.push(GID_BYTES);
        bytes.extend(self.gid);
        bytes
    }

    /// Nothing for what is none: releases before Jazzy 0.2.4 wrote it in another way.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (sequence, rest) = bytes.split_first_chunk()?;
        let (stamp_ns, rest) = rest.split_first_chunk()?;
        let (n, gid) = rest.split_first()?;
        if *n != GID_BYTES {
            return None;
        }
        Some(Self {
            sequence: i64::from_le_bytes(*sequence),
            stamp_ns: i64::from_le_bytes(*stamp_ns),
            gid: gid.try_into().ok()?,
        })
    }
}

/// The time of day in nanoseconds since 1970.
pub(super) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HASH: &str = "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18";

    #[test]
    fn keys_and_tokens_are_those_of_rmw_zenoh() {
        let ty = "std_msgs/msg/String";
        let expected = format!("0/llm/answer/std_msgs::msg::dds_::String_/{HASH}");
        assert_eq!(key(0, "/llm/answer", ty, HASH), expected);
        let endpoint = Some(("/llm/answer", ty, HASH, Qos::Plain));
        let name = ("/llm", "jupiter");
        let written = token((3, "ab12"), (0, 7), EntityKind::Publisher, name, endpoint);
        let expected = format!(
            "@ros2_lv/3/ab12/0/7/MP/%/%llm/jupiter/%llm%answer/std_msgs::msg::dds_::String_/{HASH}/::,10:,:,:,,"
        );
        assert_eq!(written, expected);
        let read = Token::parse(&written).unwrap();
        assert_eq!((read.domain, read.zid.as_str()), (3, "ab12"));
        assert_eq!(read.kind, EntityKind::Publisher);
        assert_eq!(read.node, "/llm/jupiter");
        let ty = "std_msgs::msg::dds_::String_".to_owned();
        let endpoint = ("/llm/answer".to_owned(), ty, HASH.to_owned());
        assert_eq!(read.endpoint, Some(endpoint));
        let node = token((0, "ab"), (0, 0), EntityKind::Node, ("/", "a"), None);
        assert_eq!(node, "@ros2_lv/0/ab/0/0/NN/%/%/a");
        assert_eq!(Token::parse(&node).unwrap().node, "/a");
        for other in [
            "",
            "@ros2_lv/0/ab",
            "@ros2_lv/x/ab/0/0/NN/%/%/a",
            "@/0/ab/0/0/NN/%/%/a",
        ] {
            assert_eq!(Token::parse(other), None, "{other}");
        }
    }

    /// Computed by the reference implementation (Python's xxhash 3.5).
    #[test]
    fn gids_are_the_hashes_of_tokens() {
        let hex: String = gid("@ros2_lv/0/ab/0/0/NN/%/%/a")
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(hex, "9b932b5c58936575678609949b0909a2");
    }

    #[test]
    fn attachments_are_33_bytes() {
        let attachment = Attachment {
            sequence: 1,
            stamp_ns: -2,
            gid: [7; 16],
        };
        let bytes = attachment.to_bytes();
        let expected = [
            [1, 0, 0, 0, 0, 0, 0, 0].as_slice(),
            &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[16],
            &[7; 16],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(Attachment::parse(&bytes), Some(attachment));
        for n in 0..33 {
            assert_eq!(Attachment::parse(&bytes[..n]), None);
        }
        assert_eq!(Attachment::parse(&[bytes.as_slice(), &[0]].concat()), None);
    }
}
