//! The knowledge: subjects with their facts and topics, what lies outside, and small talk.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::WorldError;

const SUBJECT_FILES: [(&str, &str); 4] = [
    ("body.toml", include_str!("../knowledge/body.toml")),
    (
        "navigation.toml",
        include_str!("../knowledge/navigation.toml"),
    ),
    (
        "computing.toml",
        include_str!("../knowledge/computing.toml"),
    ),
    ("building.toml", include_str!("../knowledge/building.toml")),
];
const OUTSIDE: &str = include_str!("../knowledge/outside.toml");
/// Every sixth phrasing is held out, so a shorter list would have none.
const LEAST_OF_A_LIST: usize = 6;
const UNKNOWN: &str = include_str!("../knowledge/unknown.toml");
const ABILITIES: &str = include_str!("../knowledge/abilities.toml");
const SMALLTALK: &str = include_str!("../knowledge/smalltalk.toml");

/// All that the assistant knows; see [`World::load`].
#[derive(Debug)]
pub struct World {
    pub(crate) subjects: Vec<Subject>,
    pub(crate) outside: Outside,
    pub(crate) unknown: Unknown,
    pub(crate) abilities: Vec<Ability>,
    /// What no command makes the robot do: verb phrases.
    pub(crate) inabilities: Vec<String>,
    pub(crate) talks: Vec<Talk>,
}

/// A device or a part of the robot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subject {
    pub(crate) id: String,
    /// Without an article.
    pub(crate) name: String,
    /// As it stands inside a sentence.
    pub(crate) the: String,
    #[serde(default)]
    pub(crate) also: Vec<String>,
    pub(crate) what: String,
    pub(crate) purpose: String,
    pub(crate) pro: String,
    pub(crate) con: String,
    #[serde(rename = "fact")]
    pub(crate) facts: Vec<Fact>,
    #[serde(rename = "topic")]
    pub(crate) topics: Vec<Topic>,
}

/// A short question with one sentence as its answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fact {
    /// Fits "What is {ask}?".
    pub(crate) ask: String,
    pub(crate) question: String,
    pub(crate) answer: String,
    /// The heart of the answer, word for word.
    pub(crate) key: String,
    /// The question in people's own words.
    #[serde(default)]
    pub(crate) asked: Vec<String>,
}

/// What a long answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TopicKind {
    About,
    Steps,
    Causes,
    Parts,
}

impl TopicKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            TopicKind::About => "about",
            TopicKind::Steps => "steps",
            TopicKind::Causes => "causes",
            TopicKind::Parts => "parts",
        }
    }
}

/// One long answer, in points.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Topic {
    pub(crate) kind: TopicKind,
    /// Of steps: fits "How do I {do}?".
    #[serde(default, rename = "do")]
    pub(crate) task: String,
    /// Of causes: fits "Why can it happen that {when}?".
    #[serde(default)]
    pub(crate) when: String,
    /// Other words for `do` or `when`, which fit where those do.
    #[serde(default)]
    pub(crate) also: Vec<String>,
    /// The question in people's own words.
    #[serde(default)]
    pub(crate) asked: Vec<String>,
    #[serde(rename = "point")]
    pub(crate) points: Vec<Point>,
}

/// One or two sentences of a long answer that can stand alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Point {
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) key: String,
}

/// What the assistant refuses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outside {
    /// Noun phrases: "What is {thing}?".
    pub(crate) things: Vec<String>,
    /// Verb phrases: "How do I {task}?".
    pub(crate) tasks: Vec<String>,
    pub(crate) questions: Vec<String>,
}

/// What no knowledge tells of most subjects.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unknown {
    #[serde(rename = "task")]
    pub(crate) tasks: Vec<Gap>,
    #[serde(rename = "fact")]
    pub(crate) facts: Vec<Gap>,
    #[serde(rename = "trouble")]
    pub(crate) troubles: Vec<Gap>,
}

/// One task, fact or trouble, with `{the}` for the subject.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gap {
    /// Fits "How do I ...?" (a task), "What is ...?" (a fact) or "Why is it that ...?" (a trouble).
    #[serde(alias = "do", alias = "when")]
    pub(crate) ask: String,
    /// Beginnings of words that the subject's own tasks, facts and causes must not hold.
    pub(crate) unless: Vec<String>,
    /// Other words for `ask`, which fit where that does.
    #[serde(default)]
    pub(crate) also: Vec<String>,
    /// The question in people's own words.
    #[serde(default)]
    pub(crate) asked: Vec<String>,
}

/// What a command makes the robot do, and how people ask about that.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ability {
    /// Verb phrases: "Can the robot ...?"
    #[serde(rename = "do")]
    pub(crate) does: Vec<String>,
    /// The same after "the robot": "drives backwards".
    #[serde(rename = "is")]
    pub(crate) acts: Vec<String>,
    /// Whole questions.
    #[serde(default)]
    pub(crate) asked: Vec<String>,
    /// How a command for it is said.
    pub(crate) example: String,
    /// Whether something moves that may hit a person.
    #[serde(default)]
    pub(crate) moves: bool,
}

