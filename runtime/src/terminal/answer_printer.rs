//! One answer on a screen or in a pipe.
//!
//! The tokens of an answer are its text in order: that is what a pipe gets, as it comes. On a
//! terminal an answer of points is first a live view, which is drawn in place; when the answer ends,
//! the text in order takes its place, so that what can be scrolled back to and copied is just that.

use std::io::{self, IsTerminal, Stdout, Write};
use std::pin::pin;
use std::time::Duration;

use console::Term;
use futures::{Stream, StreamExt};
use jupiter_actors::request::Completion;
use tokio::time::MissedTickBehavior;
use tracing::level_filters::LevelFilter;

use super::live_area::LiveArea;
use super::{OutlineView, ViewSize, shown};
use crate::client::stream::StreamItem;
use crate::error::{Error, Result};
use crate::outline::Outline;

/// Time from one drawing of a live view to the next: 20 a second look fluent, and cost little
/// through a slow connection.
const REDRAW_INTERVAL: Duration = Duration::from_millis(50);

/// What was printed of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// What it took; none when it was stopped.
    pub done: Option<Completion>,
}

/// Prints one answer: items in, screen out. When it is dropped before the end, a live view makes
/// place for the text that is there.
pub struct AnswerPrinter<W: Write> {
    out: W,
    screen: Box<dyn Fn() -> Option<ViewSize> + Send>,
    /// Whether `out` is a terminal, which would act on control characters.
    is_terminal: bool,
    /// The answer in order.
    text: String,
    /// Bytes of it that are printed.
    n_printed: usize,
    /// Whether thoughts stand before the answer's first word.
    has_thought: bool,
    view: OutlineView,
    mode: Mode,
}

enum Mode {
    /// Nothing is printed yet: an outline may begin a live view.
    Begin,
    /// An outline that may still come to nothing.
    Sketch(LiveArea),
    /// Its points, of which some have begun.
    Points(LiveArea),
    /// Text is printed as it comes, to the end.
    Plain,
}

impl AnswerPrinter<Stdout> {
    /// Prints on stdout. There is no live view where stdout is no terminal, or one without a cursor
    /// to move, nor where a log of more than warnings goes to a terminal.
    pub fn stdout() -> Self {
        Self::new(io::stdout(), screen_size).on_terminal(io::stdout().is_terminal())
    }
}

impl<W: Write> AnswerPrinter<W> {
    /// Prints on `out`. Before each drawing `screen` tells the size of the terminal; none where only
    /// plain text is wanted.
    pub fn new(out: W, screen: impl Fn() -> Option<ViewSize> + Send + 'static) -> Self {
        Self {
            out,
            screen: Box::new(screen),
            is_terminal: false,
            text: String::new(),
            n_printed: 0,
            has_thought: false,
            view: OutlineView::new(),
            mode: Mode::Begin,
        }
    }

    /// Whether `out` is a terminal: there control characters of the text are [`shown()`], not sent.
    #[must_use]
    pub fn on_terminal(mut self, is_terminal: bool) -> Self {
        self.is_terminal = is_terminal;
        self
    }

