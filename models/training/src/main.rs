//! `jupiter-training`: makes the default model, its draft model and its Medusa heads, and converts
//! published heads.
//!
//! # Layout, in the order a run meets it
//!
//! - `recipe`: what is trained, and for how long
//! - `tokenizer`: byte-level BPE, trained on the text of `jupiter-world`
//! - `batch`: conversations as rows of tokens
//! - `transformer`, `language`, `medusa`: what is learnt, as candle graphs
//! - `ops`: the fused operations in them
//! - `trainer`, `optimizer`, `checkpoint`, `plot`: the loop, and what it leaves in its folder
//! - `export`: GGUF files
//! - `weights`, `convert`: published Medusa heads, from their files to a GGUF

mod batch;
mod checkpoint;
mod convert;
mod export;
mod language;
mod medusa;
mod ops;
mod optimizer;
mod plot;
mod recipe;
mod tokenizer;
mod trainer;
mod transformer;
mod weights;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use jupiter_models::default_model::DefaultFile;
use jupiter_models::text::Vocabulary;
use jupiter_world::{Split, World};

use crate::export::MatrixType;
use crate::medusa::Medusa;
use crate::recipe::{N_HEADS, N_TOKENIZER_EXAMPLES, N_VOCAB, Settings, Subset, WORD_WEIGHT};
use crate::tokenizer::Tokenizer;
use crate::trainer::Objective;
use crate::transformer::Transformer;

/// Every operation makes a new tensor of megabytes: glibc would map and unmap each one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seed of the text that the tokenizer learns from.
const TOKENIZER_SEED: u64 = 0;

/// Trains the default model, its draft model and its Medusa heads.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Folder of the runs: a folder each for model, draft and medusa
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "target/training"
    )]
    out: PathBuf,
    /// Steps of each run instead of the recipe's: for a quick look
    #[arg(long, global = true, value_name = "N")]
    steps: Option<u64>,
}

#[derive(Subcommand)]
enum What {
    /// Everything in order, ending with the files in --to
    All {
        #[arg(long, value_name = "DIR", default_value = "models/default")]
        to: PathBuf,
    },
    /// Print text of the generator
    Text {
        /// How many examples
        #[arg(short, default_value_t = 10)]
        n: u64,
        /// Text that is never trained on
        #[arg(long)]
        held_out: bool,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Train the tokenizer
    Tokenizer,
    /// Train the model, going on from its last checkpoint
    Model,
    /// Train the draft model, going on from its last checkpoint
    Draft,
    /// Train the Medusa heads, going on from their last checkpoint
    Medusa,
    /// Compare the exported tokenizer with llama.cpp on every line that the model was trained on
    Check {
        #[arg(long, value_name = "DIR", default_value = "models/default")]
        files: PathBuf,
    },
    /// Write the GGUF files
    Export {
        #[arg(long, value_name = "DIR", default_value = "models/default")]
        to: PathBuf,
        /// Also the model in F32, to compare the quantized one with
        #[arg(long, value_name = "FILE")]
        f32: Option<PathBuf>,
    },
    /// Convert published Medusa heads to a GGUF
    ConvertMedusa {
        /// medusa_lm_head.safetensors or medusa_lm_head.pt, or the file of a model that holds heads
        #[arg(value_name = "FILE")]
        input: PathBuf,
        /// The GGUF to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Type of the matrices
        #[arg(long = "type", value_name = "TYPE", value_enum, default_value = "q8_0")]
        matrices: MatrixType,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    if matches!(
        args.what,
        What::Text { .. } | What::Check { .. } | What::Export { .. } | What::ConvertMedusa { .. }
    ) || !restarted()?
    {
        return run(&args);
    }
    Ok(())
}

/// Starts this program again with one thread in each matrix product, since every worker of the
/// trainer computes its own, and with memory that is kept; says whether that has been done.
fn restarted() -> Result<bool> {
    const THREADS: &str = "RAYON_NUM_THREADS";
    if std::env::var_os(THREADS).is_some() {
        return Ok(false);
    }
    let program = std::env::current_exe().context("finding this program")?;
    let status = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(THREADS, "1")
        .env("MIMALLOC_PURGE_DELAY", "-1")
        .status()
        .context("starting again")?;
    std::process::exit(status.code().unwrap_or(1))
}

fn run(args: &Args) -> Result<()> {
    let world = World::load()?;
    let runs = Runs {
        world: &world,
        out: &args.out,
        steps: args.steps,
    };
    match &args.what {
        What::All { to } => {
            runs.tokenizer()?;
            runs.transformer(Subset::Model)?;
            runs.transformer(Subset::Draft)?;
            runs.medusa()?;
            runs.export(to, None)
        }
        What::Text { n, held_out, seed } => {
            let split = if *held_out {
                Split::HeldOut
            } else {
                Split::Training
            };
            print_text(&world, split, *seed, *n);
            Ok(())
        }
        What::Tokenizer => runs.tokenizer(),
        What::Model => runs.transformer(Subset::Model),
        What::Draft => runs.transformer(Subset::Draft),
        What::Medusa => runs.medusa(),
        What::Check { files } => runs.check(files),
        What::Export { to, f32 } => runs.export(to, f32.as_deref()),
        What::ConvertMedusa {
            input,
            output,
            matrices,
        } => {
            let size = convert::convert(input, output, *matrices)?;
            println!(
                "{}: {} heads of width {} for a vocabulary of {}",
                output.display(),
                size.n_heads,
                size.n_embd,
                size.n_vocab
            );
            Ok(())
        }
    }
}

fn print_text(world: &World, split: Split, seed: u64, n: u64) {
    for index in 0..n {
        let example = world.example(split, seed, index);
        println!("--- {:?}", example.kind);
        for turn in &example.turns {
            println!("> {}\n{}", turn.user, turn.assistant);
        }
    }
}

/// The words of an answer, each with the space before it.
fn words_of(answer: &str) -> Vec<String> {
    let words = answer.split(|c: char| !c.is_ascii_alphabetic() && c != '-');
    let words = words.filter(|word| !word.is_empty());
    words.map(|word| format!(" {word}")).collect()
}

/// The runs under one folder.
struct Runs<'a> {
    world: &'a World,
    out: &'a Path,
    steps: Option<u64>,
}

impl Runs<'_> {
    fn folder(&self, part: Subset) -> PathBuf {
        self.out.join(part.name())
    }

