//! Whole runtimes, embedded and in clusters, from the outside.
#![allow(clippy::unwrap_used)]

mod cluster;
mod embedded;
mod service;
mod support;
