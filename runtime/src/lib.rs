//! Runs one language model in a pipeline of stages: embedded in a program, or on several machines
//! that zenoh connects.
//!
//! ```no_run
//! use futures::StreamExt;
//! use jupiter::{Prompt, Runtime, StreamItem};
//!
//! # async fn example() -> jupiter::Result<()> {
//! // The small default model; `.model("model.gguf")` names another.
//! let runtime = Runtime::builder().stages(2).start().await?;
//! let client = runtime.client();
//! let question = Prompt::text("What is a lidar?");
//! let mut answer = client.generate(question, client.default_options()).await?;
//! while let Some(item) = answer.next().await {
//!     if let StreamItem::Token { text, .. } = item? {
//!         print!("{text}");
//!     }
//! }
//! runtime.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! Each uses only those before it; `make layering` asserts it.
//!
//! - [`outline`]: outlines, their points and how they become one answer; pure functions
//! - `error`: what can go wrong
//! - [`text_file`], [`named_fields`]: what people write, from any file or pipe, and what is wrong in it
//! - [`environment`], [`signals`]: what a shell says to the program
//! - [`hub`]: model files of the Hugging Face hub
//! - `task`, `planner`: tasks that somebody owns; the way to this process's Planner
//! - [`status`]: how a cluster is doing, as JSON
//! - [`net`]: sessions, names, frames
//! - [`config`]: what a file, the environment and flags may say
//! - `membership`: who belongs to a cluster, and what was measured of it
//! - `client`: questions and answers ([`Client`], [`TokenStream`], [`BranchStream`]), also as JSON
//!   ([`event`])
//! - `gateway`: the same for any program that speaks zenoh
//! - `monitor`: asks a head, from anywhere, how its cluster is doing ([`Monitor`])
//! - `ros2`: the same for robots of ROS 2, as a node of theirs
//! - `node`: link, actors and stages put together, as a head ([`Runtime`]), a node that serves one
//!   ([`Worker`]) or a head that only measures ([`Surveyor`])
//! - [`terminal`], [`telemetry`]: what programs share that talk with a person; the log
//! - [`timeline`]: pictures of what stages and links did when

mod client;
pub mod config;
pub mod environment;
mod error;
mod gateway;
pub mod hub;
mod membership;
mod monitor;
pub mod named_fields;
pub mod net;
mod node;
pub mod outline;
mod planner;
mod ros2;
pub mod signals;
pub mod status;
mod task;
pub mod telemetry;
pub mod terminal;
pub mod text_file;
pub mod timeline;

pub use client::branches::{BranchItem, BranchStream};
pub use client::prompt::{GenerateOptions, Prompt};
pub use client::stream::{StreamItem, TokenStream};
pub use client::{Client, event};
pub use config::{Config, OutlineMode, Settings};
pub use error::{
    BadRequest, ClusterError, ConfigError, Error, ErrorKind, HubError, Result, Ros2Error,
};
pub use jupiter_actors::NodeId;
pub use jupiter_actors::planner::{ClusterPhase, ClusterStatus, StageStatus, StepStats, StepTrace};
pub use jupiter_actors::planning::placement::Objective;
pub use jupiter_actors::request::{
    ClientId, Completion, Deadline, DeadlineKind, DraftChoice, FinishReason, LengthLimit, Oracle,
    OutlineUsage, Priority, RequestError, SpeculationParams, SpeculationUsage, StageUsage,
};
pub use jupiter_models::sampling::SamplingParams;
pub use jupiter_models::text::ChatMessage;
pub use monitor::Monitor;
pub use net::emulation::LinkLimits;
pub use node::Progress;
pub use node::builder::RuntimeBuilder;
pub use node::head::Runtime;
pub use node::plan::{described_config, stage_ranges};
pub use node::surveyor::Surveyor;
pub use node::worker::Worker;
