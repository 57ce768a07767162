//! What programs that talk with a person share: the command line's `chat` and the chatbot example.
//!
//! - [`Conversation`]: keeps what was said, asks the client, prints the answers as they come
//! - [`ProgressBars`]: what is sliced and loaded, on stderr
//! - [`timing_line`]: what an answer took

mod chat;
mod input;
mod progress;
mod timing;

pub use chat::{ChatEnd, Conversation};
pub use progress::ProgressBars;
pub use timing::timing_line;
