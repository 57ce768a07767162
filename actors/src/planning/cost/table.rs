//! What every stage and link of a pipeline needs for a step, asked for again and again: servers that take as
//! long as each other are computed once, and of small steps what depends on rows alone is in tables.

use jupiter_models::LayerRange;
use jupiter_models::profile::TILE_ROWS;

use super::{Pipeline, Work, context_ns, shapes};

/// Most rows of steps whose costs are in tables: as many as usually decode together.
const MAX_ROWS: u32 = 64;

/// The costs of a pipeline's servers.
#[derive(Clone, Debug)]
pub(crate) struct CostTable {
    /// By server: which of the kinds it is.
    kind_of: Vec<usize>,
    kinds: Vec<Kind>,
}

/// What servers take that are as fast as each other for any work.
#[derive(Clone, Debug)]
struct Kind {
    /// One of them.
    server: usize,
    /// Nanoseconds by rows, without contexts and logits.
    rows_ns: Vec<u64>,
    /// Nanoseconds by rows that want logits.
    logits_ns: Vec<u64>,
    /// Layers and their picoseconds of context, in steps below a tile and in larger ones.
    contexts: [Vec<(u64, u64)>; 2],
}

/// What the servers of a pipeline take for a step.
#[derive(Clone, Debug)]
pub(crate) struct ServerTimes<'a> {
    kind_of: &'a [usize],
    /// Nanoseconds by kind.
    kinds_ns: Vec<u64>,
}

impl ServerTimes<'_> {
    /// Nanoseconds of server `server`: stage 0, link 0, stage 1, ...; 0 where there is none.
    pub(crate) fn ns(&self, server: usize) -> u64 {
        self.kind_of
            .get(server)
            .map_or(0, |&kind| self.kinds_ns[kind])
    }
}

impl CostTable {
    /// The table of a pipeline.
    pub(crate) fn new(pipeline: &Pipeline<'_>) -> Self {
        let mut kinds: Vec<Kind> = Vec::new();
        let mut kind_of = Vec::with_capacity(pipeline.n_servers());
        for server in 0..pipeline.n_servers() {
            let like = |kind: &Kind| pipeline.are_alike(kind.server, server);
            let kind = kinds.iter().position(like).unwrap_or_else(|| {
                kinds.push(Kind::new(pipeline, server));
                kinds.len() - 1
            });
            kind_of.push(kind);
        }
        Self { kind_of, kinds }
    }

    /// Servers of the same kind take as long as each other for any work.
    pub(crate) fn kind(&self, server: usize) -> usize {
        self.kind_of[server]
    }

    /// What `work` takes at the servers of the pipeline that this was made of.
    pub(crate) fn times(&self, pipeline: &Pipeline<'_>, work: Work) -> ServerTimes<'_> {
        let weighed = work.weighed_context();
        let is_small = work.rows <= MAX_ROWS && work.logits <= MAX_ROWS;
        let ns = |kind: &Kind| match is_small {
            true => kind.ns(work, weighed),
            false => pipeline.server_ns(kind.server, work),
        };
        ServerTimes {
            kind_of: &self.kind_of,
            kinds_ns: self.kinds.iter().map(ns).collect(),
        }
    }
}

impl Kind {
    fn new(pipeline: &Pipeline<'_>, server: usize) -> Self {
        let of = |rows, logits| {
            let work = Work {
                rows,
                logits,
                ..Work::default()
            };
            pipeline.server_ns(server, work)
        };
        let bare_ns = of(0, 0);
        Self {
            server,
            rows_ns: (0..=MAX_ROWS).map(|rows| of(rows, 0)).collect(),
            logits_ns: (0..=MAX_ROWS).map(|n| of(0, n) - bare_ns).collect(),
            contexts: [1, TILE_ROWS].map(|rows| pipeline.context_of(server, rows)),
        }
    }

    fn ns(&self, work: Work, weighed_context: u64) -> u64 {
        let contexts = &self.contexts[usize::from(work.rows >= TILE_ROWS)];
        let of_context = contexts.iter();
        let of_context = of_context.map(|&(n_layer, ps)| n_layer * context_ns(ps, weighed_context));
        self.rows_ns[work.rows as usize]
            + self.logits_ns[work.logits as usize]
            + of_context.sum::<u64>()
    }
}

impl Pipeline<'_> {
    /// Whether both are stages, or links, and take as long as each other for any work.
    fn are_alike(&self, a: usize, b: usize) -> bool {
        if a % 2 != b % 2 {
            return false;
        }
        let of_stage = |server: usize| self.stages[server / 2];
        let ((device_a, layers_a), (device_b, layers_b)) = (of_stage(a), of_stage(b));
        if !a.is_multiple_of(2) {
            let rate = |server: usize, from: usize| {
                let link = self.cluster.link(from, self.stages[server / 2 + 1].0);
                link.map(|link| link.bytes_per_ms)
            };
            return rate(a, device_a) == rate(b, device_b);
        }
        let [compute_a, compute_b] =
            [device_a, device_b].map(|device| &self.cluster.devices()[device].compute);
        let classes = |layers| shapes(self.cluster, layers).iter().map(|layer| layer.class);
        let ends = |layers: LayerRange| {
            (
                layers.start == 0,
                layers.end as usize == self.cluster.n_layer(),
            )
        };
        compute_a == compute_b
            && ends(layers_a) == ends(layers_b)
            && classes(layers_a).eq(classes(layers_b))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::planning::devices_file::DevicesFile;

    #[test]
    fn tables_say_what_each_server_takes() {
        let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
        for (name, n_kinds) in [("nx", 4), ("mixed", 5)] {
            let path = format!("{configs}/devices-jetson-{name}-1000mbps.toml");
            let file: DevicesFile =
                toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            let cluster = file.into_cluster().unwrap();
            let layers = [(1, 0, 8), (0, 8, 16), (3, 16, 24), (2, 24, 32)];
            let stage = |(device, start, end)| (device, LayerRange::new(start, end));
            let pipeline = Pipeline::new(&cluster, layers.map(stage).to_vec());
            let table = CostTable::new(&pipeline);
            for work in [
                Work::decode(3, 200).among(900),
                Work::decode(64, 9).among(70),
                Work::last_chunk(63, 50).among(800),
                Work::last_chunk(100, 50),
                Work::default(),
            ] {
                let times = table.times(&pipeline, work);
                let servers: Vec<u64> = (0..7).map(|server| times.ns(server)).collect();
                assert_eq!(servers, pipeline.chunk_ns(work), "{name}");
            }
            assert_eq!(table.kinds.len(), n_kinds, "{name}");
        }
    }
}
