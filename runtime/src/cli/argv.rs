//! llama.cpp's short flags of several letters (`-ngl`, `-ctk`), which clap does not know, spelled
//! out before clap reads the command line.

use std::ffi::OsString;

/// Short flags of more than one letter, and the long ones that they stand for.
const SHORT_FLAGS: [(&str, &str); 13] = [
    ("-hf", "--hf-repo"),
    ("-hfr", "--hf-repo"),
    ("-hff", "--hf-file"),
    ("-md", "--model-draft"),
    ("-ub", "--ubatch-size"),
    ("-np", "--parallel"),
    ("-fa", "--flash-attn"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-ngl", "--n-gpu-layers"),
    ("-sys", "--system-prompt"),
    ("-gf", "--grammar-file"),
    ("-cram", "--cache-ram"),
];

/// Replaces the multi-letter short flags of `arguments`, up to a `--`. The values of other flags
/// that look like one are not told apart; write those with `=` (`--prompt=-np`).
pub(crate) fn spell_out(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut only_values = false;
    arguments
        .into_iter()
        .map(|argument| {
            only_values |= argument == "--";
            if only_values {
                argument
            } else {
                long_flag(argument)
            }
        })
        .collect()
}

/// `-ngl` or `-ngl=9` with the long name; anything else as it is.
fn long_flag(argument: OsString) -> OsString {
    let Some(text) = argument.to_str() else {
        return argument;
    };
    let (flag, value) = match text.split_once('=') {
        Some((flag, value)) => (flag, Some(value)),
        None => (text, None),
    };
    let Some((_, long)) = SHORT_FLAGS.iter().find(|(short, _)| *short == flag) else {
        return argument;
    };
    match value {
        Some(value) => format!("{long}={value}").into(),
        None => OsString::from(long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(arguments: &[&str]) -> Vec<String> {
        let arguments = arguments.iter().map(OsString::from);
        spell_out(arguments)
            .into_iter()
            .map(|a| a.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn multi_letter_flags_become_long_ones() {
        assert_eq!(
            spelled(&["jupiter", "run", "-ngl", "9", "-ub=64", "-n", "4"]),
            [
                "jupiter",
                "run",
                "--n-gpu-layers",
                "9",
                "--ubatch-size=64",
                "-n",
                "4"
            ]
        );
    }

    #[test]
    fn what_follows_two_dashes_is_left_alone() {
        assert_eq!(spelled(&["x", "--", "-ngl"]), ["x", "--", "-ngl"]);
    }
}
