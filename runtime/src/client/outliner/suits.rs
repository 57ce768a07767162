//! Whether an outline suits, asked of the model itself.

use std::time::Instant;

use futures::StreamExt;
use jupiter_actors::request::Completion;
use jupiter_models::sampling::SamplingParams;

use super::{Items, Outliner, send};
use crate::client::answer::Part;
use crate::client::prompt::GenerateOptions;
use crate::client::stream::StreamItem;
use crate::error::{Error, Result};
use crate::outline::{Class, JUDGEMENT_GRAMMAR, Verdict, is_long};

impl Outliner {
    /// One token of the model's judgement, by its likeliest word.
    pub(super) async fn judge(&mut self) -> Result<()> {
        let prompts = &self.setup.prompts;
        let Ok(Some(chat)) = prompts.ask_judgement(&self.chat) else {
            self.plan.give_up("this model is not asked");
            return Ok(());
        };
        let options = GenerateOptions {
            n_predict: Some(1),
            sampling: SamplingParams {
                grammar: Some(JUDGEMENT_GRAMMAR.to_owned()),
                ..SamplingParams::greedy()
            },
            ..self.inner()
        };
        let mut answer = self.ask(chat, options, true).await?;
        let mut said = String::new();
        while let Some(part) = answer.next().await {
            match part? {
                Part::Text { text, .. } => said.push_str(&text),
                Part::Done(done) => self.count(done),
            }
        }
        if said.trim_start().starts_with(['y', 'Y']) {
            self.plan.verdict = Verdict::Outline;
            self.plan.add("the model says that it suits");
        } else {
            self.plan.give_up("the model says that it does not suit");
        }
        Ok(())
    }

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
            .ask(self.chat.clone(), self.options.clone(), true)
            .await?;
        let mut said = String::new();
        let mut begun = Vec::new();
        let mut first = None;
        let done = loop {
            match answer.next().await.ok_or(Error::Stopped)?? {
                Part::Text { id, text } => {
                    first.get_or_insert_with(Instant::now);
                    said.push_str(&text);
                    begun.push(StreamItem::Token { id, text });
                }
                Part::Done(done) => break Some(done),
            }
            match is_long(&said) {
                Some(true) => {
                    self.plan.add("the answer begins as a long one");
                    answer.finish();
                    // To its end, so that the cells of the question are there for the outline.
                    while let Some(part) = answer.next().await {
                        if let Part::Done(done) = part? {
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
            None => self.go_on(answer, items).await.map(Some),
        }
    }
}
