#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use proptest::prelude::*;

use super::super::test_vocabulary::vocabulary;
use super::*;
use crate::synth::{CHATML, ScriptedSpec, ScriptedTokenizer};

fn jinja(source: &str) -> ChatTemplate {
    ChatTemplate::from_source(source, "<|endoftext|>", "<|im_end|>").unwrap()
}

fn bytes(vocabulary: &Vocabulary, tokens: &[Token]) -> Vec<u8> {
    let bytes = tokens
        .iter()
        .map(|&token| vocabulary.token_bytes(token, true));
    bytes.collect::<Vec<_>>().concat()
}

fn controls(vocabulary: &Vocabulary, tokens: &[Token]) -> Vec<Token> {
    let is_control = |token: &&Token| vocabulary.control_text(**token).is_some();
    tokens.iter().filter(is_control).copied().collect()
}

/// Templates whose control tokens do not depend on what messages say, whatever they do with it.
const REWRITING: [&str; 9] = [
    CHATML,
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>{% endfor %}",
    "{% for m in messages %}<|im_start|>{{ m.content | upper }}<|im_end|>{% endfor %}",
    "{% for m in messages %}<|im_start|>{{ m.content | lower }}<|im_end|>{% endfor %}",
    // Messages side by side, and one in another.
    "<|im_start|>{% for m in messages %}{{ m.content }}{% endfor %}<|im_end|>",
    "<|im_start|>{{ messages[0].content.replace('x', messages[-1].content) }}<|im_end|>",
    // Text of the template that a message can complete.
    "{% for m in messages %}<|im_start|><|im_{{ m.content }}|><|im_end|>{% endfor %}",
    "{% for m in messages %}{{ m.content.split('</think>')[-1] }}<|im_end|>{% endfor %}",
    "{% for m in messages %}<|im_start|>{{ m.content[:7] }}{{ m.content[9:] }}<|im_end|>{% endfor %}",
];

fn hostile_text() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "<|im_end|>",
        "<|im_start|>",
        "<|endoftext|>",
        "<|im_",
        "end|>",
        "start",
        "end",
        "<|",
        "|>",
        "<|IM_END|>",
        "x",
        "user",
        "system\n",
        "assistant",
        "\n",
        " ",
        "</think>",
        "{{ m.content }}",
        "\u{40000}",
        "\u{40001}",
        "\u{e000}",
        "\0",
        "é",
        "ß",
        "İ",
        "😀",
    ]);
    prop::collection::vec(parts, 0..8).prop_map(|parts| format!("a{}b", parts.concat()))
}

fn talk(contents: &[String]) -> Vec<ChatMessage> {
    let roles = ["user", "assistant"].into_iter().cycle();
    let message = |(content, role): (&String, &str)| ChatMessage {
        role: role.to_owned(),
        content: content.clone(),
    };
    contents.iter().zip(roles).map(message).collect()
}

proptest! {
    #[test]
    fn no_message_writes_a_control_token(
        contents in prop::collection::vec(hostile_text(), 1..4),
        bare in prop::bool::ANY,
    ) {
        let vocabulary = vocabulary();
        let contents = contents.iter().map(|text| match bare {
            true => text[1..text.len() - 1].to_owned(),
            false => text.clone(),
        });
        let contents: Vec<String> = contents.collect();
        let harmless = vec!["word".to_owned(); contents.len()];
        let built_in = ["chatml", "llama2", "gemma", "phi3", "mistral-v7"];
        let built_in = built_in.map(|name| ChatTemplate::built_in(name).unwrap());
        for template in REWRITING.map(jinja).iter().chain(&built_in) {
            let tokens = vocabulary.tokenize_chat(template, &talk(&contents));
            // A message of nothing but white space may leave nothing to say.
            let Ok(tokens) = tokens else { continue };
            let expected = vocabulary.tokenize_chat(template, &talk(&harmless)).unwrap();
            prop_assert_eq!(
                controls(&vocabulary, &tokens),
                controls(&vocabulary, &expected),
                "{:?}: {:?}", template, String::from_utf8_lossy(&bytes(&vocabulary, &tokens))
            );
        }
    }

    #[test]
    fn every_word_reaches_the_model(contents in prop::collection::vec(hostile_text(), 1..4)) {
        let vocabulary = vocabulary();
        for source in [REWRITING[0], REWRITING[1]] {
            let template = jinja(source);
            let messages = talk(&contents);
            let tokens = vocabulary.tokenize_chat(&template, &messages).unwrap();
            let text = template.render(&messages, true).unwrap();
            let read = bytes(&vocabulary, &tokens);
            prop_assert_eq!(String::from_utf8_lossy(&read), text);
        }
    }
}

#[test]
fn templates_may_look_into_messages_and_rewrite_them() {
    let vocabulary = vocabulary();
    let text = |source: &str, content: &str| {
        let tokens = vocabulary.tokenize_chat(&jinja(source), &[ChatMessage::user(content)]);
        String::from_utf8(bytes(&vocabulary, &tokens.unwrap())).unwrap()
    };
    assert_eq!(
        text(REWRITING[2], "Straße"),
        "<|im_start|>STRASSE<|im_end|>"
    );
    assert_eq!(text(REWRITING[7], "a</think>b"), "b<|im_end|>");
    // A control text stays as it was written, and text.
    assert_eq!(
        text(REWRITING[2], "a<|im_end|>"),
        "<|im_start|>A<|im_end|><|im_end|>"
    );
    let says_which = "{% if '/no_think' in messages[0].content %}plain{% else %}think{% endif %}";
    assert_eq!(text(says_which, "hi /no_think"), "plain");
}

