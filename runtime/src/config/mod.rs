//! Configuration: a file, then the environment, then flags; the later ones win.
//!
//! [`Settings`] is what may be said, each key optional. [`Config`] is what the program uses:
//! complete, checked, in parts for those who need them.
//!
//! Each module uses only those above it, as `make layering` asserts:
//!
//! - `units`, `choices`: how values are written
//! - `ros2_name`, `typed_topics`: names in ROS 2, and its topics of other types
//! - `groups`, `ros2`: each flag, its variable and its key
//! - `table`, `settings`: a file that is read once; the file, then the environment, then flags
//! - `parts`, `checks`: parts of the configuration, completed and checked
//! - `outline`, `speculation`: and those with more to check

mod checks;
mod choices;
mod groups;
mod outline;
mod parts;
mod ros2;
mod ros2_name;
mod settings;
mod speculation;
mod table;
mod typed_topics;
mod units;

use std::path::{Path, PathBuf};

use jupiter_actors::planner::Schedule;
use jupiter_actors::planning::placement::Objective;
use jupiter_models::default_model::{self, DefaultFile};
use jupiter_models::gguf::{GgufFile, KvDtype, ModelInfo};
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::kernels::KernelChoice;

use self::checks::{cache_bytes, emulation, network, split, within};
pub use self::choices::{DraftSetting, OutlineMode, PromptSettings, RuleSetting, positive};
pub use self::groups::{
    ClusterSettings, CutSettings, DraftSettings, EmulationSettings, EngineSettings, GoalSettings,
    LayerCounts, ModelSettings, NetworkSettings, OutlineSettings, PatienceSettings,
    PlacementSettings, ScheduleSettings, SpeculationSettings, TemplateSettings,
};
pub use self::outline::OutlineConfig;
pub use self::parts::{DEFAULT_CLUSTER, EmulationConfig, ModelConfig, NetworkConfig, Split};
pub use self::ros2::{Ros2Config, Ros2Distro, Ros2Place, Ros2Settings};
pub use self::ros2_name::{Remap, Ros2Name};
pub use self::settings::Settings;
pub use self::speculation::SpeculationConfig;
pub use self::typed_topics::{Ros2Limit, Ros2Topic};
use crate::error::{HubError, Result};

/// KV cells when nothing is said: llama.cpp's long-standing default, for models that were trained
/// on so many positions.
const DEFAULT_CTX_SIZE: u32 = 4096;
/// Rows of a chunk when nothing is said: small enough that a prompt of a thousand tokens keeps
/// two stages busy at once, large enough that a row costs little more than in a larger one.
const DEFAULT_UBATCH_SIZE: u32 = 128;
/// Most rows of a step; its hidden states must fit one message of the link.
const MAX_UBATCH_SIZE: u32 = 4096;
/// Sequences when nothing is said.
pub const DEFAULT_PARALLEL: u32 = 4;
/// Most sequences (`LLAMA_MAX_SEQ` of llama.cpp).
const MAX_PARALLEL: u32 = 256;
/// Longest wait for a step's report while nothing is known of the speed: a chunk of a model of
/// billions of weights on small boards takes minutes. Once steps were measured it is much shorter.
const DEFAULT_STEP_TIMEOUT_MS: u64 = 300_000;
/// Below this, steps of a healthy machine would count as lost.
const MIN_STEP_TIMEOUT_MS: u64 = 100;
/// Longest time between tokens that may be asked for: an hour.
const MAX_TBT_TARGET_MS: u64 = 3_600_000;
/// How long a request waits for nodes: a machine that boots.
const DEFAULT_NODE_WAIT_MS: u64 = 120_000;

/// All that a head, a worker or an embedded runtime needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Its place among the others.
    pub network: NetworkConfig,
    /// What is computed.
    pub model: ModelConfig,
    /// How each stage computes.
    pub engine: EngineConfig,
    /// How the model is cut and placed.
    pub pipeline: PipelineConfig,
    /// How tokens are guessed ahead.
    pub speculation: SpeculationConfig,
    /// Whether and how answers are written point by point.
    pub outline: OutlineConfig,
    /// A node for robots of ROS 2; none unless asked for.
    pub ros2: Option<Ros2Config>,
    /// A slower machine than this one, to try plans with.
    pub emulation: EmulationConfig,
}

/// How each stage computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// KV cells that all sequences share; [`EngineConfig::n_ctx_of`] has the default.
    pub n_ctx: Option<u32>,
    /// Sequences at the same time.
    pub n_parallel: u32,
    /// Most bytes of the KV cache, over all stages, that complete answers leave; without it, all that
    /// nobody needs.
    pub cache_bytes: Option<u64>,
    /// Most rows of a step, and of a chunk of a prompt.
    pub chunk: u32,
    /// Threads of each stage; by default the machine's cores, divided among its stages.
    pub n_threads: Option<u32>,
    /// Type of the cached keys.
    pub type_k: KvDtype,
    /// Type of the cached values.
    pub type_v: KvDtype,
    /// Whether attention is computed without its full matrix.
    pub flash_attention: bool,
    /// Whose kernels compute.
    pub kernels: KernelChoice,
    /// Layers of each stage on the GPU.
    pub n_gpu_layers: u32,
}