/// What people say besides questions, and the reply.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Talk {
    pub(crate) name: String,
    pub(crate) says: Vec<String>,
    pub(crate) reply: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectFile {
    #[serde(rename = "subject")]
    subjects: Vec<Subject>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AbilityFile {
    inabilities: Vec<String>,
    #[serde(rename = "ability")]
    abilities: Vec<Ability>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TalkFile {
    #[serde(rename = "talk")]
    talks: Vec<Talk>,
}

impl World {
    /// Reads the knowledge that is built into the program and checks what the generator relies on.
    ///
    /// # Errors
    /// Names the first file or entry that is not as it should be.
    pub fn load() -> Result<World, WorldError> {
        let mut subjects = Vec::new();
        for (file, text) in SUBJECT_FILES {
            subjects.extend(parse::<SubjectFile>(file, text)?.subjects);
        }
        let outside: Outside = parse("outside.toml", OUTSIDE)?;
        let unknown: Unknown = parse("unknown.toml", UNKNOWN)?;
        let abilities: AbilityFile = parse("abilities.toml", ABILITIES)?;
        let talks = parse::<TalkFile>("smalltalk.toml", SMALLTALK)?.talks;
        check_lists(&outside, &talks)?;
        subjects.iter().try_for_each(check_subject)?;
        check_names(&subjects)?;
        Ok(World {
            subjects,
            outside,
            unknown,
            abilities: abilities.abilities,
            inabilities: abilities.inabilities,
            talks,
        })
    }

    /// Every topic with its subject, in the order of the files.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (&Subject, &Topic)> {
        self.subjects
            .iter()
            .flat_map(|s| s.topics.iter().map(move |t| (s, t)))
    }
}

impl Subject {
    /// The name with the article of a definition: "a lidar", "odometry".
    pub(crate) fn a(&self) -> String {
        for article in ["A ", "An ", "The "] {
            if self.what.starts_with(&format!("{article}{}", self.name)) {
                return format!("{}{}", article.to_lowercase(), self.name);
            }
        }
        self.name.clone()
    }

    /// The topic of a kind, if the subject has one.
    pub(crate) fn topic(&self, kind: TopicKind) -> Option<&Topic> {
        self.topics.iter().find(|topic| topic.kind == kind)
    }
}

fn parse<T: DeserializeOwned>(file: &'static str, text: &str) -> Result<T, WorldError> {
    toml::from_str(text).map_err(|source| WorldError::Toml {
        file,
        source: Box::new(source),
    })
}

/// What questions and checks need of a subject; the style of its sentences is a test's business.
fn check_subject(subject: &Subject) -> Result<(), WorldError> {
    let need = |holds: bool, what: &str| {
        if holds {
            Ok(())
        } else {
            Err(WorldError::Entry {
                entry: subject.id.clone(),
                what: what.to_owned(),
            })
        }
    };
    need(!subject.facts.is_empty(), "needs a fact")?;
    let first = subject.topics.first().map(|topic| topic.kind);
    need(
        first == Some(TopicKind::About),
        "its first topic must be `about`",
    )?;
    for fact in &subject.facts {
        need(
            fact.answer.contains(&fact.key),
            &format!("fact key `{}` is not in its answer", fact.key),
        )?;
    }
    for topic in &subject.topics {
        match topic.kind {
            TopicKind::Steps => need(
                topic.task.contains(&subject.the),
                &format!("`do` must hold `{}`", subject.the),
            )?,
            TopicKind::Causes => need(!topic.when.is_empty(), "causes need `when`")?,
            TopicKind::About | TopicKind::Parts => {}
        }
        need(
            (3..=8).contains(&topic.points.len()),
            "a topic needs 3 to 8 points",
        )?;
        for point in &topic.points {
            let holders = topic
                .points
                .iter()
                .filter(|p| p.text.contains(&point.key))
                .count();
            need(
                point.text.contains(&point.key) && holders == 1,
                &format!(
                    "key `{}` must be in the text of its point and in no other",
                    point.key
                ),
            )?;
        }
    }
    Ok(())
}

/// Every list is long enough to be drawn from, in both splits.
fn check_lists(outside: &Outside, talks: &[Talk]) -> Result<(), WorldError> {
    let outside = [
        ("things", outside.things.len()),
        ("tasks", outside.tasks.len()),
        ("questions", outside.questions.len()),
        ("talks", talks.len()),
    ];
    let says = talks
        .iter()
        .map(|talk| (talk.name.as_str(), talk.says.len()));
    for (entry, count) in outside.into_iter().chain(says) {
        if count < LEAST_OF_A_LIST {
            let what = format!("has {count} entries, needs {LEAST_OF_A_LIST}");
            return Err(WorldError::Entry {
                entry: entry.to_owned(),
                what,
            });
        }
    }
    Ok(())
}

/// Every name means one subject, so that a question has one answer.
fn check_names(subjects: &[Subject]) -> Result<(), WorldError> {
    let mut ids = BTreeSet::new();
    let mut names = BTreeMap::new();
    for subject in subjects {
        let fail = |what: String| {
            Err(WorldError::Entry {
                entry: subject.id.clone(),
                what,
            })
        };
        if !ids.insert(&subject.id) {
            return fail("there are two subjects of this id".to_owned());
        }
        for name in subject.also.iter().chain([&subject.the]) {
            if let Some(other) = names.insert(name.to_lowercase(), &subject.id) {
                return fail(format!("`{name}` already names `{other}`"));
            }
        }
    }
    Ok(())
}
