//! Flags of the commands that answer with a pipeline of this machine.

use clap::Args;
use jupiter::GenerateOptions;

use super::args::{
    CommonArgs, EngineArgs, GenerationArgs, ProcessArgs, SamplingArgs, SpeculationArgs, SplitArgs,
    TemplateArgs,
};
use super::outline_args::OutlineArgs;
use super::start::{self, Pipeline, PipelineArgs};

/// What runs the model, and how it answers.
#[derive(Args, Debug)]
pub(crate) struct AnswerArgs {
    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    template: TemplateArgs,

    #[command(flatten)]
    split: SplitArgs,

    #[command(flatten)]
    process: ProcessArgs,

    #[command(flatten)]
    generation: GenerationArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    speculation: SpeculationArgs,

    #[command(flatten)]
    outline: OutlineArgs,
}

impl AnswerArgs {
    /// The pipeline that they ask for.
    pub(crate) fn pipeline<'a>(&'a self, common: &'a CommonArgs) -> PipelineArgs<'a> {
        PipelineArgs {
            outline: Some(&self.outline),
            chat_template: self.template.chat_template.as_deref(),
            ..PipelineArgs::new(
                common,
                &self.engine,
                &self.split,
                &self.speculation,
                self.process.processes,
            )
        }
    }

    /// How to generate, as far as the flags say.
    ///
    /// # Errors
    /// Flags that contradict each other, a grammar's file that cannot be read.
    pub(crate) fn options(&self) -> anyhow::Result<GenerateOptions> {
        start::generate_options(&self.generation, &self.sampling)
    }

    /// The same with what suits the model of `pipeline` where they say nothing.
    pub(crate) fn complete(
        &self,
        options: GenerateOptions,
        pipeline: &Pipeline,
    ) -> GenerateOptions {
        pipeline.complete(options, &self.sampling)
    }
}
