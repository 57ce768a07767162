//! What a model may write so that its answer is a message: a grammar (GBNF) of the message's JSON.
//!
//! Whatever is written by it, [`Types::encode`] takes: whole numbers have a digit less than their type
//! holds, strings and sequences an end. Numbers with a limit are within it.

use std::collections::BTreeMap;

use super::{DUMMY_FIELD, Field, Kind, Shape, TypeError, Types, number};
use crate::config::Ros2Limit;

/// Most elements of a sequence, and most characters of a string: a model could go on without end.
const MAX_ELEMENTS: u32 = 16;
const MAX_CHARS: u32 = 200;

/// Most elements of an array: grammars demand no more repetitions.
const MAX_ARRAY: u32 = 2000;

/// Rules that all grammars have.
const COMMON: &str = r#"
char ::= [^"\\\x00-\x1F\x7F] | "\\" ["\\/bfnrt]
float ::= "-"? ("0" | [1-9] [0-9]{0,9}) ("." [0-9]{1,6})?
bool ::= "true" | "false"
"#;

/// A grammar as it is written.
pub(in crate::ros2) struct Grammar<'a> {
    types: &'a Types,
    rules: BTreeMap<String, String>,
}

impl<'a> Grammar<'a> {
    pub(in crate::ros2) fn new(types: &'a Types) -> Self {
        let rules = BTreeMap::new();
        Self { types, rules }
    }

    /// The grammar whose root may be what `root` says, an expression of rules.
    pub(in crate::ros2) fn finish(self, root: &str) -> String {
        let mut text = format!("root ::= {root}\n");
        for (rule, body) in self.rules {
            text += &format!("{rule} ::= {body}\n");
        }
        text + COMMON.trim_start()
    }

    /// The rule for messages of type `name` whose numbers are within `limits`.
    ///
    /// # Errors
    /// A type that is not known, or that no model can write: images and other raw bytes, wide strings; a limit
    /// that leaves no number.
    pub(in crate::ros2) fn message(
        &mut self,
        name: &str,
        limits: &[Ros2Limit],
    ) -> Result<String, TypeError> {
        let limits: Vec<_> = limits.iter().map(|l| (l.field.as_str(), l)).collect();
        self.within(name, &limits)
    }

