//! The parts of an answer as they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use jupiter_actors::request::{Completion, OutlineUsage};
use jupiter_models::Token;

use super::activity::Busy;
use super::answer::{AnswerPiece, AnswerStream};
use crate::error::Result;
use crate::outline::{BranchEvent, Outline};

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamItem {
    /// The next part of the text: all of them together are the answer, in order, however it was
    /// written.
    Token {
        /// The token; none for text that was held back until the end (an incomplete character, or
        /// what might have become a stop string), and for that of points.
        id: Option<Token>,
        /// Its text, and what the tokens before it left open. Empty when it is held back.
        text: String,
    },
    /// The next part of what the model thinks before it answers, where it does (`<think>`, channels): it
    /// is no part of the answer.
    Thought {
        /// The token; none for text that was held back.
        id: Option<Token>,
        /// Its text, as of [`StreamItem::Token`].
        text: String,
    },
    /// The points of the answer as far as they are known, in order.
    Outline {
        /// The points.
        outline: Outline,
        /// Whether these are all. Else more may follow; or, as long as none of them goes on, the answer is
        /// written in one piece after all.
        is_complete: bool,
    },
    /// One of these points goes on, or ends. What is in order comes as [`StreamItem::Token`] too.
    Branch(BranchEvent),
    /// The answer is complete; nothing follows.
    Done(Completion),
}

/// The parts of an answer. Ends after [`StreamItem::Done`] or an error. Dropping it stops the
/// answer.
pub struct TokenStream(BoxStream<'static, Result<StreamItem>>);

impl TokenStream {
    /// One sequence of tokens; and what was decided of outlines.
    pub(crate) fn plain(answer: AnswerStream, usage: Option<OutlineUsage>) -> Self {
        let item = move |part| match part {
            AnswerPiece::Text { id, text } => StreamItem::Token { id, text },
            AnswerPiece::Thought { id, text } => StreamItem::Thought { id, text },
            AnswerPiece::Done(done) => StreamItem::Done(Completion {
                outline: usage.clone(),
                ..done
            }),
        };
        Self::of(answer.map(move |part| part.map(&item)))
    }

    /// The same, which counts as an answer until it is dropped.
    pub(crate) fn holding(self, busy: Busy) -> Self {
        let counted = self.0.inspect(move |_| {
            let _ = &busy;
        });
        Self(counted.boxed())
    }

    /// Whatever gives parts in order.
    pub(crate) fn of(parts: impl Stream<Item = Result<StreamItem>> + Send + 'static) -> Self {
        Self(parts.boxed())
    }
}

impl Stream for TokenStream {
    type Item = Result<StreamItem>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.poll_next_unpin(context)
    }
}
