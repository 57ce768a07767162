//! Stages and links: servers that take steps in the order of their arrival, one at a time.
//!
//! ```text
//! Planner --latency--> stage 0 --link: bytes, then latency--> stage 1 ... --latency--> Planner
//! ```
//!
//! What a stage does with a step is what the real one does (rows that were cancelled leave it before
//! it is computed), and what it takes is what [`Pipeline`] says of the rows that are left.

use std::collections::VecDeque;

use jupiter_models::LayerRange;

use super::events::{Event, Events, Moved};
use super::memory::KvMemory;
use crate::message::{CancelRows, StageTiming, StepHeader};
use crate::planning::cost::{Pipeline, Work};
use crate::planning::profile::Cluster;
use crate::stage::LiveRows;
use crate::{PlanEpoch, StepId};

/// The stages of an epoch, the links between them, and the steps on their way.
pub(super) struct Servers<'a> {
    pub(super) epoch: PlanEpoch,
    costs: Pipeline<'a>,
    stages: Vec<StageServer>,
    memory: KvMemory,
    /// The steps that are under way, in order.
    steps: VecDeque<Step>,
    pub(super) stats: ServerStats,
}

/// What the stages did, in all epochs.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerStats {
    /// Time that each stage computed, in nanoseconds.
    pub(super) busy_ns: Vec<u64>,
    /// Rows that the first stage computed.
    pub(super) n_rows: u64,
    /// Most cells of the KV cache that were in use.
    pub(super) most_cells: usize,
}

struct StageServer {
    gates: LiveRows,
    /// Steps that wait, with their time of arrival.
    waiting: VecDeque<(StepId, u64)>,
    /// Whether its next beginning is decided.
    is_due: bool,
    free_ns: u64,
    /// When the link behind it is free.
    link_free_ns: u64,
}

/// A step on its way.
struct Step {
    header: StepHeader,
    /// For each row, the tokens that were in its sequence's cache before the step.
    contexts: Vec<u32>,
    work: Work,
}

/// A step that the last stage has computed.
pub(super) struct Computed {
    pub(super) header: StepHeader,
    /// When it is done with it, in nanoseconds.
    pub(super) ended_ns: u64,
}

impl<'a> Servers<'a> {
    /// Stages of an epoch, with empty caches.
    pub(super) fn new(
        cluster: &'a Cluster,
        stages: Vec<(usize, LayerRange)>,
        epoch: PlanEpoch,
        (n_cells, n_seq_max): (u32, u32),
        stats: ServerStats,
    ) -> Self {
        let server = || StageServer {
            gates: LiveRows::new(n_seq_max),
            waiting: VecDeque::new(),
            is_due: false,
            free_ns: 0,
            link_free_ns: 0,
        };
        let mut servers = Self {
            epoch,
            stages: stages.iter().map(|_| server()).collect(),
            costs: Pipeline::new(cluster, stages),
            memory: KvMemory::new(n_cells, n_seq_max),
            steps: VecDeque::new(),
            stats,
        };
        let n_stages = servers.stages.len().max(servers.stats.busy_ns.len());
        servers.stats.busy_ns.resize(n_stages, 0);
        servers
    }