    fn settings(&self, part: Subset) -> Settings {
        let mut settings = part.settings();
        if let Some(n_steps) = self.steps {
            settings.pace.n_steps = n_steps;
        }
        settings
    }

    fn tokenizer_file(&self) -> PathBuf {
        self.out.join("tokenizer.json")
    }

    /// Trains the tokenizer, unless that is done.
    fn tokenizer(&self) -> Result<()> {
        let path = self.tokenizer_file();
        if path.exists() {
            return Ok(());
        }
        std::fs::create_dir_all(self.out).with_context(|| self.out.display().to_string())?;
        let example = |index| self.world.example(Split::Training, TOKENIZER_SEED, index);
        let turns = (0..N_TOKENIZER_EXAMPLES).flat_map(|index| example(index).turns);
        let turns: Vec<_> = turns.collect();
        let words = turns.iter().flat_map(|turn| words_of(&turn.assistant));
        let words: BTreeSet<String> = words.collect();
        let whole = words
            .iter()
            .flat_map(|word| std::iter::repeat_n(word.clone(), WORD_WEIGHT));
        let texts = turns
            .into_iter()
            .flat_map(|turn| [turn.user, turn.assistant]);
        let tokenizer = Tokenizer::train(texts.chain(whole), N_VOCAB)?;
        let n_cut = words.iter().filter(|word| tokenizer.encode(word).len() > 1);
        eprintln!("{} of {} words are cut", n_cut.count(), words.len());
        ensure!(
            tokenizer.n_vocab() == N_VOCAB,
            "the text holds only {} tokens, not {N_VOCAB}",
            tokenizer.n_vocab()
        );
        tokenizer.save(&path)
    }

    fn transformer(&self, part: Subset) -> Result<()> {
        let settings = self.settings(part);
        let tokenizer = Tokenizer::load(&self.tokenizer_file())?;
        let model = Transformer::new(settings.shape.clone(), settings.pace.seed)?;
        eprintln!("{}: {} weights", part.name(), model.n_weights());
        let folder = self.folder(part);
        self.train(&model, &tokenizer, &settings, &folder)
    }

