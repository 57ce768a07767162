//! The files of this machine that guess tokens ahead. One that cannot be used is left out with a
//! warning: answers come without it, only later.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jupiter_models::draft_model::DraftModel;
use jupiter_models::engine::EngineParams;
use jupiter_models::gguf::{GgufFile, ModelInfo};
use jupiter_models::medusa::MedusaHeads;
use jupiter_models::text::Vocabulary;
use jupiter_models::{ModelError, Result};

use crate::config::Config;

/// What guesses on this machine.
#[derive(Default)]
pub(crate) struct Drafts {
    /// Medusa heads and their content hash.
    medusa: Option<(String, Arc<MedusaHeads>)>,
    /// A draft model's file and its content hash.
    model: Option<(String, GgufFile)>,
}

impl Drafts {
    /// Opens what `config` names, for a model of `info`. Blocks while it reads.
    pub(crate) fn load(config: &Config, info: &ModelInfo) -> Self {
        let path = config.speculation.medusa_path(&config.model);
        let path = path.unwrap_or_else(|error| {
            tracing::warn!("no Medusa heads: {error}");
            None
        });
        let heads = path.map(|path| open_heads(&path, info));
        let heads = heads.transpose().unwrap_or_else(|error| {
            tracing::warn!("no Medusa heads: {error}");
            None
        });
        let draft = config.speculation.draft_path(&config.model);
        let draft = draft.and_then(|path| path.map(hashed).transpose());
        let model = draft.unwrap_or_else(|error| {
            tracing::warn!("no draft model: {error}");
            None
        });
        Self {
            medusa: heads,
            model,
        }
    }

    /// Content hash of the Medusa heads.
    pub(crate) fn medusa_id(&self) -> Option<String> {
        self.medusa.as_ref().map(|(id, _)| id.clone())
    }

    /// Content hash of the draft model.
    pub(crate) fn model_id(&self) -> Option<String> {
        self.model.as_ref().map(|(id, _)| id.clone())
    }

    /// Loads the draft model with content hash `id`, for a model with `vocabulary`.
    ///
    /// # Errors
    /// When there is none, or another, or it does not fit.
    pub(crate) fn model(
        &self,
        id: &str,
        vocabulary: &Vocabulary,
        params: &EngineParams,
    ) -> Result<DraftModel> {
        let model = self.model.as_ref().filter(|(own, _)| own == id);
        let (_, file) = model.ok_or_else(|| {
            let how = "this node has no draft model, or another than the head: start its worker \
                       with the same -md FILE";
            ModelError::BadInput { what: how.into() }
        })?;
        DraftModel::load(file, vocabulary, params)
    }

    /// The heads with content hash `id`.
    ///
    /// # Errors
    /// When there are none, or others.
    pub(crate) fn medusa(&self, id: &str) -> Result<Arc<MedusaHeads>> {
        let heads = self.medusa.as_ref().filter(|(own, _)| own == id);
        heads.map(|(_, heads)| heads.clone()).ok_or_else(|| {
            let how = "this node has no Medusa heads, or others than the head: start its worker \
                       with the same --medusa FILE";
            ModelError::BadInput { what: how.into() }
        })
    }
}

/// A file with its content hash.
fn hashed(path: PathBuf) -> crate::error::Result<(String, GgufFile)> {
    let file = GgufFile::open(path)?;
    ModelInfo::from_gguf(&file)?;
    Ok((file.content_hash()?, file))
}

/// Opens heads that fit the model.
fn open_heads(path: &Path, info: &ModelInfo) -> Result<(String, Arc<MedusaHeads>)> {
    let file = GgufFile::open(path)?;
    let heads = MedusaHeads::from_gguf(&file)?;
    let (got, expected) = (
        (heads.n_embd(), heads.n_vocab()),
        (info.n_embd as usize, info.n_vocab as usize),
    );
    if got != expected {
        return Err(ModelError::BadGguf {
            path: path.to_owned(),
            what: format!(
                "its heads are for states of {} values and {} tokens, the model has {} and {}: \
                 take the heads that were trained for it",
                got.0, got.1, expected.0, expected.1
            ),
        });
    }
    // What was read has to be what is hashed: written to since, it has no hash.
    Ok((file.content_hash()?, Arc::new(heads)))
}
