//! Why a model cannot be had from the Hugging Face hub.

use std::path::PathBuf;

/// Why a model file cannot be had from the hub, or from its cache on this machine.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// What is written names no repository.
    #[error("{text:?} names no model of the hub: write USER/REPO or USER/REPO:QUANT")]
    BadName {
        /// What is written.
        text: String,
    },
    /// A file of a repository without the repository.
    #[error("--hf-file {file} is of no repository: name it too, with -hf USER/REPO")]
    FileOfNothing {
        /// The file.
        file: String,
    },
    /// A local file and a repository.
    #[error("the model is named twice, {} and {repo}: keep -m or -hf", path.display())]
    NamedTwice {
        /// The file.
        path: PathBuf,
        /// The repository.
        repo: String,
    },
    /// The hub knows no such repository.
    #[error("the hub has no repository {repo}: look for a typo{}", if *has_token { "" }
        else { ", or set HF_TOKEN if it is private" })]
    NoSuchRepository {
        /// As USER/REPO.
        repo: String,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// No token was sent where one is asked for, or it was refused.
    #[error("the hub refuses access to {repo}: {}", if *has_token {
        "accept its terms on its page, or set HF_TOKEN to a valid token of one who may read it" }
        else { "look for a typo, or accept its terms on its page and set HF_TOKEN to your token" })]
    Refused {
        /// As USER/REPO.
        repo: String,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// The token cannot be sent.
    #[error("the token (HF_TOKEN) holds spaces or control characters: copy it again")]
    BadToken,
    /// None of its files is a model.
    #[error("{repo} has no GGUF file: take a repository that has, often named {repo}-GGUF")]
    NoGguf {
        /// As USER/REPO.
        repo: String,
    },
    /// None of its files is so quantized.
    #[error("{repo} has no {quant}: it has {}", there.join(", "))]
    NoSuchQuant {
        /// As USER/REPO.
        repo: String,
        /// What is asked for.
        quant: String,
        /// What there is.
        there: Vec<String>,
    },
    /// It has not this file.
    #[error("{repo} has no file {file}: it has {}", there.join(", "))]
    NoSuchFile {
        /// As USER/REPO.
        repo: String,
        /// What is asked for.
        file: String,
        /// The GGUF files that there are.
        there: Vec<String>,
    },
    /// A model in parts is not whole.
    #[error("{repo} lacks {file}, a part of the model: take another quantization, or pull it anew")]
    MissingPart {
        /// As USER/REPO.
        repo: String,
        /// The first part that is missing.
        file: String,
    },
    /// The hub cannot be reached, or says nothing more.
    #[error(
        "cannot reach {endpoint} ({why}): check the network, HF_ENDPOINT and HTTPS_PROXY; what was \
         downloaded is kept, and --offline uses what is whole"
    )]
    Network {
        /// Where the hub is said to be.
        endpoint: String,
        /// What the system says.
        why: String,
    },
    /// The hub answers what it should not.
    #[error("{endpoint} answers {what}: try later, or check HF_ENDPOINT")]
    Answer {
        /// Where the hub is said to be.
        endpoint: String,
        /// What is wrong with it.
        what: String,
    },
    /// What came is not what the hub announced.
    #[error("{file} came altered ({what}) and was removed: pull it again")]
    Altered {
        /// The file.
        file: String,
        /// Expected and got.
        what: String,
    },
    /// The disk is full.
    #[error(
        "no space left for {}: free some, or set HF_HUB_CACHE to a folder on another disk; the \
         download goes on where it was",
        path.display()
    )]
    Full {
        /// What was written.
        path: PathBuf,
    },
    /// The cache cannot be used.
    #[error("the Hugging Face cache, {}: {error}; HF_HUB_CACHE names another folder", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is no home folder and no variable names one.
    #[error("no folder for the Hugging Face cache: set HF_HOME or HF_HUB_CACHE")]
    NoCache,
    /// Another program downloads the same.
    #[error("{file} is being downloaded by another program: wait until that is done")]
    Busy {
        /// The file.
        file: String,
    },
    /// It is not there, and the hub is not to be asked.
    #[error("{what} is not in the cache: `jupiter pull` brings it there")]
    NotCached {
        /// The repository, with what was asked for.
        what: String,
    },
}

impl HubError {
    /// What the system says of a file of the cache.
    pub(crate) fn io(path: impl Into<PathBuf>, error: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let path = path.into();
        match error.kind() {
            StorageFull | QuotaExceeded => Self::Full { path },
            _ => Self::Cache { path, error },
        }
    }
}