    fn medusa(&self) -> Result<()> {
        let settings = self.settings(Subset::Medusa);
        let tokenizer = Tokenizer::load(&self.tokenizer_file())?;
        let heads = Medusa::new(self.trained(Subset::Model)?.0, N_HEADS)?;
        let folder = self.folder(Subset::Medusa);
        self.train(&heads, &tokenizer, &settings, &folder)
    }

    fn train(
        &self,
        objective: &dyn Objective,
        tokenizer: &Tokenizer,
        settings: &Settings,
        folder: &Path,
    ) -> Result<()> {
        let (world, pace) = (self.world, &settings.pace);
        let every = trainer::CHECKPOINT_EVERY;
        trainer::train(objective, world, tokenizer, pace, settings, folder, every)
    }

    /// The transformer that the run of `part` has trained.
    fn trained(&self, part: Subset) -> Result<(Transformer, Settings)> {
        let folder = self.folder(part);
        let settings: Settings = checkpoint::settings(&folder)?;
        let model = Transformer::new(settings.shape.clone(), settings.pace.seed)?;
        checkpoint::load_weights(&folder, model.parameters())?;
        Ok((model, settings))
    }

    /// Compares the tokenizer of the model in `files` with llama.cpp's reading of it.
    fn check(&self, files: &Path) -> Result<()> {
        let path = files.join(DefaultFile::Model.name());
        let tokenizer = Tokenizer::from_gguf(&path)?;
        let vocabulary = Vocabulary::load(&path)?;
        let progress = checkpoint::progress(&self.folder(Subset::Model))?;
        let n = progress.next.into_iter().max().unwrap_or(0);
        let seed = self.settings(Subset::Model).pace.seed;
        for index in 0..n {
            let example = self.world.example(Split::Training, seed, index);
            for text in example.turns.iter().flat_map(|t| [&t.user, &t.assistant]) {
                tokenizer.check_against(&vocabulary, text)?;
            }
        }
        println!("{n} conversations: every line has the same tokens in llama.cpp, and comes back");
        Ok(())
    }

    /// Writes the files of `models/default`; the trained weights of the model also to `f32`.
    fn export(&self, to: &Path, f32: Option<&Path>) -> Result<()> {
        std::fs::create_dir_all(to).with_context(|| to.display().to_string())?;
        let tokenizer = Tokenizer::load(&self.tokenizer_file())?;
        let transformer = |part, path: &Path, matrices| -> Result<Transformer> {
            let (model, settings) = self.trained(part)?;
            let (title, shape) = (format!("jupiter robot {}", part.name()), settings.shape);
            export::model(
                path,
                &title,
                &shape,
                model.parameters(),
                &tokenizer,
                matrices,
            )?;
            Ok(model)
        };
        let model = transformer(
            Subset::Model,
            &to.join(DefaultFile::Model.name()),
            MatrixType::Q8_0,
        )?;
        transformer(
            Subset::Draft,
            &to.join(DefaultFile::Draft.name()),
            MatrixType::Q8_0,
        )?;
        if let Some(path) = f32 {
            transformer(Subset::Model, path, MatrixType::F32)?;
        }
        let shape = model.shape.clone();
        let heads = Medusa::new(model, N_HEADS)?;
        checkpoint::load_weights(&self.folder(Subset::Medusa), heads.parameters())?;
        let (path, title) = (
            to.join(DefaultFile::Medusa.name()),
            "jupiter robot medusa heads",
        );
        let model_hash = hash(&to.join(DefaultFile::Model.name()))?;
        export::medusa(&path, title, &shape, heads.parameters(), &model_hash)?;
        let sums = DefaultFile::ALL
            .map(DefaultFile::name)
            .map(|file| Ok(format!("{}  {file}\n", hash(&to.join(file))?)))
            .into_iter()
            .collect::<Result<String>>()?;
        let path = to.join("B3SUMS");
        std::fs::write(&path, sums).with_context(|| path.display().to_string())
    }
}

/// BLAKE3 of a file, as `b3sum` prints it.
fn hash(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}
