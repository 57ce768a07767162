//! What a head reads from the model file before it begins.

use std::sync::Arc;

use jupiter_actors::message::HeadsId;
use jupiter_actors::planner::{DraftConfig, PlannerConfig};
use jupiter_actors::request::DraftChoice;
use jupiter_models::ModelError;
use jupiter_models::gguf::ModelInfo;
use jupiter_models::text::Vocabulary;

use super::drafts::Drafts;
use super::factory::ModelFactory;
use super::plan::planner_config;
use super::{Progress, n_cores};
use crate::client::chat_format::ChatFormat;
use crate::config::{Config, OutlineMode};
use crate::error::Result;

/// What assignments call the model where there is no other node to mix it up with.
const EMBEDDED_MODEL: &str = "embedded";

/// What is read from the model file.
pub(super) struct Loaded {
    pub(super) planner: PlannerConfig,
    /// The model's hash, where `--outline auto` asks what is known of it.
    pub(super) hash: Option<String>,
    pub(super) factory: ModelFactory,
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) format: ChatFormat,
}

/// What guesses beside the Verifier: Medusa heads that are there, or the model's own block.
fn heads(drafts: &Drafts, config: &Config, info: &ModelInfo) -> Result<Option<HeadsId>> {
    let source = &config.speculation.params.source;
    let is_asked = *source == DraftChoice::Mtp;
    if is_asked && !info.has_mtp() {
        let what = "this model has no block for multi-token prediction: take --speculative auto";
        return Err(ModelError::BadInput { what: what.into() }.into());
    }
    let mtp = (is_asked || *source == DraftChoice::Auto) && info.has_mtp();
    let medusa = drafts.medusa_id().map(HeadsId::Medusa);
    Ok(medusa.or(mtp.then_some(HeadsId::Mtp)))
}

/// Blocks while it reads, and hashes the file when others have to have the same, or something may be
/// known of it.
pub(super) fn load_model(
    config: &Config,
    is_embedded: bool,
    progress: Option<Arc<dyn Progress>>,
) -> Result<Loaded> {
    let (model, info) = config.open_model()?;
    let is_tried = config.outline.mode == OutlineMode::Auto && !config.model.is_default();
    let hash = match is_tried || !is_embedded {
        true => Some(model.content_hash()?),
        false => None,
    };
    let other_nodes = hash.clone().filter(|_| !is_embedded);
    let id = other_nodes.unwrap_or_else(|| EMBEDDED_MODEL.to_owned());
    let mut planner = planner_config(config, &model, &info, id.clone(), n_cores())?;
    let drafts = Drafts::load(config, &info);
    planner.draft = drafts.model_id().map(|model| DraftConfig {
        node: (config.speculation.draft_node.clone())
            .unwrap_or_else(|| config.network.node.clone()),
        model,
    });
    planner.heads = heads(&drafts, config, &info)?;
    let states = planner.heads.as_ref().map(HeadsId::states);
    planner.engine.keeps_states = states.unwrap_or_default();
    let vocabulary = Arc::new(Vocabulary::load(model.path())?);
    let format = ChatFormat::load(config.model.chat_template.as_deref(), &model, &vocabulary)?;
    // llama.cpp reads the vocabulary by the path.
    model.check_current()?;
    let factory = ModelFactory::new(model, id, vocabulary.clone(), config, drafts, progress);
    Ok(Loaded {
        planner,
        hash: hash.filter(|_| is_tried),
        factory,
        vocabulary,
        format,
    })
}
