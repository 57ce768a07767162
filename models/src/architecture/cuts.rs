//! Where a model may be cut: rules for ranges of layers, as data that travels with its profile.

use serde::{Deserialize, Serialize};

use crate::{LayerRange, ModelError, Result};

/// What each stage of several has to keep to. All layers together are always a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cuts {
    /// Why it cannot be cut at all, if so.
    pub never: Option<String>,
    /// Stages begin at a multiple of it; at least 1.
    pub step: u32,
    /// Why, where that is not 1.
    pub step_why: String,
    /// The fewest layers of a stage; at least 1.
    pub min_layers: u32,
    /// Layer counts that no stage may have.
    pub special_lengths: Vec<u32>,
    /// Of each of these kinds a stage holds a layer.
    pub kinds: Vec<LayerKind>,
}

/// Layers that have something in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerKind {
    /// What: "with a sliding window".
    pub what: String,
    /// Which, ascending.
    pub layers: Vec<u32>,
}

impl LayerKind {
    /// The layers that have a flag.
    pub(super) fn flagged(what: &str, flags: impl IntoIterator<Item = bool>) -> LayerKind {
        let flagged = (0..).zip(flags).filter(|(_, flag)| *flag);
        LayerKind {
            what: what.into(),
            layers: flagged.map(|(il, _)| il).collect(),
        }
    }
}

impl Default for Cuts {
    /// Anywhere.
    fn default() -> Self {
        Cuts {
            never: None,
            step: 1,
            step_why: String::new(),
            min_layers: 1,
            special_lengths: Vec::new(),
            kinds: Vec::new(),
        }
    }
}

impl Cuts {
    /// Nowhere, and why.
    pub fn never(why: String) -> Cuts {
        Cuts {
            never: Some(why),
            ..Cuts::default()
        }
    }

    /// Whether a model may be cut anywhere.
    pub fn is_anywhere(&self) -> bool {
        *self == Cuts::default()
    }

    /// Whether `range` may be a stage of a model of `n_layer` layers.
    pub fn allows(&self, range: LayerRange, n_layer: u32) -> bool {
        self.broken(range, n_layer).is_none()
    }

    /// Checks that `range` may be a stage of a model of `n_layer` layers.
    ///
    /// # Errors
    /// [`ModelError::Unsplittable`] with the rule that is against it.
    pub fn check(&self, range: LayerRange, n_layer: u32) -> Result<()> {
        let Some(rule) = self.broken(range, n_layer) else {
            return Ok(());
        };
        let why = match rule {
            Rule::Never(why) => format!("{why}; run it on one machine (--stages 1)"),
            Rule::Step(at) => {
                let (step, why) = (self.step, &self.step_why);
                format!("a cut at {at} is no multiple of {step}{why}")
            }
            Rule::MinLayers => format!("layers {range} are fewer than {}", self.min_layers),
            Rule::SpecialLength => format!(
                "layers {range} are {}, a count that stands for another model: cut it elsewhere",
                range.len()
            ),
            Rule::Kind(what) => format!("none of layers {range} is one {what}"),
        };
        Err(ModelError::Unsplittable { why })
    }

    /// The first rule that `range` breaks.
    fn broken(&self, range: LayerRange, n_layer: u32) -> Option<Rule<'_>> {
        if range == LayerRange::new(0, n_layer) {
            return None;
        }
        if let Some(why) = &self.never {
            return Some(Rule::Never(why));
        }
        let is_off = |at: &&u32| !at.is_multiple_of(self.step.max(1)) && **at != n_layer;
        if let Some(&at) = [range.start, range.end].iter().find(is_off) {
            return Some(Rule::Step(at));
        }
        if range.len() < self.min_layers {
            return Some(Rule::MinLayers);
        }
        if self.special_lengths.contains(&range.len()) {
            return Some(Rule::SpecialLength);
        }
        let is_lacking = |kind: &&LayerKind| !kind.layers.iter().any(|&il| range.contains(il));
        let kind = self.kinds.iter().find(is_lacking)?;
        Some(Rule::Kind(&kind.what))
    }
}

/// A rule that a range breaks.
enum Rule<'a> {
    /// It cannot be cut, and why.
    Never(&'a str),
    /// An end of the range.
    Step(u32),
    MinLayers,
    SpecialLength,
    /// What it lacks.
    Kind(&'a str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_told() {
        let cuts = Cuts {
            step: 2,
            step_why: ", as every second layer differs".into(),
            min_layers: 4,
            special_lengths: vec![6],
            kinds: vec![LayerKind {
                what: "that attends".into(),
                layers: vec![3, 7],
            }],
            ..Cuts::default()
        };
        let check = |start, end, expected: Option<&str>| {
            let refusal = cuts.check(LayerRange::new(start, end), 17).err();
            let expected = expected.map(|why| format!("this model cannot be split: {why}"));
            assert_eq!(refusal.map(|error| error.to_string()), expected);
        };
        check(0, 17, None);
        check(0, 4, None);
        check(4, 17, None);
        check(
            2,
            7,
            Some("a cut at 7 is no multiple of 2, as every second layer differs"),
        );
        check(0, 2, Some("layers 0..2 are fewer than 4"));
        check(8, 12, Some("none of layers 8..12 is one that attends"));
        check(
            0,
            6,
            Some("layers 0..6 are 6, a count that stands for another model: cut it elsewhere"),
        );
        let never = Cuts::never("it is one".into());
        assert!(never.allows(LayerRange::new(0, 17), 17));
        assert!(!never.allows(LayerRange::new(0, 16), 17));
        assert!(Cuts::default().is_anywhere() && !cuts.is_anywhere());
    }
}
