//! How tokens are guessed ahead, as it is said and as it is used.

use std::path::PathBuf;

use jupiter_actors::NodeId;
use jupiter_actors::request::{DEFAULT_DRAFT_MAX, DraftChoice, SpeculationParams};
use jupiter_actors::speculation::accept::{AcceptanceRule, TypicalParams};
use jupiter_models::default_model::{self, DefaultFile};

use super::checks::within;
use super::choices::{DraftSetting, RuleSetting};
use super::groups::{DraftSettings, SpeculationSettings};
use super::parts::ModelConfig;
use crate::error::Result;
use crate::net::keys::check_name;

/// Most tokens of a guess: beyond, hardly any is right.
const MAX_DRAFT: u32 = 128;

impl From<DraftSetting> for DraftChoice {
    fn from(setting: DraftSetting) -> Self {
        match setting {
            DraftSetting::Auto => Self::Auto,
            DraftSetting::None => Self::None,
            DraftSetting::Ngram => Self::Ngram,
            DraftSetting::Draft => Self::Model,
            DraftSetting::Medusa => Self::Medusa,
            DraftSetting::Mtp => Self::Mtp,
        }
    }
}

/// How tokens are guessed ahead.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpeculationConfig {
    /// For requests that do not say otherwise.
    pub params: SpeculationParams,
    /// The draft model's file, if there is one.
    pub draft_model: Option<PathBuf>,
    /// The node of the draft model; none: the head.
    pub draft_node: Option<NodeId>,
    /// The file of Medusa heads, if one is named.
    pub medusa: Option<PathBuf>,
}

impl SpeculationConfig {
    pub(super) fn from_settings(
        guessing: &SpeculationSettings,
        drafts: DraftSettings,
    ) -> Result<Self> {
        let draft_max = drafts.draft_max.unwrap_or(DEFAULT_DRAFT_MAX);
        if let Some(node) = &drafts.draft_node {
            check_name("draft node", node)?;
        }
        Ok(Self {
            params: SpeculationParams {
                source: guessing.speculative.unwrap_or_default().into(),
                draft_max: within("draft_max", draft_max, 1, MAX_DRAFT)?,
                in_flight: None,
                rule: match guessing.draft_acceptance.unwrap_or_default() {
                    RuleSetting::Exact => AcceptanceRule::Exact,
                    RuleSetting::Typical => AcceptanceRule::Typical(TypicalParams::default()),
                },
            },
            draft_model: drafts.model_draft,
            draft_node: drafts.draft_node.map(NodeId),
            medusa: drafts.medusa,
        })
    }

    /// The file of Medusa heads: the one that is named, or the default model's own where they are
    /// asked for.
    ///
    /// # Errors
    /// When the default model's copy cannot be written.
    pub fn medusa_path(&self, model: &ModelConfig) -> Result<Option<PathBuf>> {
        self.path(
            model,
            &self.medusa,
            &DraftChoice::Medusa,
            DefaultFile::Medusa,
        )
    }

    /// The draft model's file: the one that is named, or the default model's own, which of its
    /// sources brings most.
    ///
    /// # Errors
    /// When the default model's copy cannot be written.
    pub fn draft_path(&self, model: &ModelConfig) -> Result<Option<PathBuf>> {
        let named = self.path(
            model,
            &self.draft_model,
            &DraftChoice::Model,
            DefaultFile::Draft,
        )?;
        let is_auto = self.params.source == DraftChoice::Auto;
        if named.is_none() && is_auto && model.is_default() && self.medusa.is_none() {
            return Ok(Some(default_model::path(DefaultFile::Draft)?));
        }
        Ok(named)
    }

    /// The file that is `named`, if its kind of source may be used, or the default model's `own`,
    /// if just that kind is.
    fn path(
        &self,
        model: &ModelConfig,
        named: &Option<PathBuf>,
        kind: &DraftChoice,
        own: DefaultFile,
    ) -> Result<Option<PathBuf>> {
        let is_asked = self.params.source == *kind;
        match named {
            Some(path) if is_asked || self.params.source == DraftChoice::Auto => {
                Ok(Some(path.clone()))
            }
            None if is_asked && model.is_default() => Ok(Some(default_model::path(own)?)),
            _ => Ok(None),
        }
    }
}
