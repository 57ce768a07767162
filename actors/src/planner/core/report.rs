//! How the cluster is doing, for whoever asks.

use super::super::cluster::State;
use super::super::live::{Live, Phase};
use super::super::sequence::Sequence;
use super::super::{ClusterPhase, ClusterStatus, Load, RequestState, RequestStatus};
use super::PlannerCore;

/// Most requests that are told one by one.
const MAX_TOLD: usize = 64;

impl PlannerCore {
    pub(in crate::planner) fn status(&self) -> ClusterStatus {
        ClusterStatus {
            epoch: self.cluster.epoch,
            phase: match &self.cluster.state {
                State::Waiting { .. } => ClusterPhase::Waiting,
                State::Loading { .. } => ClusterPhase::Loading,
                State::Running => ClusterPhase::Running,
                State::Failed { why } => ClusterPhase::Failed(why.clone()),
            },
            nodes: self.cluster.nodes.iter().cloned().collect(),
            stages: self.cluster.stage_status(),
            n_live: self.n_answers(),
            n_waiting: self.queue.len(),
            n_preempted: self.n_preempted,
            steps: self.flight.stats().clone(),
            plan: self.cluster.plan.clone(),
            load: self.load(),
        }
    }

    fn load(&self) -> Load {
        let mut running: Vec<&Live> = self.live.values().collect();
        running.sort_by_key(|live| live.sequence.turn);
        let mut waiting: Vec<&Sequence> = self.queue.requests().collect();
        waiting.sort_by_key(|waiting| waiting.turn);
        let running = running.into_iter().map(|live| {
            let state = match live.phase {
                Phase::Unforked | Phase::Prefill { .. } => RequestState::Prompt,
                Phase::Decode => RequestState::Answer,
            };
            request_status(&live.sequence, state, live.n_computed)
        });
        let waiting = waiting.into_iter();
        let waiting = waiting.map(|waiting| request_status(waiting, RequestState::Waiting, 0));
        Load {
            n_cells: self.n_cells(),
            n_ctx: self.config.engine.n_ctx,
            n_prompt_rows: self.pace.n_prompt_rows,
            n_answer_tokens: self.pace.n_answer_tokens,
            requests: running.chain(waiting).take(MAX_TOLD).collect(),
        }
    }
}

fn request_status(sequence: &Sequence, state: RequestState, n_computed: usize) -> RequestStatus {
    RequestStatus {
        id: sequence.id,
        client: sequence.client,
        priority: sequence.priority,
        deadline: sequence.deadline,
        asked: sequence.asked,
        state,
        n_prompt: sequence.n_prompt as u32,
        n_computed: n_computed.min(sequence.n_prompt) as u32,
        n_answer: sequence.n_answer() as u32,
    }
}