impl EngineConfig {
    fn from_settings(s: &EngineSettings) -> Result<Self> {
        let kernels = s.kernels.unwrap_or_default();
        kernels.check()?;
        let parallel = s.parallel.unwrap_or(DEFAULT_PARALLEL);
        let chunk = s.ubatch_size.unwrap_or(DEFAULT_UBATCH_SIZE);
        let said = |key, n: Option<u32>, max| n.map(|n| within(key, n, 1, max)).transpose();
        Ok(Self {
            n_ctx: said("ctx_size", s.ctx_size, i32::MAX as u32)?,
            n_parallel: within("parallel", parallel, 1, MAX_PARALLEL)?,
            cache_bytes: cache_bytes(s.cache_ram)?,
            chunk: within("ubatch_size", chunk, 1, MAX_UBATCH_SIZE)?,
            n_threads: said("threads", s.threads, 1024)?,
            type_k: s.cache_type_k.unwrap_or_default(),
            type_v: s.cache_type_v.unwrap_or_default(),
            flash_attention: s.flash_attn.unwrap_or(true),
            kernels,
            n_gpu_layers: s.n_gpu_layers.unwrap_or(0),
        })
    }

    /// KV cells for a model that was trained on `n_ctx_train` positions. Beyond those it would
    /// write nonsense, so without a word it gets no more.
    pub fn n_ctx_of(&self, n_ctx_train: u32) -> u32 {
        self.n_ctx.unwrap_or(DEFAULT_CTX_SIZE.min(n_ctx_train))
    }
}

/// How the model is cut and placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineConfig {
    /// How it is cut.
    pub split: Split,
    /// What a plan is to be good at.
    pub objective: Objective,
    /// By which rule steps are filled.
    pub schedule: Schedule,
    /// The time between two tokens of an answer that prompts of others are to leave, in milliseconds;
    /// none for what follows from the plan.
    pub tbt_target_ms: Option<u64>,
    /// Whether nodes are measured although the split does not depend on it, for predictions.
    pub predicts: bool,
    /// Whether a plan follows devices that have become faster or slower.
    pub adapts: bool,
    /// Remote nodes to wait for.
    pub n_workers: u32,
    /// Whether the head computes too.
    pub host_stages: bool,
    /// How hidden states travel.
    pub hidden_dtype: HiddenDtype,
    /// Longest wait for a step's report, in milliseconds.
    pub step_timeout_ms: u64,
    /// How long a request waits for nodes, in milliseconds.
    pub node_wait_ms: u64,
}

impl PipelineConfig {
    /// Whether nodes are measured when they join.
    pub(crate) fn measures(&self) -> bool {
        self.predicts || matches!(self.split, Split::Planned | Split::File(_))
    }
}

impl Config {
    /// What the file, the environment (`JUPITER_CTX_SIZE` for `ctx_size`) and `flags` say. Blocks while
    /// it downloads a model of the hub.
    ///
    /// # Errors
    /// In one line: a file that cannot be read, unknown keys, values that cannot be used.
    pub fn load(file: Option<&Path>, flags: &Settings) -> Result<Self> {
        let mut settings = Settings::load_here(file, flags)?;
        settings.pull(&|_, _, _| {})?;
        Self::from_settings(settings)
    }

    /// Completes and checks `settings`, without looking at files or the environment.
    ///
    /// # Errors
    /// In one line: the first value that cannot be used.
    pub fn from_settings(settings: Settings) -> Result<Self> {
        let Settings {
            model,
            engine,
            template,
            cut,
            placement,
            goal,
            schedule,
            network: place,
            cluster,
            speculation,
            drafts,
            outline,
            ros2,
            emulation: emulated,
            patience,
        } = settings;
        if let Some(what) = model.hf_repo {
            // Only `Settings::pull` asks the hub.
            return Err(HubError::NotCached { what }.into());
        }
        let is_cluster = !(place.listen.is_empty() && place.connect.is_empty());
        Ok(Self {
            speculation: SpeculationConfig::from_settings(&speculation, drafts)?,
            outline: OutlineConfig::from_settings(&outline)?,
            ros2: Ros2Config::from_settings(&ros2)?,
            engine: EngineConfig::from_settings(&engine)?,
            network: network(place)?,
            model: ModelConfig {
                path: model.model,
                allow_unproven: model.allow_unproven.unwrap_or(false),
                chat_template: template.chat_template,
            },
            pipeline: PipelineConfig {
                split: split(cut, placement.plan, is_cluster)?,
                objective: goal.objective.unwrap_or(Objective::Ttft),
                schedule: schedule.schedule.unwrap_or_default(),
                tbt_target_ms: (schedule.tbt_target)
                    .map(|ms| within("tbt_target", u64::from(ms), 1, MAX_TBT_TARGET_MS))
                    .transpose()?,
                predicts: false,
                adapts: true,
                n_workers: cluster.workers.unwrap_or(0),
                host_stages: cluster.host_stages.unwrap_or(true),
                hidden_dtype: placement.hidden_type.unwrap_or_default(),
                step_timeout_ms: within(
                    "step_timeout_ms",
                    patience.step_timeout_ms.unwrap_or(DEFAULT_STEP_TIMEOUT_MS),
                    MIN_STEP_TIMEOUT_MS,
                    u64::MAX,
                )?,
                node_wait_ms: patience.node_wait_ms.unwrap_or(DEFAULT_NODE_WAIT_MS),
            },
            emulation: emulation(&emulated)?,
        })
    }

