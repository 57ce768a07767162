//! What may be said in a configuration file, the environment and flags.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{Environment, Map};
use jupiter_actors::planning::placement::Objective;
use jupiter_models::gguf::KvDtype;
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::kernels::KernelChoice;
use serde::{Deserialize, Serialize};

use super::outline::{OutlineMode, PromptSettings};
use super::speculation::{DraftSetting, RuleSetting};
use super::table::Table;
use crate::error::{ConfigError, Result};

/// Prefix of the environment's names.
const ENV_PREFIX: &str = "JUPITER";

/// Keys whose value in the environment is a list, separated by commas.
const LIST_KEYS: [&str; 3] = ["listen", "connect", "split"];

/// How many valid keys an error offers for an unknown one.
const MAX_SUGGESTIONS: usize = 3;

/// All keys, each optional. They are named like the flags: `ctx_size` is `--ctx-size` is
/// `JUPITER_CTX_SIZE`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Name of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Name of this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Endpoints to listen on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<String>,
    /// Endpoints to connect to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect: Vec<String>,
    /// The GGUF file; without it the default model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// Whether architectures are tried whose split is not proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_unproven: Option<bool>,
    /// The chat template: a name that llama.cpp knows, or a file of Jinja; without it the model's
    /// own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// KV cells that all sequences share; without it 4096, or what the model was trained on if
    /// that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx_size: Option<u32>,
    /// Sequences at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// Most rows of a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ubatch_size: Option<u32>,
    /// Threads of each stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Type of the cached keys: f16 or q8_0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_type_k: Option<KvDtype>,
    /// Type of the cached values: f16 or q8_0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_type_v: Option<KvDtype>,
    /// Flash attention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flash_attn: Option<bool>,
    /// Whose kernels compute: auto for ours, off for llama.cpp's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernels: Option<KernelChoice>,
    /// Layers of each stage on the GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_gpu_layers: Option<u32>,
    /// Number of stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages: Option<u32>,
    /// Layers of each stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Vec<u32>>,
    /// How layers are placed on nodes: `auto`, `even`, or a plan's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// What a plan is to be good at: ttft, tbt or throughput.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<Objective>,
    /// How hidden states travel: f32, f16 or q8_0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_type: Option<HiddenDtype>,
    /// Who guesses tokens ahead: auto, none, ngram, draft or medusa.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculative: Option<DraftSetting>,
    /// A draft model's GGUF file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_draft: Option<PathBuf>,
    /// The node of the draft model; without it the head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_node: Option<String>,
    /// A GGUF file of Medusa heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medusa: Option<PathBuf>,
    /// Most tokens of a guess.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_max: Option<u32>,
    /// What makes a guess right: exact or typical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_acceptance: Option<RuleSetting>,
    /// When an answer is written with an outline: auto, on or off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outline: Option<OutlineMode>,
    /// Most points of an outline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outline_points: Option<usize>,
    /// Most tokens of each point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point_tokens: Option<u32>,
    /// How the model is asked for outlines: a table, which has no flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outline_prompts: Option<PromptSettings>,
    /// Remote nodes to wait for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// Whether the head computes too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_stages: Option<bool>,
    /// Longest wait for a step's report, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_timeout_ms: Option<u64>,
    /// How long a request waits for nodes, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_wait_ms: Option<u64>,
    /// Emulates a device so many times slower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowdown: Option<f64>,
    /// Emulates a device with so much free memory, as `600M`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<String>,
    /// Emulates a link of this rate for what the node sends, as `100mbit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_rate: Option<String>,
    /// Emulates a link of this latency for what the node sends, as `5ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_latency: Option<String>,
}

/// The names of [`Settings`]' fields.
pub(crate) const KEYS: [&str; 39] = [
    "cluster",
    "node",
    "listen",
    "connect",
    "model",
    "allow_unproven",
    "chat_template",
    "ctx_size",
    "parallel",
    "ubatch_size",
    "threads",
    "cache_type_k",
    "cache_type_v",
    "flash_attn",
    "kernels",
    "n_gpu_layers",
    "stages",
    "split",
    "plan",
    "objective",
    "hidden_type",
    "speculative",
    "model_draft",
    "draft_node",
    "medusa",
    "draft_max",
    "draft_acceptance",
    "outline",
    "outline_points",
    "point_tokens",
    "outline_prompts",
    "workers",
    "host_stages",
    "step_timeout_ms",
    "node_wait_ms",
    "slowdown",
    "memory_limit",
    "link_rate",
    "link_latency",
];

