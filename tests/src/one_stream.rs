//! A discrete-event simulation of one stream on a pipeline, with the bookkeeping of
//! [`jupiter_actors::speculation::inflight`] and a source that is right with a known probability. It knows
//! the costs and nothing of the formulas of [`jupiter_actors::speculation::shape`] that are checked with
//! it; shapes can be fixed here, which the Planner, whose simulator is elsewhere, chooses.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use jupiter_models::{SequenceId, Token};

use jupiter_actors::speculation::accept::Next;
use jupiter_actors::speculation::draft::oracle::OracleSource;
use jupiter_actors::speculation::draft::{DraftLimits, DraftSource};
use jupiter_actors::speculation::inflight::{
    InFlight, SentRows, StageGate, StepOutcome, StepVerdict, VerifierGate,
};
use jupiter_actors::speculation::shape::StepCost;
use jupiter_actors::speculation::shape::choose::{Choice, Chooser, ShapeLimits};
use jupiter_actors::speculation::shape::pipeline::LineShape;
use jupiter_actors::speculation::shape::rates::AcceptanceRates;
use jupiter_actors::speculation::{Result, SpeculationError};

/// Deepest guesses of the oracle; more than any shape needs.
const MAX_DEPTH: u32 = 1024;
/// Tokens that the simulated model knows; an oracle that is wrong says another one.
const N_VOCAB: Token = 16;

/// Stages in a row, the Planner beside the first, the Verifier beside the last.
#[derive(Clone, Copy)]
pub struct Stages<'a> {
    /// For each stage, its time in percent of `rows_ns`.
    pub percent: &'a [u64],
    /// Nanoseconds for so many rows.
    pub rows_ns: &'a dyn Fn(u32) -> u64,
    /// Nanoseconds that a message is under way: between stages, back to the Planner, and a cancel to
    /// all stages but the first.
    pub latency_ns: u64,
}

impl Stages<'_> {
    /// Nanoseconds of a step on one stage.
    pub fn stage_ns(&self, stage: usize, rows: u32) -> u64 {
        (self.rows_ns)(rows) * self.percent[stage] / 100
    }

    /// Nanoseconds of a step on each stage.
    pub fn servers_ns(&self, rows: u32) -> Vec<u64> {
        let stages = 0..self.percent.len();
        stages.map(|at| self.stage_ns(at, rows)).collect()
    }

    /// Nanoseconds of a step once around.
    pub fn around_ns(&self, rows: u32) -> u64 {
        let stages = 0..self.percent.len();
        stages
            .map(|at| self.stage_ns(at, rows) + self.latency_ns)
            .sum()
    }

    /// Calls `choose` with these costs as functions. Stages do not slow each other down.
    pub fn with_cost<T>(&self, choose: impl FnOnce(&StepCost<'_>) -> T) -> T {
        let around_ns = |rows| self.around_ns(rows);
        choose(&StepCost {
            servers_ns: &|rows| self.servers_ns(rows),
            around_ns: &around_ns,
            alone_ns: &around_ns,
        })
    }
}

/// How steps are shaped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// Always so.
    Fixed(LineShape),
    /// As the chooser says, which learns the acceptance as it goes. Lines only: an oracle has one.
    Auto(ShapeLimits),
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Tokens of the answer.
    pub n_tokens: usize,
    /// Nanoseconds they took.
    pub ns: u64,
    /// Steps that were judged.
    pub n_steps: usize,
    /// Rows that stages computed for nothing, summed over the stages, per stage.
    pub wasted_rows: f64,
    /// Guesses that were right, and all that were judged.
    pub judged: (usize, usize),
}

