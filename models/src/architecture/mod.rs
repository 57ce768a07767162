//! What is special about each architecture, and which of their models may be cut where.
//!
//! - `table`: the proven ones, an entry each, in the words of `facts`
//! - `others`: the names of the others, and what can be done with them
//! - `cuts`: where a model may be cut, as data that planning takes along

mod cuts;
mod facts;
mod others;
mod table;

use crate::gguf::{ModelInfo, RecurrentInfo};
use crate::llama::context::HiddenInput;
use crate::{LayerRange, ModelError, Result};

pub use cuts::{Cuts, LayerKind};
pub use facts::Architecture;
pub(crate) use facts::{
    InputScale, LAYER_NORM, Latent, PLAIN_OUTPUT, RMS, RecurrentLayers, State, Window, Without,
};
pub use others::Other;
pub use table::ARCHITECTURES;

impl Architecture {
    /// The proven architecture of that `general.architecture`.
    pub fn from_name(name: &str) -> Option<&'static Architecture> {
        ARCHITECTURES.iter().find(|arch| arch.name == name)
    }

    /// How hidden states enter the graph.
    pub(crate) fn hidden_input(&self) -> HiddenInput {
        match self.input_scale {
            InputScale::RootOfAll => HiddenInput::OverScaled,
            _ if self.takes_only_tokens => HiddenInput::OverTokens,
            _ => HiddenInput::Plain,
        }
    }

    /// Where its models may be cut, for people.
    pub fn cuts_in_words(&self) -> String {
        let mut words = Vec::new();
        match (self.cut_step, &self.sliding) {
            (1, _) => {}
            (step, Some(sliding)) if sliding.is_cut_unwindowed => {
                words.push(format!("at multiples of {step} where a window slides"));
            }
            (step, _) => words.push(format!("at multiples of {step}")),
        }
        if self.min_layers > 1 {
            words.push(format!("stages of {} layers or more", self.min_layers));
        }
        if self
            .sliding
            .is_some_and(|sliding| sliding.without == Without::Impossible)
        {
            words.push("each stage with a sliding layer".into());
        }
        if self
            .recurrent
            .is_some_and(|recurrent| !recurrent.layers.are_alike())
        {
            words.push("each stage with an attending and a recurrent layer".into());
        }
        for n in self.special_lengths {
            words.push(format!("not models or stages of {n} layers"));
        }
        if let Some(Latent::OneQueryMatrixAt(models)) = self.latent {
            let counts: Vec<_> = models.iter().map(|(n, _)| n.to_string()).collect();
            words.push(format!(
                "not stages of {} layers but in lite models",
                counts.join(", ")
            ));
        }
        if let Some(most) = self.whole_from {
            words.push(format!("not models of {most} layers or more"));
        }
        match words.is_empty() {
            true => "anywhere".into(),
            false => words.join("; "),
        }
    }

    /// What this architecture asks of the cuts of a model with the hyperparameters `info`.
    fn cuts(&self, info: &ModelInfo) -> Cuts {
        let name = self.name;
        if info.shares_across_layers {
            return Cuts::never("its layers use the tokens, and the keys of other layers".into());
        }
        if self.special_lengths.contains(&info.n_layer) {
            return Cuts::never(format!(
                "the model has {} layers, and {name} chooses constants by that count",
                info.n_layer
            ));
        }
        if let Some(most) = self.whole_from.filter(|&most| info.n_layer >= most) {
            return Cuts::never(format!(
                "the layers of {name} models with {most} layers or more load only together"
            ));
        }
        let is_windowed = info.sliding_window.is_some();
        let mut cuts = Cuts {
            step: 1,
            min_layers: self.min_layers,
            special_lengths: self.special_lengths.to_vec(),
            kinds: info.recurrent.as_ref().map_or(vec![], kinds_of_memory),
            ..Cuts::default()
        };
        if let (Some(Latent::OneQueryMatrixAt(models)), Some(latent)) = (self.latent, info.latent)
            && !latent.has_one_query_matrix
        {
            cuts.special_lengths.extend(models.iter().map(|(n, _)| n));
        }
        match &self.sliding {
            Some(sliding) if !is_windowed => {
                if !sliding.is_cut_unwindowed {
                    return Cuts::never(format!(
                        "without a sliding window {name} counts its layers from the end"
                    ));
                }
                // Its steps belong to the window.
                return cuts;
            }
            Some(sliding) if sliding.without == Without::Impossible => {
                let window = info.sliding_window.as_ref();
                let flags = window.map_or(&[][..], |window| &window.layers);
                let sliding = flags.iter().copied();
                cuts.kinds = vec![LayerKind::flagged("with a sliding window", sliding)];
            }
            _ => {}
        }
        cuts.step = least_common_multiple(self.cut_step, info.expert_step);
        cuts.step_why = self.cut_step_why.into();
        cuts
    }
}

/// Checks that a model of that architecture can be run at all, cut or not.
///
/// # Errors
/// [`ModelError::UnsupportedArchitecture`] with the reason.
pub fn check_runs(name: &str) -> Result<()> {
    match (Architecture::from_name(name), Other::of(name)) {
        (None, Other::Refused(why)) => Err(ModelError::UnsupportedArchitecture {
            arch: name.into(),
            why,
        }),
        _ => Ok(()),
    }
}

