//! Planning against brute force, against the simulation, and against values that cannot be.
#![allow(clippy::unwrap_used)]

mod chunks;
mod common;
mod devices_file;
mod placement;
mod plan_file;
mod profile;
