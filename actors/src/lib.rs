//! Who acts: Planner, Stage, Verifier and Supervisor, the messages between them and their wire codec.
//!
//! The thinking is in pure functions (placement, scheduling, acceptance, codec); the actors are
//! thin shells that receive, call and send. No zenoh lives here: actors send through a [`Link`],
//! and what arrives for a node is handed to its [`Inbox`].
//!
//! # Layout; each uses only those above it, as `make layering` asserts
//!
//! - `ids`, `clock`: numbers and names that all know; the time
//! - [`speculation`]: what is guessed, in which shape, and what of it counts
//! - [`request`]: what a client asks and the events that it gets back
//! - [`message`]: what travels between actors
//! - [`codec`]: how it looks on the wire
//! - [`link`]: where messages go
//! - [`planning`]: which device computes which layers, and how prompts are cut, from measured times
//! - [`planner`]: admits requests, holds accepted tokens, places layers, forms micro-batches
//! - [`factory`]: what the others are made of
//! - [`verifier`]: turns logits into accepted tokens
//! - [`stage`]: computes a layer range
//! - [`drafter`]: a small model that guesses what comes next
//! - [`inbox`]: where messages arrive
//! - [`supervisor`]: restarts the actors of a node
//! - [`simulator`]: the Planner on a virtual clock, with a pipeline that is not there

mod clock;
pub mod codec;
pub mod drafter;
pub mod factory;
mod ids;
pub mod inbox;
pub mod link;
pub mod message;
pub mod planner;
pub mod planning;
pub mod request;
pub mod simulator;
pub mod speculation;
pub mod stage;
pub mod supervisor;
pub mod verifier;

pub use clock::show_duration;
pub use ids::{NodeId, PlanEpoch, RequestId, StepId};
pub use inbox::Inbox;
pub use link::{Address, Link, LinkError};
