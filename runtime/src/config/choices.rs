//! Values of which some can be chosen, and how flags take them.

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, RangedI64ValueParser, TypedValueParser};
use jupiter_actors::planner::Schedule;
use jupiter_actors::planning::placement::Objective;
use jupiter_models::gguf::KvDtype;
use jupiter_models::hidden::HiddenDtype;
use serde::de::value::Error as ValueError;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Serialize};

/// When an answer is written with an outline, its points side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OutlineMode {
    /// When the question suits.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// How the model is asked in turns of their own, each template optional. Without any, the answer is
/// begun for a model that was not trained for outlines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptSettings {
    /// Takes the place of the question: `{question}`, and `{min}` and `{max}` points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outline: Option<String>,
    /// The turn behind the outline: `{n}`, and `{title}` and the `{count}` of points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expansion: Option<String>,
}

/// Who guesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DraftSetting {
    /// Whichever source brings most.
    #[default]
    Auto,
    /// Nobody.
    None,
    /// What stood in the text before.
    Ngram,
    /// The draft model.
    Draft,
    /// Medusa heads.
    Medusa,
    /// The model's own block for multi-token prediction.
    Mtp,
}

/// What makes a guess right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RuleSetting {
    /// That the model says the same: the text does not change.
    #[default]
    Exact,
    /// That the model holds it for likely enough: the text changes.
    Typical,
}

/// Parser of numbers from 1 up.
pub fn positive() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

pub(super) fn kv_dtype() -> impl TypedValueParser<Value = KvDtype> {
    choice(["f16", "q8_0"])
}

pub(super) fn hidden_dtype() -> impl TypedValueParser<Value = HiddenDtype> {
    choice(["f32", "f16", "q8_0"])
}

pub(super) fn objective() -> impl TypedValueParser<Value = Objective> {
    let value = |name, help| PossibleValue::new(name).help(help);
    choice([
        value("ttft", "Time to the first token of a prompt"),
        value("tbt", "Time between tokens of one stream"),
        value("throughput", "Tokens a second of many streams together"),
    ])
}

pub(super) fn schedule() -> impl TypedValueParser<Value = Schedule> {
    let value = |name, help| PossibleValue::new(name).help(help);
    choice([
        value(
            "auto",
            "By time: equal steps, as many rows of prompts as --tbt-target allows",
        ),
        value(
            "throttle",
            "By what waits and what memory is free, as gLLM does",
        ),
        value(
            "chunked",
            "Up to --ubatch-size rows, as Sarathi-Serve and vLLM do",
        ),
    ])
}

/// The values of these names, as in the file.
fn choice<T>(names: impl Into<PossibleValuesParser>) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    let names: PossibleValuesParser = names.into();
    names.try_map(|name| T::deserialize(IntoDeserializer::<ValueError>::into_deserializer(name)))
}

/// `on` or `off`, and what llama.cpp takes for them.
pub(super) fn switch() -> impl TypedValueParser<Value = bool> {
    let names = [
        PossibleValue::new("on").aliases(["1", "true", "auto"]),
        PossibleValue::new("off").aliases(["0", "false"]),
    ];
    PossibleValuesParser::new(names).map(|name| !["off", "0", "false"].contains(&name.as_str()))
}
