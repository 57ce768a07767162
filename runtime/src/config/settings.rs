//! What may be said in a configuration file, the environment and flags.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;
use config::{Environment, Map};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::groups::{
    ClusterSettings, CutSettings, DraftSettings, EmulationSettings, EngineSettings, GoalSettings,
    ModelSettings, NetworkSettings, OutlineSettings, PatienceSettings, PlacementSettings,
    ScheduleSettings, SpeculationSettings, TemplateSettings,
};
use super::ros2::Ros2Settings;
use super::table::{Table, one_line};
use crate::error::{ConfigError, HubError, Result};
use crate::hub::{self, HubModel, OnBytes};

/// Prefix of the environment's names.
const ENV_PREFIX: &str = "JUPITER";

/// Keys whose value in the environment is a list, separated by commas.
const LIST_KEYS: [&str; 7] = [
    "listen",
    "connect",
    "split",
    "ros2_interfaces",
    "ros2_remap",
    "ros2_topic",
    "ros2_limit",
];

/// How many valid keys an error offers for an unknown one.
const MAX_SUGGESTIONS: usize = 3;

/// All that may be said, each key optional. A file has no groups: all keys stand side by side.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Settings {
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub engine: EngineSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub template: TemplateSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub cut: CutSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub placement: PlacementSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub goal: GoalSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub schedule: ScheduleSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub network: NetworkSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub cluster: ClusterSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub speculation: SpeculationSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub drafts: DraftSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub outline: OutlineSettings,
    #[command(flatten)]
    #[serde(flatten)]
    pub ros2: Ros2Settings,
    #[command(flatten)]
    #[serde(flatten)]
    pub emulation: EmulationSettings,
    #[arg(skip)]
    #[serde(flatten)]
    pub patience: PatienceSettings,
}

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
        let keys = Self::keys();
        let mut builder = config::Config::builder();
        if let Some(path) = file {
            let table = Table::read(path)?;
            check_keys(path, table.keys(), &keys)?;
            builder = builder.add_source(table);
        }
        let mut settings = builder
            .add_source(environment_source(environment, &keys))
            .add_source(config::Config::try_from(&flags.said()).map_err(one_line)?)
            .build()
            .and_then(|merged| Self::read(&merged))
            .map_err(one_line)?;
        // Two ways of saying the same: what a flag says hides the other way.
        if flags.cut != CutSettings::default() || flags.placement.plan.is_some() {
            settings.cut.clone_from(&flags.cut);
            settings.placement.plan.clone_from(&flags.placement.plan);
        }
        if flags.model.model.is_some() && flags.model.hf_repo.is_none() {
            (settings.model.hf_repo, settings.model.hf_file) = (None, None);
        } else if flags.model.hf_repo.is_some() {
            settings.model.model.clone_from(&flags.model.model);
            settings.model.hf_file.clone_from(&flags.model.hf_file);
        }
        Ok(settings)
    }

    /// Brings the model that `hf_repo` names into the cache, and names its file instead. Blocks; does
    /// nothing where no repository is named.
    ///
    /// # Errors
    /// Those of [`hub::pull`]; a model that is named twice.
    pub fn pull(&mut self, on_bytes: OnBytes<'_>) -> Result<()> {
        let said = &mut self.model;
        let Some(repo) = &said.hf_repo else {
            return match said.hf_file.take() {
                Some(file) => Err(HubError::FileOfNothing { file }.into()),
                None => Ok(()),
            };
        };
        if let Some(path) = &said.model {
            let (path, repo) = (path.clone(), repo.clone());
            return Err(HubError::NamedTwice { path, repo }.into());
        }
        let mut model = HubModel::parse(repo)?;
        model.file.clone_from(&said.hf_file);
        said.model = Some(hub::pull(&model, said.offline.unwrap_or(false), on_bytes)?);
        (said.hf_repo, said.hf_file) = (None, None);
        Ok(())
    }

    /// Each group by itself: only so are words of the environment taken for what the field is.
    fn read(merged: &config::Config) -> Result<Self, config::ConfigError> {
        fn group<T: DeserializeOwned>(merged: &config::Config) -> Result<T, config::ConfigError> {
            merged.clone().try_deserialize()
        }
        Ok(Self {
            model: group(merged)?,
            engine: group(merged)?,
            template: group(merged)?,
            cut: group(merged)?,
            placement: group(merged)?,
            goal: group(merged)?,
            schedule: group(merged)?,
            network: group(merged)?,
            cluster: group(merged)?,
            speculation: group(merged)?,
            drafts: group(merged)?,
            outline: group(merged)?,
            ros2: group(merged)?,
            emulation: group(merged)?,
            patience: group(merged)?,
        })
    }

    /// Keys and values, null or empty where nothing is said.
    fn values(&self) -> serde_json::Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(values)) => values,
            // A struct of names, numbers and lists is an object.
            _ => serde_json::Map::new(),
        }
    }

    fn said(&self) -> serde_json::Map<String, Value> {
        let mut values = self.values();
        values
            .retain(|_, value| !value.is_null() && value.as_array().is_none_or(|a| !a.is_empty()));
        values
    }

    /// All keys that there are.
    fn keys() -> Vec<String> {
        Self::default()
            .values()
            .into_iter()
            .map(|(key, _)| key)
            .collect()
    }
}

