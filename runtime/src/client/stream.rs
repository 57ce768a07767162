//! The parts of an answer as they come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use jupiter_actors::planner::PlannerMessage;
use jupiter_actors::request::{Completion, OutlineUsage, StreamEvent};
use jupiter_actors::{Inbox, RequestId};
use jupiter_models::Token;
use jupiter_models::text::Detokenizer;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::client::outliner::Outlined;
use crate::client::stop_filter::StopFilter;
use crate::client::tell_living;
use crate::error::{Error, Result};
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
    /// The points of the answer as far as they are known, in order.
    Outline {
        /// The points.
        outline: Outline,
        /// Whether these are all: then they are written side by side. Else more may follow, or the
        /// answer is written in one piece after all.
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
        Self(answer.map(move |part| Ok(part?.into_item(&usage))).boxed())
    }

    /// Point by point.
    pub(crate) fn outlined(parts: Outlined) -> Self {
        Self(parts.boxed())
    }
}

impl Stream for TokenStream {
    type Item = Result<StreamItem>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.poll_next_unpin(context)
    }
}

/// A part of what one sequence of tokens says.
pub(crate) enum Part {
    Text { id: Option<Token>, text: String },
    Done(Completion),
}

impl Part {
    fn into_item(self, usage: &Option<OutlineUsage>) -> StreamItem {
        match self {
            Self::Text { id, text } => StreamItem::Token { id, text },
            Self::Done(done) => StreamItem::Done(Completion {
                outline: usage.clone(),
                ..done
            }),
        }
    }
}

/// What one sequence of tokens says. Ends after [`Part::Done`] or an error.
pub(crate) struct AnswerStream {
    id: RequestId,
    inbox: Inbox,
    events: UnboundedReceiver<StreamEvent>,
    detokenizer: Detokenizer,
    filter: StopFilter,
    /// Whether a stop string ended the text; the Planner's word of it is on the way.
    stopped: bool,
    /// What follows the text that was held back.
    last: Option<Result<Part>>,
    ended: bool,
}

impl Stream for AnswerStream {
    type Item = Result<Part>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(last) = this.last.take() {
            return Poll::Ready(Some(last));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        loop {
            let item = match ready!(this.events.poll_recv(context)) {
                // Behind a stop string, what was on the way already is no part of the answer.
                Some(StreamEvent::Token(_) | StreamEvent::End(_)) if this.stopped => continue,
                Some(StreamEvent::Token(token)) => this.token(token),
                Some(StreamEvent::End(token)) => match this.end_token(token) {
                    Some(part) => Ok(part),
                    None => continue,
                },
                Some(StreamEvent::Done(done)) => this.end(Ok(Part::Done(done))),
                Some(StreamEvent::Failed(error)) => this.end(Err(error.into())),
                None => this.end(Err(Error::Stopped)),
            };
            return Poll::Ready(Some(item));
        }
    }
}

impl AnswerStream {
    /// The text of `events`, up to any of `stop`.
    pub(crate) fn new(
        id: RequestId,
        inbox: Inbox,
        events: UnboundedReceiver<StreamEvent>,
        detokenizer: Detokenizer,
        stop: &[String],
    ) -> Self {
        Self {
            id,
            inbox,
            events,
            detokenizer,
            filter: StopFilter::new(stop),
            stopped: false,
            last: None,
            ended: false,
        }
    }

    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    /// Has enough of the text: what follows is only [`Part::Done`].
    pub(crate) fn finish(&mut self) {
        self.stopped = true;
        tell_living(&self.inbox, PlannerMessage::Finish(self.id));
    }

    fn token(&mut self, token: Token) -> Result<Part> {
        let (text, stopped) = match self.detokenizer.control_text(token) {
            Some(name) => self.filter.push_control(&name),
            None => self.filter.push(&self.detokenizer.push(token)),
        };
        if stopped {
            self.finish();
        }
        Ok(Part::Text {
            id: Some(token),
            text,
        })
    }

    /// The token with which the model ended may complete a stop string: then what of it was held
    /// back is no part of the answer. It is no token of the answer itself.
    fn end_token(&mut self, token: Token) -> Option<Part> {
        let name = self.detokenizer.control_text(token)?;
        let piece = self.detokenizer.finish();
        let (mut text, mut stopped) = self.filter.push(&piece);
        if !stopped {
            let (more, found) = self.filter.push_control(&name);
            text += &more;
            stopped = found;
        }
        self.stopped = stopped;
        (!text.is_empty()).then_some(Part::Text { id: None, text })
    }

    /// Ends with `last`, after the text that was held back.
    fn end(&mut self, last: Result<Part>) -> Result<Part> {
        self.ended = true;
        if self.stopped {
            return last;
        }
        let piece = self.detokenizer.finish();
        let (mut text, stopped) = self.filter.push(&piece);
        if !stopped {
            text.push_str(&self.filter.finish());
        }
        if text.is_empty() {
            return last;
        }
        self.last = Some(last);
        Ok(Part::Text { id: None, text })
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        if !self.ended {
            tell_living(&self.inbox, PlannerMessage::Cancel(self.id));
        }
    }
}
