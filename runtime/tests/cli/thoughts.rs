//! What a model thinks before its answer is told apart from it.

use jupiter_models::synth::ScriptedSpec;
use serde_json::Value;

use super::{FOLDER, jupiter, text};

/// The texts of thoughts and of the answer, and how many tokens they took.
fn said(file: &str, more: &[&str]) -> (String, String, u64) {
    let run = ["run", "-m", file, "-p", "Hello", "--temp", "0", "--json"];
    let output = jupiter(&[&run[..], more].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (mut thought, mut answer, mut n) = (String::new(), String::new(), 0);
    for line in text(&output.stdout).lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let told = event["text"].as_str().unwrap_or_default();
        match event["event"].as_str() {
            Some("thought") => thought += told,
            Some("token") => answer += told,
            Some("done") => n = event["n_eval"].as_u64().unwrap(),
            other => panic!("{other:?}"),
        }
    }
    (thought, answer, n)
}

#[test]
fn thoughts_are_events_of_their_own_and_no_part_of_the_answer() {
    let spec = ScriptedSpec::saying(&["<think>", "They", " greet", "</", "think>", "\n\nHi", "."]);
    spec.write(&FOLDER.join("thinks.gguf")).unwrap();
    let expected = ("They greet".to_owned(), "Hi.".to_owned());
    for more in [&[][..], &["--stages", "2"], &["--outline", "on"]] {
        let (thought, answer, n) = said("thinks.gguf", more);
        assert_eq!((thought, answer), expected, "{more:?}");
        assert!(n >= 7, "{n} {more:?}");
    }
    // A pipe gets the answer alone.
    let run = ["run", "-m", "thinks.gguf", "-p", "Hello", "--temp", "0"];
    assert_eq!(text(&jupiter(&run).stdout).trim_end(), "Hi.");

    // Where the template has begun the thought, the model only ends it.
    let mut spec = ScriptedSpec::saying(&["They", " greet", "</", "think>", "\n\nHi", "."]);
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}<think>\n";
    spec.chat_template = Some(template.to_owned());
    spec.write(&FOLDER.join("begun.gguf")).unwrap();
    let (thought, answer, _) = said("begun.gguf", &[]);
    assert_eq!((thought, answer), expected);
}
