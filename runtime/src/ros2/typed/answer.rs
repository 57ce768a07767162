//! Goals whose answer is a message (`answer_type`): asked for as on topics, and checked before it is told.

use std::sync::Arc;

use serde_json::Value;

use super::drive::Driver;
use super::{UNITS, Way, checked, definitions, in_a_line};
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::config::Ros2Topic;
use crate::error::{BadRequest, Result};
use crate::ros2::types::{Grammar, Types};

/// Longest name of a type, and most of what is no name that is told again.
const MAX_NAME: usize = 255;
const MAX_TOLD: usize = 60;

/// What answers may be.
pub(in crate::ros2) struct AnswerTypes {
    pub(in crate::ros2) types: Arc<Types>,
    /// The node's own: a message of a type that is published somewhere keeps to its limits.
    pub(in crate::ros2) topics: Vec<Ros2Topic>,
    pub(in crate::ros2) is_default_model: bool,
}

/// The message that an answer is to be.
pub(in crate::ros2) struct AnswerType {
    types: Arc<Types>,
    /// Its type and limits; the name is the type's too.
    topic: Ros2Topic,
    way: Way,
}

impl AnswerTypes {
    /// What a goal asks for; none where it does not.
    ///
    /// # Errors
    /// A type that is not known or that this model cannot write; a grammar beside it.
    pub(in crate::ros2) fn of_goal(&self, goal: &Value) -> Result<Option<AnswerType>> {
        let text = |name: &str| goal[name].as_str().unwrap_or_default();
        let said = text("answer_type");
        if said.is_empty() {
            return Ok(None);
        }
        let is_of_names = |c: char| c.is_ascii_alphanumeric() || "_/".contains(c);
        let is_name = said.len() <= MAX_NAME && said.chars().all(is_of_names);
        let wrong = |why: String| BadRequest::AnswerType {
            name: said
                .chars()
                .filter(|&c| is_of_names(c))
                .take(MAX_TOLD)
                .collect(),
            why,
        };
        if !is_name {
            return Err(
                wrong("no name of a type, as geometry_msgs/msg/Twist is".to_owned()).into(),
            );
        }
        let ty = Types::message_name(said);
        let own = self
            .topics
            .iter()
            .find(|topic| Types::message_name(&topic.ty) == ty);
        let topic = Ros2Topic {
            name: ty.clone(),
            ty,
            limits: own.map(|own| own.limits.clone()).unwrap_or_default(),
        };
        let way = self.way(&topic).map_err(wrong)?;
        Ok(Some(AnswerType {
            types: self.types.clone(),
            topic,
            way,
        }))
    }

    /// How it is asked for.
    fn way(&self, topic: &Ros2Topic) -> Result<Way, String> {
        let mut grammar = Grammar::new(&self.types);
        let rule = grammar.message(&topic.ty, &topic.limits);
        let rule = rule.map_err(|error| error.to_string())?;
        if self.is_default_model {
            return Driver::of(&self.types, topic).map(Way::Commands);
        }
        let definitions = definitions(&self.types, topic).map_err(|error| error.to_string())?;
        Ok(Way::Told {
            instruction: format!(
                "Answer with JSON alone: a whole message of {definitions}{UNITS}\nWhat is said:"
            ),
            grammar: grammar.finish(&rule),
        })
    }
}

impl AnswerType {
    /// Asks for it instead of an answer.
    ///
    /// # Errors
    /// A request that has a grammar of its own, or is none of a conversation.
    pub(in crate::ros2) fn ask(
        &self,
        prompt: &mut Prompt,
        options: &mut GenerateOptions,
    ) -> Result<()> {
        self.way.ask(&self.topic.ty, prompt, options)
    }

    /// Whether what the model writes is the message itself, so that pieces of it can be told.
    pub(in crate::ros2) fn is_as_written(&self) -> bool {
        matches!(self.way, Way::Told { .. })
    }

    /// The message that an answer is: one that was cut short is none.
    ///
    /// # Errors
    /// Why there is none.
    pub(in crate::ros2) fn message(&self, text: &str) -> Result<String> {
        let message = match &self.way {
            Way::Told { .. } => self.as_written(text),
            Way::Commands(driver) => one_motion(driver, text),
        };
        message.map_err(|why| {
            let (name, why) = (self.topic.ty.clone(), in_a_line(&why));
            BadRequest::AnswerType { name, why }.into()
        })
    }

    fn as_written(&self, text: &str) -> Result<String, String> {
        let message = serde_json::from_str(text.trim()).map_err(|error| error.to_string());
        let checked =
            message.and_then(|message: Value| checked(&self.types, &self.topic, &message));
        checked.map(|_| text.to_owned()).map_err(|error| {
            format!("the answer is no such message (max_tokens too small?): {error}")
        })
    }
}

