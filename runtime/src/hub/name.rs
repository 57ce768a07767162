//! How a model of the hub is named.

use crate::error::HubError;

/// A model of the hub: a repository, and which of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    /// As USER/REPO.
    pub repo: String,
    /// The quantization (`Q8_0`), in any case; without it Q4_K_M, else the first there is.
    pub quant: Option<String>,
    /// The file by its name; beats the quantization.
    pub file: Option<String>,
}

impl HubModel {
    /// Reads USER/REPO or USER/REPO:QUANT.
    ///
    /// # Errors
    /// When it is written otherwise.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let (repo, quant) = match text.split_once(':') {
            Some((repo, quant)) => (repo, Some(quant)),
            None => (text, None),
        };
        let is_named = repo
            .split_once('/')
            .is_some_and(|(user, name)| is_word(user) && is_word(name));
        if !is_named || !quant.is_none_or(is_word) {
            return Err(HubError::BadName { text: text.into() });
        }
        // llama.cpp takes Ollama's `latest` for no wish.
        let quant = quant.filter(|quant| !quant.eq_ignore_ascii_case("latest"));
        Ok(Self {
            repo: repo.into(),
            quant: quant.map(Into::into),
            file: None,
        })
    }
}

impl std::fmt::Display for HubModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.file, &self.quant) {
            (Some(file), _) => write!(f, "{file} of {}", self.repo),
            (None, Some(quant)) => write!(f, "{}:{quant}", self.repo),
            (None, None) => f.write_str(&self.repo),
        }
    }
}

/// Whether `text` can be one part of a path: what the hub allows in names, and in its hashes.
pub(super) fn is_word(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !text.is_empty() && !text.starts_with('.') && text.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_read_as_llama_cpp_reads_them() {
        let model = HubModel::parse("ggml-org/gemma-3-1b-it-GGUF:q8_0").unwrap();
        assert_eq!(model.repo, "ggml-org/gemma-3-1b-it-GGUF");
        assert_eq!(model.quant.as_deref(), Some("q8_0"));
        assert_eq!(HubModel::parse("a/b").unwrap().quant, None);
        assert_eq!(HubModel::parse("a/b:latest").unwrap().quant, None);
        for wrong in [
            "", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b:", "a/b:c/d", "a /b", "a/b?x",
        ] {
            assert!(HubModel::parse(wrong).is_err(), "{wrong}");
        }
    }
}
