//! A conversation on a terminal, or over a pipe with one message a line.

use std::io::{self, Write};

use jupiter_actors::request::RequestError;
use jupiter_models::text::ChatMessage;

use super::input::{Input, Lines};
use super::room::{cut_notice, room, to_forget};
use super::{Answer, AnswerPrinter, tell, text_for, timing_line};
use crate::client::Client;
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::error::{Error, Result};
use crate::signals::Signals;

const HELP: &str = "\
/reset  forget the conversation
/help   this text
/exit   end (Ctrl-D does too)
Ctrl-C  stop the answer";

/// What may be asked of the default model, for a person who has just started it.
const DEFAULT_MODEL_HINT: &str = "\
Ask about a robot, or tell it what to do. For example:
  What is a lidar?
  How do I change the battery?
  What is the difference between the lidar and the depth camera?
  drive two metres forward and look left";

/// What was said so far, and how to answer.
pub struct Conversation {
    client: Client,
    options: GenerateOptions,
    system: Option<String>,
    messages: Vec<ChatMessage>,
    show_timing: bool,
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatEnd {
    /// The person left, or the input ended; every message had an answer.
    Left,
    /// The input ended, and some messages had none; the reasons went to stderr.
    Unanswered,
    /// Ctrl-C outside an answer, where no terminal could tell what was meant.
    Interrupted,
}

impl Conversation {
    /// A new conversation; `system` says how the model should behave.
    pub fn new(client: Client, options: GenerateOptions, system: Option<String>) -> Self {
        Self {
            client,
            options,
            system,
            messages: Vec::new(),
            show_timing: false,
        }
    }

    /// Prints a timing line on stderr after each answer.
    #[must_use]
    pub fn show_timing(mut self, show: bool) -> Self {
        self.show_timing = show;
        self
    }

    /// Reads messages and prints answers until the person leaves or the input ends. Ctrl-C stops
    /// an answer; what was said of it stays in the conversation.
    ///
    /// # Errors
    /// When the terminal or pipe fails, or the runtime has stopped. An answer that fails is told
    /// on stderr, and the conversation goes on.
    pub async fn run(&mut self) -> Result<ChatEnd> {
        let lines = Lines::open().map_err(terminal_error)?;
        if lines.interactive {
            if self.client.is_default_model() {
                println_flushed(DEFAULT_MODEL_HINT)?;
            }
            println_flushed("Type a message; /help lists the commands.")?;
        }
        // Before the first line: the editor puts back the handler that it found.
        let mut interrupts = Signals::interrupt().map_err(terminal_error)?;
        let mut all_answered = true;
        loop {
            if lines.interactive {
                // Pressed when the answer was complete already: it meant that answer.
                interrupts.forget();
            }
            let input = tokio::select! {
                input = lines.next("> ") => input.map_err(terminal_error)?,
                // A terminal in editing mode hands Ctrl-C to the editor as a key.
                () = interrupts.recv() => return Ok(ChatEnd::Interrupted),
            };
            let line = match input {
                Input::Line(line) => line,
                Input::Interrupted => continue,
                Input::End if all_answered => return Ok(ChatEnd::Left),
                Input::End => return Ok(ChatEnd::Unanswered),
            };
            match line.trim() {
                "" => {}
                "/exit" | "/quit" => return Ok(ChatEnd::Left),
                "/reset" => self.messages.clear(),
                "/help" => println_flushed(HELP)?,
                command if lines.interactive && command.starts_with('/') => {
                    println_flushed(&format!("unknown command {command}; /help lists them"))?;
                }
                message => match self.exchange(message, &mut interrupts).await {
                    Ok(()) => {}
                    Err(error @ (Error::Stopped | Error::Terminal(_))) => return Err(error),
                    Err(error) => {
                        all_answered = false;
                        tell(&format!("error: {error}"));
                    }
                },
            }
        }
    }

    /// Sends one message and prints the answer; both stay in the conversation. When the
    /// conversation leaves too little of the context for an answer, its oldest messages are forgotten.
    /// What was forgotten, and why an answer was cut, is told on stderr.
    ///
    /// # Errors
    /// When there is no answer; the message is then forgotten.
    pub async fn say(&mut self, message: &str) -> Result<()> {
        let mut interrupts = Signals::interrupt().map_err(terminal_error)?;
        self.exchange(message, &mut interrupts).await
    }

    /// The same, with Ctrl-C from the outside.
    async fn exchange(&mut self, message: &str, interrupts: &mut Signals) -> Result<()> {
        self.messages.push(ChatMessage::user(message));
        match self.answer(interrupts).await {
            Err(error) => {
                self.messages.pop();
                return Err(error);
            }
            Ok(answer) => {
                self.messages.push(ChatMessage::assistant(answer.text));
                let Some(done) = answer.done else {
                    tell("(stopped)");
                    return Ok(());
                };
                if let Some(limit) = done.limit {
                    tell(&cut_notice(limit));
                }
                if self.show_timing {
                    tell(&timing_line(&done));
                }
            }
        }
        Ok(())
    }

    /// Prints the answer to the messages so far as it comes, until Ctrl-C.
    async fn answer(&mut self, interrupts: &mut Signals) -> Result<Answer> {
        self.make_room().await?;
        let (prompt, options) = (self.prompt(0), self.options.clone());
        let stream = self.client.generate(prompt, options).await?;
        let printer = AnswerPrinter::stdout();
        let pressed = async {
            interrupts.recv().await;
            Ok(())
        };
        printer.print(stream, pressed).await
    }

    /// Forgets the oldest exchanges, so that an answer to the last message has room.
    async fn make_room(&mut self) -> Result<()> {
        let n_ctx = self.client.n_ctx();
        let room = room(n_ctx, self.options.n_predict);
        let mut n_prompt = Vec::new();
        for n_forgotten in 0..=self.messages.len() / 2 {
            let n_tokens = self.client.count_tokens(self.prompt(n_forgotten)).await?;
            n_prompt.push(n_tokens);
            let n_free = n_ctx.saturating_sub(n_tokens);
            if n_free >= 2 * room || (n_forgotten == 0 && n_free >= room) {
                break;
            }
        }
        let n_forgotten = to_forget(&n_prompt, n_ctx, room);
        // A message that is too long by itself takes no other along.
        if let Some(&n_prompt) = n_prompt.get(n_forgotten)
            && n_prompt >= n_ctx
        {
            return Err(RequestError::PromptTooLong { n_prompt, n_ctx }.into());
        }
        if n_forgotten > 0 {
            // Questions with their answers, so that roles still take turns.
            self.messages.drain(..2 * n_forgotten);
            let exchanges = match n_forgotten {
                1 => "exchange".to_owned(),
                n => format!("{n} exchanges"),
            };
            tell(&format!(
                "(the context of {n_ctx} tokens leaves too little room for an answer: forgot the \
                 oldest {exchanges}; -c/--ctx-size makes it larger)"
            ));
        }
        Ok(())
    }

    /// The conversation without its oldest exchanges; the system message stays.
    fn prompt(&self, n_forgotten: usize) -> Prompt {
        let system = self.system.iter().map(ChatMessage::system);
        let kept = self.messages[2 * n_forgotten..].iter().cloned();
        Prompt::chat(system.chain(kept).collect::<Vec<_>>())
    }
}

fn println_flushed(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text_for(&io::stdout(), text))
        .and_then(|()| stdout.flush())
        .map_err(terminal_error)
}

fn terminal_error(error: io::Error) -> Error {
    Error::Terminal(error)
}
