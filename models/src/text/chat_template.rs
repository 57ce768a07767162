//! The chat template of a model: Jinja as Hugging Face's `apply_chat_template` runs it, or one of
//! llama.cpp's own.

use std::error::Error as _;
use std::ffi::CString;
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::Vocabulary;
use super::json::tojson;
use super::strftime::strftime_now;
use crate::error::{ModelError, Result};
use crate::gguf::GgufFile;
use crate::llama::chat;

/// Longest template; the largest in use are below 40 kB.
const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// Instructions a rendering may take, and more for each message: long templates with tools take a
/// few hundred a message. A template that loops for its own sake ends here, within a second.
const FUEL: u64 = 1_000_000;
const FUEL_PER_MESSAGE: u64 = 10_000;
/// Longest message of an error that is passed on.
const MAX_ERROR_CHARS: usize = 300;

/// The template for models without one (ChatML, without its control tokens).
const FALLBACK: &str = "\
{%- for message in messages -%}
{{ '### ' ~ message.role | capitalize ~ ':\\n' ~ message.content | trim ~ '\\n\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '### Assistant:\\n' }}{%- endif -%}";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl ChatMessage {
    /// A turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self {
            role: "user".to_owned(),
            content: content.into(),
        }
    }

    /// A turn of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self {
            role: "assistant".to_owned(),
            content: content.into(),
        }
    }

    /// The instruction before the conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self {
            role: "system".to_owned(),
            content: content.into(),
        }
    }
}

/// Writes a conversation the way a model was trained to read it.
pub struct ChatTemplate {
    format: Format,
    is_fallback: bool,
}

enum Format {
    Jinja(Box<Jinja>),
    /// One of llama.cpp's, by name.
    BuiltIn(CString),
}

struct Jinja {
    source: String,
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("is_fallback", &self.is_fallback)
            .finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// The template of `model`; none if the file has none, or an empty one (see
    /// [`ChatTemplate::fallback`]).
    ///
    /// # Errors
    /// `BadInput` when it is not a template.
    pub fn from_gguf(model: &GgufFile, vocabulary: &Vocabulary) -> Result<Option<Self>> {
        let source = model.metadata().opt_str("tokenizer.chat_template")?;
        let source = source.filter(|source| !source.trim().is_empty());
        source
            .map(|source| Self::for_vocabulary(source, vocabulary))
            .transpose()
    }

