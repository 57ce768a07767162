//! What several answers took together.

use jupiter_actors::request::{
    Completion, FinishReason, LengthLimit, SpeculationUsage, StageUsage,
};

/// What two answers took; how they ended, and when, is that of the first.
pub(crate) fn together(mut all: Completion, more: &Completion) -> Completion {
    all.n_prompt += more.n_prompt;
    all.n_cached += more.n_cached;
    all.n_eval += more.n_eval;
    all.n_replays = all.n_replays.max(more.n_replays);
    all.n_preempted = all.n_preempted.max(more.n_preempted);
    for stage in &more.stages {
        let is_same = |s: &&mut StageUsage| s.node == stage.node && s.layers == stage.layers;
        match all.stages.iter_mut().find(is_same) {
            Some(sum) => {
                sum.prompt_busy_ms += stage.prompt_busy_ms;
                sum.eval_busy_ms += stage.eval_busy_ms;
            }
            None => all.stages.push(stage.clone()),
        }
    }
    all.speculation = match (all.speculation, &more.speculation) {
        (Some(all), Some(more)) => Some(guesses_together(all, more)),
        (all, more) => all.or_else(|| more.clone()),
    };
    all
}

/// What two answers took that were written side by side: of what they begin with, only what was computed
/// for them counts twice. A full context is told before what was asked for.
pub(crate) fn beside(all: Completion, more: &Completion) -> Completion {
    let n_cached = all.n_cached.min(more.n_cached);
    let n_new = |one: &Completion| one.n_prompt - one.n_cached;
    let n_prompt = n_new(&all) + n_new(more) + n_cached;
    let limits = [all.limit, more.limit].into_iter().flatten();
    let limit = limits.max_by_key(|&limit| limit == LengthLimit::Context);
    Completion {
        reason: match limit {
            Some(_) => FinishReason::Length,
            None => FinishReason::Stop,
        },
        limit,
        n_prompt,
        n_cached,
        ..together(all, more)
    }
}

/// The source of the one with most guesses stands for both, and its prediction.
fn guesses_together(all: SpeculationUsage, more: &SpeculationUsage) -> SpeculationUsage {
    let most = match more.n_drafted > all.n_drafted {
        true => more,
        false => &all,
    };
    SpeculationUsage {
        source: most.source,
        predicted_ratio: most.predicted_ratio,
        n_steps: all.n_steps + more.n_steps,
        n_tokens: all.n_tokens + more.n_tokens,
        n_drafted: all.n_drafted + more.n_drafted,
        n_accepted: all.n_accepted + more.n_accepted,
        n_wasted: all.n_wasted + more.n_wasted,
    }
}