impl Settings {
    /// As [`Settings::load`], with the environment of this process.
    ///
    /// # Errors
    /// The same.
    pub fn load_here(file: Option<&Path>, flags: &Settings) -> Result<Self> {
        // Variables that are no text are none of ours.
        let text = |(key, value): (OsString, OsString)| {
            Some((key.into_string().ok()?, value.into_string().ok()?))
        };
        Self::load(file, std::env::vars_os().filter_map(text), flags)
    }

    /// The file, then `environment`, then `flags`; the later ones win. Variables that begin with
    /// `JUPITER_` and name no key belong to the command line, and are left alone.
    ///
    /// # Errors
    /// In one line: a file that cannot be read, an unknown key with the nearest valid ones, a
    /// value of the wrong type.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &Settings,
    ) -> Result<Self> {
        let mut builder = config::Config::builder();
        if let Some(path) = file {
            let table = Table::read(path)?;
            check_keys(path, table.keys())?;
            builder = builder.add_source(table);
        }
        let mut settings: Self = builder
            .add_source(environment_source(environment))
            .add_source(config::Config::try_from(flags).map_err(one_line)?)
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(one_line)?;
        // Two ways of saying the same: what a flag says hides the other way.
        if flags.stages.is_some() || flags.split.is_some() || flags.plan.is_some() {
            settings.stages = flags.stages;
            settings.split.clone_from(&flags.split);
            settings.plan.clone_from(&flags.plan);
        }
        Ok(settings)
    }
}

/// The variables that name a key.
fn environment_source(variables: impl IntoIterator<Item = (String, String)>) -> Environment {
    let ours = variables.into_iter().filter(|(name, value)| {
        let key = name
            .strip_prefix(ENV_PREFIX)
            .and_then(|rest| rest.strip_prefix('_'));
        key.is_some_and(|key| KEYS.contains(&key.to_lowercase().as_str())) && !value.is_empty()
    });
    let environment = Environment::with_prefix(ENV_PREFIX)
        .prefix_separator("_")
        .try_parsing(true)
        .list_separator(",")
        .source(Some(ours.collect::<Map<_, _>>()));
    LIST_KEYS.iter().fold(environment, |environment, key| {
        environment.with_list_parse_key(key)
    })
}

/// Refuses keys that do not exist.
fn check_keys<'a>(path: &Path, keys: impl Iterator<Item = &'a String>) -> Result<()> {
    for key in keys {
        if !KEYS.contains(&key.as_str()) {
            let unknown = ConfigError::UnknownKey {
                path: path.to_owned(),
                key: key.clone(),
                nearest: nearest_keys(key).into_iter().map(str::to_owned).collect(),
            };
            return Err(unknown.into());
        }
    }
    Ok(())
}

/// The valid keys that look most like `key`.
fn nearest_keys(key: &str) -> Vec<&'static str> {
    let mut by_distance = KEYS.map(|valid| (edit_distance(key, valid), valid));
    by_distance.sort_unstable();
    let best = by_distance[0].0;
    let near = by_distance
        .iter()
        .take_while(|(distance, _)| *distance <= best + 1);
    near.take(MAX_SUGGESTIONS)
        .map(|(_, valid)| *valid)
        .collect()
}

