//! Command lines that make no sense, told in one line.

use clap::error::ErrorKind;

use super::leave::ExitCode;
use super::output;

/// Prints help and versions as they are, and what clap complains of as one `error:` line.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    let wanted = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if wanted || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let printed = error.print();
        return match (wanted, printed) {
            (true, Ok(())) => ExitCode::SUCCESS,
            (true, Err(_)) => ExitCode::FAILED,
            (false, _) => ExitCode::USAGE,
        };
    }
    output::note(&one_line(&error.render().to_string()));
    ExitCode::USAGE
}

/// clap's message without the usage text, its lines joined.
fn one_line(message: &str) -> String {
    let told = message
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    format!("{told} (--help lists all flags)")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn complaints_are_one_line_that_names_the_flag() {
        for (arguments, named) in [
            (&["jupiter", "run", "--stagse", "2"][..], "--stages"),
            (&["jupiter", "run", "-n", "0"], "at least 1 token"),
            (&["jupiter", "run", "--split", "4,x"], "4,12"),
            (&["jupiter", "worker", "--top-k"], "--top-k"),
        ] {
            let error = crate::cli::Cli::command()
                .try_get_matches_from(arguments)
                .unwrap_err();
            let line = one_line(&error.render().to_string());
            assert!(
                line.starts_with("error: ") && line.contains(named),
                "{line}"
            );
            assert!(!line.contains('\n'), "{line}");
        }
    }
}
