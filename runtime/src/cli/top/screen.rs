//! The terminal while `top` has it: another screen, keys as they are pressed. Dropping it gives all back.

use std::io::{self, Stdout};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use tokio::sync::mpsc;

use super::frame::{View, draw};

/// What a person asks for.
pub(super) enum Key {
    Leave,
    /// The window has another size.
    Redraw,
}

pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    keys: mpsc::UnboundedReceiver<Key>,
    _raw: Raw,
}

/// The terminal's other mode, as long as it lives.
struct Raw;

impl Drop for Raw {
    fn drop(&mut self) {
        // The program ends: a terminal that is gone needs nothing back.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        let raw = Raw;
        execute!(io::stdout(), EnterAlternateScreen)?;
        let (sender, keys) = mpsc::unbounded_channel();
        // Reading blocks: this thread ends with the program.
        std::thread::spawn(move || read_keys(&sender));
        Ok(Self {
            terminal: Terminal::new(CrosstermBackend::new(io::stdout()))?,
            keys,
            _raw: raw,
        })
    }

    pub(super) fn draw(&mut self, view: &View) -> io::Result<()> {
        self.terminal.draw(|frame| draw(view, frame))?;
        Ok(())
    }

    /// The next one; none when the terminal is gone. Cancel safe.
    pub(super) async fn key(&mut self) -> Option<Key> {
        self.keys.recv().await
    }
}

fn read_keys(keys: &mpsc::UnboundedSender<Key>) {
    while let Ok(event) = event::read() {
        let key = match event {
            Event::Resize(..) => Key::Redraw,
            Event::Key(key) if key.kind == KeyEventKind::Press => {
                let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => Key::Leave,
                    KeyCode::Char('c' | 'd') if is_control => Key::Leave,
                    _ => continue,
                }
            }
            _ => continue,
        };
        if keys.send(key).is_err() {
            return;
        }
    }
}
