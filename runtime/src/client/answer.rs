//! What one sequence of tokens says, as it comes from the Planner.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;
use jupiter_actors::planner::PlannerMessage;
use jupiter_actors::request::{Completion, StreamEvent};
use jupiter_actors::{Inbox, RequestId};
use jupiter_models::Token;
use jupiter_models::text::Detokenizer;
use tokio::sync::mpsc::UnboundedReceiver;

use super::stop_filter::StopFilter;
use crate::error::{Error, Result};
use crate::planner::tell_if_living;

/// A part of what one sequence of tokens says.
pub(crate) enum AnswerPiece {
    Text { id: Option<Token>, text: String },
    Done(Completion),
}

/// What one sequence of tokens says. Ends after [`AnswerPiece::Done`] or an error.
pub(crate) struct AnswerStream {
    id: RequestId,
    inbox: Inbox,
    events: UnboundedReceiver<StreamEvent>,
    detokenizer: Detokenizer,
    filter: StopFilter,
    /// Whether a stop string ended the text; the Planner's word of it is on the way.
    stopped: bool,
    /// What follows the text that was held back.
    last: Option<Result<AnswerPiece>>,
    ended: bool,
}

impl Stream for AnswerStream {
    type Item = Result<AnswerPiece>;

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
                Some(StreamEvent::Done(done)) => this.end(Ok(AnswerPiece::Done(done))),
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

    /// Has enough of the text: what follows is only [`AnswerPiece::Done`].
    pub(crate) fn finish(&mut self) {
        self.stopped = true;
        tell_if_living(&self.inbox, PlannerMessage::Finish(self.id));
    }

    fn token(&mut self, token: Token) -> Result<AnswerPiece> {
        let (text, stopped) = match self.detokenizer.control_text(token) {
            Some(name) => self.filter.push_control(&name),
            None => self.filter.push(&self.detokenizer.push(token)),
        };
        if stopped {
            self.finish();
        }
        Ok(AnswerPiece::Text {
            id: Some(token),
            text,
        })
    }

    /// The token with which the model ended may complete a stop string: then what of it was held
    /// back is no part of the answer. It is no token of the answer itself.
    fn end_token(&mut self, token: Token) -> Option<AnswerPiece> {
        let name = self.detokenizer.control_text(token)?;
        let piece = self.detokenizer.finish();
        let (mut text, mut stopped) = self.filter.push(&piece);
        if !stopped {
            let (more, found) = self.filter.push_control(&name);
            text += &more;
            stopped = found;
        }
        self.stopped = stopped;
        (!text.is_empty()).then_some(AnswerPiece::Text { id: None, text })
    }

    /// Ends with `last`, after the text that was held back.
    fn end(&mut self, last: Result<AnswerPiece>) -> Result<AnswerPiece> {
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
        Ok(AnswerPiece::Text { id: None, text })
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        if !self.ended {
            tell_if_living(&self.inbox, PlannerMessage::Cancel(self.id));
        }
    }
}
