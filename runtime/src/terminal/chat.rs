//! A conversation on a terminal, or over a pipe with one message a line.

use std::io::{self, Write};

use jupiter_actors::request::RequestError;

use super::input::{Input, Lines};
use super::{Answer, AnswerPrinter, timing_line};
use crate::signals::Signals;
use crate::{ChatMessage, Client, Error, GenerateOptions, Prompt, Result};

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
                        eprintln!("error: {error}");
                    }
                },
            }
        }
    }

    /// Sends one message and prints the answer; both stay in the conversation. When the
    /// conversation no longer fits the context, its oldest messages are forgotten.
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
        loop {
            match self.answer(interrupts).await {
                Err(Error::Request(RequestError::PromptTooLong { .. }))
                    if self.messages.len() > 2 =>
                {
                    // A question and its answer, so that roles still take turns.
                    self.messages.drain(..2);
                    eprintln!(
                        "(the conversation no longer fits the context: forgot its oldest exchange)"
                    );
                    continue;
                }
                Err(error) => {
                    self.messages.pop();
                    return Err(error);
                }
                Ok(answer) => {
                    self.messages.push(ChatMessage::assistant(answer.text));
                    match answer.done {
                        Some(done) if self.show_timing => eprintln!("{}", timing_line(&done)),
                        Some(_) => {}
                        None => eprintln!("(stopped)"),
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Prints the answer to the messages so far as it comes, until Ctrl-C.
    async fn answer(&self, interrupts: &mut Signals) -> Result<Answer> {
        let system = self.system.iter().map(ChatMessage::system);
        let messages: Vec<_> = system.chain(self.messages.iter().cloned()).collect();
        let prompt = Prompt::chat(messages);
        let stream = self.client.generate(prompt, self.options.clone()).await?;
        let printer = AnswerPrinter::stdout();
        let pressed = async {
            interrupts.recv().await;
            Ok(())
        };
        printer.print(stream, pressed).await
    }
}

fn println_flushed(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(terminal_error)
}

fn terminal_error(error: io::Error) -> Error {
    Error::Terminal(error)
}