    /// The model file: the one that is named, or the default model's copy in the cache folder.
    /// Blocks while it looks whether that is there and whole.
    ///
    /// # Errors
    /// When the default model's copy cannot be written.
    pub fn model_path(&self) -> Result<PathBuf> {
        match &self.model.path {
            Some(path) => Ok(path.clone()),
            None => Ok(default_model::path(DefaultFile::Model)?),
        }
    }

    /// The model file, opened and checked, whether it will be cut or not. Blocks while it reads.
    ///
    /// # Errors
    /// When there is no file, or what it holds cannot be run.
    pub fn open_model(&self) -> Result<(GgufFile, ModelInfo)> {
        let model = GgufFile::open(self.model_path()?)?;
        let info = ModelInfo::from_gguf(&model)?;
        Ok((model, info))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jupiter_actors::planning::devices_file::DevicesFile;

    use super::*;
    use crate::net::session::Endpoints;

    #[test]
    fn nothing_said_is_a_usable_configuration() {
        let config = Config::from_settings(Settings::default()).unwrap();
        assert_eq!(config.network.endpoints, Endpoints::default());
        assert_eq!(config.pipeline.split, Split::PerNode);
        assert!(config.engine.flash_attention && config.pipeline.host_stages);
        assert!(config.model.is_default());
    }

    #[test]
    fn without_a_word_the_context_ends_where_the_training_did() {
        let n_ctx = |ctx_size, n_ctx_train| {
            let mut settings = Settings::default();
            settings.engine.ctx_size = ctx_size;
            let config = Config::from_settings(settings).unwrap();
            config.engine.n_ctx_of(n_ctx_train)
        };
        assert_eq!(n_ctx(None, 2048), 2048);
        assert_eq!(n_ctx(None, 131_072), DEFAULT_CTX_SIZE);
        assert_eq!(n_ctx(Some(8192), 2048), 8192);
    }

    #[test]
    fn every_file_in_configs_is_usable() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let mut n_files = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            n_files += 1;
            let name = path.file_name().unwrap().to_string_lossy();
            if name.starts_with("devices-") {
                let text = std::fs::read_to_string(&path).unwrap();
                let devices: DevicesFile = toml::from_str(&text).unwrap();
                devices
                    .into_cluster()
                    .unwrap_or_else(|e| panic!("{name}: {e}"));
                continue;
            }
            let settings = Settings::load(Some(&path), [], &Settings::default()).unwrap();
            Config::from_settings(settings).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
        assert!(n_files >= 7, "{n_files} files");
    }

    #[test]
    fn values_that_cannot_be_used_are_named_in_one_line() {
        let bad = [
            ("ctx_size", "ctx_size = 0"),
            ("threads", "threads = 0"),
            ("parallel", "parallel = 257"),
            ("cache_ram", "cache_ram = -2"),
            ("ubatch_size", "ubatch_size = 0"),
            ("step_timeout_ms", "step_timeout_ms = 1"),
            ("tbt_target", "tbt_target = 0"),
            ("split", "split = [4, 0]"),
            ("split", "split = [1]\nstages = 2"),
            ("plan", "plan = 'auto'\nstages = 2"),
            ("plan", "plan = ''"),
            ("cluster", "cluster = 'a/b'"),
            ("node", "node = '*'"),
            ("endpoint", "listen = ['x']"),
            ("endpoint", "connect = ['udp/a:1']"),
            ("size", "memory_limit = 'many'"),
        ];
        for (name, text) in bad {
            let settings = toml::from_str(text).unwrap();
            let error = Config::from_settings(settings).unwrap_err().to_string();
            assert!(
                error.contains(name) && !error.contains('\n'),
                "{name}: {error}"
            );
        }
    }
}
