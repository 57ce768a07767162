//! Whether a device does differently from the others. Pure arithmetic on what steps took.
//!
//! ```text
//! ratio of a device  its engine's time over the predicted time, in each slice of the steps
//! what all share     the middle device's ratio: the model's error at this load, a memory that all use
//! drift              a device's ratio over what all share, the same in nearly all slices
//! ```
//! Ratios are compared as logarithms, so that twice as long and half as long are equally far away.

use std::collections::VecDeque;
use std::time::Duration;

/// Engine time of the busiest device in a slice: long against the turns in which a scheduler or a
/// cooling processor lets a program run.
const SLICE: Duration = Duration::from_secs(1);

/// Slices that are compared: a device of half the speed is noticed within 20 s, a program that runs
/// beside it for some seconds is not.
const N_SLICES: usize = 12;

/// How many of them have to show the drift: the others may be bursts.
const N_AGREEING: usize = 10;

/// A device has drifted when it takes longer or shorter than the others by this share. Of two equal
/// devices the slower one would keep its layers below it.
const SHARE: f64 = 0.25;

/// The same for a device that computes alone. It has only its profile to be compared with, which
/// does not know what engines take that cool down between steps, or share a machine.
const ALONE_SHARE: f64 = 0.5;

/// What a device took and should have taken, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DeviceTimes {
    pub(super) busy_ns: u64,
    pub(super) predicted_ns: u64,
}

impl DeviceTimes {
    fn ln_ratio(self) -> f64 {
        (self.busy_ns.max(1) as f64 / self.predicted_ns.max(1) as f64).ln()
    }
}

/// A device that has drifted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Drifted {
    /// Which of the devices.
    pub(super) device: usize,
    /// How many times as long as was predicted it takes now, beside the others.
    pub(super) factor: f64,
}

/// How the devices of one plan do.
#[derive(Clone, Debug, Default)]
pub(super) struct Drift {
    /// The slice that is being filled, by device.
    filling: Vec<DeviceTimes>,
    /// Logarithms of the ratios in the last slices, by device.
    slices: VecDeque<Vec<f64>>,
    /// Logarithm of each device's drift as it was told.
    told: Vec<f64>,
}

impl Drift {
    /// Takes what each device took for a step. The devices are those of all steps before.
    ///
    /// Returns those whose drift has changed; what is told of a device holds until it is told anew.
    pub(super) fn observe(&mut self, step: &[DeviceTimes]) -> Vec<Drifted> {
        self.filling.resize(step.len(), DeviceTimes::default());
        self.told.resize(step.len(), 0.0);
        for (sum, took) in self.filling.iter_mut().zip(step) {
            sum.busy_ns += took.busy_ns;
            sum.predicted_ns += took.predicted_ns;
        }
        let busiest_ns = self.filling.iter().map(|took| took.busy_ns).max();
        if busiest_ns.is_none_or(|ns| Duration::from_nanos(ns) < SLICE) {
            return Vec::new();
        }
        let filled = std::mem::take(&mut self.filling);
        self.slices
            .push_back(filled.into_iter().map(DeviceTimes::ln_ratio).collect());
        if self.slices.len() > N_SLICES {
            self.slices.pop_front();
        }
        self.drifted()
    }

    /// How many times as long as predicted all devices take alike.
    pub(super) fn shared(&self) -> f64 {
        let all: Vec<f64> = (0..self.told.len()).map(|at| self.median(at)).collect();
        nearest_middle(&all).map_or(1.0, |at| all[at].exp())
    }

    fn drifted(&mut self) -> Vec<Drifted> {
        if self.slices.len() < N_SLICES {
            return Vec::new();
        }
        let n_devices = self.told.len();
        let medians: Vec<f64> = (0..n_devices).map(|at| self.median(at)).collect();
        // A device alone has no other to be compared with.
        let (reference, share) = match n_devices {
            1 => (None, ALONE_SHARE),
            _ => (nearest_middle(&medians), SHARE),
        };
        let limit = (1.0 + share).ln();
        let mut drifted = Vec::new();
        for device in 0..n_devices {
            let beside = |slice: &Vec<f64>| {
                let shared = reference.map_or(0.0, |at| slice[at] - self.told[at]);
                slice[device] - self.told[device] - shared
            };
            let beside: Vec<f64> = self.slices.iter().map(beside).collect();
            let slower = beside.iter().filter(|&&ln| ln > limit).count();
            let faster = beside.iter().filter(|&&ln| ln < -limit).count();
            if slower.max(faster) >= N_AGREEING {
                drifted.push((device, self.told[device] + median(beside)));
            }
        }
        for &(device, ln) in &drifted {
            self.told[device] = ln;
        }
        let factor = |(device, ln): (usize, f64)| Drifted {
            device,
            factor: ln.exp(),
        };
        drifted.into_iter().map(factor).collect()
    }

    /// The usual logarithm of a device's ratio, over what was told of it.
    fn median(&self, device: usize) -> f64 {
        let ratios = self.slices.iter().map(|slice| slice[device]).collect();
        median(ratios) - self.told[device]
    }
}

/// Of the two in the middle that which is nearer to its profile: one that got slow is as likely as
/// one that got fast, but the model's error is small.
fn nearest_middle(medians: &[f64]) -> Option<usize> {
    let mut order: Vec<usize> = (0..medians.len()).collect();
    order.sort_by(|&a, &b| medians[a].total_cmp(&medians[b]));
    let (high, low) = (order.len() / 2, order.len().saturating_sub(1) / 2);
    let (high, low) = (*order.get(high)?, *order.get(low)?);
    Some(match medians[high].abs() < medians[low].abs() {
        true => high,
        false => low,
    })
}

/// 0 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests;
