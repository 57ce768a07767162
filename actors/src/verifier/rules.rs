//! What the target model's sampler makes of a draft, by each rule of acceptance.

use std::collections::HashMap;
use std::sync::Arc;

use jupiter_models::Token;
use jupiter_models::sampling::Sampler;
use jupiter_models::text::Vocabulary;

use crate::speculation::accept::{
    AcceptanceRule, Distribution, Next, TypicalParams, Verdict, follow, typical,
};
use crate::speculation::tree::DraftTree;
use crate::speculation::{Result, SpeculationError};

/// Samples one sequence; its state is that of all accepted tokens.
pub(super) struct TargetSampler {
    sampler: Sampler,
    vocabulary: Arc<Vocabulary>,
    ignore_eos: bool,
}

impl TargetSampler {
    pub(super) fn new(sampler: Sampler, vocabulary: Arc<Vocabulary>, ignore_eos: bool) -> Self {
        Self {
            sampler,
            vocabulary,
            ignore_eos,
        }
    }

    /// Judges `tree`, where `logits` are those after a node (none: after the root), and takes what
    /// is accepted and the token after it.
    pub(super) fn judge<'a>(
        &mut self,
        rule: AcceptanceRule,
        tree: &DraftTree,
        logits: impl Fn(Option<usize>) -> &'a [f32],
    ) -> Result<Verdict> {
        match rule {
            AcceptanceRule::Exact => follow(tree, |at| self.sample(logits(at))),
            AcceptanceRule::Typical(params) => self.judge_typical(params, tree, logits),
        }
    }

    /// The next token, which the sampler then holds.
    fn sample(&mut self, logits: &[f32]) -> Result<Next> {
        let token = self.sampler.sample(&self.checked(logits)?);
        self.sampler.accept(token);
        Ok(Next {
            token,
            ends: self.ends(token),
        })
    }

    fn judge_typical<'a>(
        &mut self,
        params: TypicalParams,
        tree: &DraftTree,
        logits: impl Fn(Option<usize>) -> &'a [f32],
    ) -> Result<Verdict> {
        // The sampler after each node: penalties and grammar follow the path.
        let mut after: HashMap<Option<usize>, Sampler> = HashMap::new();
        after.insert(None, self.sampler.clone());
        let target = |at: Option<usize>| {
            if let Some(node) = at.map(|at| tree.nodes()[at])
                && let Some(mut sampler) = after.get(&node.parent).cloned()
            {
                sampler.accept(node.token);
                after.insert(at, sampler);
            }
            let checked = self.checked(logits(at))?;
            let probabilities = after
                .get_mut(&at)
                .map_or_else(Vec::new, |sampler| sampler.probabilities(&checked));
            Distribution::new(probabilities)
        };
        let u = self.sampler.uniform();
        let verdict = typical(tree, params, target, || u, |token| self.ends(token))?;
        for token in tree.path_tokens(verdict.path.last().copied()) {
            self.sampler.accept(token);
        }
        self.sampler.accept(verdict.next.token);
        Ok(verdict)
    }

    fn ends(&self, token: Token) -> bool {
        self.vocabulary.is_eog(token) && !self.ignore_eos
    }

    /// The logits, without the tokens that are never to be sampled.
    fn checked<'a>(&self, logits: &'a [f32]) -> Result<std::borrow::Cow<'a, [f32]>> {
        // Without an early end, so that it takes several at once.
        if logits.iter().fold(false, |any, logit| any | logit.is_nan()) {
            return Err(SpeculationError::NanLogit);
        }
        if !self.ignore_eos {
            return Ok(logits.into());
        }
        let mut logits = logits.to_vec();
        for token in self.vocabulary.eog_tokens() {
            if let Some(logit) = usize::try_from(*token).ok().and_then(|t| logits.get_mut(t)) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(logits.into())
    }
}
