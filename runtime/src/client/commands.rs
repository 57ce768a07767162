//! What the default model may write: a whole command, or an answer that is none.

/// A command, as the default model was taught (models/world/COMMANDS.md).
const COMMANDS: &str = include_str!("../../../models/world/src/commands.gbnf");

/// Answers that begin as JSON are commands to their end; all others are free, so that questions stay
/// questions.
pub(crate) fn grammar() -> String {
    let root = "root ::= (command | [^{] [^\\x00]*)?\ncommand ::=";
    COMMANDS.replacen("root ::=", root, 1)
}
