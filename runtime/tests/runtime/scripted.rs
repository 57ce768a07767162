//! The scripted model says its text, in any number of stages.
use jupiter::{FinishReason, Prompt};
use jupiter_models::synth::{ScriptedSpec, ScriptedTokenizer};

use crate::support::{ask, greedy, scripted};

#[tokio::test(flavor = "multi_thread")]
async fn it_says_its_text_and_ends() {
    for tokenizer in [ScriptedTokenizer::Bpe, ScriptedTokenizer::Spm] {
        let spec = ScriptedSpec {
            tokenizer,
            ..ScriptedSpec::saying(&["Turn", " left", " now", "."])
        };
        for stages in [1, 2] {
            let (_dir, runtime) = scripted(&spec, stages).await;
            let mut options = greedy(64);
            options.ignore_eos = false;
            for prompt in [Prompt::text("Where to?"), Prompt::raw("Where to?")] {
                let answer = ask(&runtime.client(), prompt, options.clone()).await;
                assert_eq!(answer.text.trim_start(), "Turn left now.");
                assert_eq!(
                    (answer.tokens.len(), answer.done.reason),
                    (4, FinishReason::Stop)
                );
                assert_eq!(answer.done.stages.len(), stages as usize);
            }
            runtime.shutdown().await;
        }
    }
}
