//! What programs that talk with a person share: the command line's `chat` and the chatbot example.
//!
//! - [`Conversation`]: keeps what was said, asks the client, prints the answers as they come
//!   (`room`: what is forgotten of it)
//! - [`AnswerPrinter`]: prints one answer, live or plain
//! - [`ProgressBars`]: what is sliced and loaded, on stderr
//! - [`OutlineView`], `live_area`: an answer whose points fill in side by side; lines in place
//! - [`timing_line`]: what an answer took
//! - [`shown()`], [`text_for`], [`tell`]: text of others, of which a terminal must not take orders
//! - [`DEFAULT_MODEL_NOTICE`]: what a person is told who named no model

mod answer_printer;
mod chat;
mod input;
mod live_area;
mod outline_view;
mod progress;
mod room;
mod shown;
mod timing;

pub use answer_printer::{Answer, AnswerPrinter};
pub use chat::{ChatEnd, Conversation};
pub use outline_view::{OutlineView, ViewSize};
pub use progress::ProgressBars;
pub use shown::{shown, shown_json, tell, text_for};
pub use timing::timing_line;

/// Said once where no model is named, so that nobody takes its answers for a large model's.
pub const DEFAULT_MODEL_NOTICE: &str = "No model given (-m FILE): the small default model, which \
    knows only robots and the devices around them.";
