//! One node, put together: link, inbox, Supervisor, and how stages are made from the model file.

use std::sync::Arc;

use jupiter_actors::message::{DrafterAssignment, StageAssignment};
use jupiter_actors::planner::PlannerConfig;
use jupiter_actors::planning::profile::DeviceProfile;
use jupiter_actors::stage::StageFactory;
use jupiter_actors::supervisor::{NodeHandle, SupervisorArgs, start_node};
use jupiter_actors::{Inbox, NodeId};
use jupiter_models::draft_model::DraftModel;
use jupiter_models::engine::{Emulation, EngineParams, StageEngine, free_memory_bytes};
use jupiter_models::gguf::GgufFile;
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::kernels::KernelChoice;
use jupiter_models::medusa::MedusaHeads;
use jupiter_models::profile::{ModelProfile, device_kind, measure_cached, watched};
use jupiter_models::slice::SliceCache;
use jupiter_models::text::Vocabulary;
use jupiter_models::{LayerRange, ModelError};
use zenoh::Session;

use crate::config::Config;
use crate::drafts::Drafts;
use crate::emulated_link::{EmulatedLink, LinkLimits};
use crate::error::{Error, Result};
use crate::keys::HeadKeys;
use crate::membership::measure::Respondent;
use crate::zenoh_link::ZenohLink;

/// Memory that counts as free where the system does not say: more than any model needs, so that
/// loading decides.
const UNKNOWN_MEMORY_BYTES: u64 = 1 << 48;

/// Learns how far slices and loads are. Called from the stages' threads.
pub trait Progress: Send + Sync {
    /// The slice of `layers` is being written: `done` of `total` bytes.
    fn slicing(&self, layers: LayerRange, done: u64, total: u64);

    /// The engine of `layers` is being loaded: `share` of it, 0 to 1.
    fn loading(&self, layers: LayerRange, share: f32);
}

/// The cores that this process may use.
pub(crate) fn n_cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

/// A running node. Dropping it ends its actors too, in the background.
pub(crate) struct Node {
    inbox: Inbox,
    link: Arc<ZenohLink>,
    _respondent: Respondent,
    handle: Option<NodeHandle>,
    tokio: tokio::runtime::Handle,
}

impl Node {
    /// Starts the actors of a node; with `planner` it is the head.
    pub(crate) async fn start(
        session: &Session,
        keys: &HeadKeys,
        node: &NodeId,
        factory: Arc<ModelFactory>,
        limits: LinkLimits,
        planner: Option<PlannerConfig>,
    ) -> Result<Self> {
        let emulated = Arc::new(EmulatedLink::new(limits));
        let link = ZenohLink::through(emulated.clone(), session.clone(), keys.clone());
        let link = Arc::new(link);
        let respondent = Respondent::start(session, keys, node, factory.clone(), emulated)?;
        let inbox = Inbox::new(node.clone(), link.clone());
        let entrance = inbox.clone();
        let is_head = planner.is_some();
        link.attach(
            node,
            is_head,
            Arc::new(move |frame: &[u8]| entrance.deliver(frame)),
        )?;
        let args = SupervisorArgs {
            node: node.clone(),
            link: link.clone(),
            inbox: inbox.clone(),
            factory,
            planner,
        };
        let tokio = tokio::runtime::Handle::current();
        match start_node(args).await {
            Ok(handle) => Ok(Self {
                inbox,
                link,
                _respondent: respondent,
                handle: Some(handle),
                tokio,
            }),
            Err(error) => {
                link.close();
                Err(Error::Cluster(format!("cannot start node {node}: {error}")))
            }
        }
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Ends all actors and waits for them.
    pub(crate) async fn stop(mut self) {
        self.link.close();
        if let Some(handle) = self.handle.take() {
            handle.stop().await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.link.close();
        if let Some(handle) = self.handle.take() {
            self.tokio.spawn(handle.stop());
        }
    }
}

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

    fn medusa(&self, id: &str) -> jupiter_models::Result<Arc<MedusaHeads>> {
        self.drafts.medusa(id)
    }

    fn draft_model(&self, assignment: &DrafterAssignment) -> jupiter_models::Result<DraftModel> {
        let params = self.params(&assignment.engine);
        self.drafts
            .model(&assignment.draft, &self.vocabulary, &params)
    }
}
