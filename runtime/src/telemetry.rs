//! The log: on stderr only, so that stdout holds nothing but answers.

use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};

use crate::terminal::shown;

/// Environment variable with a filter of its own, in tracing-subscriber's syntax; it replaces what
/// the flags say.
pub const LOG_ENV: &str = "JUPITER_LOG";

/// Starts the log: warnings by default, what happens with 1, details with 2, every step and what
/// zenoh does with 3; with `json` one object a line. A program that has its own log already keeps
/// it.
pub fn init(verbose: u8, json: bool) {
    let asked = std::env::var(LOG_ENV)
        .ok()
        .filter(|filter| !filter.is_empty())
        .and_then(|filter| EnvFilter::try_new(filter).ok());
    let filter = asked.unwrap_or_else(|| EnvFilter::new(default_filter(verbose)));
    let is_terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // An error means that a log was started before.
    let _ = if json {
        log.json().try_init()
    } else {
        let log = log
            .with_ansi(is_terminal)
            .fmt_fields(Fields { is_terminal });
        match verbose {
            // A warning to a person: no time, no module.
            0 => log.without_time().with_target(false).compact().try_init(),
            _ => log.try_init(),
        }
    };
}

/// What events tell, names of others' among it: on a terminal as it is [`shown()`]. The colours of
/// level and time are none of it.
struct Fields {
    is_terminal: bool,
}

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let default = DefaultFields::new();
        if !self.is_terminal {
            return default.format_fields(writer, fields);
        }
        let mut text = String::new();
        default.format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&shown(&text))
    }
}

/// zenoh reports as errors and warnings what this project handles and says itself.
fn default_filter(verbose: u8) -> &'static str {
    match verbose {
        0 => "warn,zenoh=off,zenoh_transport=off,zenoh_link_commons=off,zenoh_link_tcp=off",
        1 => "info,zenoh=error,zenoh_transport=error",
        2 => "debug,zenoh=warn,zenoh_transport=warn",
        _ => "trace,zenoh=debug,zenoh_transport=debug,zenoh_config=info,polling=info,mio=info",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_filters_are_valid() {
        for verbose in 0..=4 {
            let filter = EnvFilter::try_new(default_filter(verbose)).unwrap();
            let directives = default_filter(verbose).split(',').count();
            assert_eq!(filter.to_string().split(',').count(), directives);
        }
    }
}
