//! The loads that are simulated: a prompt, streams that decode, and both.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Source, Timeline, run};
use crate::planning::cost::{Pipeline, Work};

/// Streams that generate tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodeLoad {
    /// Streams, spread over the micro-batches as evenly as possible.
    pub n_streams: u32,
    /// Micro-batches that are under way at once; each holds the next row of its streams.
    pub n_micro_batches: u32,
    /// Tokens that each stream generates.
    pub n_steps: u32,
    /// Tokens in each stream's cache before the first.
    pub context: u32,
}

/// A prompt that comes while streams decode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedLoad {
    /// The streams.
    pub decode: DecodeLoad,
    /// Rows of the prompt's chunks.
    pub chunks: Vec<u32>,
    /// When the prompt comes, in nanoseconds.
    pub arrives_ns: u64,
}

/// What became of a mixed load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mixed {
    /// All of it.
    pub timeline: Timeline,
    /// What each micro-batch was.
    pub jobs: Vec<Job>,
    /// From the prompt's arrival to its first token, in nanoseconds.
    pub ttft_ns: u64,
    /// The longest time between two tokens of a stream, in nanoseconds.
    pub longest_gap_ns: u64,
    /// The longest time that a stream's row waited for the first stage, in nanoseconds.
    pub longest_wait_ns: u64,
    /// When the streams had all their tokens, in nanoseconds.
    pub decoded_ns: u64,
}

/// Prefill of one prompt, cut into `chunks`; all chunks are there from the beginning.
pub fn simulate_prefill(pipeline: &Pipeline<'_>, chunks: &[u32]) -> Timeline {
    let mut planner = Planner::new(pipeline, None, chunks, 0);
    run(pipeline, &mut planner)
}

/// Decode of some streams. One stream: one micro-batch.
pub fn simulate_decode(pipeline: &Pipeline<'_>, load: &DecodeLoad) -> Mixed {
    let mut planner = Planner::new(pipeline, Some(load), &[], 0);
    let timeline = run(pipeline, &mut planner);
    planner.finish(timeline)
}

/// Streams that decode, and a prompt whose chunks go between their steps: at most one chunk for
/// every round of micro-batches, so that no row of a stream ever waits for more than one.
pub fn simulate_mixed(pipeline: &Pipeline<'_>, load: &MixedLoad) -> Mixed {
    let mut planner = Planner::new(pipeline, Some(&load.decode), &load.chunks, load.arrives_ns);
    let timeline = run(pipeline, &mut planner);
    planner.finish(timeline)
}

/// A micro-batch of decode rows, between rounds.
struct Batch {
    rows: u32,
    context: u32,
    n_steps_left: u32,
    last_token_ns: Option<u64>,
}

/// What a micro-batch was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// A chunk of the prompt.
    Chunk {
        /// Whether the prompt ends with it.
        is_last: bool,
    },
    /// A decode step.
    Step {
        /// Of which group of streams.
        batch: usize,
    },
}

struct Planner {
    batches: Vec<Batch>,
    /// Micro-batches whose next step has reached the first stage, and since when.
    ready: VecDeque<(usize, u64)>,
    /// By micro-batch: it has steps left and has begun none since the last chunk.
    is_due: Vec<bool>,
    chunks: VecDeque<u32>,
    n_prefilled: u32,
    /// When the prompt comes to the Planner, and how long its way to the first stage is.
    arrives_ns: u64,
    entry_ns: u64,
    jobs: Vec<Job>,
    ttft_ns: u64,
    longest_gap_ns: u64,
    longest_wait_ns: u64,
    decoded_ns: u64,
}

impl Planner {
    fn new(
        pipeline: &Pipeline<'_>,
        decode: Option<&DecodeLoad>,
        chunks: &[u32],
        arrives_ns: u64,
    ) -> Planner {
        let entry_ns = pipeline.entry_ns();
        let batches: Vec<Batch> = decode.map_or(Vec::new(), |load| {
            let n = load.n_micro_batches.clamp(1, load.n_streams.max(1));
            let rows = |i| load.n_streams / n + u32::from(i < load.n_streams % n);
            let batch = |i| Batch {
                rows: rows(i),
                context: load.context,
                n_steps_left: load.n_steps,
                last_token_ns: None,
            };
            (0..n)
                .map(batch)
                .filter(|batch| batch.rows > 0 && batch.n_steps_left > 0)
                .collect()
        });
        Planner {
            ready: (0..batches.len()).map(|batch| (batch, entry_ns)).collect(),
            is_due: vec![false; batches.len()],
            batches,
            chunks: chunks.iter().copied().filter(|&rows| rows > 0).collect(),
            n_prefilled: 0,
            arrives_ns,
            entry_ns,
            jobs: Vec::new(),
            ttft_ns: 0,
            longest_gap_ns: 0,
            longest_wait_ns: 0,
            decoded_ns: 0,
        }
    }

    /// A chunk may go if every stream that still decodes had a step since the last one.
    fn next_chunk(&mut self, now_ns: u64) -> Option<Work> {
        if now_ns < self.arrives_ns + self.entry_ns || self.is_due.contains(&true) {
            return None;
        }
        let rows = self.chunks.pop_front()?;
        let is_last = self.chunks.is_empty();
        let work = if is_last {
            Work::last_chunk(rows, self.n_prefilled)
        } else {
            Work::chunk(rows, self.n_prefilled)
        };
        self.n_prefilled += rows;
        for (due, batch) in self.is_due.iter_mut().zip(&self.batches) {
            *due = batch.n_steps_left > 0;
        }
        self.jobs.push(Job::Chunk { is_last });
        Some(work)
    }

    fn next_step(&mut self, now_ns: u64) -> Option<Work> {
        let (index, since) = self.ready.pop_front()?;
        self.longest_wait_ns = self.longest_wait_ns.max(now_ns - since);
        let batch = &mut self.batches[index];
        let work = Work::decode(batch.rows, batch.context);
        batch.context += 1;
        batch.n_steps_left -= 1;
        self.is_due[index] = false;
        self.jobs.push(Job::Step { batch: index });
        Some(work)
    }

    fn finish(self, timeline: Timeline) -> Mixed {
        Mixed {
            timeline,
            jobs: self.jobs,
            ttft_ns: self.ttft_ns,
            longest_gap_ns: self.longest_gap_ns,
            longest_wait_ns: self.longest_wait_ns,
            decoded_ns: self.decoded_ns,
        }
    }
}

impl Source for Planner {
    fn next(&mut self, now_ns: u64) -> Option<Work> {
        self.next_chunk(now_ns).or_else(|| self.next_step(now_ns))
    }

    fn back(&mut self, job: usize, now_ns: u64) {
        match self.jobs[job] {
            Job::Chunk { is_last: true } => self.ttft_ns = now_ns - self.arrives_ns,
            Job::Chunk { is_last: false } => {}
            Job::Step { batch: index } => {
                let batch = &mut self.batches[index];
                if let Some(last) = batch.last_token_ns.replace(now_ns) {
                    self.longest_gap_ns = self.longest_gap_ns.max(now_ns - last);
                }
                self.decoded_ns = self.decoded_ns.max(now_ns);
            }
        }
    }

    fn follows(&mut self, job: usize, now_ns: u64) {
        if let Job::Step { batch: index } = self.jobs[job]
            && self.batches[index].n_steps_left > 0
        {
            self.ready.push_back((index, now_ns));
        }
    }

    fn wakes_at_ns(&self) -> Option<u64> {
        (!self.chunks.is_empty()).then_some(self.arrives_ns + self.entry_ns)
    }
}
