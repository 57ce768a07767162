//! What stages and links take for a step. Many are alike, and all are asked for the same step one after
//! the other: each kind is computed once.

use jupiter_models::LayerRange;

use crate::planning::cost::{CostTable, Pipeline, Work};
use crate::planning::profile::Cluster;

/// Costs of a pipeline.
pub(super) struct Costs<'a> {
    pipeline: Pipeline<'a>,
    table: CostTable,
    /// By kind, the work that it was asked for last, and its nanoseconds.
    last: Vec<Option<(Work, u64)>>,
    /// By stage, the latency of the link behind it.
    delays_ns: Vec<u64>,
}

impl<'a> Costs<'a> {
    pub(super) fn new(cluster: &'a Cluster, stages: Vec<(usize, LayerRange)>) -> Self {
        let pipeline = Pipeline::new(cluster, stages);
        let n_servers = pipeline.n_servers();
        Self {
            table: CostTable::new(&pipeline),
            last: vec![None; n_servers],
            delays_ns: (1..n_servers)
                .step_by(2)
                .map(|link| pipeline.delay_ns(link))
                .collect(),
            pipeline,
        }
    }

    pub(super) fn pipeline(&self) -> &Pipeline<'a> {
        &self.pipeline
    }

    /// Nanoseconds of a stage; none for a step of which nothing is left.
    pub(super) fn stage_ns(&mut self, stage: usize, work: Work) -> u64 {
        match work.rows {
            0 => 0,
            _ => self.server_ns(2 * stage, work),
        }
    }

    /// Nanoseconds that the link behind a stage is occupied; none behind the last one.
    pub(super) fn link_ns(&mut self, stage: usize, work: Work) -> u64 {
        match stage < self.delays_ns.len() {
            true => self.server_ns(2 * stage + 1, work),
            false => 0,
        }
    }

    /// The latency of the link behind a stage.
    pub(super) fn delay_ns(&self, stage: usize) -> u64 {
        self.delays_ns[stage]
    }

    fn server_ns(&mut self, server: usize, work: Work) -> u64 {
        let kind = self.table.kind(server);
        match self.last[kind] {
            Some((of, ns)) if of == work => ns,
            _ => {
                let ns = self.pipeline.server_ns(server, work);
                self.last[kind] = Some((work, ns));
                ns
            }
        }
    }
}
