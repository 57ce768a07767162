//! What one sequence of tokens says, as it comes from the Planner.

use std::collections::VecDeque;
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
use super::thoughts::{Said, Thoughts};
use crate::error::{Error, Result};
use crate::planner::tell_if_living;

/// A part of what one sequence of tokens says.
pub(crate) enum AnswerPiece {
    Text {
        id: Option<Token>,
        text: String,
    },
    /// What the model thinks before it answers.
    Thought {
        id: Option<Token>,
        text: String,
    },
    Done(Completion),
}

/// What one sequence of tokens says. Ends after [`AnswerPiece::Done`] or an error.
pub(crate) struct AnswerStream {
    id: RequestId,
    inbox: Inbox,
    events: UnboundedReceiver<StreamEvent>,
    detokenizer: Detokenizer,
    thoughts: Thoughts,
    /// Of thoughts, then of the answer: a stop string does not begin in one and end in the other.
    filter: StopFilter,
    /// Whether what `filter` holds is thought.
    holds_thought: bool,
    /// Whether a stop string ended the text; the Planner's word of it is on the way.
    stopped: bool,
    /// What comes next.
    ready: VecDeque<Result<AnswerPiece>>,
    ended: bool,
}

impl Stream for AnswerStream {
    type Item = Result<AnswerPiece>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(next) = this.ready.pop_front() {
                return Poll::Ready(Some(next));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match ready!(this.events.poll_recv(context)) {
                // Behind a stop string, what was on the way already is no part of the answer.
                Some(StreamEvent::Token(_) | StreamEvent::End(_)) if this.stopped => {}
                Some(StreamEvent::Token(token)) => this.token(token),
                Some(StreamEvent::End(token)) => this.end_token(token),
                Some(StreamEvent::Done(done)) => this.end(Ok(AnswerPiece::Done(done))),
                Some(StreamEvent::Failed(error)) => this.end(Err(error.into())),
                None => this.end(Err(Error::Stopped)),
            }
        }
    }
}

impl AnswerStream {
    /// The text of `events`, up to any of `stop`; it begins in a thought up to the tag `begun_in`.
    pub(crate) fn new(
        id: RequestId,
        inbox: Inbox,
        events: UnboundedReceiver<StreamEvent>,
        detokenizer: Detokenizer,
        stop: &[String],
        begun_in: Option<&'static str>,
    ) -> Self {
        Self {
            id,
            inbox,
            events,
            detokenizer,
            thoughts: Thoughts::new(begun_in),
            filter: StopFilter::new(stop),
            holds_thought: begun_in.is_some(),
            stopped: false,
            ready: VecDeque::new(),
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

    /// A token is one piece at least, so that its number is told, and seldom more than one.
    fn token(&mut self, token: Token) {
        let said = match self.detokenizer.control_text(token) {
            Some(name) => self.control(&name),
            None => {
                let text = self.detokenizer.push(token);
                let said = self.thoughts.push(&text);
                self.filtered(said)
            }
        };
        let mut id = Some(token);
        for Said { text, is_thought } in said {
            self.tell(id.take(), text, is_thought);
        }
        if id.is_some() {
            self.tell(id, String::new(), self.thoughts.is_thought());
        }
        if self.stopped {
            self.finish();
        }
    }

    /// The token with which the model ended may complete a stop string: then what of it was held
    /// back is no part of the answer. It is no token of the answer itself.
    fn end_token(&mut self, token: Token) {
        let Some(name) = self.detokenizer.control_text(token) else {
            return;
        };
        let piece = self.detokenizer.finish();
        let said = self.thoughts.push(&piece);
        let mut said = self.filtered(said);
        if !self.stopped {
            said.extend(self.control(&name));
        }
        for Said { text, is_thought } in said {
            self.tell(None, text, is_thought);
        }
    }

    /// Ends with `last`, after the text that was held back.
    fn end(&mut self, last: Result<AnswerPiece>) {
        self.ended = true;
        if !self.stopped {
            let piece = self.detokenizer.finish();
            let mut said = self.thoughts.push(&piece);
            said.extend(self.thoughts.finish());
            let mut said = self.filtered(said);
            if !self.stopped {
                said.extend(self.held());
            }
            for Said { text, is_thought } in said {
                self.tell(None, text, is_thought);
            }
        }
        self.ready.push_back(last);
    }

    fn tell(&mut self, id: Option<Token>, text: String, is_thought: bool) {
        if id.is_none() && text.is_empty() {
            return;
        }
        self.ready.push_back(Ok(match is_thought {
            true => AnswerPiece::Thought { id, text },
            false => AnswerPiece::Text { id, text },
        }));
    }

    /// What a control token makes certain.
    fn control(&mut self, name: &str) -> Vec<Said> {
        let said = self.thoughts.push_control(name);
        let mut said = self.filtered(said);
        if !self.stopped {
            let (text, stopped) = self.filter.push_control(name);
            let is_thought = self.holds_thought;
            said.push(Said { text, is_thought });
            self.stopped = stopped;
        }
        said
    }

    /// What is certain of what was said, up to a stop string.
    fn filtered(&mut self, said: Vec<Said>) -> Vec<Said> {
        let mut certain = Vec::new();
        for Said { text, is_thought } in said {
            if self.stopped {
                break;
            }
            if is_thought != self.holds_thought {
                certain.extend(self.held());
                self.holds_thought = is_thought;
            }
            let (text, stopped) = self.filter.push(&text);
            certain.push(Said { text, is_thought });
            self.stopped = stopped;
        }
        certain
    }

    /// What was held back, when nothing can complete it any more.
    fn held(&mut self) -> Option<Said> {
        let (text, is_thought) = (self.filter.finish(), self.holds_thought);
        (!text.is_empty()).then_some(Said { text, is_thought })
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        if !self.ended {
            tell_if_living(&self.inbox, PlannerMessage::Cancel(self.id));
        }
    }
}
