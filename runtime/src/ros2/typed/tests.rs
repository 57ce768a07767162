//! Topics whose prompts become messages.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::Ros2Limit;

fn topic(name: &str, ty: &str, limits: &[(&str, f64, f64)]) -> Ros2Topic {
    let limit = |&(field, min, max): &(&str, f64, f64)| Ros2Limit {
        field: field.to_owned(),
        min,
        max,
    };
    Ros2Topic {
        name: name.to_owned(),
        ty: ty.to_owned(),
        limits: limits.iter().map(limit).collect(),
    }
}

fn plan(topics: &[Ros2Topic], is_default_model: bool) -> Result<Plan> {
    let mut types = Types::embedded().unwrap();
    let image = "uint8[] data";
    types.add("t/msg/Image", image).unwrap();
    let level = "# Height of the water.\nfloat32 level # [cm]\nstring name";
    types.add("t/msg/Level", level).unwrap();
    Plan::new(&Arc::new(types), topics, is_default_model).map(Option::unwrap)
}

#[test]
fn a_model_is_told_the_messages_with_their_units_and_limits() {
    let topics = [
        topic(
            "/cmd_vel",
            "geometry_msgs/Twist",
            &[("linear.x", -0.3, 0.3)],
        ),
        topic("/level", "t/msg/Level", &[("level", 0.0, 80.0)]),
    ];
    let plan = plan(&topics, false).unwrap();
    let mut options = GenerateOptions::default();
    let mut prompt = Prompt::text("Fill it.");
    plan.ask(&mut prompt, &mut options).unwrap();
    let Prompt::Chat(chat) = &prompt else {
        panic!("{prompt:?}")
    };
    for part in [
        "Fill it.",
        "/cmd_vel",
        "float32 level # [cm]",
        "geometry_msgs/msg/Vector3",
        "level is from 0 to 80.",
        "radians",
    ] {
        assert!(chat[0].content.contains(part), "{}", chat[0].content);
    }
    options.sampling.validate().unwrap();
    let twice = plan.ask(&mut prompt, &mut options).unwrap_err().to_string();
    assert!(twice.contains("no grammar"), "{twice}");
}

#[test]
fn answers_are_messages_within_limits_or_nothing() {
    let limits = [("linear.x", -0.3, 0.3)];
    let topics = [
        topic("/cmd_vel", "geometry_msgs/msg/Twist", &limits),
        topic("/level", "t/msg/Level", &[]),
    ];
    let plan = plan(&topics, false).unwrap();
    let (topic, message) = plan
        .message(r#"{"/level":{"level":0.5,"name":"a"}}"#)
        .unwrap();
    let expected = json!({ "level": 0.5, "name": "a" });
    assert_eq!((topic.name.as_str(), message), ("/level", expected));
    let (topic, message) = plan
        .message(r#"{"/cmd_vel":{"linear":{"x":-0.3}}}"#)
        .unwrap();
    assert_eq!(
        (topic.name.as_str(), &message["angular"]["z"]),
        ("/cmd_vel", &json!(0.0))
    );
    for (answer, expected) in [
        (
            r#"{"/cmd_vel":{"linear":{"x":0.31}}}"#,
            "linear.x: 0.31 is not within -0.3 and 0.3",
        ),
        (r#"{"/cmd_vel":{"linear":{"x":"nan"}}}"#, "linear.x"),
        (r#"{"/cmd_vel":{"linear":{"w":1}}}"#, "no member `w`"),
        (r#"{"/cmd_vel":{"linear":"#, "n_predict"),
        (r#"{"/other":{}}"#, "no topic"),
        ("[]", "no topic"),
        (r#"{"none":"not mine"}"#, "not mine"),
    ] {
        let why = plan.message(answer).unwrap_err();
        assert!(why.contains(expected) && !why.contains('\n'), "{why}");
    }
}

#[test]
fn topics_that_cannot_be_are_refused_with_what_is_wrong() {
    let twist = "geometry_msgs/msg/Twist";
    for (topics, is_default_model, expected) in [
        (
            vec![topic("/a", "a/msg/B", &[])],
            false,
            "a/msg/B is not known",
        ),
        (vec![topic("/a", "t/msg/Image", &[])], false, "raw bytes"),
        (
            vec![topic("/a", twist, &[("linear.w", 0.0, 1.0)])],
            false,
            "has no `w`",
        ),
        (
            vec![topic("/a", "t/msg/Level", &[("name", 0.0, 1.0)])],
            false,
            "no numbers",
        ),
        (
            vec![topic("/a", twist, &[("linear.x", 1e-9, 2e-9)])],
            false,
            "no number that",
        ),
        (vec![topic("/a", "t/msg/Level", &[])], true, "default model"),
        (
            vec![topic("/a", twist, &[]), topic("/b", twist, &[])],
            true,
            "default model",
        ),
        (
            vec![topic("/a", twist, &[("linear.x", 0.1, 0.3)])],
            true,
            "0",
        ),
    ] {
        let error = plan(&topics, is_default_model).err().unwrap().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}
