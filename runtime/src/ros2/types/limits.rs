//! Whether a message is within limits.

use serde_json::Value;

use super::{Kind, TypeError, Types};
use crate::config::Ros2Limit;

impl Types {
    /// # Errors
    /// A limit of a field that messages of type `name` do not have, or that holds no numbers.
    pub(in crate::ros2) fn check_limit(
        &self,
        name: &str,
        limit: &Ros2Limit,
    ) -> Result<(), TypeError> {
        match self.limited(name, limit)? {
            Kind::Integer { .. } | Kind::Byte | Kind::Float32 | Kind::Float64 => Ok(()),
            Kind::Message(inner) => {
                let names = self.fields(inner)?.iter().map(|field| field.name.as_str());
                let names = names.collect::<Vec<_>>().join(", ");
                Err(wrong(
                    limit,
                    format!("it is a {inner}, of {names}: name one of them"),
                ))
            }
            _ => Err(wrong(limit, "it holds no numbers".to_owned())),
        }
    }

    /// # Errors
    /// The first number of a message as [`Types::decode`] gives it that is beyond its limit.
    pub(in crate::ros2) fn check_within(
        &self,
        name: &str,
        message: &Value,
        limits: &[Ros2Limit],
    ) -> Result<(), TypeError> {
        for limit in limits {
            let (mut min, mut max) = (limit.min, limit.max);
            if *self.limited(name, limit)? == Kind::Float32 {
                // As near as the type comes to it.
                (min, max) = (narrow(min), narrow(max));
            }
            let mut found = vec![message];
            for part in limit.field.split('.') {
                found = found
                    .into_iter()
                    .flat_map(|value| all(&value[part]))
                    .collect();
            }
            let is_within = |value: &&Value| value.as_f64().is_some_and(|n| n >= min && n <= max);
            if let Some(value) = found.iter().find(|value| !is_within(value)) {
                let why = format!("{value} is not within {} and {}", limit.min, limit.max);
                return Err(wrong(limit, why));
            }
        }
        Ok(())
    }

    /// What the field of a limit is.
    fn limited<'a>(&'a self, name: &'a str, limit: &Ros2Limit) -> Result<&'a Kind, TypeError> {
        let mut parts = limit.field.split('.').peekable();
        let mut name = name;
        loop {
            let part = parts.next().unwrap_or_default();
            let fields = self.fields(name)?;
            let Some(field) = fields.iter().find(|field| field.name == part) else {
                let names = fields.iter().map(|field| field.name.as_str());
                let names = names.collect::<Vec<_>>().join(", ");
                return Err(wrong(limit, format!("{name} has no `{part}`, but {names}")));
            };
            match (&field.kind, parts.peek()) {
                (kind, None) => return Ok(kind),
                (Kind::Message(inner), Some(_)) => name = inner,
                (_, Some(inner)) => {
                    return Err(wrong(limit, format!("`{part}` has no `{inner}` in it")));
                }
            }
        }
    }
}

/// The elements of a list, or the value itself.
fn all(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        value => vec![value],
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "that is what the type holds"
)]
fn narrow(value: f64) -> f64 {
    f64::from(value as f32)
}

fn wrong(limit: &Ros2Limit, why: String) -> TypeError {
    let at = limit.field.clone();
    TypeError::Value { at, why }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn limit(field: &str, min: f64, max: f64) -> Ros2Limit {
        let field = field.to_owned();
        Ros2Limit { field, min, max }
    }

    fn types() -> Types {
        let mut types = Types::embedded().unwrap();
        let all =
            "float32 f\nuint8[3] bytes\ngeometry_msgs/Point[] points\nstring s\nfloat64 g 7.5";
        types.add("t/msg/T", all).unwrap();
        types
    }

    #[test]
    fn limits_name_numbers_of_the_message() {
        let types = types();
        for field in ["f", "bytes", "points.x", "g"] {
            types
                .check_limit("t/msg/T", &limit(field, 0.0, 1.0))
                .unwrap();
        }
        for (field, expected) in [
            ("linear", "t/msg/T has no `linear`, but f, bytes, points"),
            (
                "points.w",
                "geometry_msgs/msg/Point has no `w`, but x, y, z",
            ),
            ("points", "of x, y, z: name one"),
            ("s", "no numbers"),
            ("f.x", "`f` has no `x` in it"),
            ("", "has no ``"),
            ("f.", "`f` has no ``"),
        ] {
            let error = types.check_limit("t/msg/T", &limit(field, 0.0, 1.0));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn each_number_is_compared_as_the_type_holds_it() {
        let types = types();
        let within = |message: Value, limit: Ros2Limit| {
            let bytes = types.encode("t/msg/T", &message).unwrap();
            let read = types.decode("t/msg/T", &bytes).unwrap();
            types.check_within("t/msg/T", &read, &[limit]).is_ok()
        };
        assert!(within(json!({ "f": 0.3 }), limit("f", 0.0, 0.3)));
        assert!(!within(json!({ "f": 0.3001 }), limit("f", 0.0, 0.3)));
        assert!(!within(json!({ "f": "nan" }), limit("f", 0.0, 0.3)));
        assert!(!within(json!({ "f": "inf" }), limit("f", 0.0, 0.3)));
        assert!(within(
            json!({ "bytes": [1, 2, 3] }),
            limit("bytes", 0.0, 3.0)
        ));
        assert!(!within(
            json!({ "bytes": [1, 4, 3] }),
            limit("bytes", 0.0, 3.0)
        ));
        let points = json!({ "points": [{ "x": 1.0 }, { "x": 2.0 }] });
        assert!(within(points.clone(), limit("points.x", 1.0, 2.0)));
        assert!(!within(points, limit("points.x", 0.0, 1.0)));
        assert!(
            within(json!({}), limit("points.x", 5.0, 6.0)),
            "there is none"
        );
        assert!(!within(json!({}), limit("g", 0.0, 1.0)), "a default counts");
        assert!(!within(json!({}), limit("f", 1.0, 2.0)), "so does zero");
    }
}
