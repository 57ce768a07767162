//! A prompt alone on its way: stages and links without a Planner.

use jupiter_models::{LayerRange, Row, SequenceId};

use super::events::Events;
use super::servers::{ServerStats, Servers, drain};
use crate::message::StepHeader;
use crate::planning::profile::Cluster;
use crate::{PlanEpoch, StepId};

/// When each chunk of a prompt is back at the Planner, in nanoseconds, if all of them are sent at
/// once and nothing else is under way: what formulas and tables of chunks are checked with.
pub fn prefill_passage(
    cluster: &Cluster,
    stages: &[(usize, LayerRange)],
    chunks: &[u32],
) -> Vec<u64> {
    let n_rows = chunks.iter().sum();
    let stages = stages.to_vec();
    let (epoch, stats) = (PlanEpoch::default(), ServerStats::default());
    let mut servers = Servers::new(cluster, stages, epoch, (n_rows, 1), stats);
    let mut events = Events::default();
    let mut behind = 0;
    for (step, &n) in (0..).zip(chunks) {
        let rows = (behind..behind + n).map(|pos| Row {
            seq_ids: vec![SequenceId(0)],
            pos,
            token: 0,
            wants_logits: pos + 1 == n_rows,
        });
        let header = StepHeader {
            epoch,
            step: StepId(step),
            rows: rows.collect(),
            ..StepHeader::default()
        };
        servers.send(header, 0, &mut events);
        behind += n;
    }
    drain(&mut servers, &mut events)
}
