//! A discrete-event simulation of a pipeline: stages and links are servers that take micro-batches
//! in the order of their arrival, one at a time. What the Planner sends reaches the first stage after
//! the latency between them; what comes next is decided when the first stage is idle. The simulation
//! knows the costs and nothing of the formulas and tables that are checked with it.

mod loads;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use serde::Serialize;

pub use loads::{
    DecodeLoad, Job, Mixed, MixedLoad, simulate_decode, simulate_mixed, simulate_prefill,
};

use crate::planning::cost::{Pipeline, Work};

/// A micro-batch on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Which server: stage 0, link 0, stage 1, ...
    pub server: usize,
    /// Which micro-batch, in the order they began.
    pub job: usize,
    /// When it began, in nanoseconds.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
}

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// Micro-batches on servers, in the order of their ends.
    pub spans: Vec<Span>,
    /// When each micro-batch was back at the Planner.
    pub back_ns: Vec<u64>,
}

impl Timeline {
    /// When the last micro-batch was back.
    pub fn makespan_ns(&self) -> u64 {
        self.back_ns.iter().copied().max().unwrap_or(0)
    }

    /// How long a server was busy.
    pub fn busy_ns(&self, server: usize) -> u64 {
        let spans = self.spans.iter().filter(|span| span.server == server);
        spans.map(|span| span.end_ns - span.start_ns).sum()
    }
}

/// What the Planner does in a simulation.
pub(crate) trait Source {
    /// The first stage is idle: the next micro-batch, if one is due.
    fn next(&mut self, now_ns: u64) -> Option<Work>;
    /// A micro-batch is back. Jobs are numbered as [`Source::next`] gave them.
    fn back(&mut self, job: usize, now_ns: u64);
    /// What the Planner sent when that micro-batch was back has reached the first stage.
    fn follows(&mut self, job: usize, now_ns: u64);
    /// When something reaches the first stage that waits for nothing but time.
    fn wakes_at_ns(&self) -> Option<u64>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A server is done with a job.
    Done { server: usize, job: usize },
    /// A job reaches a server.
    Arrives { server: usize, job: usize },
    /// A job is back at the Planner.
    Back { job: usize },
    /// What the Planner sent then reaches the first stage.
    Follows { job: usize },
    /// Time to look for work.
    Wake,
}

struct Simulation<'a> {
    pipeline: &'a Pipeline<'a>,
    /// By time, then in the order they were made.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    n_events: u64,
    jobs: Vec<Work>,
    waiting: Vec<VecDeque<usize>>,
    is_busy: Vec<bool>,
    timeline: Timeline,
}

/// Runs until nothing is under way and nothing is due.
pub(crate) fn run(pipeline: &Pipeline<'_>, source: &mut dyn Source) -> Timeline {
    let mut simulation = Simulation {
        pipeline,
        events: BinaryHeap::new(),
        n_events: 0,
        jobs: Vec::new(),
        waiting: vec![VecDeque::new(); pipeline.n_servers()],
        is_busy: vec![false; pipeline.n_servers()],
        timeline: Timeline::default(),
    };
    // What the Planner sends at once reaches the first stage now.
    let begin = pipeline.entry_ns();
    for at in std::iter::once(begin).chain(source.wakes_at_ns()) {
        simulation.at(at, Event::Wake);
    }
    while let Some(Reverse((now, _, event))) = simulation.events.pop() {
        simulation.handle(now, event, source);
        // All that happens at one time has happened before anything new begins.
        let next = simulation.events.peek().map(|Reverse((time, ..))| *time);
        if next != Some(now) {
            simulation.start_jobs(now, source);
        }
    }
    simulation.timeline
}

impl Simulation<'_> {
    fn at(&mut self, time: u64, event: Event) {
        self.n_events += 1;
        self.events.push(Reverse((time, self.n_events, event)));
    }

    fn handle(&mut self, now: u64, event: Event, source: &mut dyn Source) {
        match event {
            Event::Done { server, job } => {
                self.is_busy[server] = false;
                if server + 1 < self.waiting.len() {
                    let arrives = now + self.pipeline.delay_ns(server);
                    let server = server + 1;
                    self.at(arrives, Event::Arrives { server, job });
                } else {
                    self.at(now + self.pipeline.return_ns(), Event::Back { job });
                }
            }
            Event::Arrives { server, job } => self.waiting[server].push_back(job),
            Event::Back { job } => {
                self.timeline.back_ns[job] = now;
                source.back(job, now);
                self.at(now + self.pipeline.entry_ns(), Event::Follows { job });
            }
            Event::Follows { job } => source.follows(job, now),
            Event::Wake => {}
        }
    }

    /// Gives work to every idle server.
    fn start_jobs(&mut self, now: u64, source: &mut dyn Source) {
        if !self.is_busy[0]
            && let Some(work) = source.next(now)
        {
            self.jobs.push(work);
            self.timeline.back_ns.push(0);
            self.waiting[0].push_back(self.jobs.len() - 1);
        }
        for server in 0..self.waiting.len() {
            if self.is_busy[server] {
                continue;
            }
            if let Some(job) = self.waiting[server].pop_front() {
                let end_ns = now + self.pipeline.server_ns(server, self.jobs[job]);
                self.is_busy[server] = true;
                self.timeline.spans.push(Span {
                    server,
                    job,
                    start_ns: now,
                    end_ns,
                });
                self.at(end_ns, Event::Done { server, job });
            }
        }
    }
}
