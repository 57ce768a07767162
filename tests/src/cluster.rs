//! A cluster in one process: real actors and engines on the [faulty network](crate::network).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jupiter_actors::factory::{Heads, StageFactory};
use jupiter_actors::message::{DrafterAssignment, HeadsId, StageAssignment};
use jupiter_actors::planner::{
    ClusterStatus, DraftConfig, PlanGoal, PlannerConfig, PlannerMessage, Schedule, SplitPolicy,
};
use jupiter_actors::planning::placement::Objective;
use jupiter_actors::request::{
    Completion, GenerateRequest, RequestError, SpeculationParams, StreamEvent,
};
use jupiter_actors::supervisor::{NodeHandle, SupervisorArgs, start_node};
use jupiter_actors::{Inbox, NodeId, RequestId};
use jupiter_models::draft_model::DraftModel;
use jupiter_models::engine::{
    Engine, EngineMemory, EngineParams, Logits, StageEngine, StepInput, StepOutput,
};
use jupiter_models::gguf::{GgufFile, ModelInfo};
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::medusa::MedusaHeads;
use jupiter_models::mtp::MtpBlock;
use jupiter_models::profile::ModelProfile;
use jupiter_models::slice::SliceCache;
use jupiter_models::text::Vocabulary;
use jupiter_models::{KvOp, ModelError, Row, Token};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::model::{CHUNK, engine_params, scratch};
use crate::network::{FaultRates, Network};

/// Requests at the same time.
const N_PARALLEL: u32 = 4;

/// Branches of requests at the same time.
const N_BRANCHES: u32 = 6;

/// Sequences for trees of guesses.
const N_SPARE: u32 = 4;

/// What its draft model is called.
const DRAFT: &str = "draft";

/// No test waits longer than this for anything.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a cluster is made of.
#[derive(Clone)]
pub struct ClusterSpec {
    /// The model's file.
    pub model: PathBuf,
    /// How it is cut.
    pub split: SplitPolicy,
    /// Number of nodes; the first one is the head.
    pub n_nodes: usize,
    /// Requests at the same time.
    pub n_parallel: u32,
    /// Branches of requests at the same time; what the engines have beyond is for trees of guesses.
    pub n_branches: u32,
    /// Parameters of the engines.
    pub engine: EngineParams,
    /// What guesses beside the Verifier, if anything; Medusa heads by the path of their file.
    pub heads: Option<HeadsId>,
    /// A draft model, if any; it runs on the last node.
    pub draft: Option<PathBuf>,
    /// What the network does to frames.
    pub rates: FaultRates,
    /// Most faults of the network, and of the engines.
    pub n_faults: u32,
    /// Steps of the engines, counted over all of them, at which one misbehaves.
    pub engine_faults: Vec<(u64, EngineFault)>,
    /// Where the faults come from.
    pub seed: u64,
    /// The Planner's patience, in milliseconds.
    pub step_timeout_ms: u64,
}

/// What an engine does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineFault {
    /// It panics.
    Panic,
    /// It gives fewer logits than asked for, at which the Verifier panics.
    ShortLogits,
    /// It refuses the step.
    Refuse,
}

/// Medusa heads of a file.
pub fn medusa(path: impl AsRef<Path>) -> HeadsId {
    HeadsId::Medusa(path.as_ref().to_string_lossy().into_owned())
}

impl ClusterSpec {
    /// `n_stages` stages on as many nodes, without faults.
    pub fn new(model: &Path, n_stages: u32) -> Self {
        Self {
            model: model.to_owned(),
            split: SplitPolicy::Stages(n_stages),
            n_nodes: n_stages as usize,
            n_parallel: N_PARALLEL,
            n_branches: N_BRANCHES,
            engine: EngineParams {
                n_seq_max: N_PARALLEL + N_BRANCHES + N_SPARE,
                ..engine_params()
            },
            heads: None,
            draft: None,
            rates: FaultRates::default(),
            n_faults: 0,
            engine_faults: Vec::new(),
            seed: 0,
            step_timeout_ms: 30_000,
        }
    }
}

/// A running cluster.
pub struct Cluster {
    /// Its network.
    pub network: Network,
    nodes: Vec<(NodeId, NodeHandle)>,
    head: Inbox,
    next_request: u64,
}

/// A finished answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The tokens, also when it failed.
    pub tokens: Vec<Token>,
    /// How it ended.
    pub end: Result<Completion, RequestError>,
}

