//! Steps on their way while stages hear of dead rows, against a simulation stage by stage.

use jupiter_models::profile::CrowdedStep;
use jupiter_models::{KvOp, Row, SequenceId};
use proptest::prelude::*;

use super::*;
use crate::StepId;
use crate::message::DraftRows;
use crate::planning::cost::Work;
use crate::planning::devices_file::DevicesFile;

const N_STAGES: usize = 4;
const MS: u64 = 1_000_000;

fn cluster() -> Cluster {
    let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
    let file = std::fs::read_to_string(format!("{configs}/devices-jetson-mixed-1000mbps.toml"));
    let file: DevicesFile = toml::from_str(&file.unwrap()).unwrap();
    file.into_cluster().unwrap().with_head_on(0)
}

fn stages() -> Vec<(usize, LayerRange)> {
    let layers = [0, 3, 10, 17, 32];
    let stage = |stage: usize| (stage, LayerRange::new(layers[stage], layers[stage + 1]));
    (0..N_STAGES).map(stage).collect()
}

/// A row of one sequence, and a line of guesses of another, in caches that begin anew.
fn step(id: u64, n_guesses: u32) -> StepHeader {
    let row = |seq: u32, pos| Row {
        seq_ids: vec![SequenceId(seq)],
        pos,
        token: 0,
        wants_logits: true,
    };
    let draft = |seq, generation, first_row, n_guesses: u32| DraftRows {
        seq: SequenceId(seq),
        generation,
        first_row,
        parents: (0..n_guesses as u16).collect(),
        n_places: 0,
    };
    let line = (0..=n_guesses).map(|pos| row(1, pos));
    StepHeader {
        epoch: PlanEpoch(1),
        step: StepId(id),
        kv_ops: [0, 1]
            .map(|seq| KvOp::Drop {
                seq: SequenceId(seq),
            })
            .to_vec(),
        rows: std::iter::once(row(0, 0)).chain(line).collect(),
        drafts: vec![draft(0, 0, 0, 0), draft(1, id as u32, 1, n_guesses)],
        ..StepHeader::default()
    }
}

/// A stage hears at a time that the lines of the steps before another one are dead.
#[derive(Clone, Copy, Debug)]
struct Heard {
    stage: usize,
    at_ns: u64,
    live_from: u32,
}

impl Heard {
    fn cancel(self) -> CancelRows {
        CancelRows {
            epoch: PlanEpoch(1),
            seq: SequenceId(1),
            live_from: self.live_from,
            live_from_step: StepId(0),
        }
    }
}

/// Rows that are left of each step, and when each stage began and ended with it, in microseconds.
type Passages = Vec<(usize, Vec<(u64, u64)>)>;

/// Steps are sent at times, and stages hear of dead rows.
fn simulated(cluster: &Cluster, sent: &[(u64, u32)], heard: &[Heard]) -> Passages {
    let stats = ServerStats::default();
    let mut servers = Servers::new(cluster, stages(), PlanEpoch(1), (64, 2), stats);
    let mut events = Events::default();
    for (request, &(at_ns, _)) in sent.iter().enumerate() {
        events.at(at_ns, Event::Asked { request });
    }
    for heard in heard {
        let (stage, cancel) = (heard.stage, heard.cancel());
        events.at(heard.at_ns, Event::Cancelled { stage, cancel });
    }
    let (mut passages, mut last_ns) = (Vec::new(), 0);
    while let Some((now_ns, event)) = events.next() {
        assert!(now_ns >= last_ns, "the clock goes back");
        last_ns = now_ns;
        match event {
            Event::Asked { request } => {
                let header = step(request as u64, sent[request].1);
                servers.send(header, now_ns, &mut events);
            }
            Event::Begun { .. } => servers.begin(now_ns, &mut events),
            Event::Cancelled { stage, cancel } => {
                servers.cancel(stage, cancel, now_ns, &mut events);
            }
            Event::Computed { .. } => {
                while let Some(Computed { header, .. }) = servers.take_computed(now_ns) {
                    let times = header.timings.iter();
                    let times = times.map(|t| (t.began_us, t.began_us + t.busy_us));
                    passages.push((header.rows.len(), times.collect()));
                }
            }
            Event::Reported { .. } => {}
        }
    }
    passages
}

/// The same, one stage after the other: what a stage does depends on no later one.
fn expected(cluster: &Cluster, sent: &[(u64, u32)], heard: &[Heard]) -> Passages {
    let pipeline = Pipeline::new(cluster, stages());
    let steps = (0..)
        .zip(sent)
        .map(|(id, &(_, n_guesses))| step(id, n_guesses));
    let mut steps: Vec<StepHeader> = steps.collect();
    let mut arrives_ns: Vec<u64> = sent
        .iter()
        .map(|&(at_ns, _)| at_ns + pipeline.entry_ns())
        .collect();
    let mut times = vec![Vec::new(); sent.len()];
    for stage in 0..N_STAGES {
        let gates = LiveRows::new(2);
        let (mut free_ns, mut link_free_ns) = (0, 0);
        for (at, step) in steps.iter_mut().enumerate() {
            let began_ns = arrives_ns[at].max(free_ns);
            let known = heard
                .iter()
                .filter(|heard| heard.stage == stage && heard.at_ns <= began_ns);
            known.for_each(|heard| gates.cancel(heard.cancel()));
            gates.retain(step);
            let work = Work::decode(step.rows.len() as u32, 0);
            free_ns = began_ns + pipeline.server_ns(2 * stage, work);
            times[at].push((began_ns / 1000, free_ns / 1000));
            if stage + 1 < N_STAGES {
                link_free_ns = free_ns.max(link_free_ns) + pipeline.server_ns(2 * stage + 1, work);
                arrives_ns[at] = link_free_ns + pipeline.delay_ns(2 * stage + 1);
            }
        }
    }
    steps
        .iter()
        .map(|step| step.rows.len())
        .zip(times)
        .collect()
}

