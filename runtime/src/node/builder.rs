//! Describes a [`Runtime`] and starts it.

use std::path::PathBuf;
use std::sync::Arc;

use jupiter_actors::planning::placement::Objective;
use jupiter_models::gguf::KvDtype;
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::kernels::KernelChoice;

use super::Progress;
use super::head::Runtime;
use crate::config::{Config, DraftSetting, OutlineMode, Settings};
use crate::error::{Error, Result};

/// Describes a runtime; what is not said is as in [`Settings`].
#[derive(Clone, Default)]
pub struct RuntimeBuilder {
    settings: Settings,
    progress: Option<Arc<dyn Progress>>,
}

impl Runtime {
    /// Begins to describe a runtime.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }
}

impl RuntimeBuilder {
    /// Begins with all of these settings; what other methods say behind it changes them.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The GGUF file; without it the small default model that is embedded in the library.
    #[must_use]
    pub fn model(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.model.model = Some(path.into());
        self
    }

    /// The model USER/REPO or USER/REPO:QUANT of the Hugging Face hub, which the start downloads if it
    /// is not in the cache.
    #[must_use]
    pub fn hub_model(mut self, name: impl Into<String>) -> Self {
        self.settings.model.hf_repo = Some(name.into());
        self
    }

    /// Tries architectures whose split is not proven.
    #[must_use]
    pub fn allow_unproven(mut self, allow: bool) -> Self {
        self.settings.model.allow_unproven = Some(allow);
        self
    }

    /// The chat template: a name that llama.cpp knows (`chatml`, `llama3`), a file of Jinja, or
    /// Jinja itself; without it the model's own.
    #[must_use]
    pub fn chat_template(mut self, template: impl Into<String>) -> Self {
        self.settings.template.chat_template = Some(template.into());
        self
    }

    /// Cuts the model into so many stages of about equal size.
    #[must_use]
    pub fn stages(mut self, n_stages: u32) -> Self {
        self.settings.cut.stages = Some(n_stages);
        self
    }

    /// Cuts the model into stages of so many layers.
    #[must_use]
    pub fn split(mut self, n_layers: &[u32]) -> Self {
        self.settings.cut.split = Some(n_layers.to_vec());
        self
    }

    /// Places layers by measurements of the nodes (`auto`), evenly (`even`), or as a plan's file
    /// says. Without it, and without stages or a split, the nodes of a cluster are measured.
    #[must_use]
    pub fn plan(mut self, plan: impl Into<String>) -> Self {
        self.settings.placement.plan = Some(plan.into());
        self
    }

    /// What a plan is to be good at.
    #[must_use]
    pub fn objective(mut self, objective: Objective) -> Self {
        self.settings.goal.objective = Some(objective);
        self
    }

    /// KV cells that all sequences share; without it 4096, or what the model was trained on if
    /// that is less.
    #[must_use]
    pub fn ctx(mut self, n_ctx: u32) -> Self {
        self.settings.engine.ctx_size = Some(n_ctx);
        self
    }

    /// Threads of each stage.
    #[must_use]
    pub fn threads(mut self, n_threads: u32) -> Self {
        self.settings.engine.threads = Some(n_threads);
        self
    }

    /// Requests at the same time.
    #[must_use]
    pub fn parallel(mut self, n_parallel: u32) -> Self {
        self.settings.engine.parallel = Some(n_parallel);
        self
    }

    /// Rows of a chunk of a prompt.
    #[must_use]
    pub fn chunk(mut self, n_rows: u32) -> Self {
        self.settings.engine.ubatch_size = Some(n_rows);
        self
    }

    /// Types of the cached keys and values.
    #[must_use]
    pub fn cache_types(mut self, k: KvDtype, v: KvDtype) -> Self {
        (
            self.settings.engine.cache_type_k,
            self.settings.engine.cache_type_v,
        ) = (Some(k), Some(v));
        self
    }

    /// Whether attention is computed without its full matrix.
    #[must_use]
    pub fn flash_attention(mut self, on: bool) -> Self {
        self.settings.engine.flash_attn = Some(on);
        self
    }

