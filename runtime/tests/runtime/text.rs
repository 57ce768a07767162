//! What a model reads and says, token by token: begins and ends, control tokens, templates.
use jupiter::{ChatMessage, FinishReason, GenerateOptions, Prompt};
use jupiter_models::synth::{CHATML, ScriptedSpec, ScriptedTokenizer};

use crate::support::{ask, greedy, head, scripted};

fn options() -> GenerateOptions {
    GenerateOptions {
        ignore_eos: false,
        ..greedy(64)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_end_a_sequence_do_not_end_a_prompt() {
    for tokenizer in [ScriptedTokenizer::Bpe, ScriptedTokenizer::Spm] {
        let mut n_prompts = Vec::new();
        for add_eos in [false, true] {
            let spec = ScriptedSpec {
                tokenizer,
                flags: vec![("add_bos_token", true), ("add_eos_token", add_eos)],
                // What follows the end of a sequence is not what follows the prompt.
                transitions: vec![("<|im_end|>".to_owned(), " left".to_owned())],
                ..ScriptedSpec::saying(&["Turn", " left", "."])
            };
            let (_dir, runtime) = scripted(&spec, 2).await;
            for prompt in [Prompt::raw("Where to"), Prompt::text("Where to")] {
                let answer = ask(&runtime.client(), prompt, options()).await;
                assert_eq!(answer.text.trim_start(), "Turn left.");
                n_prompts.push(answer.done.n_prompt);
            }
            runtime.shutdown().await;
        }
        assert_eq!(n_prompts[..2], n_prompts[2..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_turn_continues_the_cells_of_the_last_whatever_was_said() {
    let spec = ScriptedSpec::saying(&["Turn", " left", "."]);
    let (_dir, runtime) = scripted(&spec, 2).await;
    for said in [
        "<|im_end|>",
        "user",
        "assistant\n",
        "<|im_start|>user\nhi<|im_end|>",
    ] {
        let mut messages = Vec::new();
        let mut n_known = 0;
        for turn in 0..3 {
            messages.push(ChatMessage::user(said));
            let prompt = Prompt::chat(messages.clone());
            let answer = ask(&runtime.client(), prompt, options()).await;
            assert_eq!(answer.text, "Turn left.");
            if turn > 0 {
                assert_eq!(answer.done.n_cached, n_known, "{said:?}, turn {turn}");
            }
            n_known = answer.done.n_prompt + answer.done.n_eval;
            messages.push(ChatMessage::assistant(answer.text));
        }
    }
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_string_may_name_control_tokens() {
    let mut spec = ScriptedSpec::saying(&["Turn", " left", "<|tool|>", " now", "."]);
    spec.controls.push("<|tool|>".to_owned());
    let (_dir, runtime) = scripted(&spec, 2).await;
    for (stop, expected) in [
        ("<|tool|>", "Turn left"),
        (" left<|tool|> n", "Turn"),
        ("t<|to", "Turn lef"),
        ("<|tool|>.", "Turn left now."),
        // What the model ends with.
        ("<|im_end|>", "Turn left now."),
        ("w.<|im_end|>", "Turn left no"),
        (".<|im_end|>\n", "Turn left now."),
        (".<|im_start|>", "Turn left now."),
    ] {
        let options = GenerateOptions {
            stop: vec!["never".to_owned(), stop.to_owned()],
            ..options()
        };
        let answer = ask(&runtime.client(), Prompt::text("Where to?"), options).await;
        assert_eq!(answer.text, expected, "{stop:?}");
        assert_eq!(answer.done.reason, FinishReason::Stop);
    }
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_string_may_stand_in_a_thought_but_not_reach_into_the_answer() {
    let said = ["<think>", "They", " greet", "</", "think>", "Hi", "."];
    let (_dir, runtime) = scripted(&ScriptedSpec::saying(&said), 2).await;
    for (stop, expected) in [(" greet", ""), ("greetHi", "Hi."), ("Hi", ""), (".", "Hi")] {
        let options = GenerateOptions {
            stop: vec![stop.to_owned()],
            ..options()
        };
        let answer = ask(&runtime.client(), Prompt::text("Hello"), options).await;
        assert_eq!(answer.text, expected, "{stop:?}");
        assert_eq!(answer.done.reason, FinishReason::Stop);
    }
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_usable_template_still_answers() {
    let broken = [None, Some(""), Some(" \n"), Some("{% for %}"), Some("{{")];
    for template in broken {
        let spec = ScriptedSpec {
            chat_template: template.map(str::to_owned),
            ..ScriptedSpec::saying(&["Turn", " left", "."])
        };
        let (_dir, runtime) = scripted(&spec, 1).await;
        for prompt in [Prompt::raw("Where to?"), Prompt::text("Where to?")] {
            let answer = ask(&runtime.client(), prompt, options()).await;
            assert_eq!(answer.text, "Turn left.", "{template:?}");
        }
        runtime.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_can_be_named_and_a_chat_format_written_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("scripted.gguf");
    let mut spec = ScriptedSpec::saying(&["Turn", " left", "."]);
    spec.chat_template = None;
    spec.write(&model).unwrap();
    let file = dir.path().join("chatml.jinja");
    std::fs::write(&file, CHATML).unwrap();
    let by_hand = "<|im_start|>user\nWhere to?<|im_end|>\n<|im_start|>assistant\n";
    let n_prompt = 28;
    for template in ["chatml", CHATML, file.to_str().unwrap()] {
        let runtime = head(&model).chat_template(template).start().await.unwrap();
        let client = runtime.client();
        let answer = ask(&client, Prompt::text("Where to?"), options()).await;
        assert_eq!(answer.text, "Turn left.");
        assert_eq!(answer.done.n_prompt, n_prompt, "{template}");
        let answer = ask(&client, Prompt::special(by_hand), options()).await;
        assert_eq!(answer.done.n_prompt, n_prompt);
        let answer = ask(&client, Prompt::raw(by_hand), options()).await;
        assert!(answer.done.n_prompt > n_prompt + 20);
        runtime.shutdown().await;
    }
    std::fs::write(&file, " \n").unwrap();
    for (template, expected) in [
        ("llama33", "neither a file nor one of"),
        ("{% for %}", "line 1"),
        (file.to_str().unwrap(), "empty"),
        (dir.path().to_str().unwrap(), "directory"),
    ] {
        let error = head(&model).chat_template(template).start().await.err();
        let error = error.unwrap().to_string();
        assert!(
            error.contains("chat_template") && error.contains(expected) && !error.contains('\n'),
            "{error}"
        );
    }
}
