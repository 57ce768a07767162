//! How a conversation is written for the model: by its own chat template, by one that is named, or
//! in a plain format with a notice.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Once;

use jupiter_models::gguf::GgufFile;
use jupiter_models::text::{ChatTemplate, Vocabulary};

use crate::error::{ConfigError, Result};

/// Most bytes of a file that are read: more than a template may have, so that one without end is
/// refused as too long.
const MAX_FILE_BYTES: u64 = 2 << 20;

/// The template of chats.
pub(crate) struct ChatFormat {
    template: ChatTemplate,
    /// Why it is not the model's own, where nobody chose it.
    notice: Option<String>,
    told: Once,
}

impl ChatFormat {
    /// The one that is `named`, else the model's own; where that is missing or cannot be read, a
    /// plain format: only chats need one, and they are told.
    ///
    /// # Errors
    /// When the one that is named is no template.
    pub(crate) fn load(
        named: Option<&str>,
        model: &GgufFile,
        vocabulary: &Vocabulary,
    ) -> Result<Self> {
        let (template, why) = match named {
            Some(named) => (named_template(named, vocabulary)?, None),
            None => match ChatTemplate::from_gguf(model, vocabulary) {
                Ok(Some(template)) => (template, None),
                Ok(None) => (
                    ChatTemplate::fallback(),
                    Some("the model has no chat template".to_owned()),
                ),
                Err(error) => (
                    ChatTemplate::fallback(),
                    Some(format!(
                        "the model's chat template cannot be read ({error})"
                    )),
                ),
            },
        };
        let notice = why.map(|why| {
            format!(
                "{why}: conversations are written in a plain format, which the model may not \
                 know; name its own with --chat-template NAME|FILE, or use --raw"
            )
        });
        Ok(Self {
            template,
            notice,
            told: Once::new(),
        })
    }

    /// The template, for a chat that is about to be written.
    pub(crate) fn template(&self) -> &ChatTemplate {
        if let Some(notice) = &self.notice {
            self.told.call_once(|| tracing::warn!("{notice}"));
        }
        &self.template
    }
}

/// llama.cpp's template of that name, else Jinja source, else the file that holds it.
fn named_template(named: &str, vocabulary: &Vocabulary) -> Result<ChatTemplate, ConfigError> {
    if let Some(template) = ChatTemplate::built_in(named) {
        return Ok(template);
    }
    let bad = ConfigError::ChatTemplate;
    let is_source = ["{{", "{%"].iter().any(|mark| named.contains(mark));
    let source = if is_source {
        named.to_owned()
    } else if Path::new(named).exists() {
        read(named).map_err(|error| bad(format!("{named}: {error}")))?
    } else {
        let names = ChatTemplate::built_in_names().join(", ");
        return Err(bad(format!(
            "`{named}` is neither a file nor one of {names}"
        )));
    };
    if source.trim().is_empty() {
        return Err(bad(format!("`{named}` is empty")));
    }
    ChatTemplate::for_vocabulary(&source, vocabulary).map_err(|error| bad(error.to_string()))
}

fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_FILE_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}