/// The variables that name a key.
fn environment_source(
    variables: impl IntoIterator<Item = (String, String)>,
    keys: &[String],
) -> Environment {
    let ours = variables.into_iter().filter(|(name, value)| {
        let key = name
            .strip_prefix(ENV_PREFIX)
            .and_then(|rest| rest.strip_prefix('_'));
        key.is_some_and(|key| keys.contains(&key.to_lowercase())) && !value.is_empty()
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
fn check_keys<'a>(
    path: &Path,
    found: impl Iterator<Item = &'a String>,
    keys: &[String],
) -> Result<()> {
    for key in found {
        if !keys.contains(key) {
            let unknown = ConfigError::UnknownKey {
                path: path.to_owned(),
                key: key.clone(),
                nearest: nearest_keys(key, keys),
            };
            return Err(unknown.into());
        }
    }
    Ok(())
}

/// The valid keys that look most like `key`.
fn nearest_keys(key: &str, keys: &[String]) -> Vec<String> {
    let distance = |valid: &String| (edit_distance(key, valid), valid.clone());
    let mut by_distance: Vec<_> = keys.iter().map(distance).collect();
    by_distance.sort_unstable();
    let best = by_distance.first().map_or(0, |(distance, _)| *distance);
    let near = by_distance
        .into_iter()
        .take_while(|(distance, _)| *distance <= best + 1);
    near.take(MAX_SUGGESTIONS).map(|(_, valid)| valid).collect()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use serde_json::json;

    use super::*;

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
        let mut flags = Settings::default();
        flags.engine.ctx_size = Some(3);
        let settings = Settings::load(Some(file.path()), environment, &flags).unwrap();
        let said = [
            ("ctx_size", json!(3)),
            ("threads", json!(2)),
            ("parallel", json!(1)),
            ("listen", json!(["a:1"])),
            ("connect", json!(["a:1", "b:2"])),
            ("split", json!([4, 12])),
            ("node", json!("7")),
            ("flash_attn", json!(false)),
            ("hidden_type", json!("q8_0")),
            ("outline", json!("off")),
            ("outline_points", json!(6)),
            ("outline_prompts", json!({"expansion": "Point {n}"})),
        ];
        let said = said.map(|(key, value)| (key.to_owned(), value));
        assert_eq!(settings.said(), serde_json::Map::from_iter(said));
    }

    #[test]
    fn every_flag_is_a_key_with_a_variable_of_its_name() {
        let keys = Settings::keys();
        let command = Settings::augment_args(clap::Command::new("all"));
        let mut n_flags = 0;
        for flag in command.get_arguments() {
            let key = flag.get_id().as_str();
            assert!(keys.iter().any(|valid| valid == key), "{key}");
            let variable = format!("{ENV_PREFIX}_{}", key.to_uppercase());
            assert_eq!(flag.get_env().unwrap(), variable.as_str());
            assert_eq!(flag.get_long().unwrap(), key.replace('_', "-"));
            n_flags += 1;
        }
        let without_flags = ["outline_prompts", "step_timeout_ms", "node_wait_ms"];
        assert_eq!(keys.len(), n_flags + without_flags.len(), "{keys:?}");
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
        assert_eq!(nearest_keys("workes", &Settings::keys())[0], "workers");
    }
}
