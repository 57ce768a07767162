//! What the default model may write: a whole command, or an answer that is none.

use jupiter_models::default_model;
use jupiter_models::sampling::SamplingParams;

/// A command, as the default model was taught (models/world/COMMANDS.md).
const COMMANDS: &str = include_str!("../../../models/world/src/commands.gbnf");

/// Lets a command be whole, and none be given without need.
pub(crate) fn take_care(sampling: &mut SamplingParams) {
    sampling.grammar = Some(grammar());
    sampling.logit_bias.push(default_model::caution());
}

/// Answers that begin as JSON are commands to their end; all others are free, so that questions stay
/// questions.
fn grammar() -> String {
    let root = "root ::= (command | [^{] [^\\x00]*)?\ncommand ::=";
    COMMANDS.replacen("root ::=", root, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_one() -> jupiter_models::Result<()> {
        let mut sampling = SamplingParams::greedy();
        take_care(&mut sampling);
        sampling.validate()
    }
}