/// Steps by the milliseconds since the one before, and what stages hear by the millisecond.
fn at_times(sent: &[(u64, u32)], heard: &[(usize, u64, u32)]) -> (Vec<(u64, u32)>, Vec<Heard>) {
    let mut at_ns = 0;
    let sent = sent.iter().map(|&(gap, n_guesses)| {
        at_ns += gap * MS;
        (at_ns, n_guesses)
    });
    let sent = sent.collect();
    // At a nanosecond of their own, since it is open who is first of what happens at once.
    let heard = heard.iter().map(|&(stage, at, live_from)| Heard {
        stage,
        at_ns: at * MS + 1,
        live_from,
    });
    (sent, heard.collect())
}

proptest! {
    #[test]
    fn a_way_that_is_looked_ahead_is_the_one_that_is_gone(
        sent in proptest::collection::vec((0..1500_u64, 0..6_u32), 1..12),
        heard in proptest::collection::vec((0..N_STAGES, 0..9000_u64, 0..12_u32), 0..12),
    ) {
        let (cluster, (sent, heard)) = (cluster(), at_times(&sent, &heard));
        let got = simulated(&cluster, &sent, &heard);
        prop_assert_eq!(got, expected(&cluster, &sent, &heard));
    }
}

/// What the stages compute in nanoseconds, when one of them hears that a line is dead.
fn busy_ns(cancelled_at: Option<usize>) -> Vec<u64> {
    let cluster = cluster();
    let stats = ServerStats::default();
    let mut servers = Servers::new(&cluster, stages(), PlanEpoch(1), (64, 2), stats);
    let mut events = Events::default();
    servers.send(step(0, 3), 0, &mut events);
    if let Some(stage) = cancelled_at {
        let heard = Heard {
            stage,
            at_ns: 0,
            live_from: 1,
        };
        servers.cancel(stage, heard.cancel(), 0, &mut events);
    }
    drain(&mut servers, &mut events);
    servers.take_stats(u64::MAX).busy_ns
}

#[test]
fn rows_that_were_cancelled_are_computed_by_no_later_stage() {
    let (whole, late, early) = (busy_ns(None), busy_ns(Some(1)), busy_ns(Some(0)));
    assert_eq!(late[0], whole[0]);
    assert!(late[1] < whole[1], "{late:?} {whole:?}");
    assert!(early[0] < whole[0], "{early:?} {whole:?}");
    assert_eq!(early[1..], late[1..]);
}

/// The devices on one machine, where each takes so many times as long beside others.
fn on_one_machine(times: f64) -> Cluster {
    let apart = cluster();
    let mut devices = apart.devices().to_vec();
    for device in &mut devices {
        device.machine = "robot".to_owned();
        device.compute.crowding.points = vec![CrowdedStep { rows: 1, times }];
    }
    let pairs = (0..devices.len()).flat_map(|from| (0..devices.len()).map(move |to| (from, to)));
    let links: Vec<_> = pairs
        .filter_map(|(from, to)| apart.link_between(from, to))
        .collect();
    let head = devices[0].node.clone();
    Cluster::new(apart.model().clone(), devices, &links, Some(head)).unwrap()
}

/// When the last of so many steps is done with, in milliseconds.
fn ends_ms(n_steps: u64, cluster: &Cluster) -> f64 {
    let sent: Vec<(u64, u32)> = (0..n_steps).map(|_| (0, 0)).collect();
    let passages = simulated(cluster, &sent, &[]);
    let ends = passages.iter().filter_map(|(_, times)| times.last());
    ends.map(|&(_, end_us)| end_us).max().unwrap() as f64 / 1e3
}

#[test]
fn stages_of_one_machine_take_longer_while_others_compute() {
    let (apart, shared) = (cluster(), on_one_machine(1.5));
    assert_eq!(ends_ms(1, &shared), ends_ms(1, &apart));
    assert_eq!(ends_ms(9, &on_one_machine(1.0)), ends_ms(9, &apart));
    // The slowest stage computes all the time, the others most of it.
    let times = ends_ms(40, &shared) / ends_ms(40, &apart);
    assert!((1.3..2.6).contains(&times), "{times}");
}

proptest! {
    /// What comes beside a step, and rows that die on its way, change no more than what is to come.
    #[test]
    fn ways_on_one_machine_go_forwards(
        sent in proptest::collection::vec((0..300_u64, 0..6_u32), 1..12),
        heard in proptest::collection::vec((0..N_STAGES, 0..3000_u64, 0..12_u32), 0..12),
    ) {
        let (sent, heard) = at_times(&sent, &heard);
        let passages = simulated(&on_one_machine(1.5), &sent, &heard);
        prop_assert_eq!(passages.len(), sent.len());
        let mut free_us = [0; N_STAGES];
        for (_, times) in passages {
            let mut arrives_us = 0;
            for (free_us, (began_us, ended_us)) in free_us.iter_mut().zip(times) {
                prop_assert!(began_us >= arrives_us.max(*free_us) && ended_us >= began_us);
                (arrives_us, *free_us) = (ended_us, ended_us);
            }
        }
    }
}
