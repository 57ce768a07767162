//! Groups of flags that several verbs share, spelled as llama.cpp spells them. Each flag has an
//! environment twin: `--ctx-size` is `JUPITER_CTX_SIZE`; a flag beats the environment, which beats
//! the configuration file.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use jupiter::config::{DraftSetting, RuleSetting};
use jupiter_actors::planning::placement::Objective;
use jupiter_models::kernels::KernelChoice;

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

/// Which model, and how its engine is set up.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model and engine")]
pub(crate) struct EngineArgs {
    /// The model, a GGUF file; without it the small default model
    #[arg(short, long, env = "JUPITER_MODEL", value_name = "FILE")]
    pub model: Option<PathBuf>,

    /// Tokens that all sequences together may hold (positions of the KV cache); without it 4096, or
    /// what the model was trained on if that is less
    #[arg(short, long, env = "JUPITER_CTX_SIZE", value_name = "N", value_parser = positive())]
    pub ctx_size: Option<u32>,

    /// Threads of each stage
    #[arg(short, long, env = "JUPITER_THREADS", value_name = "N", value_parser = positive())]
    pub threads: Option<u32>,

    /// Most rows of one step: the chunks in which a prompt passes the stages [short: -ub]
    #[arg(
        long,
        visible_alias = "chunk",
        env = "JUPITER_UBATCH_SIZE",
        value_name = "N",
        value_parser = positive()
    )]
    pub ubatch_size: Option<u32>,

    /// Requests that are answered at the same time [short: -np]
    #[arg(long, env = "JUPITER_PARALLEL", value_name = "N", value_parser = positive())]
    pub parallel: Option<u32>,

    /// Type of the K cache [short: -ctk]
    #[arg(long, env = "JUPITER_CACHE_TYPE_K", value_name = "TYPE")]
    pub cache_type_k: Option<CacheType>,

    /// Type of the V cache [short: -ctv]
    #[arg(long, env = "JUPITER_CACHE_TYPE_V", value_name = "TYPE")]
    pub cache_type_v: Option<CacheType>,

    /// Flash attention [short: -fa]
    #[arg(
        long,
        env = "JUPITER_FLASH_ATTN",
        value_name = "on|off",
        num_args = 0..=1,
        default_missing_value = "on"
    )]
    pub flash_attn: Option<Switch>,

    /// Whose kernels compute on this machine: ours (auto) or llama.cpp's (off)
    #[arg(long, env = "JUPITER_KERNELS", value_name = "auto|off")]
    pub kernels: Option<KernelChoice>,

    /// Layers of each stage to hold on the GPU [short: -ngl]
    #[arg(
        long,
        visible_alias = "gpu-layers",
        env = "JUPITER_N_GPU_LAYERS",
        value_name = "N"
    )]
    pub n_gpu_layers: Option<u32>,

    /// Try architectures whose split is not proven by tests
    #[arg(long, env = "JUPITER_ALLOW_UNPROVEN", value_parser = BoolishValueParser::new())]
    pub allow_unproven: bool,
}

/// How the model is cut.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Stages")]
pub(crate) struct SplitArgs {
    /// Cut the model into so many stages of about equal size
    #[arg(long, env = "JUPITER_STAGES", value_name = "K", value_parser = positive())]
    pub stages: Option<u32>,

    /// Cut the model into stages of so many layers each, as `4,12`
    #[arg(long, env = "JUPITER_SPLIT", value_name = "LAYERS,..")]
    pub split: Option<LayerCounts>,

    /// Place layers by measurements of the nodes (auto), one stage a node of about equal size
    /// (even), or as a plan's file says; a head of several nodes measures unless told otherwise
    #[arg(long, env = "JUPITER_PLAN", value_name = "auto|even|FILE")]
    pub plan: Option<String>,

    /// What a plan is to be good at: time to first token, time between tokens, or tokens a second
    /// of many streams
    #[arg(long, env = "JUPITER_OBJECTIVE", value_name = "WHAT")]
    pub objective: Option<Goal>,

