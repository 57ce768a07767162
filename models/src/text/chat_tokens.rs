//! A conversation to tokens: what the template wrote is read as control tokens, what messages hold
//! stays text.

use std::ops::Range;

use super::marks::{Marks, Rendered};
use super::special_tokens::TextSpan;
use super::{ChatMessage, ChatTemplate, Vocabulary};
use crate::error::{ModelError, Result};
use crate::types::Token;

impl Vocabulary {
    /// The tokens of `messages` as `template` writes them, up to where the model's turn begins.
    ///
    /// Nobody can end their turn and speak as somebody else: the text of a control token in a
    /// message is tokenized as plain text, also where the template rewrites the message, or puts it
    /// beside another so that such a text comes about. The begin token comes first if the model
    /// wants it or the template has written it, and once.
    ///
    /// # Errors
    /// `BadInput` when the template refuses the conversation or writes nothing, and when a role
    /// contains the text of a control token.
    pub fn tokenize_chat(
        &self,
        template: &ChatTemplate,
        messages: &[ChatMessage],
    ) -> Result<Vec<Token>> {
        let rendered = self.render_marked(template, messages)?;
        if rendered.text.trim().is_empty() {
            return Err(ModelError::BadInput {
                what: "chat template: it writes nothing for this conversation; name another one \
                       with --chat-template"
                    .to_owned(),
            });
        }
        let parts = self.special().parts(&rendered.text, &rendered.plain);
        Ok(self.tokenize_parts(&rendered.text, &parts, true))
    }

    /// Control texts in messages are marked, and nothing else, so that a template may look into
    /// messages (for `</think>`, say). Where that gives other control tokens than the template
    /// writes without seeing any of the messages' words, something was put together of them, or
    /// left out because of them: then its text without seeing them is taken.
    fn render_marked(&self, template: &ChatTemplate, messages: &[ChatMessage]) -> Result<Rendered> {
        for role in messages.iter().map(|message| &message.role) {
            if let Some(at) = self.special().controls_in(role).pop() {
                let what = format!(
                    "a message's role contains the control token `{}`",
                    &role[at]
                );
                return Err(ModelError::BadInput { what });
            }
        }
        let render = |spans: &dyn Fn(&str) -> Vec<Range<usize>>| {
            let texts = messages.iter().flat_map(|m| [&m.role, &m.content]);
            let texts = texts.map(String::as_str).chain([template.source()]);
            let mut marks = Marks::beside(texts);
            let marked: Vec<ChatMessage> = messages
                .iter()
                .map(|message| marks.mark(message, &spans(&message.content)))
                .collect::<Result<_>>()?;
            Ok(marks.read(&template.render(&marked, true)?))
        };
        let controls = |content: &str| self.special().controls_in(content);
        let seen: Rendered = render(&controls)?;
        let unseen = match render(&|content| words(content, controls(content))) {
            Ok(unseen) => unseen,
            // It cannot do without the words; no control token is among them.
            Err(_) if seen.plain.is_empty() => return Ok(seen),
            Err(error) => return Err(error),
        };
        match self.controls(&seen).eq(self.controls(&unseen)) {
            true => Ok(seen),
            false => Ok(unseen),
        }
    }

    fn controls(&self, rendered: &Rendered) -> impl Iterator<Item = TextSpan> {
        let parts = self.special().parts(&rendered.text, &rendered.plain);
        parts
            .into_iter()
            .filter(|part| matches!(part, TextSpan::Control(_)))
    }
}

/// Where the words of `text` are: all of it but its white space, which templates trim. The control
/// tokens at `controls` are words.
fn words(text: &str, controls: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut from = 0;
    let end = text.len()..text.len();
    for control in controls.into_iter().chain([end]) {
        let between = &text[from..control.start];
        spans.extend(between.split_whitespace().map(|word| {
            let start = from + (word.as_ptr() as usize - between.as_ptr() as usize);
            start..start + word.len()
        }));
        from = control.end;
        spans.push(control);
    }
    spans
}

#[cfg(test)]
mod tests;
