//! Makes stages, draft models and measurements from the files of this machine.

use std::sync::Arc;

use jupiter_actors::NodeId;
use jupiter_actors::factory::{Heads, StageFactory};
use jupiter_actors::message::{DrafterAssignment, HeadsId, StageAssignment};
use jupiter_actors::planning::profile::DeviceProfile;
use jupiter_models::ModelError;
use jupiter_models::draft_model::DraftModel;
use jupiter_models::engine::{Emulation, EngineParams, StageEngine, free_memory_bytes};
use jupiter_models::gguf::GgufFile;
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::kernels::KernelChoice;
use jupiter_models::mtp::MtpBlock;
use jupiter_models::profile::{ModelProfile, device_kind, measure_cached, watched};
use jupiter_models::slice::SliceCache;
use jupiter_models::text::Vocabulary;

use super::drafts::Drafts;
use super::{Progress, n_cores};
use crate::config::Config;

/// Memory that counts as free where the system does not say: more than any model needs, so that
/// loading decides.
const UNKNOWN_MEMORY_BYTES: u64 = 1 << 48;

/// Makes stages from a model file on this machine.
pub(crate) struct ModelFactory {
    model: GgufFile,
    /// What assignments call the model.
    id: String,
    slices: SliceCache,
    /// Threads of a stage; without it as the assignment says, or all cores.
    n_threads: Option<u32>,
    kernels: KernelChoice,
    emulation: Emulation,
    progress: Option<Arc<dyn Progress>>,
    vocabulary: Arc<Vocabulary>,
    drafts: Drafts,
}

impl ModelFactory {
    pub(crate) fn new(
        model: GgufFile,
        id: String,
        vocabulary: Arc<Vocabulary>,
        config: &Config,
        drafts: Drafts,
        progress: Option<Arc<dyn Progress>>,
    ) -> Self {
        let slices = SliceCache::default_dir().allow_unproven(config.model.allow_unproven);
        Self {
            model,
            id,
            slices,
            n_threads: config.engine.n_threads,
            kernels: config.engine.kernels,
            emulation: config.emulation.compute,
            progress,
            vocabulary,
            drafts,
        }
    }

    /// Measures how fast this machine, as `node`, computes the model in engines of `params`.
    ///
    /// # Errors
    /// When the model cannot be cut or loaded.
    pub(crate) fn measure(
        &self,
        node: &NodeId,
        params: &EngineParams,
    ) -> jupiter_models::Result<DeviceProfile> {
        let params = self.params(params);
        let shapes = ModelProfile::from_gguf(&self.model, &params, HiddenDtype::F32)?;
        let compute = measure_cached(
            &self.model,
            &self.slices,
            &shapes,
            &params,
            // A device that is too small for a stage is to be planned for all the same.
            Emulation {
                memory_limit_bytes: None,
                ..self.emulation
            },
            &mut |_| (),
        )?;
        Ok(DeviceProfile {
            node: node.clone(),
            kind: device_kind(),
            machine: this_machine(),
            compute,
            free_memory_bytes: free_memory_bytes(&self.emulation).unwrap_or(UNKNOWN_MEMORY_BYTES),
        })
    }

    /// The parameters with the kernels and the threads of this node: its own number, or the one asked
    /// for; zero leaves the choice to the node.
    fn params(&self, asked: &EngineParams) -> EngineParams {
        let n_asked = Some(asked.n_threads).filter(|&n| n > 0);
        EngineParams {
            n_threads: self.n_threads.or(n_asked).unwrap_or_else(n_cores),
            kernels: self.kernels,
            ..asked.clone()
        }
    }

    /// The model's block for multi-token prediction, where there is memory for it.
    fn mtp(&self, stage: &StageAssignment) -> jupiter_models::Result<MtpBlock> {
        self.check_model(stage)?;
        // What the system calls free is without the stage; a limit is with it.
        let slice = self
            .slices
            .slice(&self.model, stage.layers, &mut |_, _| ())?;
        let held = GgufFile::open(&slice.path)?.n_bytes();
        let limit = self.emulation.memory_limit_bytes;
        let free = free_memory_bytes(&Emulation {
            memory_limit_bytes: limit.map(|limit| limit.saturating_sub(held)),
            ..self.emulation
        });
        MtpBlock::load(&self.model, &self.slices, &self.params(&stage.engine), free)
    }

    fn check_model(&self, assignment: &StageAssignment) -> jupiter_models::Result<()> {
        if assignment.model == self.id {
            return Ok(());
        }
        let path = self.model.path().to_owned();
        let what = "it is not the file that the head uses: copy that one to this node".to_owned();
        Err(ModelError::BadGguf { path, what })
    }
}

impl StageFactory for ModelFactory {
    fn load(&self, assignment: &StageAssignment) -> jupiter_models::Result<Box<dyn StageEngine>> {
        self.check_model(assignment)?;
        let layers = assignment.layers;
        let progress = self.progress.as_deref();
        let slice = self.slices.slice(&self.model, layers, &mut |done, total| {
            if let Some(progress) = progress {
                progress.slicing(layers, done, total);
            }
        })?;
        let params = self.params(&assignment.engine);
        let engine = self
            .emulation
            .load(&self.model, &slice, &params, &mut |share| {
                if let Some(progress) = progress {
                    progress.loading(layers, share);
                }
            })?;
        Ok(watched(
            engine,
            &self.model,
            layers,
            &params,
            self.emulation,
        ))
    }

    fn vocabulary(&self, assignment: &StageAssignment) -> jupiter_models::Result<Arc<Vocabulary>> {
        self.check_model(assignment)?;
        Ok(self.vocabulary.clone())
    }

    fn heads(&self, heads: &HeadsId, stage: &StageAssignment) -> jupiter_models::Result<Heads> {
        match heads {
            HeadsId::Medusa(id) => self.drafts.medusa(id).map(Heads::Medusa),
            HeadsId::Mtp => self.mtp(stage).map(Box::new).map(Heads::Mtp),
        }
    }

    fn draft_model(&self, assignment: &DrafterAssignment) -> jupiter_models::Result<DraftModel> {
        let params = self.params(&assignment.engine);
        self.drafts
            .model(&assignment.draft, &self.vocabulary, &params)
    }
}

/// What tells this machine from others: programs that run on it, in containers too, find the same. Empty where
/// the system does not tell.
fn this_machine() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map_or_else(|_| String::new(), |id| id.trim().to_owned())
}