    /// How hidden states travel between stages
    #[arg(long, env = "JUPITER_HIDDEN_TYPE", value_name = "TYPE")]
    pub hidden_type: Option<HiddenType>,
}

/// The nodes of a head's cluster.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub(crate) struct ClusterArgs {
    /// Wait for so many workers; without it `serve` waits for none, and `plan` until no more come
    #[arg(long, env = "JUPITER_WORKERS", value_name = "N")]
    pub workers: Option<u32>,

    /// Whether this machine computes layers too
    #[arg(
        long,
        env = "JUPITER_HOST_STAGES",
        value_name = "true|false",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub host_stages: Option<bool>,
}

/// A slower machine than this one, to try plans with.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Emulation of a weaker machine")]
pub(crate) struct EmulationArgs {
    /// Compute so many times slower
    #[arg(long, env = "JUPITER_SLOWDOWN", value_name = "FACTOR")]
    pub slowdown: Option<f64>,

    /// Have no more memory than this free, as `600M`
    #[arg(long, env = "JUPITER_MEMORY_LIMIT", value_name = "SIZE")]
    pub memory_limit: Option<String>,

    /// Send through a link of this rate, as `100mbit`
    #[arg(long, env = "JUPITER_LINK_RATE", value_name = "RATE")]
    pub link_rate: Option<String>,

    /// Send through a link of this latency, as `5ms`
    #[arg(long, env = "JUPITER_LINK_LATENCY", value_name = "TIME")]
    pub link_latency: Option<String>,
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
    #[arg(
        long,
        env = "JUPITER_TEMP",
        value_name = "T",
        allow_negative_numbers = true
    )]
    pub temp: Option<f32>,

    /// Choose among the K most likely tokens; 0 for all
    #[arg(
        long,
        env = "JUPITER_TOP_K",
        value_name = "K",
        allow_negative_numbers = true
    )]
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
    #[arg(
        long,
        env = "JUPITER_REPEAT_LAST_N",
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub repeat_last_n: Option<i32>,

    /// Seed of the random choice; -1 for another one each time
    #[arg(
        short,
        long,
        env = "JUPITER_SEED",
        value_name = "N",
        allow_negative_numbers = true
    )]
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

/// How a conversation is written for the model.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model and engine")]
pub(crate) struct TemplateArgs {
    /// Chat template: a name as llama.cpp has it (chatml, llama3, gemma), or a file of Jinja;
    /// without it the model's own
    #[arg(long, env = "JUPITER_CHAT_TEMPLATE", value_name = "NAME|FILE")]
    pub chat_template: Option<String>,
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
        value_name = "N",
        allow_negative_numbers = true
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
}

/// How tokens are guessed ahead; the text stays the same.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Speculative decoding")]
pub(crate) struct SpeculationArgs {
    /// Who guesses tokens ahead, for the model to check several at once: the source that brings
    /// most (auto), nobody, what stood in the text before, a draft model, or Medusa heads
    #[arg(long, env = "JUPITER_SPECULATIVE", value_name = "SOURCE")]
    pub speculative: Option<Guesser>,

    #[command(flatten)]
    pub drafts: DraftArgs,

    /// What makes a guess right: that the model says the same (exact), or that it holds it for
    /// likely enough (typical), which is faster and changes the text
    #[arg(long, env = "JUPITER_DRAFT_ACCEPTANCE", value_name = "RULE")]
    pub draft_acceptance: Option<Rule>,
}

/// Files that guess, and how far.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Speculative decoding")]
pub(crate) struct DraftArgs {
    /// A small model with the same vocabulary that guesses, a GGUF file [short: -md]
    #[arg(long, env = "JUPITER_MODEL_DRAFT", value_name = "FILE")]
    pub model_draft: Option<PathBuf>,

    /// Node that runs the draft model; without it the head
    #[arg(long, env = "JUPITER_DRAFT_NODE", value_name = "NAME")]
    pub draft_node: Option<String>,

