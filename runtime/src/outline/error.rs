//! What can be wrong with templates and events of branches.

/// An error of an outline: one line that says what is wrong and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutlineError {
    /// A template names a place that is never filled.
    #[error("template {template} has an unknown placeholder {{{name}}}: it may have {known}")]
    UnknownPlaceholder {
        /// The template.
        template: &'static str,
        /// The placeholder.
        name: String,
        /// Those it may have.
        known: String,
    },
    /// A template lacks a place without which it says nothing.
    #[error("template {template} lacks the placeholder {{{name}}}: put it where it belongs")]
    MissingPlaceholder {
        /// The template.
        template: &'static str,
        /// The placeholder.
        name: &'static str,
    },
    /// A brace that opens or closes nothing.
    #[error("template {template} has a lone brace at byte {at}: write {{{{ or }}}} for the sign")]
    LoneBrace {
        /// The template.
        template: &'static str,
        /// Where it stands.
        at: usize,
    },
    /// A conversation that does not end with a question.
    #[error("the conversation does not end with a turn of the user: there is nothing to outline")]
    NoQuestion,
    /// An event of a branch that is not there.
    #[error("an event came for branch {branch}, and the outline has {n_branches} points")]
    UnknownBranch {
        /// The branch, from 0.
        branch: usize,
        /// Points of the outline.
        n_branches: usize,
    },
    /// An event behind a branch's end.
    #[error("an event came for branch {branch} behind its end")]
    BehindEnd {
        /// The branch, from 0.
        branch: usize,
    },
}

/// Result of this module.
pub(crate) type Result<T, E = OutlineError> = std::result::Result<T, E>;