impl Cluster {
    /// Starts the nodes and announces them to the Planner.
    ///
    /// # Errors
    /// When the model cannot be read or a Supervisor cannot be started.
    pub async fn start(spec: &ClusterSpec) -> Result<Self> {
        let model = Arc::new(GgufFile::open(&spec.model)?);
        let factory = Arc::new(FaultyFactory {
            model: model.clone(),
            draft: spec.draft.clone(),
            cache: SliceCache::new(scratch().join("slices")),
            faults: spec.engine_faults.clone(),
            n_steps: Arc::default(),
        });
        let network = Network::new(spec.seed, spec.rates, spec.n_faults);
        let mut nodes = Vec::new();
        let mut head = None;
        for i in 0..spec.n_nodes {
            let node = node_id(i);
            let (link, inbox) = network.join(&node);
            let planner = (i == 0).then(|| planner_config(spec, &model)).transpose()?;
            head.get_or_insert_with(|| inbox.clone());
            let args = SupervisorArgs {
                node: node.clone(),
                link,
                inbox,
                factory: factory.clone(),
                planner,
            };
            nodes.push((node, start_node(args).await?));
        }
        let head = head.context("a cluster needs a node")?;
        let cluster = Self {
            network,
            nodes,
            head,
            next_request: 0,
        };
        for (node, _) in &cluster.nodes {
            cluster.tell(PlannerMessage::NodeUp(node.clone()));
        }
        Ok(cluster)
    }

    /// Asks for `n` tokens after `prompt`, greedily.
    pub fn ask(&mut self, prompt: &[Token], n: u32) -> UnboundedReceiver<StreamEvent> {
        self.ask_guessing(prompt, n, SpeculationParams::default())
    }

    /// The same with guesses as asked for.
    pub fn ask_guessing(
        &mut self,
        prompt: &[Token],
        n: u32,
        speculation: SpeculationParams,
    ) -> UnboundedReceiver<StreamEvent> {
        let mut request = GenerateRequest::new(RequestId(self.next_request), prompt.to_vec());
        request.n_predict = Some(n);
        request.sampling.temperature = 0.0;
        request.cache_prompt = false;
        request.speculation = Some(speculation);
        self.submit(request)
    }

    /// Asks whatever; the request's id is chosen here.
    pub fn submit(&mut self, mut request: GenerateRequest) -> UnboundedReceiver<StreamEvent> {
        request.id = self.next_id();
        let (sink, events) = tokio::sync::mpsc::unbounded_channel();
        self.tell(PlannerMessage::Generate(request, sink));
        events
    }

    /// Asks for parts of one answer, of at most `n` tokens after each of `prompts`, greedily, without leave to
    /// keep their cells.
    pub fn ask_parts(
        &mut self,
        prompts: &[Vec<Token>],
        n: u32,
        speculation: impl Fn(usize) -> SpeculationParams,
    ) -> Vec<UnboundedReceiver<StreamEvent>> {
        let part_of = Some(self.next_id());
        let ask = |(i, prompt): (usize, &Vec<Token>)| {
            let mut request = GenerateRequest::new(RequestId(0), prompt.clone());
            request.n_predict = Some(n);
            request.sampling.temperature = 0.0;
            request.speculation = Some(speculation(i));
            (request.cache_prompt, request.part_of) = (false, part_of);
            self.submit(request)
        };
        prompts.iter().enumerate().map(ask).collect()
    }

    fn next_id(&mut self) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        id
    }

    /// Tells the Planner; a Planner that is just being restarted is waited for.
    pub fn tell(&self, message: PlannerMessage) {
        let planner = self.head.planner().expect("the head has a planner");
        planner.cast(message).expect("the planner lives");
    }

    /// Ends the Planner as a panic would.
    pub fn kill_planner(&self) {
        if let Some(planner) = self.head.planner() {
            planner.kill();
        }
    }

    /// Takes a node off the network without a word, as a pulled cable does; its lease runs out.
    pub fn lose(&self, i: usize) {
        let node = &self.nodes[i].0;
        self.network.cut(node);
        self.tell(PlannerMessage::NodeDown(node.clone()));
    }

    /// How the cluster is doing.
    ///
    /// # Errors
    /// When the Planner does not answer.
    pub async fn status(&self) -> Result<ClusterStatus> {
        let planner = self.head.planner().context("no planner")?;
        let (reply, status) = tokio::sync::oneshot::channel();
        planner.cast(PlannerMessage::Status(reply.into()))?;
        Ok(tokio::time::timeout(DEADLINE, status).await??)
    }

    /// Ends all nodes.
    pub async fn stop(self) {
        for (_, node) in self.nodes {
            node.stop().await;
        }
    }
}

/// Reads a stream to its end.
///
/// # Errors
/// When it does not end within [`DEADLINE`], or ends without saying how.
pub async fn read(mut events: UnboundedReceiver<StreamEvent>) -> Result<Answer> {
    let mut tokens = Vec::new();
    loop {
        let event = tokio::time::timeout(DEADLINE, events.recv());
        match event
            .await
            .with_context(|| format!("hangs after {} tokens", tokens.len()))?
        {
            Some(StreamEvent::Token(token)) => tokens.push(token),
            Some(StreamEvent::End(_)) => {}
            Some(StreamEvent::Done(done)) => {
                return Ok(Answer {
                    tokens,
                    end: Ok(done),
                });
            }
            Some(StreamEvent::Failed(error)) => {
                return Ok(Answer {
                    tokens,
                    end: Err(error),
                });
            }
            None => bail!(
                "the stream ended without saying how, after {} tokens",
                tokens.len()
            ),
        }
    }
}

