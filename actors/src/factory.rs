//! What actors are made of: engines, vocabularies, models that guess. The program that runs them knows
//! where these are.

use std::sync::Arc;

use jupiter_models::draft_model::DraftModel;
use jupiter_models::engine::StageEngine;
use jupiter_models::medusa::MedusaHeads;
use jupiter_models::mtp::MtpBlock;
use jupiter_models::text::Vocabulary;

use crate::message::{DrafterAssignment, HeadsId, StageAssignment};

/// What guesses beside the Verifier.
pub enum Heads {
    /// Each names tokens for its own place.
    Medusa(Arc<MedusaHeads>),
    /// Guesses one place upon the other.
    Mtp(Box<MtpBlock>),
}

/// Held by engine threads: its channel closes when the last one that holds it has ended.
pub type ThreadGuard = tokio::sync::mpsc::Sender<()>;

/// Makes what a stage needs from the model file; called on threads that may block.
pub trait StageFactory: Send + Sync + 'static {
    /// Loads the engine of a stage.
    ///
    /// # Errors
    /// When the model cannot be cut or loaded as asked; the stage is not restarted then.
    fn load(&self, assignment: &StageAssignment) -> jupiter_models::Result<Box<dyn StageEngine>>;

    /// The vocabulary for the Verifier beside the last stage.
    ///
    /// # Errors
    /// When the model file cannot be read.
    fn vocabulary(&self, assignment: &StageAssignment) -> jupiter_models::Result<Arc<Vocabulary>>;

    /// What guesses beside the Verifier of that stage.
    ///
    /// # Errors
    /// When this node has no such heads, or others, or they do not fit the model or the memory.
    fn heads(&self, heads: &HeadsId, stage: &StageAssignment) -> jupiter_models::Result<Heads>;

    /// The draft model, for the Drafter.
    ///
    /// # Errors
    /// When this node has none, or another, or it does not fit the model.
    fn draft_model(&self, assignment: &DrafterAssignment) -> jupiter_models::Result<DraftModel>;
}