/// An answer of `n_tokens` with a source that is right with probability `acceptance`.
///
/// # Errors
/// For an acceptance that is no probability, limits that allow no step, and no stage.
pub fn simulate(
    pipeline: Stages<'_>,
    acceptance: f64,
    policy: Policy,
    n_tokens: usize,
    seed: u64,
) -> Result<Measured> {
    if pipeline.percent.is_empty() {
        return Err(SpeculationError::BadSetting {
            field: "number of stages",
            got: "0".into(),
            expected: "at least 1",
        });
    }
    let n_truth = n_tokens + MAX_DEPTH as usize;
    let truth: Vec<Token> = (0..n_truth).map(|pos| pos as Token % N_VOCAB).collect();
    let mut source = OracleSource::new(truth.clone(), N_VOCAB, acceptance, seed)?;
    source.accept(&truth[..1])?;
    let stage = || Stage {
        gate: StageGate::default(),
        waiting: VecDeque::new(),
        is_busy: false,
    };
    let mut run = Run {
        pipeline,
        policy,
        events: BinaryHeap::new(),
        n_events: 0,
        stages: pipeline.percent.iter().map(|_| stage()).collect(),
        jobs: HashMap::new(),
        planner: InFlight::new(SequenceId(0), 0),
        text: truth[..1].to_vec(),
        verifier: VerifierGate::new(0),
        source,
        truth,
        chooser: Chooser::default(),
        rates: AcceptanceRates::default(),
        chosen: LineShape {
            rows: 1,
            in_flight: 1,
        },
        probed: Vec::new(),
        next_step: 0,
        measured: Measured::default(),
    };
    run.choose()?;
    run.pump(0)?;
    while run.text.len() <= n_tokens {
        let Some(Reverse((now, _, event))) = run.events.pop() else {
            break;
        };
        run.handle(now, event)?;
        // All that happens at one time has happened before anything new begins.
        if run
            .events
            .peek()
            .is_none_or(|Reverse((time, ..))| *time > now)
        {
            run.start(now);
        }
        run.measured.ns = now;
    }
    run.measured.n_tokens = run.text.len() - 1;
    run.measured.wasted_rows /= pipeline.percent.len() as f64;
    Ok(run.measured)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Done { stage: usize, step: u64 },
    Arrives { stage: usize, step: u64 },
    Verified { step: u64 },
    Report { step: u64 },
    Cancel { live_from: u32 },
}

struct Stage {
    gate: StageGate,
    waiting: VecDeque<u64>,
    is_busy: bool,
}

struct Job {
    rows: SentRows,
    computed_on: usize,
    is_dropped: bool,
    verdict: Option<StepVerdict>,
}

struct Run<'a> {
    pipeline: Stages<'a>,
    policy: Policy,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    n_events: u64,
    stages: Vec<Stage>,
    jobs: HashMap<u64, Job>,
    planner: InFlight,
    text: Vec<Token>,
    verifier: VerifierGate,
    source: OracleSource,
    truth: Vec<Token>,
    chooser: Chooser,
    rates: AcceptanceRates,
    chosen: LineShape,
    /// What the source guessed without being sent.
    probed: Vec<Token>,
    next_step: u64,
    measured: Measured,
}

