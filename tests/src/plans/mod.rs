//! What planning takes and what it gives, as a table; the program `plans` prints it.
//!
//! - [`unequal`]: generated clusters of many unequal devices, and the time that planning takes

pub mod unequal;

/// Nanoseconds in a millisecond.
const NS_PER_MS: f64 = 1e6;
