//! Flags of the commands that answer with a pipeline of this machine.

use clap::Args;
use jupiter::config::{
    DraftSettings, ModelSettings, OutlineSettings, SpeculationSettings, TemplateSettings,
};
use jupiter::{GenerateOptions, Settings};

use super::args::{CommonArgs, GenerationArgs, ProcessArgs, SamplingArgs, StageArgs};
use super::start::{self, Pipeline, PipelineArgs};

/// What runs the model, and how it answers.
#[derive(Args, Debug)]
pub(crate) struct AnswerArgs {
    #[command(flatten)]
    model: ModelSettings,

    #[command(flatten)]
    stages: StageArgs,

    #[command(flatten)]
    template: TemplateSettings,

    #[command(flatten)]
    process: ProcessArgs,

    #[command(flatten)]
    generation: GenerationArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    speculation: SpeculationSettings,

    #[command(flatten)]
    drafts: DraftSettings,

    #[command(flatten)]
    outline: OutlineSettings,
}

impl AnswerArgs {
    /// The pipeline that they ask for.
    pub(crate) fn pipeline<'a>(&'a self, common: &'a CommonArgs) -> PipelineArgs<'a> {
        let settings = Settings {
            model: self.model.clone(),
            template: self.template.clone(),
            speculation: self.speculation.clone(),
            drafts: self.drafts.clone(),
            outline: self.outline.clone(),
            ..self.stages.settings()
        };
        PipelineArgs::new(common, settings, self.process.processes)
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
