//! How a conversation is written for a model: notices, `--chat-template`, `--raw --special`.

use jupiter_models::synth::ScriptedSpec;

use super::{FOLDER, events, jupiter, text};

#[test]
fn a_missing_template_is_told_only_where_one_is_needed() {
    let mut spec = ScriptedSpec::saying(&["Turn", " left", "."]);
    for (file, template) in [("none.gguf", None), ("broken.gguf", Some("{% for %}"))] {
        spec.chat_template = template.map(str::to_owned);
        spec.write(&FOLDER.join(file)).unwrap();
        let run = |more: &[&str]| {
            let run = ["run", "-m", file, "-p", "Where to?", "--temp", "0"];
            let output = jupiter(&[&run[..], more].concat());
            assert!(output.status.success(), "{}", text(&output.stderr));
            assert_eq!(text(&output.stdout).trim_end(), "Turn left.");
            text(&output.stderr)
        };
        let told = run(&[]);
        assert_eq!(told.matches("--chat-template").count(), 1, "{told}");
        assert!(!run(&["--raw"]).contains("--chat-template"));
        assert!(!run(&["--chat-template", "chatml"]).contains("--chat-template"));
    }
}

#[test]
fn a_chat_format_by_hand_has_control_tokens() {
    let spec = ScriptedSpec::saying(&["Turn", " left", "."]);
    spec.write(&FOLDER.join("special.gguf")).unwrap();
    let n_prompt = |arguments: &[&str]| {
        let run = ["run", "-m", "special.gguf", "--json"];
        let output = jupiter(&[&run[..], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        events(&text(&output.stdout)).1["n_prompt"]
            .as_u64()
            .unwrap()
    };
    let by_hand = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    let raw = ["-p", by_hand, "--raw"];
    let special = n_prompt(&[&raw[..], &["--special"]].concat());
    assert_eq!(
        special,
        n_prompt(&["-p", "Hi", "--chat-template", "chatml"])
    );
    assert!(special < n_prompt(&raw));

    let wrong = |arguments: &[&str], code: i32, expected: &str| {
        let output = jupiter(&[&["run", "-m", "special.gguf", "-p", "Hi"], arguments].concat());
        assert_eq!(output.status.code(), Some(code));
        let told = text(&output.stderr);
        assert!(
            told.contains(expected) && told.lines().count() == 1,
            "{told}"
        );
    };
    wrong(&["--special"], 2, "--raw");
    wrong(&["--chat-template", "nope"], 1, "chatml, ");
}
