//! `jupiter chat`: talk with the model.

use clap::Args;
use jupiter::signals::Signals;
use jupiter::terminal::{ChatEnd, Conversation};

use super::answer_args::AnswerArgs;
use super::args::CommonArgs;
use super::leave::ExitCode;
use super::output::Interrupted;
use super::start;

/// Flags of `chat`.
#[derive(Args, Debug)]
#[command(after_help = "\
/help lists what can be typed besides messages. Without a terminal, each line of stdin is a message.

Examples:
  jupiter chat
  jupiter chat -m model.gguf --stages 2
  jupiter chat -m model.gguf -sys 'Answer in one sentence.' --temp 0.7 -c 4096
  printf 'Hello\\nAnd now?\\n' | jupiter chat -m model.gguf -n 64")]
pub(crate) struct ChatArgs {
    /// How the model should behave [short: -sys]
    #[arg(long, env = "JUPITER_SYSTEM_PROMPT", value_name = "TEXT")]
    system_prompt: Option<String>,

    #[command(flatten)]
    answer: AnswerArgs,
}

pub(crate) async fn execute(common: &CommonArgs, args: &ChatArgs) -> anyhow::Result<ExitCode> {
    let options = args.answer.options()?;
    let pipeline = args.answer.pipeline(common);
    let system = args.system_prompt.clone();
    // The conversation takes Ctrl-C itself.
    let ended = start::with_pipeline(pipeline, Signals::end()?, async |pipeline| {
        let options = args.answer.complete(options, pipeline);
        let conversation = Conversation::new(pipeline.runtime.client(), options, system);
        Ok(conversation.show_timing(common.verbose > 0).run().await?)
    });
    match ended.await? {
        ChatEnd::Left => Ok(ExitCode::SUCCESS),
        ChatEnd::Unanswered => Ok(ExitCode::FAILED),
        ChatEnd::Interrupted => Err(Interrupted.into()),
    }
}