    /// Whose kernels compute products with weights on this machine.
    #[must_use]
    pub fn kernels(mut self, choice: KernelChoice) -> Self {
        self.settings.engine.kernels = Some(choice);
        self
    }

    /// Layers of each stage on the GPU.
    #[must_use]
    pub fn gpu_layers(mut self, n_layers: u32) -> Self {
        self.settings.engine.n_gpu_layers = Some(n_layers);
        self
    }

    /// How hidden states travel between stages.
    #[must_use]
    pub fn hidden_dtype(mut self, dtype: HiddenDtype) -> Self {
        self.settings.placement.hidden_type = Some(dtype);
        self
    }

    /// Who guesses tokens ahead, for requests that do not say.
    #[must_use]
    pub fn speculative(mut self, source: DraftSetting) -> Self {
        self.settings.speculation.speculative = Some(source);
        self
    }

    /// A small model with the same vocabulary that guesses; without it the default model's own,
    /// where that is asked for.
    #[must_use]
    pub fn draft_model(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.drafts.model_draft = Some(path.into());
        self
    }

    /// Medusa heads that guess; without them the default model's own.
    #[must_use]
    pub fn medusa(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.drafts.medusa = Some(path.into());
        self
    }

    /// Whether chats are answered point by point, for requests that do not say.
    #[must_use]
    pub fn outline(mut self, mode: OutlineMode) -> Self {
        self.settings.outline.outline = Some(mode);
        self
    }

    /// Name of the cluster.
    #[must_use]
    pub fn cluster(mut self, name: impl Into<String>) -> Self {
        self.settings.network.cluster = Some(name.into());
        self
    }

    /// Name of this node.
    #[must_use]
    pub fn node_id(mut self, name: impl Into<String>) -> Self {
        self.settings.network.node = Some(name.into());
        self
    }

    /// Endpoints to listen on; without any and without [`RuntimeBuilder::connect`] there is no
    /// network at all.
    #[must_use]
    pub fn listen<T: Into<String>>(mut self, endpoints: impl IntoIterator<Item = T>) -> Self {
        self.settings.network.listen = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// Is a node of ROS 2 too, at the robot's router (`tcp/robot:7447`) or as the router (`router`,
    /// `router@tcp/0.0.0.0:7447`).
    #[must_use]
    pub fn ros2(mut self, place: impl Into<String>) -> Self {
        self.settings.ros2.ros2 = Some(place.into());
        self
    }

    /// Endpoints to connect to.
    #[must_use]
    pub fn connect<T: Into<String>>(mut self, endpoints: impl IntoIterator<Item = T>) -> Self {
        self.settings.network.connect = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// Remote nodes to wait for before the model is placed.
    #[must_use]
    pub fn workers(mut self, n_workers: u32) -> Self {
        self.settings.cluster.workers = Some(n_workers);
        self
    }

    /// Whether this node computes stages too.
    #[must_use]
    pub fn host_stages(mut self, host: bool) -> Self {
        self.settings.cluster.host_stages = Some(host);
        self
    }

    /// Longest wait for a step's report, in milliseconds.
    #[must_use]
    pub fn step_timeout_ms(mut self, ms: u64) -> Self {
        self.settings.patience.step_timeout_ms = Some(ms);
        self
    }

    /// How long a request waits for nodes, in milliseconds.
    #[must_use]
    pub fn node_wait_ms(mut self, ms: u64) -> Self {
        self.settings.patience.node_wait_ms = Some(ms);
        self
    }

    /// Learns how far slices and loads are.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Starts it; needs a multi-thread tokio runtime. Without workers to wait for, it returns when
    /// the model runs; with workers at once, and [`Runtime::ready`] waits.
    ///
    /// # Errors
    /// In one line: what cannot be used or started. Nothing is left running then.
    pub async fn start(self) -> Result<Runtime> {
        let mut settings = self.settings;
        let pulled = tokio::task::spawn_blocking(move || {
            settings.pull(&|_, _, _| {})?;
            Ok::<Settings, Error>(settings)
        });
        let settings = pulled.await.map_err(|_| Error::Stopped)??;
        Runtime::start_with(Config::from_settings(settings)?, self.progress).await
    }
}
