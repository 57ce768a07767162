//! What is new of an answer, in pieces that subscribers keep up with.
//!
//! A subscription of ROS keeps ten messages by default: of 200 tokens at once it loses 190. So what
//! comes within a twentieth of a second is one piece; the first goes out at once.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;

use crate::client::stream::{StreamItem, TokenStream};
use crate::error::Result;
use crate::outline::BranchEvent;
use jupiter_actors::request::Completion;

/// Time between two pieces.
const INTERVAL: Duration = Duration::from_millis(50);

/// The answer in order, beside points that go on early.
pub(super) const IN_ORDER: i32 = -1;

/// A part of an answer, of whole characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Counts from 0.
    pub(super) index: u32,
    pub(super) text: String,
    /// [`IN_ORDER`], or the point that goes on.
    pub(super) branch: i32,
    /// Titles of the points, once they are known.
    pub(super) outline: Vec<String>,
}

impl Piece {
    /// All of an answer.
    pub(super) fn whole(text: &str) -> Self {
        Self {
            index: 0,
            text: text.to_owned(),
            branch: IN_ORDER,
            outline: Vec::new(),
        }
    }
}

/// What has come of an answer.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// The answer so far.
    pub(super) text: String,
    /// When its first token came.
    pub(super) first: Option<Instant>,
    waiting: VecDeque<(i32, String)>,
    outline: Vec<String>,
    index: u32,
    last: Option<Instant>,
}

impl Pieces {
    /// Reads an answer to its end; `tell` hears of each piece. Dropping it stops the answer.
    ///
    /// # Errors
    /// The answer's.
    pub(super) async fn read(
        &mut self,
        stream: &mut TokenStream,
        mut tell: impl FnMut(Piece),
    ) -> Result<Option<Completion>> {
        loop {
            let due = self.due();
            let tick = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let item = tokio::select! {
                item = stream.next() => item,
                () = tick => {
                    self.next(Instant::now()).into_iter().for_each(&mut tell);
                    continue;
                }
            };
            match item.transpose()? {
                Some(StreamItem::Done(done)) => {
                    self.rest().into_iter().for_each(&mut tell);
                    return Ok(Some(done));
                }
                Some(item) => {
                    self.push(&item, Instant::now());
                    if self.due().is_some_and(|due| due <= Instant::now()) {
                        self.next(Instant::now()).into_iter().for_each(&mut tell);
                    }
                }
                None => return Ok(None),
            }
        }
    }

    fn push(&mut self, item: &StreamItem, now: Instant) {
        let (branch, text) = match item {
            StreamItem::Token { text, .. } => {
                self.text += text;
                (IN_ORDER, text)
            }
            StreamItem::Branch(BranchEvent::Text { branch, text }) => {
                (i32::try_from(*branch).unwrap_or(i32::MAX), text)
            }
            StreamItem::Outline {
                outline,
                is_complete: true,
            } => {
                let titles = outline.points.iter().map(|point| point.title.clone());
                self.outline = titles.collect();
                return;
            }
            _ => return,
        };
        if text.is_empty() {
            return;
        }
        self.first.get_or_insert(now);
        match self.waiting.iter_mut().find(|(of, _)| *of == branch) {
            Some((_, waiting)) => waiting.push_str(text),
            None => self.waiting.push_back((branch, text.clone())),
        }
    }

    /// When the next piece may go; nothing where none waits.
    fn due(&self) -> Option<Instant> {
        self.waiting.front()?;
        Some(self.last.map_or_else(Instant::now, |last| last + INTERVAL))
    }

    fn next(&mut self, now: Instant) -> Option<Piece> {
        let (branch, text) = self.waiting.pop_front()?;
        self.last = Some(now);
        let index = self.index;
        self.index += 1;
        Some(Piece {
            index,
            text,
            branch,
            outline: self.outline.clone(),
        })
    }

    /// What is left at the end of the answer in order; what points said early is part of it.
    fn rest(&mut self) -> Option<Piece> {
        self.waiting.retain(|(branch, _)| *branch == IN_ORDER);
        self.next(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn token(text: &str) -> StreamItem {
        StreamItem::Token {
            id: Some(1),
            text: text.to_owned(),
        }
    }

    #[test]
    fn what_comes_quickly_is_one_piece_and_the_first_goes_at_once() {
        let (mut pieces, start) = (Pieces::default(), Instant::now());
        pieces.push(&token("a"), start);
        assert!(pieces.due().unwrap() <= Instant::now());
        assert_eq!(pieces.next(start).unwrap().text, "a");
        for text in ["b", "", "c"] {
            pieces.push(&token(text), start);
        }
        assert_eq!(pieces.due(), Some(start + INTERVAL));
        let piece = pieces.next(start + INTERVAL).unwrap();
        assert_eq!(
            (piece.index, piece.text.as_str(), piece.branch),
            (1, "bc", IN_ORDER)
        );
        assert_eq!(pieces.due(), None);
        assert_eq!(pieces.text, "abc");
    }

    #[test]
    fn points_take_turns_with_the_answer_and_end_with_it() {
        let (mut pieces, now) = (Pieces::default(), Instant::now());
        let branch = |branch, text: &str| {
            StreamItem::Branch(BranchEvent::Text {
                branch,
                text: text.to_owned(),
            })
        };
        pieces.push(&branch(1, "x"), now);
        pieces.push(&token("a"), now);
        pieces.push(&branch(1, "y"), now);
        let of = |piece: Piece| (piece.branch, piece.text);
        assert_eq!(pieces.next(now).map(of), Some((1, "xy".to_owned())));
        pieces.push(&branch(0, "z"), now);
        pieces.push(&token("b"), now);
        assert_eq!(pieces.rest().map(of), Some((IN_ORDER, "ab".to_owned())));
        assert_eq!(pieces.rest(), None);
        assert_eq!(pieces.text, "ab");
    }
}