fn node_id(i: usize) -> NodeId {
    NodeId(format!("node-{i}"))
}

fn planner_config(spec: &ClusterSpec, model: &GgufFile) -> Result<PlannerConfig> {
    Ok(PlannerConfig {
        model: model.content_hash()?,
        model_profile: ModelProfile::from_gguf(model, &spec.engine, HiddenDtype::F32)?,
        head: NodeId("head".into()),
        split: spec.split.clone(),
        goal: PlanGoal::new(Objective::Ttft, 1024, 1),
        adapts: true,
        wait_nodes: spec.n_nodes as u32,
        n_parallel: spec.n_parallel,
        n_branches: spec.n_branches,
        cache_cells: None,
        past: ModelInfo::from_gguf(model)?.past(),
        engine: EngineParams {
            keeps_states: spec.heads.as_ref().map(HeadsId::states).unwrap_or_default(),
            ..spec.engine.clone()
        },
        speculation: SpeculationParams::default(),
        heads: spec.heads.clone(),
        draft: spec.draft.as_ref().map(|_| DraftConfig {
            node: node_id(spec.n_nodes - 1),
            model: DRAFT.to_owned(),
        }),
        chunk: CHUNK,
        schedule: Schedule::Auto,
        tbt_target_ms: None,
        payload_dtype: HiddenDtype::F32,
        step_timeout_ms: spec.step_timeout_ms,
        node_wait_ms: 10_000,
        retry_ms: 50,
    })
}

struct FaultyFactory {
    model: Arc<GgufFile>,
    draft: Option<PathBuf>,
    cache: SliceCache,
    faults: Vec<(u64, EngineFault)>,
    n_steps: Arc<AtomicU64>,
}

impl StageFactory for FaultyFactory {
    fn load(&self, assignment: &StageAssignment) -> jupiter_models::Result<Box<dyn StageEngine>> {
        let slice = self
            .cache
            .slice(&self.model, assignment.layers, &mut |_, _| {})?;
        let engine = Engine::load(&self.model, &slice, &assignment.engine, &mut |_| {})?;
        let (faults, n_steps) = (self.faults.clone(), self.n_steps.clone());
        Ok(Box::new(FaultyEngine {
            engine,
            faults,
            n_steps,
        }))
    }

    fn vocabulary(&self, _: &StageAssignment) -> jupiter_models::Result<Arc<Vocabulary>> {
        Ok(Arc::new(Vocabulary::load(self.model.path())?))
    }

    fn heads(&self, heads: &HeadsId, stage: &StageAssignment) -> jupiter_models::Result<Heads> {
        Ok(match heads {
            HeadsId::Medusa(path) => Heads::Medusa(Arc::new(MedusaHeads::open(path)?)),
            HeadsId::Mtp => {
                let block = MtpBlock::load(&self.model, &self.cache, &stage.engine, None)?;
                Heads::Mtp(Box::new(block))
            }
        })
    }

    fn draft_model(&self, assignment: &DrafterAssignment) -> jupiter_models::Result<DraftModel> {
        let what = || "no draft model".to_owned();
        let path = self.draft.as_ref();
        let path = path.ok_or_else(|| ModelError::BadInput { what: what() })?;
        let vocabulary = Vocabulary::load(self.model.path())?;
        DraftModel::load(&GgufFile::open(path)?, &vocabulary, &assignment.engine)
    }
}

struct FaultyEngine {
    engine: Engine,
    faults: Vec<(u64, EngineFault)>,
    n_steps: Arc<AtomicU64>,
}

impl StageEngine for FaultyEngine {
    fn apply(&mut self, op: KvOp) -> jupiter_models::Result<()> {
        self.engine.apply(op)
    }

    fn clear(&mut self) {
        self.engine.clear();
    }

    fn step(&mut self, rows: &[Row], input: StepInput<'_>) -> jupiter_models::Result<StepOutput> {
        let n = self.n_steps.fetch_add(1, Ordering::Relaxed);
        let fault = self
            .faults
            .iter()
            .find(|(at, _)| *at == n)
            .map(|(_, fault)| *fault);
        assert!(
            fault != Some(EngineFault::Panic),
            "a fault of the test, at step {n}"
        );
        if fault == Some(EngineFault::Refuse) {
            let what = format!("a fault of the test, at step {n}");
            return Err(ModelError::BadStep { what });
        }
        let output = self.engine.step(rows, input)?;
        Ok(match output {
            StepOutput::Logits(_) if fault == Some(EngineFault::ShortLogits) => {
                StepOutput::Logits(Logits::default())
            }
            output => output,
        })
    }

    fn memory(&self) -> EngineMemory {
        self.engine.memory()
    }
}
