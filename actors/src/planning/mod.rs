//! Planning as pure functions: which device computes which layers, how a prompt is cut into
//! chunks, and what both will cost.
//!
//! # Layout
//! - [`profile`]: what was measured of devices and links; everything is checked here.
//! - [`cost`]: what a measured pipeline needs for one micro-batch, in whole nanoseconds.
//! - [`memory`]: what a stage holds, whether a model fits, and what would make it fit.
//! - [`placement`]: subset, order and layer ranges; exact.
//! - [`chunks`]: where a prompt is cut; one table for every length.
//! - [`typical`]: what a device costs that was not measured.
//! - [`devices_file`]: machines that are not there; [`plan_file`]: a plan to keep.
//!
//! Times are whole nanoseconds inside, so that sums do not depend on their order and "equal" and
//! "best" are exact statements; what people read is in milliseconds.

pub mod chunks;
pub mod cost;
pub mod devices_file;
mod error;
pub(crate) mod figure;
pub mod memory;
pub mod placement;
pub mod plan_file;
pub mod profile;
pub mod typical;

pub use error::{PlanError, Result};