/// The velocity of a command of one motion.
fn one_motion(driver: &Driver, text: &str) -> Result<String, String> {
    let parts = driver.clone().parts(text)?;
    match parts.as_slice() {
        [part] | [part, _] => Ok(part.message.to_string()),
        _ => Err(
            "the command has several motions: ask for one, or let a topic have it (--ros2-topic)"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::config::Ros2Limit;

    fn answer_types(is_default_model: bool) -> AnswerTypes {
        let mut types = Types::embedded().unwrap();
        types.add("t/msg/Level", "float32 level # [cm]").unwrap();
        let limit = Ros2Limit {
            field: "linear.x".to_owned(),
            min: -0.1,
            max: 0.1,
        };
        let topic = Ros2Topic {
            name: "/cmd_vel".to_owned(),
            ty: "geometry_msgs/Twist".to_owned(),
            limits: vec![limit],
        };
        AnswerTypes {
            types: Arc::new(types),
            topics: vec![topic],
            is_default_model,
        }
    }

    fn asked(typed: &AnswerType, text: &str) -> (String, GenerateOptions) {
        let (mut prompt, mut options) = (Prompt::text(text), GenerateOptions::default());
        typed.ask(&mut prompt, &mut options).unwrap();
        options.sampling.validate().unwrap();
        assert!(options.sampling.grammar.is_some());
        let Prompt::Chat(chat) = prompt else {
            panic!("{prompt:?}")
        };
        (chat[0].content.clone(), options)
    }

    #[test]
    fn a_model_is_told_the_message_and_what_it_wrote_is_checked() {
        let types = answer_types(false);
        let typed = |ty: &str| {
            types
                .of_goal(&json!({ "answer_type": ty }))
                .unwrap()
                .unwrap()
        };
        let (text, _) = asked(&typed("t/msg/Level"), "Fill it.");
        assert!(
            text.contains("float32 level # [cm]") && text.ends_with("Fill it."),
            "{text}"
        );
        let twist = typed("geometry_msgs/Twist");
        let (text, mut again) = asked(&twist, "Go.");
        assert!(text.contains("linear.x is from -0.1 to 0.1"), "{text}");
        for mut prompt in [Prompt::raw("Go."), Prompt::text("Go.")] {
            let error = twist.ask(&mut prompt, &mut again).unwrap_err().to_string();
            assert!(error.contains("grammar"), "{error}");
            again.sampling.grammar = None;
            let is_chat = matches!(prompt, Prompt::Chat(_));
            assert_eq!(twist.ask(&mut prompt, &mut again).is_ok(), is_chat);
            again.sampling.grammar = Some("root ::= []".to_owned());
        }
        let twist_of = |x: f64| json!({ "linear": { "x": x } }).to_string();
        assert_eq!(twist.message(&twist_of(0.1)).unwrap(), twist_of(0.1));
        for wrong in [&twist_of(0.2), &twist_of(0.1)[..9], "[]"] {
            let error = twist.message(wrong).unwrap_err().to_string();
            assert!(
                error.contains("max_tokens") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    #[test]
    fn the_default_models_commands_are_velocities() {
        let types = answer_types(true);
        let twist = types.of_goal(&json!({ "answer_type": "geometry_msgs/msg/Twist" }));
        let twist = twist.unwrap().unwrap();
        let (text, options) = asked(&twist, "Drive two metres.");
        assert_eq!(text, "Drive two metres.");
        assert_eq!(options.sampling.logit_bias.len(), 1, "with care");
        let drive = json!({ "action": "drive", "metres": -2 });
        let command = |actions: Value| json!({ "actions": actions }).to_string();
        let message = twist.message(&command(json!([drive]))).unwrap();
        let message: Value = serde_json::from_str(&message).unwrap();
        assert_eq!(message["linear"]["x"], -0.1);
        for (answer, expected) in [
            (command(json!([drive, drive])), "several motions"),
            (command(json!([{ "action": "photo" }])), "`photo`"),
            (
                "A lidar measures\ndistances.".to_owned(),
                "A lidar measures distances",
            ),
        ] {
            let error = twist.message(&answer).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
        let other = types.of_goal(&json!({ "answer_type": "std_msgs/msg/Bool" }));
        assert!(other.err().unwrap().to_string().contains("-m"));
    }

    #[test]
    fn what_no_answer_can_be_is_named_in_a_line() {
        let types = answer_types(false);
        assert!(types.of_goal(&json!({ "prompt": "x" })).unwrap().is_none());
        let long = "a".repeat(500_000);
        for (ty, expected) in [
            ("a/msg/B", "not known"),
            ("///\n\"", "no name"),
            (long.as_str(), "no name"),
        ] {
            let goal = json!({ "answer_type": ty });
            let error = types.of_goal(&goal).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.len() < 400 && !error.contains('\n'), "{error}");
        }
    }
}
