//! What a cluster would do: the real Planner, its speculation and its plans, on a virtual clock.
//!
//! ```text
//! SimRequest --clients--> OfflinePlanner --steps--> servers (stages, links) --verifier--> reports
//!                              ^                                                            |
//!                              +---------------------- events, by time ---------------------+
//! ```
//!
//! - [`workload`]: what is asked and when; [`clients`]: those who ask
//! - [`servers`]: stages and links, whose times come from profiles (measured, or a devices file), by
//!   [`costs`]; [`step`]: a step on its way through them; [`memory`]: their KV cache; [`passage`]: a prompt
//!   alone on them
//! - [`verifier`], [`text`]: what the model says
//! - [`world`]: a run from event to event, with the [`nodes`] of the cluster; [`events`]: the clock
//! - [`forecast`]: what a run will take; [`outcome`]: what came of it
//!
//! Credits, KV memory, the order of steps and the rows that are cancelled are those of the real
//! pipeline, since what decides them is the real code. Not simulated are the time to load stages,
//! noise, sampling, and what stages on one machine take from each other.
//!
//! One thread, and no clock but the virtual one: a scenario gives the same outcome each time.

mod clients;
mod costs;
mod crowd;
mod error;
mod events;
mod forecast;
mod memory;
mod nodes;
mod outcome;
mod passage;
mod servers;
mod step;
mod text;
mod verifier;
mod workload;
mod world;

pub use clients::Guesses;
pub use error::SimulationError;
pub use forecast::LateStep;
pub use outcome::{Answered, Outcome, Spread, StageOutcome};
pub use passage::prefill_passage;
pub use workload::{
    Lengths, MAX_RATE, MAX_REQUESTS, MAX_TOKENS, Points, SimRequest, TraceLine, arrivals, traced,
};
pub use world::{Scenario, Simulation};
