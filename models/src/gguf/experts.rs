//! What llama.cpp asserts of a mixture of experts.

use super::info::{MAX_EXPERTS, MAX_LAYERS, ModelInfo, Reader};
use crate::Result;
use crate::architecture::Architecture;

/// `LLAMA_EXPERT_GATING_FUNC_TYPE_SQRT_SOFTPLUS` (llama-hparams.h), the last one.
const MAX_GATING: u32 = 4;

impl Reader<'_> {
    pub(super) fn check_experts(&self, arch: &Architecture, info: &ModelInfo) -> Result<()> {
        if arch.needs_experts && info.n_expert == 0 {
            return Err(self.bad(format!(
                "`{}` is missing or 0: {} models have experts",
                self.key("expert_count"),
                arch.name
            )));
        }
        if arch.needs_gating {
            self.bounded("expert_gating_func", 1, MAX_GATING)?;
        } else if arch.gating_by_depth {
            self.opt_bounded("expert_gating_func", 0, MAX_GATING)?;
        }
        if arch.needs_shared {
            self.bounded("expert_shared_count", 1, MAX_EXPERTS)?;
        }
        if arch.expert_step_is_one && self.bounded("interleave_moe_layer_step", 1, MAX_LAYERS)? != 1
        {
            return Err(self.bad("only some layers have experts, which cannot be run"));
        }
        let used = self
            .per_layer("expert_used_count", info.n_layer)?
            .unwrap_or_default();
        let most = used.iter().copied().max().unwrap_or(0);
        let least = used.iter().copied().min().unwrap_or(0);
        if most > info.n_expert || (info.n_expert > 0 && least == 0) {
            return Err(self.bad(format!(
                "{least} to {most} of {} experts are used: 1 to {0} are possible",
                info.n_expert
            )));
        }
        self.check_expert_groups(arch, info)
    }

    fn check_expert_groups(&self, arch: &Architecture, info: &ModelInfo) -> Result<()> {
        let number = |suffix| {
            let number = self.opt_bounded(suffix, 0, MAX_EXPERTS)?;
            Ok(number.unwrap_or(0))
        };
        let (n_groups, n_used) = (
            number("expert_group_count")?,
            number("expert_group_used_count")?,
        );
        if n_groups <= 1 {
            // Without experts llama.cpp asserts that there are no groups either.
            return match n_groups > 0 && n_groups >= info.n_expert {
                true => Err(self.bad("there are as many groups of experts as experts")),
                false => Ok(()),
            };
        }
        if !arch.grouped_experts {
            return Err(self.bad("grouped experts are not supported"));
        }
        // The best two of each group choose it (`build_moe_ffn` in llama-graph.cpp).
        let fits = info.n_expert.is_multiple_of(n_groups) && info.n_expert / n_groups >= 2;
        let used = self
            .per_layer("expert_used_count", info.n_layer)?
            .unwrap_or_default();
        let n_chosen = info.n_expert / n_groups * n_used;
        if !fits || !(1..n_groups).contains(&n_used) || used.iter().any(|&used| used > n_chosen) {
            return Err(self.bad(format!(
                "{n_used} of {n_groups} groups of {} experts cannot be",
                info.n_expert
            )));
        }
        Ok(())
    }
}
