//! Topics on which prompts become messages (`--ros2-topic`): always valid and within their limits, or
//! nothing is published.
//!
//! - `answer`: the same for goals of actions
//! - `drive`: commands of the default model as velocities
//! - `motion`: velocities, each for its time
//!
//! A model is told what the messages are, and writes one under a grammar that holds the limits; what it
//! wrote is checked before it is published. The default model was not trained for that: it writes its
//! own commands (models/world/COMMANDS.md), and a table makes velocities of them.

mod answer;
mod drive;
mod motion;

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

pub(super) use self::answer::{AnswerType, AnswerTypes};
use self::drive::Driver;
use self::motion::{Motion, TimedMessage};
use super::node::{Node, Publisher};
use super::types::{Grammar, TypeError, Types};
use super::wire::Qos;
use crate::client::commands;
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::config::{OutlineMode, Ros2Topic};
use crate::error::{BadRequest, Result, Ros2Error};

/// What the answer names instead of a topic where nothing is published.
const NONE: &str = "none";

/// What a model writes of why.
const REASON: &str = r#""\"" char{1,200} "\"""#;

/// What numbers mean where a definition does not say it (REP 103).
const UNITS: &str = "Units, where nothing else is written: metres, seconds, radians; x is ahead, y left, z up, and \
    to the left is positive.";

/// What becomes of prompts: checked, without a node yet.
pub(super) struct Plan {
    types: Arc<Types>,
    topics: Vec<Ros2Topic>,
    way: Way,
}

enum Way {
    /// The model is told what messages are, and writes one by a grammar.
    Told {
        instruction: String,
        grammar: String,
    },
    /// The default model writes its own commands, which are whole (`client/commands.rs`).
    Commands(Driver),
}

impl Way {
    /// Asks for a message of type `ty` instead of an answer.
    fn ask(&self, ty: &str, prompt: &mut Prompt, options: &mut GenerateOptions) -> Result<()> {
        let wrong = |why: &str| {
            let (name, why) = (ty.to_owned(), why.to_owned());
            Err(BadRequest::AnswerType { name, why }.into())
        };
        if options.sampling.grammar.is_some() {
            return wrong("what is said here becomes a message: send no grammar");
        }
        let Prompt::Chat(chat) = prompt else {
            return wrong("what is said here becomes a message: send it as it is said, not raw");
        };
        // A message is one piece.
        options.outline = Some(OutlineMode::Off);
        match self {
            Self::Commands(_) => commands::take_care(&mut options.sampling),
            Self::Told {
                instruction,
                grammar,
            } => {
                options.sampling.grammar = Some(grammar.clone());
                if let Some(first) = chat.first_mut() {
                    first.content = format!("{instruction}\n{}", first.content);
                }
            }
        }
        Ok(())
    }
}