    /// Prints the parts of an answer as they come, until it is complete or `stop` ends.
    ///
    /// # Errors
    /// The error that ended the answer, after what there is of it; when the screen or pipe fails.
    pub async fn print(
        mut self,
        mut items: impl Stream<Item = Result<StreamItem>> + Unpin,
        stop: impl Future<Output = io::Result<()>>,
    ) -> Result<Answer> {
        let mut stop = pin!(stop);
        let mut redraw = tokio::time::interval(REDRAW_INTERVAL);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let item = tokio::select! {
                item = items.next() => item.unwrap_or(Err(Error::Stopped)),
                _ = redraw.tick(), if self.is_live() => {
                    self.draw().map_err(Error::Terminal)?;
                    continue;
                }
                stopped = &mut stop => {
                    let stopped = stopped.and_then(|()| self.stop());
                    stopped.map_err(Error::Terminal)?;
                    return Ok(self.into_answer(None));
                }
            };
            match item {
                Ok(StreamItem::Done(done)) => {
                    self.complete().map_err(Error::Terminal)?;
                    return Ok(self.into_answer(Some(done)));
                }
                Ok(item) => self.take(&item).map_err(Error::Terminal)?,
                Err(error) => {
                    self.break_off().map_err(Error::Terminal)?;
                    return Err(error);
                }
            }
        }
    }

    /// Takes the next part. A live view shows it with the next [`draw`](Self::draw).
    ///
    /// # Errors
    /// When the screen or pipe fails.
    pub fn take(&mut self, item: &StreamItem) -> io::Result<()> {
        match item {
            StreamItem::Token { text, .. } => {
                self.text.push_str(text);
                match self.mode {
                    _ if text.is_empty() => Ok(()),
                    Mode::Points(_) => Ok(()),
                    Mode::Sketch(_) if self.is_in_sketch() => Ok(()),
                    Mode::Plain => self.write_text(false),
                    Mode::Begin | Mode::Sketch(_) => self.be_plain(),
                }
            }
            StreamItem::Thought { text, .. } => self.think(text),
            StreamItem::Outline {
                outline,
                is_complete,
            } => self.outline(outline, *is_complete),
            StreamItem::Branch(event) if self.is_live() => {
                if let Mode::Sketch(area) = &mut self.mode {
                    self.mode = Mode::Points(std::mem::take(area));
                }
                match self.view.apply(event) {
                    Ok(()) => Ok(()),
                    // What the view cannot show is in the text all the same.
                    Err(_) => self.be_plain(),
                }
            }
            StreamItem::Branch(_) | StreamItem::Done(_) => Ok(()),
        }
    }

    /// Brings a live view up to date. A terminal that has become too small for it gets plain text
    /// from then on.
    ///
    /// # Errors
    /// When the screen fails.
    pub fn draw(&mut self) -> io::Result<()> {
        let (Mode::Sketch(area) | Mode::Points(area)) = &mut self.mode else {
            return Ok(());
        };
        match (self.screen)().filter(|size| self.view.is_live(*size)) {
            Some(size) => {
                let drawn = area.redraw(self.view.lines(size), size.width);
                self.write(&drawn)
            }
            None => self.be_plain(),
        }
    }

    /// Whether there is a live view.
    pub fn is_live(&self) -> bool {
        matches!(self.mode, Mode::Sketch(_) | Mode::Points(_))
    }

    /// Ends a complete answer.
    ///
    /// # Errors
    /// When the screen or pipe fails.
    pub fn complete(&mut self) -> io::Result<()> {
        self.be_plain()?;
        self.write_text(true)?;
        self.write("\n")
    }

    /// Ends an answer that nobody wants any more: what is there of it stays. Of a live view that is
    /// each point as far as it was written.
    ///
    /// # Errors
    /// When the screen or pipe fails.
    pub fn stop(&mut self) -> io::Result<()> {
        if let Mode::Points(_) = self.mode {
            self.view.finish();
            let whole = self.view.text();
            // It goes on where the text in order is: that is never taken back.
            if whole.starts_with(&self.text) {
                self.text = whole;
            }
        }
        self.complete()
    }

    /// Ends an answer that failed; the error's line follows.
    fn break_off(&mut self) -> io::Result<()> {
        match self.mode {
            Mode::Begin => Ok(()),
            Mode::Sketch(_) => self.be_plain(),
            Mode::Points(_) | Mode::Plain => self.stop(),
        }
    }

    /// Shows on a terminal what the model thinks, in faint letters; a pipe gets the answer alone.
    fn think(&mut self, text: &str) -> io::Result<()> {
        if !self.is_terminal || text.is_empty() || self.is_live() {
            return Ok(());
        }
        self.has_thought = true;
        let faint = console::style(shown(text)).dim().to_string();
        self.write(&faint)
    }

    /// Whether the text so far is the beginning of the outline that is shown.
    fn is_in_sketch(&self) -> bool {
        let first = format!("1. {}", self.view.first_title().unwrap_or_default());
        first.starts_with(&self.text)
    }

    fn outline(&mut self, outline: &Outline, is_complete: bool) -> io::Result<()> {
        self.mode = match std::mem::replace(&mut self.mode, Mode::Plain) {
            Mode::Plain => return Ok(()),
            Mode::Begin if !is_complete => Mode::Sketch(LiveArea::default()),
            Mode::Begin => Mode::Points(LiveArea::default()),
            Mode::Sketch(area) if !is_complete => Mode::Sketch(area),
            Mode::Sketch(area) | Mode::Points(area) => Mode::Points(area),
        };
        self.view.outline(outline);
        match (self.screen)() {
            Some(size) if self.view.is_live(size) => Ok(()),
            _ => self.be_plain(),
        }
    }

    /// Prints the text so far in the place of a live view, and what follows as it comes.
    fn be_plain(&mut self) -> io::Result<()> {
        let former = std::mem::replace(&mut self.mode, Mode::Plain);
        let mut out = match former {
            Mode::Plain => return Ok(()),
            Mode::Begin => String::new(),
            Mode::Sketch(mut area) | Mode::Points(mut area) => {
                area.erase((self.screen)().map(|size| size.width))
            }
        };
        out.push_str(&self.unprinted(false));
        self.write(&out)
    }

    fn write_text(&mut self, is_over: bool) -> io::Result<()> {
        let text = self.unprinted(is_over);
        self.write(&text)
    }

    /// What is to be printed next. On a terminal a carriage return waits for what follows: it may be
    /// half a line break.
    fn unprinted(&mut self, is_over: bool) -> String {
        let text = &self.text[self.n_printed..];
        if !self.is_terminal {
            self.n_printed = self.text.len();
            return text.to_owned();
        }
        let text = match text.strip_suffix('\r') {
            Some(before) if !is_over => before,
            _ => text,
        };
        self.n_printed += text.len();
        let gap = match !text.is_empty() && std::mem::take(&mut self.has_thought) {
            true => "\n\n",
            false => "",
        };
        format!("{gap}{}", shown(text))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn into_answer(mut self, done: Option<Completion>) -> Answer {
        let text = std::mem::take(&mut self.text);
        Answer { text, done }
    }
}

impl<W: Write> Drop for AnswerPrinter<W> {
    fn drop(&mut self) {
        if self.is_live() {
            // Nobody is left to hear that the screen is gone.
            let _ = self.break_off();
        }
    }
}

/// The size of the terminal that stdout is, for a live view. A log in the midst would tear it.
fn screen_size() -> Option<ViewSize> {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let has_log = LevelFilter::current() > LevelFilter::WARN && io::stderr().is_terminal();
    if is_dumb || has_log {
        return None;
    }
    let (height, width) = Term::stdout().size_checked()?;
    Some(ViewSize {
        width: width.into(),
        height: height.into(),
    })
}

#[cfg(test)]
mod tests;
