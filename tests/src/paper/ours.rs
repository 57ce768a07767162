//! Ours in a cell: the simulator with the real Planner, its planned chunks, an outline, its points
//! side by side, and guesses.

use anyhow::{Result, ensure};
use jupiter::config::{EngineSettings, GoalSettings, PlacementSettings};
use jupiter::{Config, Objective, Settings, described_config};
use jupiter_actors::simulator::{Guesses, Outcome, Points, Scenario, SimRequest, Simulation};

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

/// Seconds in a cell.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    /// To the first token of the outline.
    pub prefill_s: f64,
    /// To the last token, with points and guesses.
    pub total_s: f64,
    /// With points and nothing guessed.
    pub points_s: f64,
    /// In one piece, with guesses.
    pub guesses_s: f64,
    /// In one piece and nothing guessed.
    pub plain_s: f64,
}

/// Simulates a cell.
///
/// # Errors
/// When a run brought an error.
pub fn simulated(cell: &Cell) -> Result<Ours> {
    let outline = POINTS * POINT_WORDS;
    let in_points = SimRequest {
        points: Some(Points {
            n_points: POINTS,
            n_prompt: POINT_PROMPT,
            n_predict: (GENERATED - outline).div_ceil(POINTS),
        }),
        ..SimRequest::at_once(PROMPT, outline)
    };
    let in_one = SimRequest::at_once(PROMPT, GENERATED);
    let total =
        |request, is_guessed| Ok::<f64, anyhow::Error>(run(cell, request, is_guessed)?.seconds());
    Ok(Ours {
        prefill_s: prefill_s(cell, PROMPT)?,
        total_s: total(in_points, true)?,
        points_s: total(in_points, false)?,
        guesses_s: total(in_one, true)?,
        plain_s: total(in_one, false)?,
    })
}

/// Seconds to the first token of a prompt.
///
/// # Errors
/// When the run brought an error.
pub fn prefill_s(cell: &Cell, n_prompt: u32) -> Result<f64> {
    let first = run(cell, SimRequest::at_once(n_prompt, 1), false)?.ttft();
    Ok(first.mean / 1e3)
}

fn run(cell: &Cell, request: SimRequest, is_guessed: bool) -> Result<Outcome> {
    let settings = Settings {
        engine: EngineSettings {
            ctx_size: Some(1024.max(request.n_prompt + 256)),
            parallel: Some(1),
            ubatch_size: Some(512),
            ..EngineSettings::default()
        },
        placement: PlacementSettings {
            plan: Some("auto".to_owned()),
            hidden_type: None,
        },
        goal: GoalSettings {
            objective: Some(Objective::Ttft),
        },
        ..Settings::default()
    };
    let config = Config::from_settings(settings)?;
    let cluster = cell.cluster.clone();
    let head = cluster.devices()[0].node.clone();
    let n_nodes = cluster.devices().len() as u32;
    let model = cluster.model().clone();
    let mut planner = described_config(&config, model, head, n_nodes, is_guessed)?;
    planner.goal.load.prompt = request.n_prompt;
    let guesses = Guesses {
        acceptance: ACCEPTANCE,
        draft_max: Some(DEPTH),
        in_flight: None,
        seed: 1,
    };
    let scenario = Scenario {
        cluster,
        planner,
        requests: vec![request],
        guesses: is_guessed.then_some(guesses),
        traces: false,
    };
    let outcome = Simulation::new(&scenario)?.run()?;
    let error = outcome.requests.iter().find_map(|one| one.error.as_ref());
    ensure!(error.is_none(), "{}: {error:?}", cell.name());
    Ok(outcome)
}