    /// The names of the templates that llama.cpp brings, in order.
    pub fn built_in_names() -> Vec<&'static str> {
        chat::built_in_templates()
    }

    /// llama.cpp's template `name`; none if it has no such.
    pub fn built_in(name: &str) -> Option<Self> {
        let name = Self::built_in_names().into_iter().find(|&n| n == name)?;
        Some(Self {
            format: Format::BuiltIn(CString::new(name).ok()?),
            is_fallback: false,
        })
    }

    /// The template with this Jinja source, which may use the model's begin and end tokens.
    ///
    /// # Errors
    /// `BadInput` when it is not a template.
    pub fn for_vocabulary(source: &str, vocabulary: &Vocabulary) -> Result<Self> {
        let text = |token: Option<_>| {
            let bytes = token
                .map(|token| vocabulary.token_bytes(token, true))
                .unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (bos, eos) = (text(vocabulary.bos()), text(vocabulary.eos()));
        Self::from_source(source, &bos, &eos)
    }

    /// The template with this Jinja source; `bos_token` and `eos_token` are the texts it may use.
    ///
    /// # Errors
    /// `BadInput` when it is not a template.
    pub fn from_source(source: &str, bos_token: &str, eos_token: &str) -> Result<Self> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(ModelError::BadInput {
                what: format!(
                    "chat template: {} bytes is too long, the limit is {MAX_TEMPLATE_BYTES}",
                    source.len()
                ),
            });
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(bad)?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_debug(false);
        environment.add_filter("tojson", tojson);
        // Python's None cannot be iterated; `tools is iterable` asks whether there are tools.
        environment.add_test("iterable", |value: &Value| {
            !value.is_none() && (value.as_str().is_some() || value.try_iter().is_ok())
        });
        environment.add_function("strftime_now", |format: &str| strftime_now(format));
        environment.add_function("raise_exception", |message: String| {
            Err::<Value, _>(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned("chat", without_generation_marks(source))
            .map_err(bad)?;
        Ok(Self {
            format: Format::Jinja(Box::new(Jinja {
                source: source.to_owned(),
                environment,
                bos_token: bos_token.to_owned(),
                eos_token: eos_token.to_owned(),
            })),
            is_fallback: false,
        })
    }

    /// A plain format for models that bring no template: headings and blank lines.
    ///
    /// Such a model was not trained for conversations, so say so to the user
    /// ([`ChatTemplate::is_fallback`]).
    pub fn fallback() -> Self {
        match Self::from_source(FALLBACK, "", "") {
            Ok(template) => Self {
                is_fallback: true,
                ..template
            },
            Err(error) => unreachable!("the built-in template is valid: {error}"),
        }
    }

    /// Whether this is [`ChatTemplate::fallback`].
    pub fn is_fallback(&self) -> bool {
        self.is_fallback
    }

    /// What the template itself may write, as far as that is known.
    pub(super) fn source(&self) -> &str {
        match &self.format {
            Format::Jinja(jinja) => &jinja.source,
            Format::BuiltIn(_) => "",
        }
    }

    /// The conversation as text, with `add_generation_prompt` up to where the model's turn begins.
    ///
    /// # Errors
    /// `BadInput` with the template's own words when it refuses the conversation (two user turns in
    /// a row, a system turn it does not know), or when it fails or does not end.
    pub fn render(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String> {
        match &self.format {
            Format::Jinja(jinja) => jinja.render(messages, add_generation_prompt).map_err(bad),
            Format::BuiltIn(name) => {
                let text = |text: &str| CString::new(text).ok();
                let messages: Option<Vec<_>> = messages
                    .iter()
                    .map(|message| Some((text(&message.role)?, text(&message.content)?)))
                    .collect();
                messages
                    // llama.cpp looks at the last message whether there is one or not.
                    .filter(|messages| !messages.is_empty())
                    .and_then(|messages| {
                        chat::apply_template(name, &messages, add_generation_prompt)
                    })
                    .ok_or_else(|| ModelError::BadInput {
                        what: "chat template: a built-in one takes one message or more, without \
                               NUL characters"
                            .to_owned(),
                    })
            }
        }
    }
}

impl Jinja {
    fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> std::result::Result<String, Error> {
        let list: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => &message.role, content => &message.content })
            .collect();
        let mut environment = self.environment.clone();
        let fuel = FUEL + FUEL_PER_MESSAGE.saturating_mul(messages.len() as u64);
        environment.set_fuel(Some(fuel));
        environment.get_template("chat")?.render(context! {
            messages => list,
            add_generation_prompt,
            bos_token => &self.bos_token,
            eos_token => &self.eos_token,
            tools => (),
            documents => (),
        })
    }
}

/// Takes out `{% generation %}` and `{% endgeneration %}`, which mark the model's own words for
/// training and are no Jinja; white space control beside them keeps working.
fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(end) = rest[start..].find("%}").map(|n| start + n + 2) else {
            break;
        };
        let inner = &rest[start + 2..end - 2];
        let word = inner.trim_matches(|c: char| c.is_whitespace() || "-+".contains(c));
        out += &rest[..start];
        match word {
            "generation" => out += &rest[start..end].replacen(word, "if true", 1),
            "endgeneration" => out += &rest[start..end].replacen(word, "endif", 1),
            _ => out += &rest[start..end],
        }
        rest = &rest[end..];
    }
    out + rest
}

/// One line of what minijinja says, with the line of the template; of errors inside errors
/// (includes) the innermost, which names the cause.
fn bad(error: Error) -> ModelError {
    let mut innermost = &error;
    while let Some(inner) = innermost.source().and_then(|inner| inner.downcast_ref()) {
        innermost = inner;
    }
    let error = innermost;
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it does not come to an end".to_owned(),
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    };
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    let what: String = what.chars().take(MAX_ERROR_CHARS).collect();
    let line = error
        .line()
        .map_or(String::new(), |line| format!(", line {line}"));
    ModelError::BadInput {
        what: format!("chat template{line}: {what}"),
    }
}

#[cfg(test)]
mod tests;