/// Insertions, deletions and replacements that make `b` of `a` (Levenshtein's distance).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The parser draws pictures over several lines; its words fit in one.
pub(super) fn one_line(error: config::ConfigError) -> ConfigError {
    let text = error.to_string();
    let words = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('|'));
    ConfigError::Value(words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file() {
        let file = file(
            "ctx_size = 1\nthreads = 1\nparallel = 1\nlisten = ['a:1']\noutline = 'on'\n\
             [outline_prompts]\nexpansion = 'Point {n}'\n",
        );
        let environment = variables(&[
            ("JUPITER_CTX_SIZE", "2"),
            ("JUPITER_THREADS", "2"),
            ("JUPITER_SPLIT", "4,12"),
            ("JUPITER_CONNECT", "a:1,b:2"),
            ("JUPITER_NODE", "7"),
            ("JUPITER_FLASH_ATTN", "off"),
            ("JUPITER_HIDDEN_TYPE", "q8_0"),
            ("JUPITER_MODEL", ""),
            ("JUPITER_OUTLINE", "off"),
            ("JUPITER_OUTLINE_POINTS", "6"),
            ("JUPITER_VERBOSE", "3"),
        ]);
        let flags = Settings {
            ctx_size: Some(3),
            ..Settings::default()
        };
        let settings = Settings::load(Some(file.path()), environment, &flags).unwrap();
        let expected = Settings {
            ctx_size: Some(3),
            threads: Some(2),
            parallel: Some(1),
            listen: vec!["a:1".into()],
            connect: vec!["a:1".into(), "b:2".into()],
            split: Some(vec![4, 12]),
            node: Some("7".into()),
            flash_attn: Some(false),
            hidden_type: Some(HiddenDtype::Q8_0),
            outline: Some(OutlineMode::Off),
            outline_points: Some(6),
            outline_prompts: Some(PromptSettings {
                expansion: Some("Point {n}".into()),
                ..PromptSettings::default()
            }),
            ..Settings::default()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn keys_are_the_fields() {
        let all = Settings {
            cluster: Some(String::new()),
            node: Some(String::new()),
            listen: vec![String::new()],
            connect: vec![String::new()],
            model: Some(PathBuf::new()),
            allow_unproven: Some(true),
            chat_template: Some(String::new()),
            ctx_size: Some(1),
            parallel: Some(1),
            ubatch_size: Some(1),
            threads: Some(1),
            cache_type_k: Some(KvDtype::F16),
            cache_type_v: Some(KvDtype::F16),
            flash_attn: Some(true),
            kernels: Some(KernelChoice::Off),
            n_gpu_layers: Some(1),
            stages: Some(1),
            split: Some(vec![1]),
            hidden_type: Some(HiddenDtype::F32),
            speculative: Some(DraftSetting::Auto),
            model_draft: Some(PathBuf::new()),
            draft_node: Some(String::new()),
            medusa: Some(PathBuf::new()),
            draft_max: Some(1),
            draft_acceptance: Some(RuleSetting::Exact),
            outline: Some(OutlineMode::Auto),
            outline_points: Some(1),
            point_tokens: Some(1),
            outline_prompts: Some(PromptSettings::default()),
            workers: Some(1),
            host_stages: Some(true),
            step_timeout_ms: Some(1),
            node_wait_ms: Some(1),
            plan: Some(String::new()),
            objective: Some(Objective::Ttft),
            slowdown: Some(1.0),
            memory_limit: Some(String::new()),
            link_rate: Some(String::new()),
            link_latency: Some(String::new()),
        };
        let json = serde_json::to_value(all).unwrap();
        let mut fields: Vec<&str> = json
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut keys = KEYS.to_vec();
        fields.sort_unstable();
        keys.sort_unstable();
        assert_eq!(fields, keys);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named_in_one_line() {
        for (text, expected) in [
            (
                "ctx_sise = 1\n",
                "unknown key `ctx_sise`: did you mean `ctx_size`?",
            ),
            ("[engine]\nthreads = 1\n", "unknown key `engine`"),
            ("threads = 'many'\n", "threads"),
            ("threads = -1\n", "threads"),
            ("hidden_type = 'f8'\n", "f8"),
            ("threads = \n", "TOML"),
            ("outline = 'sometimes'\n", "sometimes"),
            ("[outline_prompts]\ntitle = 'x'\n", "title"),
        ] {
            let file = file(text);
            let error = Settings::load(Some(file.path()), [], &Settings::default()).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(expected) && !error.contains('\n'),
                "{text}: {error}"
            );
        }
        let missing = Settings::load(Some(Path::new("no/such.toml")), [], &Settings::default());
        assert!(missing.unwrap_err().to_string().contains("no/such.toml"));
    }

    #[test]
    fn distances_count_changes() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(nearest_keys("workes")[0], "workers");
    }
}