    /// The same for limits with their paths from here. Rules without a limit are shared; one with
    /// limits has a number, since the same type has others elsewhere.
    fn within(&mut self, name: &str, limits: &[Limit<'_>]) -> Result<String, TypeError> {
        let rule = match limits.is_empty() {
            true => rule_name(name),
            false => format!("{}-within-{}", rule_name(name), self.rules.len()),
        };
        if self.rules.contains_key(&rule) {
            return Ok(rule);
        }
        // Its place is taken before those within it look for theirs.
        self.rules.insert(rule.clone(), String::new());
        let mut members = Vec::new();
        for field in self.types.fields(name)? {
            if field.name == DUMMY_FIELD {
                continue;
            }
            let inner: Vec<_> = limits.iter().filter_map(|l| step(l, &field.name)).collect();
            let one = self.element(name, field, &inner)?;
            let list = |min: u32, max: u32| match (min, max) {
                (_, 0) => r#""[]""#.to_owned(),
                (0, max) => format!(r#""[" ({one} ("," {one}){{0,{}}})? "]""#, max - 1),
                (_, n) => format!(r#""[" {one} ("," {one}){{{}}} "]""#, n - 1),
            };
            let value = match field.shape {
                Shape::One => one.clone(),
                Shape::Array(n) => list(n, n),
                Shape::Bounded(max) => list(0, max.min(MAX_ELEMENTS)),
                Shape::Sequence => list(0, MAX_ELEMENTS),
            };
            members.push(format!(r#""\"{}\":" {value}"#, field.name));
        }
        let body = members.join(r#" "," "#);
        let body = match body.is_empty() {
            true => r#""{}""#.to_owned(),
            false => format!(r#""{{" {body} "}}""#),
        };
        self.rules.insert(rule.clone(), body);
        Ok(rule)
    }

    /// What one element of a member may be.
    fn element(
        &mut self,
        message: &str,
        field: &Field,
        limits: &[Limit<'_>],
    ) -> Result<String, TypeError> {
        let refused = |why: &str| TypeError::Value {
            at: format!("{message}.{}", field.name),
            why: why.to_owned(),
        };
        let limit = limits.iter().find(|(path, _)| path.is_empty());
        let whole = |is_signed: bool, n_digits: u32| match limit {
            None => {
                let sign = if is_signed { r#""-"? "# } else { "" };
                Some(format!(
                    r#"{sign}("0" | [1-9] [0-9]{{0,{}}})"#,
                    n_digits - 1
                ))
            }
            Some((_, limit)) => number::whole(is_signed, n_digits, limit.min, limit.max),
        };
        if matches!(field.shape, Shape::Array(n) if n > MAX_ARRAY) {
            return Err(refused(&format!(
                "a model cannot write an array of more than {MAX_ARRAY} elements"
            )));
        }
        let none = || refused("no number that a model can write is within its limit");
        Ok(match &field.kind {
            Kind::Byte | Kind::Integer { bytes: 1, .. } if field.shape == Shape::Sequence => {
                return Err(refused("a model cannot write raw bytes, as of an image"));
            }
            Kind::WideString(_) => return Err(refused("a model cannot write wide strings")),
            Kind::Message(other) => self.within(other, limits)?,
            Kind::Bool => "bool".to_owned(),
            Kind::Float32 | Kind::Float64 => match limit {
                None => "float".to_owned(),
                Some((_, limit)) => number::decimal(limit.min, limit.max).ok_or_else(none)?,
            },
            Kind::String(max) => {
                let max = max.unwrap_or(MAX_CHARS).min(MAX_CHARS);
                format!(r#""\"" char{{0,{max}}} "\"""#)
            }
            Kind::Byte => whole(false, 2).ok_or_else(none)?,
            Kind::Integer { bytes, is_signed } => {
                let n_digits = match bytes {
                    1 => 2,
                    2 => 4,
                    4 => 9,
                    _ => 18,
                };
                whole(*is_signed, n_digits).ok_or_else(none)?
            }
        })
    }
}

/// A limit, with the rest of its path.
type Limit<'a> = (&'a str, &'a Ros2Limit);

/// A limit as seen from the member `name`; nothing where it is for another one.
fn step<'a>((path, limit): &Limit<'a>, name: &str) -> Option<Limit<'a>> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    (first == name).then_some((rest, limit))
}

/// `geometry_msgs/msg/Twist` as a rule may be named.
fn rule_name(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jupiter_models::sampling::SamplingParams;

    use super::*;

    fn grammar(types: &Types, name: &str) -> Result<String, TypeError> {
        let mut grammar = Grammar::new(types);
        let root = grammar.message(name, &[])?;
        Ok(grammar.finish(&root))
    }

    fn check(types: &Types, name: &str) {
        let sampling = SamplingParams {
            grammar: Some(grammar(types, name).unwrap()),
            ..SamplingParams::greedy()
        };
        sampling
            .validate()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    #[test]
    fn messages_of_robots_have_grammars() {
        let mut types = Types::embedded().unwrap();
        for name in [
            "geometry_msgs/msg/Twist",
            "geometry_msgs/msg/PoseWithCovarianceStamped",
            "geometry_msgs/msg/PolygonStamped",
            "std_msgs/msg/Empty",
            "std_msgs/msg/Bool",
            "std_msgs/msg/ColorRGBA",
        ] {
            check(&types, name);
        }
        let all = "bool a\nbyte b\nint8 c\nuint64[2] d\nstring[<=2] e\nstring<=3 f\nfloat32[0] g";
        types.add("t/msg/T", all).unwrap();
        check(&types, "t/msg/T");
    }

    #[test]
    fn what_no_model_can_write_is_named() {
        let mut types = Types::embedded().unwrap();
        types
            .add("t/msg/Image", "uint32 width\nuint8[] data")
            .unwrap();
        types.add("t/msg/Wide", "wstring w").unwrap();
        types.add("t/msg/Long", "float64[100000] l").unwrap();
        for (name, expected) in [
            ("t/msg/Image", "t/msg/Image.data"),
            ("t/msg/Wide", "t/msg/Wide.w"),
            ("t/msg/Long", "t/msg/Long.l"),
            ("t/msg/None", "t/msg/None is not known"),
        ] {
            let error = grammar(&types, name).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
