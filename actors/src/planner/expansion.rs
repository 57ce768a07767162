//! Answers of several branches: which of them run, and which wait for room.
//!
//! What the branches share is a sequence of its own, without an answer: its cells stay until the
//! last branch has ended. Room for a branch (a slot, and KV cells for the longest that it may
//! become) is taken before it starts. An expansion is admitted only when what all of them share
//! leaves room for the largest branch of any: so whatever runs, the others can still run after it,
//! and nobody waits for ever.

use std::collections::VecDeque;

use jupiter_models::SequenceId;

use crate::RequestId;
use crate::request::{Branch, ExpandRequest};

/// A request of several branches that is being computed.
pub(super) struct Expansion {
    pub(super) id: RequestId,
    /// The sequence that holds what they share.
    pub(super) base: SequenceId,
    pub(super) n_shared: usize,
    /// Cells of the largest branch.
    pub(super) widest: usize,
    /// Cells of a branch without a wish of its own.
    pub(super) share: usize,
    /// Branches that have not started, in order.
    pub(super) waiting: VecDeque<Branch>,
}

impl Expansion {
    pub(super) fn new(
        request: ExpandRequest,
        base: SequenceId,
        widest: usize,
        share: usize,
    ) -> Self {
        Self {
            id: request.id,
            base,
            n_shared: request.n_shared,
            widest,
            share,
            waiting: request.branches.into(),
        }
    }
}

/// Whether an expansion that shares `n_shared` cells and has a branch of `widest` may be admitted
/// beside `others`, in a context of `n_ctx` cells.
pub(super) fn is_safe(others: &[Expansion], n_shared: usize, widest: usize, n_ctx: usize) -> bool {
    let shared: usize = others.iter().map(|other| other.n_shared).sum();
    let widest = others
        .iter()
        .map(|other| other.widest)
        .fold(widest, usize::max);
    shared + n_shared + widest <= n_ctx
}