/// Why there is no message, in a line: often it is what the model said instead.
fn in_a_line(why: &str) -> String {
    let words: Vec<&str> = why.split_whitespace().collect();
    let line: String = words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    match line.char_indices().nth(MOST_SAID) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// Characters of what a model said instead of a message that are told.
const MOST_SAID: usize = 200;

impl Plan {
    /// Nothing without topics.
    ///
    /// # Errors
    /// A type that is not known or that no model can write, a limit that is none of its fields'; for
    /// the default model anything but one topic of velocities.
    pub(super) fn new(
        types: &Arc<Types>,
        topics: &[Ros2Topic],
        is_default_model: bool,
    ) -> Result<Option<Self>> {
        if topics.is_empty() {
            return Ok(None);
        }
        let mut topics = topics.to_vec();
        for topic in &mut topics {
            topic.ty = Types::message_name(&topic.ty);
        }
        let (mut grammar, mut ways) = (Grammar::new(types), Vec::new());
        for Ros2Topic { name, ty, limits } in &topics {
            for limit in limits {
                let checked = types.check_limit(ty, limit);
                checked.map_err(|why| Ros2Error::limit(&limit.field, why))?;
            }
            let rule = grammar.message(ty, limits);
            let rule = rule.map_err(|why| Ros2Error::topic(name, why))?;
            ways.push(format!(r#""\"{name}\":" {rule}"#));
        }
        ways.push(format!(r#""\"{NONE}\":" {REASON}"#));
        let way = match is_default_model {
            true => Way::Commands(Driver::new(types, &topics)?),
            false => Way::Told {
                instruction: instruction(types, &topics)?,
                grammar: grammar.finish(&format!(r#""{{" ({}) "}}""#, ways.join(" | "))),
            },
        };
        Ok(Some(Self {
            types: types.clone(),
            topics,
            way,
        }))
    }

    /// Asks for a message instead of an answer.
    ///
    /// # Errors
    /// A request that has a grammar of its own.
    pub(super) fn ask(&self, prompt: &mut Prompt, options: &mut GenerateOptions) -> Result<()> {
        self.way.ask(&self.topics[0].ty, prompt, options)
    }

    /// The topic and the message of an answer, or why there is none.
    fn message(&self, text: &str) -> Result<(&Ros2Topic, Value), String> {
        let answer: Value = serde_json::from_str(text.trim())
            .map_err(|error| format!("the answer is no message (n_predict too small?): {error}"))?;
        if let Some(why) = answer[NONE].as_str() {
            return Err(why.to_owned());
        }
        let named = self.topics.iter().find_map(|topic| {
            let message = answer.get(&topic.name)?;
            Some((topic, message))
        });
        let (topic, message) = named.ok_or("the answer names no topic")?;
        Ok((topic, checked(&self.types, topic, message)?))
    }
}

/// The message as it will be read, if it is one and within the limits of its topic.
fn checked(types: &Types, topic: &Ros2Topic, message: &Value) -> Result<Value, String> {
    let Ros2Topic { ty, limits, .. } = topic;
    let written = types.encode(ty, message);
    let read = written.and_then(|bytes| types.decode(ty, &bytes));
    let within = read.and_then(|read| types.check_within(ty, &read, limits).map(|()| read));
    within.map_err(|error| error.to_string())
}

/// What a model is told of the messages.
fn instruction(types: &Types, topics: &[Ros2Topic]) -> Result<String> {
    let mut text = "What is said to a robot becomes a message of ROS 2. Answer with JSON alone: the name of a \
         topic and the whole message for it, or {\"none\":\"why\"} where none of them can say it.\n"
        .to_owned();
    for topic in topics {
        let name = &topic.name;
        let definitions = definitions(types, topic);
        let definitions = definitions.map_err(|why| Ros2Error::topic(name, why))?;
        text += &format!("{{\"{name}\":{{..}}}} is for a {definitions}");
    }
    Ok(format!("{text}{UNITS}\nWhat is said:"))
}

/// The type of a topic with its definition, units and limits.
fn definitions(types: &Types, topic: &Ros2Topic) -> Result<String, TypeError> {
    let Ros2Topic { ty, limits, .. } = topic;
    let mut text = format!("{ty}:\n{}", types.definition(ty)?);
    for limit in limits {
        let (field, min, max) = (&limit.field, limit.min, limit.max);
        text += &format!("{field} is from {min} to {max}.\n");
    }
    Ok(text)
}

/// The topics of a node.
pub(super) struct TypedTopics {
    plan: Arc<Plan>,
    out: Out,
}

enum Out {
    /// In the order of the plan's topics.
    Messages(Vec<Publisher>),
    Motion(Motion, Mutex<Driver>),
}

impl TypedTopics {
    pub(super) fn serve(node: &mut Node, plan: Arc<Plan>) -> Result<Self> {
        let mut publishers = Vec::new();
        for topic in &plan.topics {
            publishers.push(node.publisher(&topic.name, &topic.ty, Qos::Plain)?);
        }
        let out = match (&plan.way, publishers.len()) {
            (Way::Commands(driver), 1) => {
                let motion = Motion::new(publishers.remove(0));
                Out::Motion(motion, Mutex::new(driver.clone()))
            }
            _ => Out::Messages(publishers),
        };
        Ok(Self { plan, out })
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Publishes what an answer says; gives what is told of it: the topic with what was published, or
    /// why nothing was.
    pub(super) fn publish(&self, text: &str) -> Value {
        let topics = &self.plan.topics;
        let published = match &self.out {
            Out::Messages(publishers) => self.plan.message(text).map(|(topic, message)| {
                let own = topics.iter().position(|other| other.name == topic.name);
                if let Some(publisher) = own.and_then(|own| publishers.get(own)) {
                    publisher.publish(&message);
                }
                json!({ &topic.name: message })
            }),
            Out::Motion(motion, driver) => {
                let mut driver = driver.lock().unwrap_or_else(PoisonError::into_inner);
                driver.parts(text).map(|parts| {
                    let told = json!({ &topics[0].name: parts.iter().map(TimedMessage::told).collect::<Vec<_>>() });
                    motion.begin(parts);
                    told
                })
            }
        };
        published.unwrap_or_else(|why| nothing(&why))
    }

    /// Ends what is under way.
    pub(super) fn halt(&self) {
        if let Out::Motion(motion, _) = &self.out {
            motion.halt();
        }
    }

    /// The same for good.
    pub(super) fn close(&self) {
        if let Out::Motion(motion, _) = &self.out {
            motion.close();
        }
    }
}

/// What is told where nothing is published.
pub(super) fn nothing(why: &str) -> Value {
    let why = in_a_line(why);
    tracing::info!("ROS 2: nothing is published: {why}");
    json!({ NONE: why })
}

#[cfg(test)]
mod tests;
