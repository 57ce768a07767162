//! A slow network in front of a fast one: what this node sends is held back as if a link of some
//! rate and latency lay behind it. For tests, benchmarks, and trying a plan before buying machines.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How slow the link is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkLimits {
    /// Bytes that go through in a second; none for as many as come.
    pub bytes_per_s: Option<f64>,
    /// Time that each message is under way besides.
    pub latency: Duration,
}

impl LinkLimits {
    /// Whether nothing is held back.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The link: messages occupy it one after the other, and are under way side by side.
#[derive(Debug)]
pub(crate) struct EmulatedLink {
    limits: LinkLimits,
    free_at: Mutex<Option<Instant>>,
}

impl EmulatedLink {
    pub(crate) fn new(limits: LinkLimits) -> Self {
        Self {
            limits,
            free_at: Mutex::new(None),
        }
    }

    /// When a message of `n_bytes` that is sent at `now` arrives; none for at once.
    pub(crate) fn arrival(&self, n_bytes: usize, now: Instant) -> Option<Instant> {
        if self.limits.is_none() {
            return None;
        }
        let occupied = self
            .limits
            .bytes_per_s
            .map_or(Duration::ZERO, |rate| occupied(n_bytes, rate));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = free_at.map_or(now, |free| free.max(now)) + occupied;
        *free_at = Some(sent);
        Some(sent + self.limits.latency)
    }
}

fn occupied(n_bytes: usize, bytes_per_s: f64) -> Duration {
    Duration::try_from_secs_f64(n_bytes as f64 / bytes_per_s).unwrap_or(Duration::MAX / 4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_occupy_the_link_in_turn_and_travel_side_by_side() {
        let link = EmulatedLink::new(LinkLimits {
            bytes_per_s: Some(1000.0),
            latency: Duration::from_millis(50),
        });
        let now = Instant::now();
        let after = |arrival: Option<Instant>| arrival.unwrap() - now;
        assert_eq!(after(link.arrival(100, now)), Duration::from_millis(150));
        assert_eq!(after(link.arrival(100, now)), Duration::from_millis(250));
        let later = now + Duration::from_millis(400);
        assert_eq!(after(link.arrival(100, later)), Duration::from_millis(550));
        let fast = EmulatedLink::new(LinkLimits::default());
        assert_eq!(fast.arrival(1 << 30, now), None);
    }
}
