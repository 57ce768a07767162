//! Whether the default model would write a long answer, by its first words.

use std::time::Instant;

use futures::StreamExt;
use jupiter_actors::request::Completion;

use super::{Items, Outliner, send};
use crate::client::answer::AnswerPiece;
use crate::client::prompt::Prompt;
use crate::client::stream::StreamItem;
use crate::error::{Error, Result};
use crate::outline::{Class, is_long};

impl Outliner {
    /// The default model cannot judge, and outlines only what it was taught. Its plain answer is
    /// begun, and goes on unless its beginning is that of a long one. None: it was dropped.
    pub(super) async fn begin_plainly(&mut self, items: &Items) -> Result<Option<Completion>> {
        let turns = self.chat.iter().filter(|turn| turn.role == "user");
        if self.plan.class == Class::Comparison {
            self.plan
                .give_up("the default model outlines no comparisons");
            return Ok(None);
        }
        if turns.count() > 1 {
            self.plan
                .give_up("the default model outlines first turns only");
            return Ok(None);
        }
        let mut answer = self
            .ask(Prompt::chat(&*self.chat), self.options.clone())
            .await?;
        let mut said = String::new();
        let mut begun = Vec::new();
        let mut first = None;
        let done = loop {
            match answer.next().await.ok_or(Error::Stopped)?? {
                AnswerPiece::Text { id, text } => {
                    first.get_or_insert_with(Instant::now);
                    said.push_str(&text);
                    begun.push(StreamItem::Token { id, text });
                }
                // It was taught none.
                AnswerPiece::Thought { .. } => {}
                AnswerPiece::Done(done) => break Some(done),
            }
            match is_long(&said) {
                Some(true) => {
                    self.plan.add("the answer begins as a long one");
                    answer.finish();
                    // To its end, so that the cells of the question are there for the outline.
                    while let Some(part) = answer.next().await {
                        if let AnswerPiece::Done(done) = part? {
                            self.count(done);
                        }
                    }
                    return Ok(None);
                }
                Some(false) => break None,
                None => {}
            }
        };
        let why = "the answer is short, or has a form of its own";
        self.plan.give_up(why);
        (self.first, self.has_shown) = (first, true);
        for item in begun {
            send(items, item);
        }
        match done {
            Some(done) => Ok(Some(done)),
            None => self.go_on(answer, false, items).await.map(Some),
        }
    }
}
