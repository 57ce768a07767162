//! Ours in a cell: the simulator with the real Planner, its planned chunks, an outline, its points
//! side by side, and guesses. What a user can choose is chosen here too, as is soonest: what the stages
//! are placed for, and whether points begin with their lines.

use anyhow::{Context, Result, ensure};
use jupiter::config::{EngineSettings, GoalSettings, PlacementSettings};
use jupiter::{Config, Objective, Settings, described_config};
use jupiter_actors::planning::cost::{Pipeline, Work};
use jupiter_actors::simulator::{Guesses, Outcome, Points, Scenario, SimRequest, Simulation};
use jupiter_actors::speculation::shape::StepCost;
use jupiter_actors::speculation::shape::choose::{ShapeLimits, best_lines, best_tree};
use jupiter_actors::speculation::shape::rates::AcceptanceRates;
use jupiter_models::LayerRange;

use super::cells::Cell;
use super::{GENERATED, PROMPT};

/// Points of the outline, as in the paper's examples (3 to 6).
pub const POINTS: u32 = 5;
/// Tokens of a point's line in the outline: three words, the fewest that skeleton-of-thought asks
/// for.
const POINT_WORDS: u32 = 3;
/// Tokens that ask for one point.
const POINT_PROMPT: u32 = 8;
/// How often a guess is right: lines of four guesses bring 2.5 tokens a step then, as Medusa's heads
/// do.
pub const ACCEPTANCE: f64 = 0.64;
/// Guesses behind each other, as many as the demo's heads.
const DEPTH: u32 = 4;
/// Texts that differ in which guesses are right; their mean counts.
const SEEDS: u64 = 4;

/// Seconds in a cell, the mean of [`SEEDS`] texts.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    /// To the first token of the outline.
    pub prefill_s: f64,
    /// To its last one.
    pub outline_s: f64,
    /// To the last token of the last point.
    pub total_s: f64,
    /// Share of the time in which a stage computes, the mean of all.
    pub busy: f64,
    /// What the outline and one point take behind each other where nothing ever waits: no order of steps
    /// is faster with the same stages, shapes of guesses and acceptance.
    pub bound_s: f64,
    /// How it was soonest.
    pub way: Way,
}

/// What a user can choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    /// What the stages are placed for.
    pub objective: Objective,
    /// Whether points begin with their lines.
    pub with_lines: bool,
}

/// What the parts bring: seconds without one of them.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// With points and nothing guessed.
    pub points_s: f64,
    /// In one piece, with guesses.
    pub guesses_s: f64,
    /// In one piece and nothing guessed.
    pub plain_s: f64,
}

/// Simulates a cell, in all ways that can be chosen.
///
/// # Errors
/// When a run brought an error.
pub fn simulated(cell: &Cell) -> Result<Ours> {
    let objectives: &[Objective] = match cell.has_equal_devices() {
        true => &[Objective::Ttft],
        false => &[Objective::Ttft, Objective::Throughput],
    };
    let mut best: Option<Ours> = None;
    for &objective in objectives {
        for with_lines in [false, true] {
            let way = Way {
                objective,
                with_lines,
            };
            let ours = in_points(cell, way)?;
            if best.is_none_or(|best| ours.total_s < best.total_s) {
                best = Some(ours);
            }
        }
    }
    best.context("there is a way to do it")
}

/// The same without guesses, without points, and without both.
///
/// # Errors
/// When a run brought an error.
pub fn parts(cell: &Cell, way: Way) -> Result<Parts> {
    let in_one = SimRequest::at_once(PROMPT, GENERATED);
    let seconds = |request, seed| {
        let (outcome, _) = run(cell, request, way.objective, seed)?;
        Ok::<f64, anyhow::Error>(outcome.seconds())
    };
    let guessed = (1..=SEEDS).map(|seed| seconds(in_one, Some(seed)));
    Ok(Parts {
        points_s: seconds(outlined(way.with_lines), None)?,
        guesses_s: guessed.sum::<Result<f64>>()? / SEEDS as f64,
        plain_s: seconds(in_one, None)?,
    })
}

/// Seconds to the first token of a prompt.
///
/// # Errors
/// When the run brought an error.
pub fn prefill_s(cell: &Cell, n_prompt: u32) -> Result<f64> {
    first_s(cell, n_prompt, Objective::Ttft)
}

fn first_s(cell: &Cell, n_prompt: u32, objective: Objective) -> Result<f64> {
    let (outcome, _) = run(cell, SimRequest::at_once(n_prompt, 1), objective, None)?;
    Ok(outcome.ttft().mean / 1e3)
}

