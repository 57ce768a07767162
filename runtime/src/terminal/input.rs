//! Lines from a person: edited on a terminal, plain from a pipe.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::sync::{mpsc, oneshot};

use crate::text_file;

/// Longest line taken from a pipe, in bytes: more than any context holds, and a bound on what a
/// stream without line ends can make us allocate.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// What came of asking for a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A line, without its end.
    Line(String),
    /// Ctrl-C on an unfinished line.
    Interrupted,
    /// Ctrl-D, or the end of the pipe.
    End,
}

/// Ends what the editor asks of a terminal while a line is edited (bracketed paste), and its line.
const END_OF_EDITING: &[u8] = b"\x1b[?2004l\r\n";

/// Reads lines on a thread of its own, since both ways of reading block. Dropping it while a line is
/// edited gives the terminal back as it was: the thread cannot be woken to do it.
pub(super) struct Lines {
    asks: mpsc::Sender<(String, oneshot::Sender<io::Result<Input>>)>,
    /// How the terminal was before anything was edited; none for a pipe. The lock makes it shareable.
    terminal: Option<Mutex<Termios>>,
    /// Whether a line is being edited.
    editing: AtomicBool,
    /// Whether a person types.
    pub(super) interactive: bool,
}

impl Lines {
    /// Starts the reading thread; it ends with the process or when this is dropped.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn open() -> io::Result<Self> {
        let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
        let terminal = interactive.then(|| tcgetattr(io::stdin()).ok()).flatten();
        let terminal = terminal.map(Mutex::new);
        // One question at a time is under way.
        let (asks, mut asked) = mpsc::channel::<(String, oneshot::Sender<io::Result<Input>>)>(1);
        std::thread::Builder::new()
            .name("lines".into())
            .spawn(move || {
                let mut source = if interactive {
                    Source::terminal()
                } else {
                    Source::Pipe
                };
                while let Some((prompt, answer)) = asked.blocking_recv() {
                    // Nobody waits any more when the conversation ended meanwhile.
                    let _ = answer.send(source.read(&prompt));
                }
            })?;
        Ok(Self {
            asks,
            terminal,
            editing: AtomicBool::new(false),
            interactive,
        })
    }

    /// The next line. Cancel safe only in so far as a line that arrives later is lost.
    ///
    /// # Errors
    /// When the terminal or the pipe fails, or a line is not UTF-8 or too long.
    pub(super) async fn next(&self, prompt: &str) -> io::Result<Input> {
        let (answer, answered) = oneshot::channel();
        if self.asks.send((prompt.to_owned(), answer)).await.is_err() {
            return Ok(Input::End);
        }
        self.editing.store(true, Ordering::Relaxed);
        let line = answered.await.unwrap_or(Ok(Input::End));
        self.editing.store(false, Ordering::Relaxed);
        line
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let Some(terminal) = self.terminal.as_mut() else {
            return;
        };
        let terminal = terminal.get_mut().unwrap_or_else(PoisonError::into_inner);
        if self.editing.load(Ordering::Relaxed) {
            // A terminal that is gone needs nothing.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, terminal);
            let _ = io::stdout().write_all(END_OF_EDITING);
            let _ = io::stdout().flush();
        }
    }
}

enum Source {
    Terminal(Box<DefaultEditor>),
    Pipe,
}

impl Source {
    /// An editor, or plain lines where the terminal cannot edit.
    fn terminal() -> Self {
        DefaultEditor::new().map_or(Self::Pipe, |editor| Self::Terminal(Box::new(editor)))
    }

    fn read(&mut self, prompt: &str) -> io::Result<Input> {
        match self {
            Self::Terminal(editor) => match editor.readline(prompt) {
                Ok(line) => {
                    // The history only serves the arrow keys: a line that it refuses is no loss.
                    let _ = editor.add_history_entry(&line);
                    Ok(Input::Line(line))
                }
                Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
                Err(ReadlineError::Eof) => Ok(Input::End),
                Err(error) => Err(io::Error::other(error)),
            },
            Self::Pipe => read_line(&mut io::stdin().lock()),
        }
    }
}

/// One line of at most [`MAX_LINE_BYTES`].
fn read_line(from: &mut impl BufRead) -> io::Result<Input> {
    let mut bytes = Vec::new();
    let n_read = io::Read::take(from, MAX_LINE_BYTES + 1).read_until(b'\n', &mut bytes)?;
    if n_read == 0 {
        return Ok(Input::End);
    }
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    if n_read as u64 > MAX_LINE_BYTES {
        return Err(invalid(format!(
            "a line of the input is longer than {MAX_LINE_BYTES} bytes"
        )));
    }
    let line = text_file::decode(&bytes)
        .map_err(|error| invalid(format!("a line of the input is {error}")))?;
    Ok(Input::Line(line.trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_pipe_gives_lines_and_then_its_end() {
        let mut pipe = &b"\xef\xbb\xbfone\r\n\nlast"[..];
        for line in ["one", "", "last"] {
            assert_eq!(read_line(&mut pipe).unwrap(), Input::Line(line.to_owned()));
        }
        assert_eq!(read_line(&mut pipe).unwrap(), Input::End);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let error = |bytes: &[u8]| read_line(&mut &bytes[..]).unwrap_err().to_string();
        assert!(error(b"\xff\n").contains("not UTF-8"));
        assert!(error(b"\xff\xfeH\0i\0\n\0").contains("UTF-16"));
    }

    #[test]
    fn an_endless_line_is_refused_before_it_fills_the_memory() {
        let mut endless = io::BufReader::new(io::Read::take(io::repeat(b'x'), u64::MAX));
        assert!(read_line(&mut endless).is_err());
    }
}
