//! Whole runtimes, embedded and in clusters, from the outside.
#![allow(clippy::unwrap_used)]

mod abandoned;
mod cluster;
mod crowd;
mod default_model;
mod embedded;
mod gateway;
mod heads;
mod outlines;
mod outlines_scripted;
mod planned;
mod ros2;
mod scripted;
mod support;
mod text;
