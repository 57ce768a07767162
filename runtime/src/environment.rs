//! Variables as the twins of flags: one that is set to nothing is not set, as in most programs, so
//! that `JUPITER_STAGES= jupiter run` takes a choice back that a profile exported.

use std::env;

use clap::{Arg, Command, CommandFactory, FromArgMatches};

/// `command` and its subcommands without the variables that are empty now.
pub fn without_empty(command: Command) -> Command {
    command
        .mut_args(|arg| {
            if is_empty(&arg) {
                arg.env(None::<&str>)
            } else {
                arg
            }
        })
        .mut_subcommands(without_empty)
}

/// The command line of this process as `P`; complains, and ends the process, as clap does.
pub fn parse<P: CommandFactory + FromArgMatches>() -> P {
    let matches = without_empty(P::command()).get_matches();
    P::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn is_empty(arg: &Arg) -> bool {
    let value = arg.get_env().and_then(env::var_os);
    value.is_some_and(|value| value.is_empty())
}
