//! Text of interface files (.msg, .srv, .action) to types.

use serde_json::Value;

use super::{DUMMY_FIELD, Field, Kind, Shape, TypeError, Types};

/// Most members of one message.
const MAX_FIELDS: usize = 1_000;

/// What begins a definition where several stand in one text.
const HEADING: &str = "==== ";

impl Types {
    /// Reads several definitions, each behind a line `==== package/kind/Name`.
    pub(super) fn add_all(&mut self, text: &str) -> Result<(), TypeError> {
        for part in format!("\n{text}").split(&format!("\n{HEADING}")).skip(1) {
            let (name, definition) = part.split_once('\n').unwrap_or((part, ""));
            self.add(name.trim(), definition)?;
        }
        Ok(())
    }

    /// Reads one definition; `name` is as `std_msgs/msg/String` and says what it is.
    pub(in crate::ros2) fn add(&mut self, name: &str, text: &str) -> Result<(), TypeError> {
        let wrong = |why: &str| TypeError::Definition {
            name: name.to_owned(),
            line: 0,
            why: why.to_owned(),
        };
        let parts = sections(text);
        match (name.split('/').nth(1), parts.as_slice()) {
            (Some("msg"), [message]) => {
                self.definitions.insert(name.to_owned(), text.to_owned());
                self.add_message(name, message)
            }
            (Some("srv"), [request, response]) => {
                let request = fields(name, request)?;
                let response = fields(name, response)?;
                self.add_service(name, request, response);
                Ok(())
            }
            (Some("action"), [goal, result, feedback]) => {
                for (part, text) in [("Goal", goal), ("Result", result), ("Feedback", feedback)] {
                    self.add_message(&format!("{name}_{part}"), text)?;
                }
                self.add_action(name);
                Ok(())
            }
            (Some("msg"), _) => Err(wrong("a message has no `---`")),
            (Some("srv"), _) => Err(wrong("a service has two parts with `---` between them")),
            (Some("action"), _) => Err(wrong("an action has three parts with `---` between them")),
            _ => Err(wrong(
                "a type is named package/msg/Name, package/srv/Name or package/action/Name",
            )),
        }
    }

    fn add_message(&mut self, name: &str, text: &Section<'_>) -> Result<(), TypeError> {
        let fields = fields(name, text)?;
        self.messages.insert(name.to_owned(), fields);
        Ok(())
    }

    fn add_service(&mut self, name: &str, request: Vec<Field>, response: Vec<Field>) {
        let of = |part: &str| format!("{name}_{part}");
        let event = vec![
            message("info", "service_msgs/msg/ServiceEventInfo", Shape::One),
            message("request", &of("Request"), Shape::Bounded(1)),
            message("response", &of("Response"), Shape::Bounded(1)),
        ];
        let whole = vec![
            message("request_message", &of("Request"), Shape::One),
            message("response_message", &of("Response"), Shape::One),
            message("event_message", &of("Event"), Shape::One),
        ];
        self.messages.insert(of("Request"), request);
        self.messages.insert(of("Response"), response);
        self.messages.insert(of("Event"), event);
        self.messages.insert(name.to_owned(), whole);
    }

    fn add_action(&mut self, name: &str) {
        let of = |part: &str| format!("{name}_{part}");
        let one = |field: &str, ty: &str| message(field, ty, Shape::One);
        let goal_id = || one("goal_id", "unique_identifier_msgs/msg/UUID");
        let plain = |name: &str, kind| Field {
            name: name.to_owned(),
            kind,
            shape: Shape::One,
            default: None,
        };
        let status = Kind::Integer {
            bytes: 1,
            is_signed: true,
        };
        self.add_service(
            &of("SendGoal"),
            vec![goal_id(), one("goal", &of("Goal"))],
            vec![
                plain("accepted", Kind::Bool),
                one("stamp", "builtin_interfaces/msg/Time"),
            ],
        );
        self.add_service(
            &of("GetResult"),
            vec![goal_id()],
            vec![plain("status", status), one("result", &of("Result"))],
        );
        let feedback = vec![goal_id(), one("feedback", &of("Feedback"))];
        self.messages.insert(of("FeedbackMessage"), feedback);
        let whole = vec![
            one("goal", &of("Goal")),
            one("result", &of("Result")),
            one("feedback", &of("Feedback")),
            one("send_goal_service", &of("SendGoal")),
            one("get_result_service", &of("GetResult")),
            one("feedback_message", &of("FeedbackMessage")),
        ];
        self.messages.insert(name.to_owned(), whole);
    }
}

/// Lines with their numbers.
type Section<'a> = Vec<(usize, &'a str)>;

/// The parts between lines of `---`.
fn sections(text: &str) -> Vec<Section<'_>> {
    let mut parts = vec![Vec::new()];
    for (i, line) in text.lines().enumerate() {
        match (line.trim_end(), parts.last_mut()) {
            ("---", _) => parts.push(Vec::new()),
            (line, Some(part)) => part.push((i + 1, line)),
            (_, None) => {}
        }
    }
    parts
}

fn fields(name: &str, lines: &Section<'_>) -> Result<Vec<Field>, TypeError> {
    let package = name.split('/').next().unwrap_or_default();
    let mut fields: Vec<Field> = Vec::new();
    for &(line, text) in lines {
        let wrong = |why: String| TypeError::Definition {
            name: name.to_owned(),
            line,
            why,
        };
        if let Some(field) = field(package, without_comment(text)).map_err(wrong)? {
            if fields.iter().any(|other| other.name == field.name) {
                return Err(wrong(format!("`{}` is there twice", field.name)));
            }
            fields.push(field);
        }
        if fields.len() > MAX_FIELDS {
            return Err(wrong(format!("more than {MAX_FIELDS} members")));
        }
    }
    if fields.is_empty() {
        let (bytes, is_signed) = (1, false);
        fields.push(Field {
            name: DUMMY_FIELD.to_owned(),
            kind: Kind::Integer { bytes, is_signed },
            shape: Shape::One,
            default: None,
        });
    }
    Ok(fields)
}