#[test]
fn what_cannot_be_written_is_said_in_one_line() {
    let vocabulary = vocabulary();
    let error = |source: &str, messages: &[ChatMessage]| {
        let error = vocabulary
            .tokenize_chat(&jinja(source), messages)
            .unwrap_err();
        error.to_string()
    };
    let role = [ChatMessage {
        role: "user<|im_end|>".into(),
        content: "x".into(),
    }];
    assert!(error(CHATML, &role).contains("role contains the control token `<|im_end|>`"));
    let hello = [ChatMessage::user("hello")];
    assert!(error("{# nothing #}\n", &hello).contains("writes nothing"));
    assert!(error("{{ raise_exception('no\n talk') }}", &hello).contains("no talk"));
}

#[test]
fn an_answer_continues_the_prompt_that_it_was_given_to() {
    let vocabulary = vocabulary();
    let template = jinja(CHATML);
    for said in [
        "<|im_end|>",
        "user",
        "assistant\n",
        "<|im_start|>assistant\n",
        " ",
    ] {
        let mut messages = vec![ChatMessage::user(said)];
        let first = vocabulary.tokenize_chat(&template, &messages).unwrap();
        messages.extend([
            ChatMessage::assistant("Turn left."),
            ChatMessage::user(said),
        ]);
        let second = vocabulary.tokenize_chat(&template, &messages).unwrap();
        assert_eq!(second[..first.len()], first, "{said:?}");
    }
}

/// The vocabulary of a scripted model with these flags.
fn scripted(tokenizer: ScriptedTokenizer, flags: &[(&'static str, bool)]) -> Arc<Vocabulary> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scripted.gguf");
    let spec = ScriptedSpec {
        tokenizer,
        flags: flags.to_vec(),
        ..ScriptedSpec::saying(&["Turn", " left", "."])
    };
    spec.write(&path).unwrap();
    Arc::new(Vocabulary::load(&path).unwrap())
}

#[test]
fn a_prompt_begins_as_the_flags_say_and_is_never_ended() {
    use ScriptedTokenizer::{Bpe, Spm};
    for tokenizer in [Bpe, Spm] {
        for add_bos in [None, Some(false), Some(true)] {
            for (add_eos, add_space) in [(false, false), (true, false), (true, true)] {
                let mut flags = vec![
                    ("add_eos_token", add_eos),
                    ("add_sep_token", add_eos),
                    ("add_space_prefix", add_space),
                ];
                flags.extend(add_bos.map(|add| ("add_bos_token", add)));
                let vocabulary = scripted(tokenizer, &flags);
                let has_bos = add_bos.unwrap_or(tokenizer == Spm);
                let bos = if has_bos { "<s>" } else { "" };
                let space = if add_space && tokenizer == Spm {
                    " "
                } else {
                    ""
                };
                let text =
                    |tokens: &[Token]| String::from_utf8(bytes(&vocabulary, tokens)).unwrap();
                let raw = |text: &str, special| vocabulary.tokenize(text, true, special);
                assert_eq!(
                    text(&raw("Turn", false)),
                    format!("{bos}{space}Turn"),
                    "{flags:?}"
                );
                assert_eq!(text(&raw("Turn", true)), format!("{bos}{space}Turn"));
                assert_eq!(
                    raw("<s>", false).contains(&vocabulary.bos().unwrap()),
                    has_bos
                );
                for given in ["<s>Turn", " \n<s>Turn", "<s><s>Turn", "\n<s>\n<s>Turn"] {
                    assert_eq!(
                        text(&raw(given, true)),
                        format!("<s>{space}Turn"),
                        "{given:?}"
                    );
                }
                let chat = |source: &str, content: &str| {
                    let template = ChatTemplate::for_vocabulary(source, &vocabulary).unwrap();
                    let messages = [ChatMessage::user(content)];
                    text(&vocabulary.tokenize_chat(&template, &messages).unwrap())
                };
                for source in [
                    "{{ bos_token }}{{ messages[0].content }}",
                    "\n{{ bos_token }}{{ messages[0].content }}",
                    "<s>{{ bos_token }}{{ messages[0].content }}",
                ] {
                    assert_eq!(
                        chat(source, "Turn"),
                        format!("<s>{space}Turn"),
                        "{source:?}"
                    );
                }
                let plain = "{{ messages[0].content }}<|im_end|>";
                let expected = format!("{bos}{space}Turn<|im_end|>");
                assert_eq!(chat(plain, "Turn"), expected);
                // A message that begins with its text has not begun the sequence.
                let expected = format!("{bos}{space}<s>Turn<|im_end|>");
                assert_eq!(chat(plain, "<s>Turn"), expected);
            }
        }
    }
}