    pub(super) fn costs(&self) -> &Pipeline<'a> {
        &self.costs
    }

    /// Takes a step from the Planner: it is at the first stage after the way there.
    pub(super) fn send(&mut self, header: StepHeader, now_ns: u64, events: &mut Events) {
        let (stage, step) = (0, header.step);
        let arrives_ns = now_ns + self.costs.entry_ns();
        self.decide(arrives_ns, Moved::Arrived { stage, step }, events);
        self.steps.push_back(Step {
            header,
            contexts: Vec::new(),
            work: Work::default(),
        });
    }

    /// Moves a step on, and decides what follows.
    pub(super) fn advance(
        &mut self,
        what: Moved,
        now_ns: u64,
        events: &mut Events,
    ) -> Option<Computed> {
        match what {
            Moved::Arrived { stage, step } => {
                let server = &mut self.stages[stage];
                server.waiting.push_back((step, now_ns));
                let is_idle = !std::mem::replace(&mut server.is_due, true);
                let begins_ns = server.free_ns.max(now_ns);
                if is_idle {
                    self.decide(begins_ns, Moved::Begun { stage }, events);
                }
                None
            }
            Moved::Begun { stage } => {
                let (at, ended_ns) = self.begin(stage, now_ns)?;
                if self.stages[stage].is_due {
                    self.decide(ended_ns, Moved::Begun { stage }, events);
                }
                self.pass_on(stage, at, ended_ns, events)
            }
        }
    }

    fn decide(&self, time_ns: u64, what: Moved, events: &mut Events) {
        let epoch = self.epoch;
        events.at(time_ns, Event::Moved { epoch, what });
    }

    pub(super) fn cancel(&self, stage: usize, cancel: CancelRows) {
        if let Some(server) = self.stages.get(stage) {
            server.gates.cancel(cancel);
        }
    }

    /// A stage begins with the step that waits longest. Its place, and when the stage is done with it.
    fn begin(&mut self, stage: usize, now_ns: u64) -> Option<(usize, u64)> {
        let (id, arrived_ns) = self.stages[stage].waiting.pop_front()?;
        let at = self.place_of(id)?;
        self.leave_out_dead_rows(stage, at);
        if stage == 0 {
            self.remember(at);
        }
        let work = self.steps[at].work;
        let busy_ns = match work.rows {
            0 => 0,
            _ => self.costs.server_ns(2 * stage, work),
        };
        let ended_ns = now_ns + busy_ns;
        self.stats.busy_ns[stage] += busy_ns;
        self.steps[at].header.timings.push(StageTiming {
            stage: stage as u32,
            began_us: now_ns / 1000,
            waited_us: (now_ns - arrived_ns) / 1000,
            busy_us: ended_ns / 1000 - now_ns / 1000,
        });
        let server = &mut self.stages[stage];
        server.free_ns = ended_ns;
        server.is_due = !server.waiting.is_empty();
        Some((at, ended_ns))
    }

    fn pass_on(
        &mut self,
        stage: usize,
        at: usize,
        ended_ns: u64,
        events: &mut Events,
    ) -> Option<Computed> {
        if stage + 1 == self.stages.len() {
            // Steps keep their order, so it is the oldest.
            let header = self.steps.remove(at)?.header;
            return Some(Computed { header, ended_ns });
        }
        let (step, link) = (self.steps[at].header.step, 2 * stage + 1);
        let server = &mut self.stages[stage];
        let sent_ns = server.link_free_ns.max(ended_ns);
        server.link_free_ns = sent_ns + self.costs.server_ns(link, self.steps[at].work);
        let arrives_ns = server.link_free_ns + self.costs.delay_ns(link);
        let stage = stage + 1;
        self.decide(arrives_ns, Moved::Arrived { stage, step }, events);
        None
    }

    fn place_of(&self, step: StepId) -> Option<usize> {
        let oldest = self.steps.front()?.header.step;
        let at = usize::try_from(step.0.checked_sub(oldest.0)?).ok()?;
        (at < self.steps.len()).then_some(at)
    }

    fn leave_out_dead_rows(&mut self, stage: usize, at: usize) {
        let step = &mut self.steps[at];
        let Some(kept) = self.stages[stage].gates.retain(&mut step.header) else {
            return;
        };
        if stage > 0 {
            step.contexts = kept.iter().map(|&row| step.contexts[row]).collect();
            step.work = work_of(&step.header, &step.contexts, step.work.cells);
        }
    }

    /// Applies what a step does to the KV cache.
    fn remember(&mut self, at: usize) {
        let (memory, step) = (&mut self.memory, &mut self.steps[at]);
        for &op in &step.header.kv_ops {
            memory.apply(op);
        }
        let n_cells = memory.n_used() as u32;
        let rows = &step.header.rows;
        step.contexts
            .extend(rows.iter().map(|row| memory.len(row.seq_ids[0]) as u32));
        for row in rows {
            memory.compute(&row.seq_ids, row.pos);
        }
        step.work = work_of(&step.header, &step.contexts, n_cells);
        self.stats.n_rows += rows.len() as u64;
        self.stats.most_cells = self.stats.most_cells.max(memory.n_used());
    }
}

fn work_of(header: &StepHeader, contexts: &[u32], cells: u32) -> Work {
    Work {
        rows: header.rows.len() as u32,
        row_context: contexts.iter().map(|&context| u64::from(context)).sum(),
        cells,
        logits: header.rows.iter().filter(|row| row.wants_logits).count() as u32,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jupiter_models::{Row, SequenceId};

    use super::*;
    use crate::message::DraftRows;
    use crate::planning::devices_file::DevicesFile;

    /// A row of one sequence, and a line of four of another.
    fn step() -> StepHeader {
        let row = |(seq, pos): (u32, u32)| Row {
            seq_ids: vec![SequenceId(seq)],
            pos,
            token: 0,
            wants_logits: true,
        };
        let draft = |seq, first_row, parents: &[u16]| DraftRows {
            seq: SequenceId(seq),
            generation: 0,
            first_row,
            parents: parents.to_vec(),
            wants_guesses: false,
        };
        let rows = [(0, 0), (1, 0), (1, 1), (1, 2), (1, 3)];
        StepHeader {
            epoch: PlanEpoch(1),
            rows: rows.into_iter().map(row).collect(),
            drafts: vec![draft(0, 0, &[]), draft(1, 1, &[0, 1, 2])],
            ..StepHeader::default()
        }
    }

    /// What two stages compute in nanoseconds, when one of them hears that the line is dead.
    fn busy_ns(cancelled_at: Option<usize>) -> Vec<u64> {
        let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
        let file = std::fs::read_to_string(format!("{configs}/devices-jetson-nx-1000mbps.toml"));
        let file: DevicesFile = toml::from_str(&file.unwrap()).unwrap();
        let cluster = file.into_cluster().unwrap().with_head_on(0);
        let stages = vec![(0, LayerRange::new(0, 16)), (1, LayerRange::new(16, 32))];
        let stats = ServerStats::default();
        let mut servers = Servers::new(&cluster, stages, PlanEpoch(1), (64, 2), stats);
        let mut events = Events::default();
        servers.send(step(), 0, &mut events);
        if let Some(stage) = cancelled_at {
            let cancel = CancelRows {
                epoch: PlanEpoch(1),
                seq: SequenceId(1),
                live_from: 1,
                live_from_step: StepId(0),
            };
            servers.cancel(stage, cancel);
        }
        while let Some((now_ns, Event::Moved { what, .. })) = events.next() {
            servers.advance(what, now_ns, &mut events);
        }
        servers.stats.busy_ns
    }

    #[test]
    fn rows_that_were_cancelled_are_computed_by_no_later_stage() {
        let (whole, late, early) = (busy_ns(None), busy_ns(Some(1)), busy_ns(Some(0)));
        assert_eq!(late[0], whole[0]);
        assert!(late[1] < whole[1], "{late:?} {whole:?}");
        assert!(early[0] < whole[0], "{early:?} {whole:?}");
        assert_eq!(early[1], late[1]);
    }
}
