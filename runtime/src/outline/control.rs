//! Signs of chat templates in a text: `<|im_start|>`, `<start_of_turn>`, `</s>`, `[INST]`. A model
//! that writes them as words has lost its way, and a prompt that quotes them could be misread.

/// Most bytes between the brackets of a control token; the longest known ones have about 30.
const MAX_NAME_BYTES: usize = 48;

/// Brackets of control tokens, and whether a name between them has to look like that of one.
const BRACKETS: [(&str, &str, Names); 5] = [
    ("<|", "|>", Names::All),
    ("<｜", "｜>", Names::All),
    ("<<", ">>", Names::Capital),
    ("<", ">", Names::Tags),
    ("[", "]", Names::Capital),
];

/// Names without an underscore between `<` and `>`; those with one are no tags of HTML.
const TAG_NAMES: [&str; 9] = [
    "s",
    "bos",
    "eos",
    "pad",
    "unk",
    "mask",
    "think",
    "system",
    "assistant",
];
/// Names without an underscore between other brackets.
const CAPITAL_NAMES: [&str; 3] = ["INST", "SYS", "IMG"];
/// What stands behind the sign that begins a turn.
const ROLES: [&str; 5] = ["system", "user", "assistant", "model", "tool"];

#[derive(Clone, Copy)]
enum Names {
    All,
    Tags,
    Capital,
}

/// The text with a space for each control token, and for the role that is glued to its end.
pub(crate) fn without_control_tokens(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(behind) = behind_token(rest) {
            clean.push(' ');
            rest = behind_role(behind);
        } else {
            clean.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    clean
}

/// What follows the control token at the beginning of a text.
fn behind_token(text: &str) -> Option<&str> {
    BRACKETS.iter().find_map(|&(open, close, names)| {
        let (name, behind) = text.strip_prefix(open)?.split_once(close)?;
        let is_name = (1..=MAX_NAME_BYTES).contains(&name.len())
            && !name.contains(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '[' | ']'));
        (is_name && names.have(name)).then_some(behind)
    })
}

impl Names {
    fn have(self, name: &str) -> bool {
        let name = name.strip_prefix('/').unwrap_or(name);
        let is_word = |is_letter: fn(&u8) -> bool| {
            let mut bytes = name.bytes();
            bytes.all(|b| is_letter(&b) || b.is_ascii_digit() || b == b'_')
                && name.contains(|c: char| c.is_ascii_alphabetic())
        };
        match self {
            Self::All => true,
            Self::Tags => {
                let is_known = TAG_NAMES.iter().any(|tag| tag.eq_ignore_ascii_case(name));
                is_known || (name.contains('_') && is_word(u8::is_ascii_alphabetic))
            }
            Self::Capital => {
                let is_known = CAPITAL_NAMES.contains(&name);
                is_known || (name.contains('_') && is_word(u8::is_ascii_uppercase))
            }
        }
    }
}

fn behind_role(text: &str) -> &str {
    let mut roles = ROLES.iter();
    let behind = roles.find_map(|role| {
        text.strip_prefix(role)
            .filter(|behind| !behind.starts_with(char::is_alphanumeric))
    });
    behind.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_tokens_become_spaces() {
        for (text, clean) in [
            ("<|im_start|>assistant Lift", "  Lift"),
            ("Lift<|im_end|>", "Lift "),
            ("<|start_header_id|>user<|end_header_id|>Lift", "  Lift"),
            ("<start_of_turn>model\nLift", " \nLift"),
            ("<start_of_turn>modelling", " modelling"),
            ("Lift</s><s>", "Lift  "),
            ("[INST] Lift [/INST]", "  Lift  "),
            ("<<SYS>>Lift<</SYS>>", " Lift "),
            ("[TOOL_CALLS]", " "),
            ("<｜end▁of▁sentence｜>Lift", " Lift"),
            ("<|a<|b|>|>", "<|a |>"),
            ("</think>Lift", " Lift"),
        ] {
            assert_eq!(without_control_tokens(text), clean, "{text}");
        }
    }

    #[test]
    fn other_brackets_stay() {
        for text in [
            "",
            "Use a <div> in <b>HTML</b>",
            "Vec<u8> and a[i]",
            "a < b, b > c",
            "See [1] and [RFC] and [_]",
            "x << 2 >> 1",
            "<| |>",
            "<||>",
            "<_>",
            "A 字<",
        ] {
            assert_eq!(without_control_tokens(text), text);
        }
    }
}
