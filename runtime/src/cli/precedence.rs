//! A flag beats the environment, also where it is another flag that says the opposite:
//! `--split 4,12` is not refused because `JUPITER_STAGES` is set. An empty variable says nothing. A
//! number below zero is a value: it is refused by the name of its flag, not taken for a flag.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use jupiter::environment;

/// Arguments of which a command line takes one.
const ALTERNATIVES: [(&str, &str); 7] = [
    ("model", "hf_repo"),
    ("stages", "split"),
    ("rate", "trace"),
    ("requests", "trace"),
    ("lengths", "trace"),
    ("prompt", "file"),
    ("grammar", "grammar_file"),
];

/// Parses a command line; of two alternatives, one as a flag and the other in the environment,
/// only the flag is seen.
pub(crate) fn matches(
    command: &Command,
    arguments: &[OsString],
) -> clap::error::Result<ArgMatches> {
    let command = negative_numbers(environment::without_empty(command.clone()));
    let matches = command.clone().try_get_matches_from(arguments)?;
    let Some((verb, given)) = matches.subcommand() else {
        return Ok(matches);
    };
    let is_from = |id: &str, source| {
        given.try_contains_id(id).unwrap_or(false) && given.value_source(id) == Some(source)
    };
    let pairs = ALTERNATIVES.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
    let beaten: Vec<&str> = pairs
        .filter(|(flag, variable)| {
            is_from(flag, ValueSource::CommandLine) && is_from(variable, ValueSource::EnvVariable)
        })
        .map(|(_, variable)| variable)
        .collect();
    if beaten.is_empty() {
        return Ok(matches);
    }
    let without_variables = |verb: Command| {
        beaten.iter().fold(verb, |verb, id| {
            verb.mut_arg(id, |arg| arg.env(None::<&str>))
        })
    };
    command
        .mut_subcommand(verb, without_variables)
        .try_get_matches_from(arguments)
}

fn negative_numbers(command: Command) -> Command {
    let is_value = |arg: &Arg| arg.get_long().is_some() && arg.get_action().takes_values();
    let allow = |arg: Arg| match is_value(&arg) {
        true => arg.allow_negative_numbers(true),
        false => arg,
    };
    command.mut_args(allow).mut_subcommands(negative_numbers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_flag_hides_the_variable_that_says_the_opposite() {
        // A variable that every test process has stands for JUPITER_STAGES.
        let stages = Arg::new("stages").long("stages").env("CARGO_PKG_NAME");
        let verb = Command::new("run")
            .arg(stages)
            .arg(Arg::new("split").long("split"));
        let command = Command::new("jupiter").subcommand(verb);
        let given = |arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let matches = matches(&command, &arguments).unwrap();
            let run = matches.subcommand_matches("run").unwrap();
            (run.contains_id("stages"), run.contains_id("split"))
        };
        assert_eq!(given(&["jupiter", "run"]), (true, false));
        assert_eq!(given(&["jupiter", "run", "--split", "4,12"]), (false, true));
        assert_eq!(
            given(&["jupiter", "run", "--split", "4", "--stages", "1"]),
            (true, true)
        );
    }
}
