//! Model files of the Hugging Face hub, in the cache that its own programs use too.
//!
//! Names of folders are those of the crate `hf-hub`, and so is the transport, `ureq`; the requests are
//! ours: those of the crate wait without end, and show the token to the host that they are redirected
//! to.
//!
//! - `name`: USER/REPO:QUANT; `choice`: which of its files that is
//! - `cache`: where files lie, and which are there
//! - `remote`: what the hub says; `download`: one file from there, going on where it broke

mod cache;
mod choice;
mod download;
mod name;
mod remote;

use std::path::PathBuf;

pub use name::HubModel;

use crate::error::HubError;
use cache::RepoCache;
use remote::{Listing, Remote};

/// Told what is done, how many bytes of it, and of how many.
pub type OnBytes<'a> = &'a dyn Fn(&str, u64, u64);

/// Brings `model` into the cache, as far as it is not there, and returns the path of its file, or of
/// the first of its parts. Blocks. Where the hub cannot be reached, what is whole in the cache will do;
/// with `is_offline` nothing else is tried. The variables are those of the hub's own programs:
/// `HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`.
///
/// # Errors
/// In one line: no such repository or file, no access, no network, a full disk, altered bytes. What
/// was downloaded until then is kept, and the next call goes on there.
pub fn pull(
    model: &HubModel,
    is_offline: bool,
    on_bytes: OnBytes<'_>,
) -> Result<PathBuf, HubError> {
    let cache = RepoCache::of(&model.repo)?;
    let is_yes =
        |value: String| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str());
    if is_offline || variable("HF_HUB_OFFLINE").is_some_and(is_yes) {
        return cached(model, &cache);
    }
    let remote = Remote::from_environment(&model.repo, cache.token())?;
    match remote.listing() {
        Ok(listing) => fetch(model, &cache, &remote, &listing, on_bytes),
        Err(error @ HubError::Network { .. }) => {
            let path = cached(model, &cache).map_err(|_| error)?;
            tracing::warn!("the hub cannot be reached: {model} is taken from the cache");
            Ok(path)
        }
        Err(error) => Err(error),
    }
}

/// The model as the cache has it.
fn cached(model: &HubModel, cache: &RepoCache) -> Result<PathBuf, HubError> {
    let not_cached = || HubError::NotCached {
        what: model.to_string(),
    };
    let snapshot = cache.snapshot().ok_or_else(not_cached)?;
    let files = choice::choose(&snapshot.files, model).map_err(|error| match error {
        HubError::MissingPart { file, .. } => HubError::NotCached {
            what: format!("{file} of {}", model.repo),
        },
        _ => not_cached(),
    })?;
    // Without a wish, what another run chose because the repository had nothing better.
    let first = files.first().ok_or_else(not_cached)?;
    Ok(cache.pointer(&snapshot.commit, first))
}

/// Downloads the files that are missing.
fn fetch(
    model: &HubModel,
    cache: &RepoCache,
    remote: &Remote,
    listing: &Listing,
    on_bytes: OnBytes<'_>,
) -> Result<PathBuf, HubError> {
    let files = choice::choose(&listing.files, model)?;
    for file in &files {
        let pointer = cache.pointer(&listing.commit, file);
        if !pointer.exists() {
            let blob = remote.blob(&listing.commit, file)?;
            download::file(remote, cache, file, &blob, on_bytes)?;
            cache.link(&blob.etag, &pointer)?;
        }
    }
    // Only now: offline, a reference to a commit stands for its files.
    cache.set_commit(&listing.commit)?;
    let first = files.first().ok_or_else(|| HubError::NoGguf {
        repo: model.repo.clone(),
    })?;
    Ok(cache.pointer(&listing.commit, first))
}

/// A variable that says something.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}