fn outlined(with_lines: bool) -> SimRequest {
    let outline = POINTS * POINT_WORDS;
    SimRequest {
        points: Some(Points {
            n_points: POINTS,
            n_prompt: POINT_PROMPT,
            n_predict: (GENERATED - outline).div_ceil(POINTS),
            with_lines,
        }),
        ..SimRequest::at_once(PROMPT, outline)
    }
}

fn in_points(cell: &Cell, way: Way) -> Result<Ours> {
    let request = outlined(way.with_lines);
    let prefill_s = first_s(cell, PROMPT, way.objective)?;
    let (mut outline_s, mut total_s, mut busy, mut bound_s) = (0.0, 0.0, 0.0, 0.0);
    for seed in 1..=SEEDS {
        let (outcome, stages) = run(cell, request, way.objective, Some(seed))?;
        let (seconds, n_stages) = (outcome.seconds(), outcome.stages.len() as f64);
        let computed_s = outcome
            .stages
            .iter()
            .map(|stage| stage.busy_ns as f64 / 1e9);
        outline_s += outcome.requests[0].outline_ns.unwrap_or(0) as f64 / 1e9;
        busy += computed_s.sum::<f64>() / n_stages / seconds;
        total_s += seconds;
        bound_s = prefill_s + behind_prefill_s(&Pipeline::new(&cell.cluster, stages), &request)?;
    }
    let mean = |sum: f64| sum / SEEDS as f64;
    Ok(Ours {
        prefill_s,
        outline_s: mean(outline_s),
        total_s: mean(total_s),
        busy: mean(busy),
        bound_s,
        way,
    })
}

/// Seconds of an outline behind its first token, then of a point, on stages that never wait.
fn behind_prefill_s(pipeline: &Pipeline<'_>, request: &SimRequest) -> Result<f64> {
    let around_ns = |rows| pipeline.pass_ns(Work::decode(rows, PROMPT));
    let servers_ns = |rows| {
        let servers = 0..pipeline.n_servers();
        let ns = servers.map(|server| pipeline.server_ns(server, Work::decode(rows, PROMPT)));
        ns.collect()
    };
    let cost = StepCost {
        servers_ns: &servers_ns,
        around_ns: &around_ns,
        alone_ns: &around_ns,
    };
    let limits = ShapeLimits {
        rows: DEPTH + 1,
        in_flight: pipeline.n_stages() as u32 + 1,
        depth: GENERATED,
        branches: 1,
    };
    let rates = AcceptanceRates::known(&[ACCEPTANCE])?;
    let tree = best_tree(&rates, &cost, limits)?;
    let lines = best_lines(&rates, &cost, limits);
    let token_s = around_ns(1) as f64 / 1e9 / tree.ratio().max(lines.ratio());
    let points = request.points.context("the answer has points")?;
    let begins_s = pipeline.pass_ns(Work::last_chunk(points.n_prompt, PROMPT)) as f64 / 1e9;
    let n_tokens = f64::from(request.n_predict - 1 + points.n_predict - 1);
    Ok(begins_s + token_s * n_tokens)
}

/// A run, and where its stages were; guesses are right by `seed`, none are made without.
fn run(
    cell: &Cell,
    request: SimRequest,
    objective: Objective,
    seed: Option<u64>,
) -> Result<(Outcome, Vec<(usize, LayerRange)>)> {
    let settings = Settings {
        engine: EngineSettings {
            ctx_size: Some(2048.max(request.n_prompt + 256)),
            // Points that begin with their lines are requests.
            parallel: Some(1 + POINTS),
            ubatch_size: Some(512),
            ..EngineSettings::default()
        },
        placement: PlacementSettings {
            plan: Some("auto".to_owned()),
            hidden_type: None,
        },
        goal: GoalSettings {
            objective: Some(objective),
        },
        ..Settings::default()
    };
    let config = Config::from_settings(settings)?;
    let cluster = cell.cluster.clone();
    let head = cluster.devices()[0].node.clone();
    let n_nodes = cluster.devices().len() as u32;
    let model = cluster.model().clone();
    let mut planner = described_config(&config, model, head, n_nodes, seed.is_some())?;
    planner.goal.load.prompt = request.n_prompt;
    let guesses = |seed| Guesses {
        acceptance: ACCEPTANCE,
        draft_max: Some(DEPTH),
        in_flight: None,
        seed,
    };
    let scenario = Scenario {
        cluster,
        planner,
        requests: vec![request],
        guesses: seed.map(guesses),
        traces: false,
    };
    let simulation = Simulation::new(&scenario)?;
    let stages = simulation.stages();
    let outcome = simulation.run()?;
    let error = outcome.requests.iter().find_map(|one| one.error.as_ref());
    ensure!(error.is_none(), "{}: {error:?}", cell.name());
    Ok((outcome, stages))
}
