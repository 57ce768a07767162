//! What zenoh-bridge-ros2dds writes on the wire, where it differs from rmw_zenoh: robots of a DDS are
//! behind it.
//!
//! ```text
//! key    the name without the first slash                 llm/answer
//! token  @/<zid>/@ros2_lv                                 the node, as another bridge
//!        @/<zid>/@ros2_lv/<kind>/<key>/<type>/<qos>       MP publisher, MS subscription
//!        @/<zid>/@ros2_lv/<kind>/<key>/<type>             SS service, AS action; `/` is written `§`
//! qos    :1:<1 where the last message is kept>:0,<depth>:typehash=<hash>;
//! ```
//!
//! Messages have no attachment. What a request has, the bridge needs in no reply. An action is announced
//! as a whole, its parts are not.
//!
//! Source: zenoh-plugin-ros2dds, `liveliness_mgt.rs` and `ros2_utils.rs`.

use super::wire::{EntityKind, Qos};

/// What stands in the names of an action's parts.
const ACTION: &str = "/_action/";

/// The part that stands for the whole action.
const SEND_GOAL: &str = "/_action/send_goal";

/// The key of a topic or service, `topic` as `/llm/answer`.
pub(super) fn key(topic: &str) -> String {
    topic.trim_matches('/').to_owned()
}

/// The token of the node or, with its topic, type, hash and QoS, of an endpoint; nothing for what is
/// announced with something else.
pub(super) fn token(
    zid: &str,
    kind: EntityKind,
    endpoint: Option<(&str, &str, &str, Qos)>,
) -> Option<String> {
    let head = format!("@/{zid}/@ros2_lv");
    let Some((topic, ty, hash, qos)) = endpoint else {
        return Some(head);
    };
    let escaped = |name: &str| key(name).replace('/', "§");
    if let Some(action) = topic.strip_suffix(SEND_GOAL) {
        let ty = ty.trim_end_matches("_SendGoal");
        return Some(format!("{head}/AS/{}/{}", escaped(action), escaped(ty)));
    }
    if topic.contains(ACTION) {
        return None;
    }
    let head = format!("{head}/{}/{}/{}", kind.code(), escaped(topic), escaped(ty));
    let (is_kept, depth) = match qos {
        Qos::Plain => (0, 10),
        Qos::Latched => (1, 1),
    };
    Some(match kind {
        EntityKind::Publisher | EntityKind::Subscription => {
            format!("{head}/:1:{is_kept}:0,{depth}:typehash={hash};")
        }
        _ => head,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_the_bridge() {
        let of = |kind, topic, ty, qos| token("ab", kind, Some((topic, ty, "RIHS01_1", qos)));
        let string = "std_msgs/msg/String";
        let head = "@/ab/@ros2_lv";
        let cases = [
            (token("ab", EntityKind::Node, None), Some(head.to_owned())),
            (
                of(EntityKind::Publisher, "/llm/model", string, Qos::Latched),
                Some(format!(
                    "{head}/MP/llm§model/std_msgs§msg§String/:1:1:0,1:typehash=RIHS01_1;"
                )),
            ),
            (
                of(
                    EntityKind::Service,
                    "/llm/ask",
                    "jupiter_msgs/srv/Ask",
                    Qos::Plain,
                ),
                Some(format!("{head}/SS/llm§ask/jupiter_msgs§srv§Ask")),
            ),
            (
                of(
                    EntityKind::Service,
                    "/llm/generate/_action/send_goal",
                    "jupiter_msgs/action/Generate_SendGoal",
                    Qos::Plain,
                ),
                Some(format!(
                    "{head}/AS/llm§generate/jupiter_msgs§action§Generate"
                )),
            ),
            (
                of(
                    EntityKind::Publisher,
                    "/llm/generate/_action/status",
                    string,
                    Qos::Latched,
                ),
                None,
            ),
        ];
        for (written, expected) in cases {
            assert_eq!(written, expected);
        }
    }
}
