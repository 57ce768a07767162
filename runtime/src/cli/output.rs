//! What goes to stdout, and how errors end the program.

use std::io::{self, IsTerminal, Write};

use jupiter::Config;
use jupiter::terminal::{self, DEFAULT_MODEL_NOTICE};
use serde::Serialize;

use super::args::CommonArgs;
use super::leave::ExitCode;

/// A command line that parses and still makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub String);

/// The person pressed Ctrl-C, or the system asked the program to end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// Prints an error in one line and chooses the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<Interrupted>() {
        return ExitCode::INTERRUPTED;
    }
    let reader_gone = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    };
    if !error.chain().any(reader_gone) {
        note(&format!("error: {}", one_line(error)));
    }
    if error.is::<UsageError>() {
        ExitCode::USAGE
    } else {
        ExitCode::FAILED
    }
}

/// An error and its causes in one line. A cause that its effect quotes already is left out.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Panics are faults of ours: they go to the log in one line, and whoever waits for the thread
/// reports what it means for the work.
pub(crate) fn hide_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let what = match payload.downcast_ref::<&str>() {
            Some(text) => text,
            None => payload
                .downcast_ref::<String>()
                .map_or("no message", String::as_str),
        };
        let place = panic
            .location()
            .map_or_else(String::new, |place| format!(" at {place}"));
        tracing::error!("internal error{place}: {}", what.replace('\n', " "));
    }));
}

/// Where no model was named, says so and what answers instead. A log for machines stays one.
pub(crate) fn tell_default_model(common: &CommonArgs, config: &Config) {
    if !config.model.is_default() {
        return;
    }
    if common.log_json {
        tracing::warn!("{DEFAULT_MODEL_NOTICE}");
    } else {
        eprintln!("{DEFAULT_MODEL_NOTICE}");
    }
}

/// Says on stderr how it goes, while stdout is for the result.
pub(crate) fn note(line: &str) {
    terminal::tell(line);
}

/// Writes a value as one JSON line on stdout.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    match io::stdout().is_terminal() {
        true => write(&terminal::shown_json(&line)),
        false => write(&line),
    }
}

/// Writes text on stdout at once, where it may hold text of others.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    write(&terminal::text_for(&io::stdout(), text))
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_without_repeats() {
        let error = anyhow::anyhow!("no such file")
            .context("m.gguf: no such file")
            .context("a\nb");
        assert_eq!(one_line(&error), "a b: m.gguf: no such file");
    }
}
