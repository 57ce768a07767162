//! The folder of one repository in the cache: `blobs/ETAG` holds bytes, `snapshots/COMMIT/FILE` are
//! links to them, `refs/main` names the newest commit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo};

use super::name::is_word;
use super::variable;
use crate::error::HubError;

/// Folders within folders of a snapshot: `Q8_0/` is one.
const MAX_DEPTH: usize = 4;

/// One repository's folder.
pub(super) struct RepoCache {
    root: PathBuf,
    names: CacheRepo,
    token: Option<String>,
}

/// The files of the newest commit that is there.
pub(super) struct Snapshot {
    pub(super) commit: String,
    /// Sorted, with `/` between folder and file.
    pub(super) files: Vec<String>,
}

impl RepoCache {
    /// The folder of `repo`, which need not be there.
    ///
    /// # Errors
    /// When nothing says where caches are.
    pub(super) fn of(repo: &str) -> Result<Self, HubError> {
        let home = || {
            let named = variable("HF_HOME").map(PathBuf::from);
            let caches = || variable("XDG_CACHE_HOME").map(PathBuf::from);
            let own = || Some(std::env::home_dir()?.join(".cache"));
            named.or_else(|| Some(caches().or_else(own)?.join("huggingface")))
        };
        let hub = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE"));
        let in_home = home().map(|home| home.join("hub"));
        // The token lies beside the usual cache, wherever this one is.
        let token = in_home.clone().and_then(|hub| Cache::new(hub).token());
        let hub = hub
            .map(PathBuf::from)
            .or(in_home)
            .ok_or(HubError::NoCache)?;
        let hub = std::path::absolute(&hub).map_err(|error| HubError::io(&hub, error))?;
        let repo = Repo::model(repo.into());
        Ok(Self {
            root: hub.join(repo.folder_name()),
            names: Cache::new(hub).repo(repo),
            token,
        })
    }

    /// The token that the hub's own program stored (`hf auth login`).
    pub(super) fn token(&self) -> Option<String> {
        self.token.clone()
    }

    /// Where the bytes with this hash are.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Where `file` of a commit is.
    pub(super) fn pointer(&self, commit: &str, file: &str) -> PathBuf {
        self.names.pointer_path(commit).join(file)
    }

    /// The newest commit that was pulled, with the files that are whole.
    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        let commit = fs::read_to_string(self.root.join("refs/main")).ok()?;
        let commit = commit.trim().to_owned();
        let mut files = Vec::new();
        if is_word(&commit) {
            list(&self.names.pointer_path(&commit), "", MAX_DEPTH, &mut files);
        }
        files.sort();
        Some(Snapshot { commit, files })
    }

    /// Makes `pointer` a link to the bytes.
    pub(super) fn link(&self, etag: &str, pointer: &Path) -> Result<(), HubError> {
        let failed = |error| HubError::io(pointer, error);
        let folder = pointer.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(failed)?;
        // Relative, so that the cache can be moved.
        let depth = folder
            .strip_prefix(&self.root)
            .map_or(0, |way| way.components().count());
        let target = PathBuf::from("../".repeat(depth)).join("blobs").join(etag);
        match std::os::unix::fs::symlink(target, pointer) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !pointer.exists() => {
                // A link to bytes that somebody removed.
                fs::remove_file(pointer).map_err(failed)?;
                self.link(etag, pointer)
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// Makes `commit` the newest.
    pub(super) fn set_commit(&self, commit: &str) -> Result<(), HubError> {
        let failed = |error| HubError::io(self.root.join("refs"), error);
        self.names.create_ref(commit).map_err(failed)
    }
}

/// Adds the files below `folder`, whose links lead to something, as `prefix` and their names.
fn list(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        if path.is_file() {
            files.push(format!("{prefix}{name}"));
        } else if path.is_dir() && depth > 0 {
            list(&path, &format!("{prefix}{name}/"), depth - 1, files);
        }
    }
}
