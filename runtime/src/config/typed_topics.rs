//! Topics of ROS 2 on which prompts become messages, and what these may hold.

use super::ros2_name::{OFFERED, Ros2Name};
use crate::error::{Result, Ros2Error};

/// A topic on which prompts become messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Ros2Topic {
    /// The whole name, as `/cmd_vel`.
    pub name: String,
    /// The messages' type as it was said, `geometry_msgs/msg/Twist` or `geometry_msgs/Twist`.
    pub ty: String,
    /// What the messages may hold.
    pub limits: Vec<Ros2Limit>,
}

/// The least and the most that a field of a message may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Ros2Limit {
    /// Where it is, as `linear.x`; of a list it means each element.
    pub field: String,
    /// The least, in the field's unit.
    pub min: f64,
    /// The most, not less than `min`.
    pub max: f64,
}

/// Reads `NAME=PACKAGE/msg/TYPE` and `[TOPIC:]FIELD=MIN..MAX` of a node with this name.
///
/// # Errors
/// The first one that cannot be used.
pub(super) fn read(
    topics: &[String],
    limits: &[String],
    node: &Ros2Name,
) -> Result<Vec<Ros2Topic>> {
    let mut read: Vec<Ros2Topic> = Vec::new();
    for said in topics {
        let wrong = |why: &str| Ros2Error::topic(said, why);
        let (name, ty) = said
            .split_once('=')
            .filter(|(_, ty)| !ty.trim().is_empty())
            .ok_or_else(|| wrong("write NAME=PACKAGE/msg/TYPE"))?;
        let name = node
            .whole(name.trim())
            .ok_or_else(|| wrong("a name is of letters, digits and `_`, no digit first"))?;
        if OFFERED.iter().any(|own| node.relative(own) == name) {
            return Err(
                wrong("the node has that name for something else: take another name").into(),
            );
        }
        if read.iter().any(|topic| topic.name == name) {
            return Err(wrong("this topic is named twice").into());
        }
        let (ty, limits) = (ty.trim().to_owned(), Vec::new());
        read.push(Ros2Topic { name, ty, limits });
    }
    for said in limits {
        let (topic, limit) = limit(said)?;
        let place = match topic {
            Some(topic) => {
                let name = node.whole(topic);
                read.iter_mut()
                    .find(|topic| name.as_deref() == Some(&topic.name))
            }
            None if read.len() > 1 => {
                let why = "there are several topics: write TOPIC:FIELD=MIN..MAX";
                return Err(Ros2Error::limit(said, why).into());
            }
            None => read.first_mut(),
        };
        let place =
            place.ok_or_else(|| Ros2Error::limit(said, "no such topic is named by ros2_topic"))?;
        if place.limits.iter().any(|other| other.field == limit.field) {
            return Err(Ros2Error::limit(said, "this field has a limit already").into());
        }
        place.limits.push(limit);
    }
    Ok(read)
}

/// The topic, where one is said, and the limit.
fn limit(said: &str) -> Result<(Option<&str>, Ros2Limit), Ros2Error> {
    let wrong = |why: &str| Ros2Error::limit(said, why);
    let form = || wrong("write FIELD=MIN..MAX, as linear.x=-0.3..0.3");
    let (place, range) = said.split_once('=').ok_or_else(form)?;
    let (topic, field) = match place.split_once(':') {
        Some((topic, field)) => (Some(topic.trim()), field.trim()),
        None => (None, place.trim()),
    };
    let (min, max) = range.split_once("..").ok_or_else(form)?;
    let number = |text: &str| {
        let number = text.trim().parse::<f64>().ok();
        number.filter(|number| number.is_finite()).ok_or_else(form)
    };
    let (min, max) = (number(min)?, number(max)?);
    if field.is_empty() {
        return Err(form());
    }
    if min > max {
        return Err(wrong("the first number is the larger one: no value fits"));
    }
    let field = field.to_owned();
    Ok((topic, Ros2Limit { field, min, max }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read_all(topics: &[&str], limits: &[&str]) -> Result<Vec<Ros2Topic>> {
        let node = Ros2Name {
            namespace: "/llm".to_owned(),
            node: "jupiter".to_owned(),
        };
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let (topics, limits): (Vec<String>, Vec<String>) = (owned(topics), owned(limits));
        read(&topics, &limits, &node)
    }

    #[test]
    fn limits_go_to_their_topics() {
        let twist = "/cmd_vel=geometry_msgs/msg/Twist";
        let one = read_all(&[twist], &["linear.x=-0.3..0.3", "angular.z=0..1e0"]).unwrap();
        let limit = |field: &str, min, max| Ros2Limit {
            field: field.to_owned(),
            min,
            max,
        };
        let expected = [limit("linear.x", -0.3, 0.3), limit("angular.z", 0.0, 1.0)];
        assert_eq!(
            (one[0].name.as_str(), &*one[0].limits),
            ("/cmd_vel", &expected[..])
        );
        let topics = [twist, "arm/level=std_msgs/Float32"];
        let two = read_all(&topics, &["arm/level:data=0..1", "/cmd_vel:linear.x=0..1"]).unwrap();
        assert_eq!(two[1].name, "/llm/arm/level");
        assert_eq!(two[1].limits, [limit("data", 0.0, 1.0)]);
        assert_eq!(two[0].limits, [limit("linear.x", 0.0, 1.0)]);
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_remedy() {
        let twist = "/cmd_vel=geometry_msgs/msg/Twist";
        let two = [twist, "level=std_msgs/msg/Float32"];
        for (topics, limits, expected) in [
            (&["cmd_vel"][..], &[][..], "NAME=PACKAGE"),
            (&["cmd_vel="], &[], "NAME=PACKAGE"),
            (&["cmd-vel=a/msg/B"], &[], "letters"),
            (&["/=a/msg/B"], &[], "letters"),
            (&["prompt=std_msgs/msg/String"], &[], "another name"),
            (&["/llm/answer=std_msgs/msg/String"], &[], "another name"),
            (&[twist, twist], &[], "twice"),
            (&[], &["x=0..1"], "no such topic"),
            (&[twist], &["/cmd:x=0..1"], "no such topic"),
            (&two, &["linear.x=0..1"], "several topics"),
            (&[twist], &["linear.x=1..0"], "larger"),
            (&[twist], &["linear.x=1"], "MIN..MAX"),
            (&[twist], &["linear.x=a..b"], "MIN..MAX"),
            (&[twist], &["linear.x=0..inf"], "MIN..MAX"),
            (&[twist], &["=0..1"], "MIN..MAX"),
            (&[twist], &["a=0..1", "a=0..2"], "already"),
        ] {
            let error = read_all(topics, limits).unwrap_err().to_string();
            let fits = error.contains(expected) && !error.contains('\n');
            assert!(fits, "{topics:?} {limits:?}: {error}");
        }
    }
}