fn message(name: &str, ty: &str, shape: Shape) -> Field {
    Field {
        name: name.to_owned(),
        kind: Kind::Message(ty.to_owned()),
        shape,
        default: None,
    }
}

/// The line up to a `#` that no quotes enclose.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut is_escaped) = (None, false);
    for (i, c) in line.char_indices() {
        match (quote, c) {
            _ if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') => return line[..i].trim(),
            (None, _) => {}
        }
    }
    line.trim()
}

/// A member; nothing for an empty line and a constant.
fn field(package: &str, line: &str) -> Result<Option<Field>, String> {
    if line.is_empty() || line.starts_with('@') {
        return Ok(None);
    }
    let (ty, rest) = (line.split_once(char::is_whitespace))
        .ok_or_else(|| format!("`{line}` is no `type name`"))?;
    let rest = rest.trim_start();
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(rest.len());
    let (name, value) = (&rest[..end], rest[end..].trim());
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(format!("`{rest}` does not begin with a name"));
    }
    if value.starts_with('=') {
        return Ok(None);
    }
    let (kind, shape) = kind_and_shape(package, ty)?;
    let default = match value {
        "" => None,
        text => Some(default(text, &kind).ok_or_else(|| format!("`{text}` is no value of {ty}"))?),
    };
    Ok(Some(Field {
        name: name.to_owned(),
        kind,
        shape,
        default,
    }))
}

fn kind_and_shape(package: &str, ty: &str) -> Result<(Kind, Shape), String> {
    let count = |text: &str| {
        let count = text.parse::<u32>();
        count.map_err(|_| format!("`{text}` in `{ty}` is no number of elements"))
    };
    let (element, shape) = match ty.strip_suffix(']').and_then(|ty| ty.split_once('[')) {
        None => (ty, Shape::One),
        Some((element, "")) => (element, Shape::Sequence),
        Some((element, size)) => match size.strip_prefix("<=") {
            Some(max) => (element, Shape::Bounded(count(max)?)),
            None => (element, Shape::Array(count(size)?)),
        },
    };
    let (base, bound) = match element.split_once("<=") {
        None => (element, None),
        Some((base, max)) => (base, Some(count(max)?)),
    };
    let integer = |bytes, is_signed| Kind::Integer { bytes, is_signed };
    let kind = match base {
        "string" => Kind::String(bound),
        "wstring" => Kind::WideString(bound),
        _ if bound.is_some() => return Err(format!("only strings have a bound, not `{base}`")),
        "bool" => Kind::Bool,
        "byte" => Kind::Byte,
        "char" | "uint8" => integer(1, false),
        "int8" => integer(1, true),
        "int16" => integer(2, true),
        "uint16" => integer(2, false),
        "int32" => integer(4, true),
        "uint32" => integer(4, false),
        "int64" => integer(8, true),
        "uint64" => integer(8, false),
        "float32" => Kind::Float32,
        "float64" => Kind::Float64,
        _ => Kind::Message(full_name(package, base)?),
    };
    Ok((kind, shape))
}

/// `Pose`, `geometry_msgs/Pose` or `geometry_msgs/msg/Pose` as the last.
fn full_name(package: &str, name: &str) -> Result<String, String> {
    let is_word = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        parts if !parts.iter().all(is_word) => Err(format!("`{name}` is no name of a type")),
        [name] => Ok(format!("{package}/msg/{name}")),
        [package, name] => Ok(format!("{package}/msg/{name}")),
        [package, "msg", name] => Ok(format!("{package}/msg/{name}")),
        _ => Err(format!("`{name}` is no name of a message")),
    }
}

/// A default value as JSON.
fn default(text: &str, kind: &Kind) -> Option<Value> {
    if let Some(inside) = text.strip_prefix('[') {
        let inside = inside.strip_suffix(']')?;
        return match kind {
            // Strings may hold commas: those of JSON are read as they are.
            Kind::String(_) | Kind::WideString(_) => {
                let json = text.replace('\'', "\"");
                serde_json::from_str(&json).ok()
            }
            _ if inside.trim().is_empty() => Some(Value::Array(Vec::new())),
            _ => (inside.split(','))
                .map(|item| default(item.trim(), kind))
                .collect::<Option<Vec<_>>>()
                .map(Value::Array),
        };
    }
    match kind {
        Kind::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true.into()),
            "false" | "0" => Some(false.into()),
            _ => None,
        },
        Kind::Float32 | Kind::Float64 => text.parse::<f64>().ok().map(Value::from),
        Kind::Integer { .. } | Kind::Byte => {
            let signed = text.parse::<i64>().ok().map(Value::from);
            signed.or_else(|| text.parse::<u64>().ok().map(Value::from))
        }
        Kind::String(_) | Kind::WideString(_) => Some(unquoted(text).into()),
        Kind::Message(_) => None,
    }
}

/// The text between quotes of one kind, in which a backslash lets a quote be a quote.
fn unquoted(text: &str) -> String {
    let inside = ['"', '\''].into_iter().find_map(|quote| {
        let inside = text.strip_prefix(quote)?.strip_suffix(quote)?;
        Some(inside.replace(&format!("\\{quote}"), &quote.to_string()))
    });
    inside.unwrap_or_else(|| text.to_owned())
}
