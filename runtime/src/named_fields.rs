//! JSON and TOML that people write: what is wrong is said in a line, with the name of the field.

use serde::de::DeserializeOwned;

/// Reads JSON.
///
/// # Errors
/// In one line, as `messages[0].role: invalid type: integer `7`, expected a string at line 1 column 26`.
pub fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| named(error.path(), &error.inner().to_string()))?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Reads TOML.
///
/// # Errors
/// In one line, as `network.mbps: invalid type: string "fast", expected f64`.
pub fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let first_line = |error: &toml::de::Error| {
        let line = error.message().lines().next();
        line.unwrap_or_default().to_owned()
    };
    let toml = toml::Deserializer::parse(text).map_err(|error| first_line(&error))?;
    serde_path_to_error::deserialize(toml)
        .map_err(|error| named(error.path(), &first_line(error.inner())))
}

/// What is wrong in the whole of it, or before a field's name is known, names itself.
fn named(path: &serde_path_to_error::Path, what: &str) -> String {
    match path.to_string().as_str() {
        "." | "?" => what.to_owned(),
        path => format!("{path}: {what}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code)]
    struct Entry {
        rows: Vec<(u32, f64)>,
    }

    #[test]
    fn the_field_is_named() {
        type Entries = BTreeMap<String, Entry>;
        for (text, expected) in [
            (
                r#"{"a":{"rows":[[1,2],[3,"x"]]}}"#,
                "a.rows[1][1]: invalid type: string",
            ),
            (r#"{"a":{"row":1}}"#, "a.row: unknown field `row`"),
            (r#"{"a":{}}"#, "a: missing field `rows`"),
            ("[]", "invalid type: sequence"),
            ("{}{}", "trailing characters"),
            ("{", "EOF"),
        ] {
            let error = from_json::<Entries>(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        for (text, expected) in [
            (
                "[a]\nrows = [[1, 'x']]",
                "a.rows[0][1]: invalid type: string",
            ),
            ("[a]\nrow = 1", "a.row: unknown field `row`"),
            ("[a", "unclosed table"),
        ] {
            let error = from_toml::<Entries>(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