    /// Medusa heads that guess, a GGUF file (`jupiter-training convert-medusa` makes it of published ones)
    #[arg(long, env = "JUPITER_MEDUSA", value_name = "FILE")]
    pub medusa: Option<PathBuf>,

    /// Most tokens of a guess
    #[arg(long, env = "JUPITER_DRAFT_MAX", value_name = "N", value_parser = positive())]
    pub draft_max: Option<u32>,
}

/// This node's place among the others.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Name of the cluster: nodes of other clusters are not seen
    #[arg(long, env = "JUPITER_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,

    /// Name of this node, unique in the cluster
    #[arg(long, env = "JUPITER_NODE", value_name = "NAME")]
    pub node: Option<String>,

    /// Where to listen, a zenoh endpoint as `tcp/192.168.1.10:7447`; may be repeated
    #[arg(
        long,
        env = "JUPITER_LISTEN",
        value_name = "ENDPOINT",
        value_delimiter = ','
    )]
    pub listen: Vec<String>,

    /// Where to connect to, a zenoh endpoint as `tcp/192.168.1.10:7447`; may be repeated
    #[arg(
        long,
        env = "JUPITER_CONNECT",
        value_name = "ENDPOINT",
        value_delimiter = ','
    )]
    pub connect: Vec<String>,
}

/// What a plan is to be good at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Goal {
    /// Time to the first token of a prompt
    Ttft,
    /// Time between tokens of one stream
    Tbt,
    /// Tokens a second of many streams together
    Throughput,
}

impl From<Goal> for Objective {
    fn from(goal: Goal) -> Self {
        match goal {
            Goal::Ttft => Objective::Ttft,
            Goal::Tbt => Objective::Tbt,
            Goal::Throughput => Objective::Throughput,
        }
    }
}

/// Who guesses tokens ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Guesser {
    Auto,
    None,
    Ngram,
    Draft,
    Medusa,
}

impl From<Guesser> for DraftSetting {
    fn from(guesser: Guesser) -> Self {
        match guesser {
            Guesser::Auto => Self::Auto,
            Guesser::None => Self::None,
            Guesser::Ngram => Self::Ngram,
            Guesser::Draft => Self::Draft,
            Guesser::Medusa => Self::Medusa,
        }
    }
}

/// What makes a guess right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rule {
    Exact,
    Typical,
}

impl From<Rule> for RuleSetting {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::Exact => Self::Exact,
            Rule::Typical => Self::Typical,
        }
    }
}

/// Types of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CacheType {
    #[value(name = "f16")]
    F16,
    #[value(name = "q8_0")]
    Q8_0,
}

/// Types of hidden states on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HiddenType {
    #[value(name = "f32")]
    F32,
    #[value(name = "f16")]
    F16,
    #[value(name = "q8_0")]
    Q8_0,
}

/// `on` or `off`, and what llama.cpp takes for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    #[value(aliases = ["1", "true", "auto"])]
    On,
    #[value(aliases = ["0", "false"])]
    Off,
}

/// Number of layers of each stage, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerCounts(pub Vec<u32>);

impl FromStr for LayerCounts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = |part: &str| match part.trim().parse::<u32>() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(format!(
                "`{part}` is not a number of layers: write it as 4,12"
            )),
        };
        text.split(',')
            .map(count)
            .collect::<Result<_, _>>()
            .map(Self)
    }
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

/// Parser of numbers from 1 up.
pub(crate) fn positive() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
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
    fn splits_are_lists_of_layer_counts() {
        assert_eq!("4,12".parse(), Ok(LayerCounts(vec![4, 12])));
        for wrong in ["", "4,", "0,4", "4;12", "-1", "99999999999"] {
            assert!(wrong.parse::<LayerCounts>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn token_limits_are_positive_or_minus_one() {
        assert_eq!("7".parse(), Ok(TokenLimit(Some(7))));
        assert_eq!("-1".parse(), Ok(TokenLimit(None)));
        for wrong in ["0", "-2", "x", "4294967296"] {
            assert!(wrong.parse::<TokenLimit>().is_err(), "{wrong}");
        }
    }
}
