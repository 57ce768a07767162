//! What can be wrong with the knowledge; each message is one line that names the place.

/// Why the knowledge cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A file is not the TOML it should be.
    #[error("{file}: {source}")]
    Toml {
        /// The knowledge file.
        file: &'static str,
        /// What the parser says, with line and column.
        source: Box<toml::de::Error>,
    },
    /// An entry breaks a rule that the generator relies on.
    #[error("{entry}: {what}")]
    Entry {
        /// The subject or list.
        entry: String,
        /// The rule that is broken.
        what: String,
    },
}
