//! What planning takes and what it gives, as tables; the program `plans` prints them.
//!
//! - [`unequal`]: generated clusters of many unequal devices, and the time that planning takes
//! - [`jetson`]: the papers' devices, ours against what was published

pub mod jetson;
pub mod unequal;

/// Nanoseconds in a millisecond.
const NS_PER_MS: f64 = 1e6;
