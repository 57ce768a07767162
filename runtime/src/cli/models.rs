//! `jupiter models`: which models can be run, and where they may be cut.

use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter_models::architecture::{ARCHITECTURES, Architecture, Other};
use serde::Serialize;

use super::leave::ExitCode;
use super::output;
use super::table::{Align, markdown};

/// Flags of `models`.
#[derive(Args, Debug)]
pub(crate) struct ModelsArgs {
    /// Print one JSON object per architecture
    #[arg(long, env = "JUPITER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

/// An architecture as JSON.
#[derive(Serialize)]
struct Listed<'a> {
    architecture: &'a str,
    /// Whether the tests prove its cuts, with branches, guesses and a quantized cache.
    proven: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cuts: Option<String>,
}

pub(crate) fn execute(args: &ModelsArgs) -> anyhow::Result<ExitCode> {
    if args.json {
        let proven = ARCHITECTURES.iter().map(|arch| Listed {
            architecture: arch.name,
            proven: true,
            models: Some(arch.models),
            cuts: Some(arch.cuts_in_words()),
        });
        let others = Other::runs_whole().map(|architecture| Listed {
            architecture,
            proven: false,
            models: None,
            cuts: None,
        });
        proven
            .chain(others)
            .try_for_each(|listed| output::json_line(&listed))?;
    } else {
        output::text(&table())?;
        output::text(&format!("\n{}\n", others()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The proven architectures.
fn table() -> String {
    let columns = [
        ("architecture", Align::Left),
        ("models", Align::Left),
        ("cuts", Align::Left),
    ];
    let row =
        |arch: &Architecture| vec![arch.name.into(), arch.models.into(), arch.cuts_in_words()];
    markdown(&columns, &ARCHITECTURES.iter().map(row).collect::<Vec<_>>())
}

/// What is true of all of them, and the others.
fn others() -> String {
    let names: Vec<&str> = Other::runs_whole().collect();
    format!(
        "Tests prove each at every cut, with branches, guesses and a q8_0 cache: the same bits as \
         uncut.\nUncut on one machine, without such a proof: {}.",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_the_table() {
        let readme = include_str!("../../../README.md");
        assert!(readme.contains(&table()), "{}", table());
    }
}
