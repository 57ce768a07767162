//! What can go wrong with a model; each message is one line that says how to mend it.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, ModelError>;

/// Why a model file, a slice, an engine or a sampler could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The operating system refused a file operation.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The cache folder's file system is full.
    #[error(
        "cache folder {}: no space left, needed {needed_mb} MB: free space or set JUPITER_CACHE/XDG_CACHE_HOME",
        dir.display()
    )]
    NoSpace {
        /// The folder.
        dir: PathBuf,
        /// What was to be written there, in millions of bytes.
        needed_mb: u64,
    },
    /// The cache folder cannot be written, and what was to be written there is needed.
    #[error(
        "cache folder {}: cannot write {what} there ({source}): set JUPITER_CACHE to a folder that can be written",
        dir.display()
    )]
    CacheFolder {
        /// The folder.
        dir: PathBuf,
        /// What was to be written.
        what: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The default model's copy cannot be written to the cache folder.
    #[error(
        "cache folder {}: cannot write the default model there ({source}): set JUPITER_CACHE to a folder that can be written, or name a model with -m FILE",
        dir.display()
    )]
    DefaultModelCache {
        /// The folder.
        dir: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The program was built from files that are not those of the default model.
    #[error(
        "models/default/{file}: not the file that models/default/B3SUMS names: `git checkout -- models/default` gets it back, then build again"
    )]
    DefaultModelAltered {
        /// Its name.
        file: &'static str,
    },
    /// The file is not a GGUF that can be used: truncated, corrupt or hostile.
    #[error("{}: not a usable GGUF file: {what}", path.display())]
    BadGguf {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the remedy where there is one.
        what: String,
    },
    /// The file is a GGUF of something else than a language model.
    #[error("{}: it holds {what}: {instead}", path.display())]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What it holds.
        what: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// Models of the architecture cannot be run, not even uncut.
    #[error("architecture `{arch}` cannot be run: {why} (`jupiter models` lists what can)")]
    UnsupportedArchitecture {
        /// `general.architecture` of the file.
        arch: String,
        /// The reason.
        why: &'static str,
    },
    /// This model cannot be cut, though its architecture can.
    #[error("this model cannot be split: {why}")]
    Unsplittable {
        /// The reason.
        why: String,
    },
    /// A layer range or a split does not fit the model.
    #[error("{what}")]
    BadSplit {
        /// What is wrong, and what would be right.
        what: String,
    },
    /// Rows, sequences or positions that the engine cannot take.
    #[error("bad step: {what}")]
    BadStep {
        /// Expected and got.
        what: String,
    },
    /// llama.cpp failed.
    #[error("llama.cpp: {what}")]
    Llama {
        /// What was asked of it, and the last lines it logged.
        what: String,
    },
    /// Memory for the model or its context is lacking.
    #[error("{what}")]
    OutOfMemory {
        /// What was needed and what there is, with the remedy.
        what: String,
    },
    /// Text, template, grammar or sampling parameters that cannot be used.
    #[error("{what}")]
    BadInput {
        /// What is wrong and how to mend it.
        what: String,
    },
}
