//! Groups of flags that several verbs share and no configuration file has, spelled as llama.cpp
//! spells them. Each flag has an environment twin: `--top-k` is `JUPITER_TOP_K`. Those that a file may
//! have too are groups of [`Settings`](jupiter::Settings).

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter::Settings;
pub(crate) use jupiter::config::positive;
use jupiter::config::{
    CutSettings, EngineSettings, GoalSettings, PlacementSettings, ScheduleSettings,
};
use jupiter::{DeadlineKind, Priority};

/// Flags of every verb.
#[derive(Args, Clone, Debug)]
pub(crate) struct CommonArgs {
    /// Configuration file (TOML); flags and the environment beat it
    #[arg(long, env = "JUPITER_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Say more on stderr: -v what happens, -vv details, -vvv every step
    #[arg(short, long, env = "JUPITER_VERBOSE", action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,

    /// Write the log as JSON lines
    #[arg(long, env = "JUPITER_LOG_JSON", value_parser = BoolishValueParser::new(), global = true)]
    pub log_json: bool,
}

/// How stages compute, and where they are.
#[derive(Args, Clone, Debug)]
pub(crate) struct StageArgs {
    #[command(flatten)]
    pub engine: EngineSettings,

    #[command(flatten)]
    pub cut: CutSettings,

    #[command(flatten)]
    pub placement: PlacementSettings,

    #[command(flatten)]
    pub goal: GoalSettings,

    #[command(flatten)]
    pub schedule: ScheduleSettings,
}

impl StageArgs {
    /// What they say of the configuration.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            engine: self.engine.clone(),
            cut: self.cut.clone(),
            placement: self.placement.clone(),
            goal: self.goal.clone(),
            schedule: self.schedule.clone(),
            ..Settings::default()
        }
    }
}

/// Where the stages of `run`, `chat` and `bench` live.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Stages")]
pub(crate) struct ProcessArgs {
    /// Run each stage in a process of its own, over zenoh on this machine
    #[arg(long, env = "JUPITER_PROCESSES", value_parser = BoolishValueParser::new())]
    pub processes: bool,
}

/// How tokens are chosen.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Temperature; 0 always takes the most likely token. Without it 0 for the default model, 0.8
    /// for others
    #[arg(long, env = "JUPITER_TEMP", value_name = "T")]
    pub temp: Option<f32>,

    /// Choose among the K most likely tokens; 0 for all
    #[arg(long, env = "JUPITER_TOP_K", value_name = "K")]
    pub top_k: Option<i32>,

    /// Choose among the most likely tokens that together reach P; 1 for all
    #[arg(long, env = "JUPITER_TOP_P", value_name = "P", value_parser = share)]
    pub top_p: Option<f32>,

    /// Leave out tokens less likely than P times the most likely one; 0 for none
    #[arg(long, env = "JUPITER_MIN_P", value_name = "P", value_parser = share)]
    pub min_p: Option<f32>,

    /// Make tokens of the recent text less likely; 1 to leave them as they are
    #[arg(long, env = "JUPITER_REPEAT_PENALTY", value_name = "X")]
    pub repeat_penalty: Option<f32>,

    /// Tokens that count as recent; 0 for none, -1 for the whole context
    #[arg(long, env = "JUPITER_REPEAT_LAST_N", value_name = "N")]
    pub repeat_last_n: Option<i32>,

    /// Seed of the random choice; -1 for another one each time
    #[arg(short, long, env = "JUPITER_SEED", value_name = "N")]
    pub seed: Option<i64>,

    /// Grammar (GBNF) that the text has to follow
    #[arg(
        long,
        env = "JUPITER_GRAMMAR",
        value_name = "GBNF",
        allow_hyphen_values = true
    )]
    pub grammar: Option<String>,

    /// File that holds the grammar [short: -gf]
    #[arg(long, env = "JUPITER_GRAMMAR_FILE", value_name = "FILE")]
    pub grammar_file: Option<PathBuf>,
}

/// How much is generated.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Generation")]
pub(crate) struct GenerationArgs {
    /// Most tokens to generate; -1 until the model ends or the context is full
    #[arg(
        short,
        long,
        visible_alias = "predict",
        env = "JUPITER_N_PREDICT",
        value_name = "N"
    )]
    pub n_predict: Option<TokenLimit>,

    /// End the text before this string; may be repeated
    #[arg(
        long,
        env = "JUPITER_STOP",
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    pub stop: Vec<String>,

    /// Go on where the model would end
    #[arg(long, env = "JUPITER_IGNORE_EOS", value_parser = BoolishValueParser::new())]
    pub ignore_eos: bool,

    /// How urgent it is beside others: 0, the most urgent, to 7
    #[arg(
        long,
        env = "JUPITER_PRIORITY",
        value_name = "N",
        value_parser = priority
    )]
    pub priority: Option<Priority>,

    /// Give up what is not there within MS milliseconds; see --deadline
    #[arg(long, env = "JUPITER_DEADLINE_MS", value_name = "MS")]
    pub deadline_ms: Option<i64>,

    /// What has to be there by then: `answer`, all of it, or `first-token`
    #[arg(long, env = "JUPITER_DEADLINE", value_name = "WHAT", value_parser = deadline_kind)]
    pub deadline: Option<DeadlineKind>,
}

/// Most tokens to generate, `None` for as many as fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenLimit(pub Option<u32>);

impl FromStr for TokenLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<i64>() {
            Ok(-1) => Ok(Self(None)),
            Ok(n) => match u32::try_from(n) {
                Ok(n) if n > 0 => Ok(Self(Some(n))),
                _ => Err("generate at least 1 token, or -1 for as many as fit".into()),
            },
            Err(_) => Err("not a number of tokens".into()),
        }
    }
}

/// Parser of priorities.
fn priority(text: &str) -> Result<Priority, String> {
    let priority: i64 = text.parse().map_err(|_| "not a number from 0 to 7")?;
    Priority::try_from(priority).map_err(|error| error.to_string())
}

/// Parser of what a deadline is for.
fn deadline_kind(text: &str) -> Result<DeadlineKind, String> {
    match text {
        "answer" => Ok(DeadlineKind::Answer),
        "first-token" | "first_token" => Ok(DeadlineKind::FirstToken),
        _ => Err("neither answer nor first-token".into()),
    }
}

/// Parser of probabilities.
fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("not a number from 0 to 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_limits_are_positive_or_minus_one() {
        assert_eq!("7".parse(), Ok(TokenLimit(Some(7))));
        assert_eq!("-1".parse(), Ok(TokenLimit(None)));
        for wrong in ["0", "-2", "x", "4294967296"] {
            assert!(wrong.parse::<TokenLimit>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn priorities_and_deadlines_are_read_as_they_are_written() {
        assert_eq!(priority("0"), Ok(Priority::new(0).unwrap_or_default()));
        for wrong in ["8", "9", "-1", "high", ""] {
            assert!(priority(wrong).is_err(), "{wrong}");
        }
        assert_eq!(deadline_kind("first-token"), Ok(DeadlineKind::FirstToken));
        assert!(deadline_kind("soon").is_err());
    }
}