impl Run<'_> {
    fn at(&mut self, time: u64, event: Event) {
        self.n_events += 1;
        self.events.push(Reverse((time, self.n_events, event)));
    }

    fn choose(&mut self) -> Result<()> {
        let limits = match self.policy {
            Policy::Fixed(shape) => {
                self.chosen = shape;
                return Ok(());
            }
            Policy::Auto(limits) => limits,
        };
        let choice = self
            .pipeline
            .with_cost(|cost| self.chooser.choose(&self.rates, cost, limits))?;
        let one = |rows| LineShape { rows, in_flight: 1 };
        self.chosen = match choice {
            Choice::Plain { probe } => {
                if probe && self.planner.n_live() == 0 {
                    let tree = self.source.draft(&[], DraftLimits::line(1))?;
                    self.probed = tree.nodes().iter().map(|node| node.token).collect();
                }
                one(1)
            }
            Choice::Tree { nodes, .. } => one(nodes.len() as u32 + 1),
            Choice::Pipelined { shape, .. } => shape,
        };
        Ok(())
    }

    /// Sends steps while more may be in flight.
    fn pump(&mut self, now: u64) -> Result<()> {
        while self.planner.n_live() < self.chosen.in_flight as usize {
            let ahead = self.planner.ahead();
            let first = u32::from(self.planner.n_live() == 0);
            let limits = DraftLimits::line((self.chosen.rows - first) as usize);
            let tree = self.source.draft(&ahead, limits)?;
            if tree.is_empty() && first == 0 {
                return Ok(());
            }
            let step = self.next_step;
            self.next_step += 1;
            let rows = self.planner.send(step, &self.text, &tree, &[])?;
            let job = Job {
                rows,
                computed_on: 0,
                is_dropped: false,
                verdict: None,
            };
            self.jobs.insert(step, job);
            self.at(now, Event::Arrives { stage: 0, step });
        }
        Ok(())
    }

    fn handle(&mut self, now: u64, event: Event) -> Result<()> {
        match event {
            Event::Arrives { stage, step } => self.stages[stage].waiting.push_back(step),
            Event::Done { stage, step } => {
                self.stages[stage].is_busy = false;
                self.pass_on(now, stage, step);
            }
            Event::Cancel { live_from } => {
                for stage in &mut self.stages {
                    stage.gate.cancel(live_from);
                }
            }
            Event::Verified { step } => {
                self.verify(step)?;
                self.at(now + self.pipeline.latency_ns, Event::Report { step });
            }
            Event::Report { step } => self.report(now, step)?,
        }
        Ok(())
    }

    fn pass_on(&mut self, now: u64, stage: usize, step: u64) {
        if stage + 1 < self.stages.len() {
            let arrives = Event::Arrives {
                stage: stage + 1,
                step,
            };
            self.at(now + self.pipeline.latency_ns, arrives);
        } else {
            self.at(now, Event::Verified { step });
        }
    }

    /// Gives work to every idle stage; what is dead passes at once.
    fn start(&mut self, now: u64) {
        for at in 0..self.stages.len() {
            while !self.stages[at].is_busy {
                let Some(step) = self.stages[at].waiting.pop_front() else {
                    break;
                };
                let Some(job) = self.jobs.get_mut(&step) else {
                    break;
                };
                job.is_dropped |= !self.stages[at].gate.is_live(job.rows.generation);
                if job.is_dropped {
                    self.pass_on(now, at, step);
                    continue;
                }
                job.computed_on += 1;
                let ends = now + self.pipeline.stage_ns(at, job.rows.rows.len() as u32);
                self.stages[at].is_busy = true;
                self.at(ends, Event::Done { stage: at, step });
            }
        }
    }

    fn verify(&mut self, step: u64) -> Result<()> {
        let Some(job) = self.jobs.get_mut(&step) else {
            return Ok(());
        };
        let rows = &job.rows.rows;
        let (pos, root) = (rows[0].pos, rows[0].token);
        if job.is_dropped || !self.verifier.admit(job.rows.generation, pos, root)? {
            return Ok(());
        }
        let truth = &self.truth[pos as usize + 1..];
        let n_accepted = rows[1..]
            .iter()
            .zip(truth)
            .take_while(|(row, token)| row.token == **token)
            .count();
        let next = Next {
            token: truth[n_accepted],
            ends: false,
        };
        self.verifier.judged(pos, rows.len(), n_accepted, next);
        job.verdict = Some(StepVerdict {
            pos,
            last: n_accepted as u16,
            next,
        });
        Ok(())
    }

    fn report(&mut self, now: u64, step: u64) -> Result<()> {
        let Some(job) = self.jobs.remove(&step) else {
            return Ok(());
        };
        let n_accepted = job.verdict.map_or(0, |verdict| verdict.last as usize + 1);
        let n_wasted = job.rows.rows.len().saturating_sub(n_accepted);
        self.measured.wasted_rows += (job.computed_on * n_wasted) as f64;
        self.measured.n_steps += usize::from(job.verdict.is_some());
        let outcome = self.planner.report(step, job.verdict)?;
        self.learn(&outcome);
        self.text.extend(&outcome.accepted);
        self.source.accept(&outcome.accepted)?;
        if let Some(live_from) = outcome.cancel {
            self.stages[0].gate.cancel(live_from);
            self.at(now + self.pipeline.latency_ns, Event::Cancel { live_from });
        }
        if job.verdict.is_some() {
            self.choose()?;
        }
        self.pump(now)
    }

    fn learn(&mut self, outcome: &StepOutcome) {
        for judged in &outcome.judged {
            let n_guesses = judged.probabilities.len();
            self.rates.observe(judged.depth, n_guesses, judged.right);
            self.measured.judged.0 += usize::from(judged.right.is_some());
            self.measured.judged.1 += 1;
        }
        let probed = std::mem::take(&mut self.probed);
        if let (Some(guess), Some(token)) = (probed.first(), outcome.accepted.first()) {
            self.rates.observe(1, 1, (guess == token).then_some(0));
        }
    }
}
