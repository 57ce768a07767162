//! `tojson` as Hugging Face's templates know it: Python's `json.dumps`, without HTML escapes.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// Deepest nesting that is written; templates nest message contents a few levels deep.
const MAX_DEPTH: usize = 64;

/// The filter `tojson(indent=..)`; Python's other keywords are accepted where they change nothing.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<Value> = options.get("ensure_ascii")?;
    let _: Option<Value> = options.get("sort_keys")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let separators = separators.unwrap_or_default();
    let mut writer = JsonWriter {
        indent: indent.map(|n| n.min(16)),
        item: separators
            .first()
            .map_or(if indent.is_some() { "," } else { ", " }, String::as_str),
        key: separators.get(1).map_or(": ", String::as_str),
        out: String::new(),
    };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct JsonWriter<'a> {
    indent: Option<usize>,
    item: &'a str,
    key: &'a str,
    out: String,
}

impl JsonWriter<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson: nested too deeply",
            ));
        }
        match value.kind() {
            ValueKind::None | ValueKind::Undefined => self.out += "null",
            ValueKind::Bool => self.out += if value.is_true() { "true" } else { "false" },
            ValueKind::Number => self.out += &value.to_string(),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                self.out.push('{');
                let mut n_items = 0;
                for key in value.try_iter()? {
                    self.separate(&mut n_items, depth);
                    self.string(key.as_str().unwrap_or(&key.to_string()));
                    self.out += self.key;
                    self.value(&value.get_item(&key)?, depth + 1)?;
                }
                self.close('}', n_items, depth);
            }
            ValueKind::Seq | ValueKind::Iterable => {
                self.out.push('[');
                let mut n_items = 0;
                for item in value.try_iter()? {
                    self.separate(&mut n_items, depth);
                    self.value(&item, depth + 1)?;
                }
                self.close(']', n_items, depth);
            }
            kind => {
                let what = format!("tojson: {kind} has no JSON form");
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        }
        Ok(())
    }

    fn separate(&mut self, n_items: &mut usize, depth: usize) {
        if *n_items > 0 {
            self.out += self.item;
        }
        *n_items += 1;
        self.line(depth + 1);
    }

    fn close(&mut self, bracket: char, n_items: usize, depth: usize) {
        if n_items > 0 {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out += "\\\"",
                '\\' => self.out += "\\\\",
                '\n' => self.out += "\\n",
                '\r' => self.out += "\\r",
                '\t' => self.out += "\\t",
                '\u{8}' => self.out += "\\b",
                '\u{c}' => self.out += "\\f",
                c if (c as u32) < 0x20 => self.out += &format!("\\u{:04x}", c as u32),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}