/// Where a model with the hyperparameters `info` may be cut. With `allow_unproven` those without a
/// proof are tried whose graphs at least have nothing against it.
pub fn cuts(info: &ModelInfo, allow_unproven: bool) -> Cuts {
    if let Some(arch) = Architecture::from_name(&info.arch) {
        return arch.cuts(info);
    }
    match Other::of(&info.arch) {
        Other::Untested if allow_unproven => Cuts::default(),
        Other::Untested => Cuts::never(format!(
            "no test has shown that `{}` models are cut right; --allow-unproven tries it",
            info.arch
        )),
        Other::Whole | Other::Refused(_) => Cuts::never(format!(
            "what the layers of `{}` models need of each other is not known here",
            info.arch
        )),
    }
}

/// Refuses the ranges that would compute something else, or end the process.
///
/// # Errors
/// [`ModelError::Unsplittable`] with what is against it.
pub fn check_splittable(info: &ModelInfo, range: LayerRange, allow_unproven: bool) -> Result<()> {
    cuts(info, allow_unproven).check(range, info.n_layer)
}

/// A graph in which nothing uses one of the two memories aborts (`llm_graph_input_mem_hybrid::set_input`
/// in llama-graph.cpp).
fn kinds_of_memory(recurrent: &RecurrentInfo) -> Vec<LayerKind> {
    let kinds = [
        ("that attends", &recurrent.attends),
        ("that is recurrent", &recurrent.layers),
    ];
    let kinds = kinds
        .into_iter()
        .filter(|(_, layers)| layers.contains(&false) && layers.contains(&true));
    let kinds = kinds.map(|(name, layers)| LayerKind::flagged(name, layers.iter().copied()));
    kinds.collect()
}

fn least_common_multiple(a: u32, b: u32) -> u32 {
    let (mut x, mut y) = (a.max(1), b.max(1));
    let product = x * y;
    while y != 0 {
        (x, y) = (y, x % y);
    }
    product / x
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gguf::LatentInfo;
    use crate::gguf::tests::info;

    fn check(arch: &str, n_layer: u32, range: (u32, u32), allow: bool) -> String {
        let range = LayerRange::new(range.0, range.1);
        check_splittable(&info(arch, n_layer), range, allow)
            .map_or_else(|error| error.to_string(), |()| "ok".into())
    }

    #[test]
    fn what_would_be_wrong_is_refused_by_name_with_the_flag_and_without() {
        for allow in [false, true] {
            assert_eq!(
                check("gemma3n", 30, (0, 15), allow),
                "this model cannot be split: what the layers of `gemma3n` models need of each other \
                 is not known here; run it on one machine (--stages 1)"
            );
            assert_eq!(check("gemma3n", 30, (0, 30), allow), "ok");
        }
        assert_eq!(
            check("olmoe", 16, (0, 8), false),
            "this model cannot be split: no test has shown that `olmoe` models are cut right; \
             --allow-unproven tries it; run it on one machine (--stages 1)"
        );
        assert_eq!(check("olmoe", 16, (0, 8), true), "ok");
        assert_eq!(
            check_runs("mamba").unwrap_err().to_string(),
            "architecture `mamba` cannot be run: its layers keep a state of the past, and no test has \
             shown that guesses, branches and kept answers are right with it (`jupiter models` lists \
             what can)"
        );
        assert!(
            check_runs("new")
                .unwrap_err()
                .to_string()
                .contains("does not run it")
        );
        check_runs("gemma3n").unwrap();
        check_runs("llama").unwrap();
    }

    #[test]
    fn models_whose_constants_hang_on_the_layer_count_stay_whole() {
        assert_eq!(check("gemma2", 46, (0, 46), false), "ok");
        assert_eq!(check("gemma2", 42, (0, 20), false), "ok");
        assert_eq!(check("llama", 46, (0, 20), false), "ok");
        assert_eq!(
            check("gemma2", 46, (0, 23), true),
            "this model cannot be split: the model has 46 layers, and gemma2 chooses constants by \
             that count; run it on one machine (--stages 1)"
        );
        assert!(check("gemma3", 62, (3, 5), false).ends_with("(--stages 1)"));
        assert_eq!(
            check("gemma3", 70, (0, 62), false),
            "this model cannot be split: layers 0..62 are 62, a count that stands for another \
             model: cut it elsewhere"
        );
    }

    #[test]
    fn a_stage_as_long_as_a_lite_model_is_refused_where_the_model_is_none() {
        let check = |has_one_query_matrix, end| {
            let latent = LatentInfo {
                is_absorbed: true,
                has_one_query_matrix,
            };
            let info = ModelInfo {
                latent: Some(latent),
                ..info("deepseek2", 61)
            };
            check_splittable(&info, LayerRange::new(0, end), false)
        };
        check(false, 30).unwrap();
        check(true, 27).unwrap();
        let refusal = check(false, 27).unwrap_err().to_string();
        assert!(refusal.contains("layers 0..27 are 27"), "{refusal}");
    }
}
