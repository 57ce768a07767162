//! Whether answers are written point by point, as it is said and as it is used.

use super::checks::within;
use super::choices::{OutlineMode, PromptSettings};
use super::groups::OutlineSettings;
use super::parts::ModelConfig;
use crate::error::{ConfigError, Result};
use crate::outline::{DEFAULT_MAX_POINTS, MIN_POINTS, OutlineLimits, OutlinePrompts, RawPrompts};

/// Most points that can be asked for: more are a list of words, of which none is worth a branch.
const MOST_POINTS: usize = 32;
/// Tokens of a point when nothing is said: a paragraph of five sentences.
const DEFAULT_POINT_TOKENS: u32 = 128;

/// Whether and how answers are written point by point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineConfig {
    /// For requests that do not say otherwise.
    pub mode: OutlineMode,
    /// How many points make an outline.
    pub limits: OutlineLimits,
    /// Most tokens of each point, at least 1.
    pub point_tokens: u32,
    /// The templates that the configuration has; [`OutlineConfig::prompts_for`] completes them.
    pub prompts: PromptSettings,
}

impl OutlineConfig {
    pub(super) fn from_settings(s: &OutlineSettings) -> Result<Self> {
        let max_points = s.outline_points.unwrap_or(DEFAULT_MAX_POINTS);
        let point_tokens = s.point_tokens.unwrap_or(DEFAULT_POINT_TOKENS);
        let prompts = s.outline_prompts.clone().unwrap_or_default();
        // Each template is checked by itself, so it does not matter what completes them.
        prompts.complete(Some(RawPrompts::general()))?;
        Ok(Self {
            mode: s.outline.unwrap_or_default(),
            limits: OutlineLimits {
                min_points: MIN_POINTS,
                max_points: within("outline_points", max_points, MIN_POINTS, MOST_POINTS)?,
            },
            point_tokens: within("point_tokens", point_tokens, 1, u32::MAX)?,
            prompts,
        })
    }

    /// How this model is asked: in the words of the configuration, then in those that suit it.
    ///
    /// # Errors
    /// In one line: a template with an unknown placeholder, without one it needs, or with a lone
    /// brace. A configuration that was read has none.
    pub fn prompts_for(&self, model: &ModelConfig) -> Result<OutlinePrompts> {
        let base = model.is_default().then(RawPrompts::default_model);
        self.prompts.complete(base)
    }
}

impl PromptSettings {
    /// The templates, those that are missing taken from `base`, or from the general ones.
    fn complete(&self, base: Option<RawPrompts>) -> Result<OutlinePrompts> {
        if *self == Self::default() && base.is_none() {
            return Ok(OutlinePrompts::begun());
        }
        let base = base.unwrap_or_else(RawPrompts::general);
        let raw = RawPrompts {
            outline: self.outline.clone().unwrap_or(base.outline),
            expansion: self.expansion.clone().unwrap_or(base.expansion),
        };
        Ok(OutlinePrompts::new(&raw).map_err(ConfigError::OutlinePrompts)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jupiter_models::text::ChatMessage;

    use super::*;
    use crate::config::Config;
    use crate::outline::{Asked, Outline, Point};

    fn read(text: &str) -> Result<Config> {
        Config::from_settings(toml::from_str(text).unwrap())
    }

    #[test]
    fn without_a_word_the_question_decides() {
        let outline = read("").unwrap().outline;
        assert_eq!(outline.mode, OutlineMode::Auto);
        assert_eq!(outline.limits, OutlineLimits::default());
        assert_eq!(outline.point_tokens, DEFAULT_POINT_TOKENS);
        let said = read("outline = 'off'\noutline_points = 32\npoint_tokens = 1").unwrap();
        assert_eq!(said.outline.mode, OutlineMode::Off);
        assert_eq!(said.outline.limits.max_points, MOST_POINTS);
        assert_eq!(said.outline.point_tokens, 1);
    }

    #[test]
    fn what_no_outline_can_have_is_refused_in_one_line() {
        for (text, expected) in [
            (
                "point_tokens = 0",
                "point_tokens is 0: it must be at least 1",
            ),
            (
                "outline_points = 2",
                "outline_points is 2: it must be at least 3",
            ),
            (
                "outline_points = 33",
                "outline_points is 33: it can be at most 32",
            ),
            (
                "[outline_prompts]\noutline = 'Write points.'",
                "outline_prompts: template outline lacks the placeholder {question}: put it where \
                 it belongs",
            ),
            (
                "[outline_prompts]\nexpansion = 'Point {n} of {total}'",
                "outline_prompts: template expansion has an unknown placeholder {total}: it may \
                 have {n}, {title}, {count}",
            ),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn missing_templates_are_as_suits_the_model() {
        let asked = |text: &str| {
            let config = read(text).unwrap();
            let prompts = config.outline.prompts_for(&config.model).unwrap();
            let chat = [ChatMessage::user("Why?")];
            let asked = prompts.ask_outline(&chat, config.outline.limits).unwrap();
            let points = vec![Point {
                title: "One".into(),
            }];
            let point = prompts.ask_point(&asked, &Outline { points }, 0);
            let said = |asked: &Asked| {
                let turn = asked.chat.last().map(|turn| turn.content.as_str());
                format!("{}|{}", turn.unwrap(), asked.begun)
            };
            (said(&asked), said(&point))
        };
        let own = "[outline_prompts]\noutline = '{question} As points, please.'";
        let (outline, point) = asked(own);
        assert_eq!(outline, "Why? As points, please.|");
        assert_eq!(point, "Write point 1: One|");
        let (outline, point) = asked(&format!("model = 'm.gguf'\n{own}"));
        assert_eq!(outline, "Why? As points, please.|");
        assert!(point.starts_with("Now write point 1 of 1: One\n"));
        let (outline, point) = asked("model = 'm.gguf'");
        assert_eq!((&*outline, &*point), ("Why?|1. **", "Why?|1. **One**:"));
    }
}
