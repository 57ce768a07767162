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
//! - [`config`]: what a file, the environment and flags may say
//! - `builder`, `runtime`: the head ([`Runtime`]); `worker`: a node that serves one ([`Worker`])
//! - `client`, `prompt`, `chat_format`, `stream`: questions and answers ([`Client`], [`TokenStream`])
//! - `branches`: several answers side by side ([`BranchStream`])
//! - [`outline`], `outliner`: outlines, their points and how they become one answer
//! - [`event`]: answers as JSON
//! - `service`: the same for any program that speaks zenoh
//! - `surveyor`: a head that only measures ([`Surveyor`])
//! - `node`, `plan`: link, actors and stages put together
//! - `membership`: who belongs to a cluster, and what was measured of it
//! - `own_address`: where a worker listens; `emulated_link`: a slow network, to try plans with
//! - [`zenoh_link`], [`session`], [`keys`], `entrance`: frames, connections, names, and what is meant
//!   for us
//! - [`timeline`]: pictures of what stages and links did when
//! - [`telemetry`]: the log; [`terminal`]: what programs share that talk with a person
//! - [`environment`]: variables; [`signals`]: who asks a program to end
//! - [`text_file`]: prompts, grammars, plans from any file or pipe; [`named_fields`]: what is wrong in
//!   them

mod branches;
mod builder;
mod chat_format;
mod client;
pub mod config;
mod drafts;
mod emulated_link;
mod entrance;
pub mod environment;
mod error;
pub mod event;
pub mod keys;
mod membership;
pub mod named_fields;
mod node;
pub mod outline;
mod outliner;
mod own_address;
mod plan;
mod prompt;
mod runtime;
mod send_queue;
mod service;
pub mod session;
pub mod signals;
mod stop_filter;
mod stream;
mod surveyor;
pub mod telemetry;
pub mod terminal;
pub mod text_file;
pub mod timeline;
mod worker;
pub mod zenoh_link;

pub use branches::{BranchItem, BranchStream};
pub use builder::RuntimeBuilder;
pub use client::Client;
pub use config::{Config, OutlineMode, Settings};
pub use emulated_link::LinkLimits;
pub use error::{Error, Result};
pub use jupiter_actors::NodeId;
pub use jupiter_actors::planner::{ClusterPhase, ClusterStatus, StageStatus, StepStats, StepTrace};
pub use jupiter_actors::planning::placement::Objective;
pub use jupiter_actors::request::{
    Completion, DraftChoice, FinishReason, LengthLimit, Oracle, OutlineUsage, RequestError,
    SpeculationParams, SpeculationUsage, StageUsage,
};
pub use jupiter_models::sampling::SamplingParams;
pub use jupiter_models::text::ChatMessage;
pub use node::Progress;
pub use plan::{described_config, stage_ranges};
pub use prompt::{GenerateOptions, Prompt};
pub use runtime::Runtime;
pub use stream::{StreamItem, TokenStream};
pub use surveyor::Surveyor;
pub use worker::Worker;
