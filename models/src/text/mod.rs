//! Text to tokens and back: vocabulary, chat template, streaming detokenization.

mod chat_template;
mod chat_tokens;
mod detokenizer;
mod json;
mod marks;
mod special_tokens;
mod strftime;
#[cfg(test)]
pub(crate) mod test_vocabulary;
mod vocabulary;

pub use chat_template::{ChatMessage, ChatTemplate};
pub use detokenizer::{Detokenizer, Utf8Stream};
pub use vocabulary::Vocabulary;
