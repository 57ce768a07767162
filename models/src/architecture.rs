//! Which architectures may be split, and what is special about each.
//!
//! The facts are read from llama.cpp's `src/models/<arch>.cpp` at the pinned version; the parity
//! tests prove them. An architecture gets in here when they pass for it.

use crate::gguf::ModelInfo;
use crate::{LayerRange, ModelError, Result};

/// An architecture whose layer ranges are proven to compute what the whole model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// `llama`: Llama 1 to 3, Mistral, and Mixtral-style mixtures of experts.
    Llama,
    /// `qwen2`.
    Qwen2,
    /// `qwen3`.
    Qwen3,
    /// `qwen3moe`.
    Qwen3Moe,
    /// `gemma2`.
    Gemma2,
    /// `gemma3`.
    Gemma3,
    /// `phi3`.
    Phi3,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Architecture; 7] = [
        Architecture::Llama,
        Architecture::Qwen2,
        Architecture::Qwen3,
        Architecture::Qwen3Moe,
        Architecture::Gemma2,
        Architecture::Gemma3,
        Architecture::Phi3,
    ];

    /// Its `general.architecture`.
    pub const fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Qwen3Moe => "qwen3moe",
            Architecture::Gemma2 => "gemma2",
            Architecture::Gemma3 => "gemma3",
            Architecture::Phi3 => "phi3",
        }
    }

    /// The architecture of that `general.architecture`.
    pub fn from_name(name: &str) -> Option<Architecture> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// What token embeddings are multiplied with before the first layer, if anything.
    pub fn embedding_scale(self, n_embd: u32) -> Option<f32> {
        match self {
            Architecture::Gemma2 | Architecture::Gemma3 => Some((n_embd as f32).sqrt()),
            _ => None,
        }
    }

    /// Whether the graph applies [`Architecture::embedding_scale`] to hidden states that are fed
    /// in as well. gemma2 does (`inp_scaled` in gemma2.cpp), so the engine puts the input back
    /// after that node; gemma3 scales tokens only.
    pub const fn scales_hidden_input(self) -> bool {
        matches!(self, Architecture::Gemma2)
    }

    /// The period of the sliding-window pattern where the file gives none: layer `il` slides when
    /// `il % period < period - 1`. None for architectures whose graph has no such layers.
    pub const fn sliding_window_period(self) -> Option<u32> {
        match self {
            Architecture::Gemma2 => Some(2),
            Architecture::Gemma3 => Some(6),
            _ => None,
        }
    }

    /// The window where the file gives none; without one no layer slides.
    pub const fn default_sliding_window(self) -> Option<u32> {
        match self {
            Architecture::Gemma2 => Some(4096),
            _ => None,
        }
    }

    /// The layer count by which llama.cpp takes a model for the 27B one, whose attention scale
    /// differs: a slice of such a model, or a slice that long, would be scaled wrongly.
    const fn n_layer_27b(self) -> Option<u32> {
        match self {
            Architecture::Gemma2 => Some(46),
            Architecture::Gemma3 => Some(62),
            _ => None,
        }
    }
}

/// The supported names, comma-separated.
pub fn supported_names() -> String {
    Architecture::ALL.map(Architecture::name).join(", ")
}

/// The architecture of `model`; `None` for one that is not proven, when `allow_unproven`.
///
/// # Errors
/// [`ModelError::UnsupportedArchitecture`] for one that is not proven.
pub fn check_supported(model: &ModelInfo, allow_unproven: bool) -> Result<Option<Architecture>> {
    match Architecture::from_name(&model.arch) {
        None if !allow_unproven => Err(ModelError::UnsupportedArchitecture {
            arch: model.arch.clone(),
            supported: supported_names(),
        }),
        known => Ok(known),
    }
}

/// Refuses the ranges of supported architectures that would compute something else.
///
/// # Errors
/// [`ModelError::Unsplittable`] where llama.cpp chooses constants by the layer count.
pub fn check_splittable(model: &ModelInfo, range: LayerRange) -> Result<()> {
    if range == model.all_layers() {
        return Ok(());
    }
    let n_27b = Architecture::from_name(&model.arch).and_then(Architecture::n_layer_27b);
    let Some(n) = n_27b.filter(|n| [model.n_layer, range.len()].contains(n)) else {
        return Ok(());
    };
    let what = if model.n_layer == n {
        "the model"
    } else {
        "the range"
    };
    Err(ModelError::Unsplittable {
        why: format!(
            "{what} has {n} layers, and {} chooses its attention scale by that count; {}",
            model.arch,
            if model.n_layer == n {
                "run it on one machine"
            } else {
                "cut it elsewhere"
            }
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gguf::tests::info;

    #[test]
    fn names_round_trip_and_others_are_refused_by_name() {
        for arch in Architecture::ALL {
            assert_eq!(Architecture::from_name(arch.name()), Some(arch));
        }
        let mamba = ModelInfo {
            arch: "mamba".into(),
            ..info("llama", 4)
        };
        assert_eq!(
            check_supported(&mamba, false).unwrap_err().to_string(),
            "architecture `mamba` is not supported (supported: llama, qwen2, qwen3, qwen3moe, \
             gemma2, gemma3, phi3); --allow-unproven tries it anyway"
        );
        assert_eq!(check_supported(&mamba, true).unwrap(), None);
    }

    #[test]
    fn models_whose_scale_hangs_on_the_layer_count_stay_whole() {
        let check = |arch, n_layer, start, end| {
            check_splittable(&info(arch, n_layer), LayerRange::new(start, end))
                .map_err(|error| error.to_string())
        };
        assert_eq!(check("gemma2", 46, 0, 46), Ok(()));
        assert_eq!(check("gemma2", 42, 0, 20), Ok(()));
        assert_eq!(check("llama", 46, 0, 20), Ok(()));
        assert_eq!(
            check("gemma2", 46, 0, 23).unwrap_err(),
            "this model cannot be split: the model has 46 layers, and gemma2 chooses its attention \
             scale by that count; run it on one machine"
        );
        assert!(check("gemma3", 62, 3, 5).is_err());
        assert!(
            check("gemma3", 70, 0, 62)
                .unwrap_err()
                .ends_with("cut it elsewhere")
        );
    }
}
