//! Simulated steps of pipelines under random load: the estimator sees nothing but their times.

use super::*;
use crate::planner::dice::Dice;

/// How rough it goes.
#[derive(Clone, Copy)]
struct Noise {
    /// The longest that another program runs beside a stage, in seconds.
    burst_s: f64,
    /// The mean time between such bursts, in seconds.
    every_s: f64,
    /// How far the model is off, all stages alike, as a factor up and down; it walks with the load.
    shared: f64,
    /// The same for each stage by itself; it stays.
    own: f64,
}

const CALM: Noise = Noise {
    burst_s: 0.3,
    every_s: 10.0,
    shared: 1.3,
    own: 1.05,
};

const ROUGH: Noise = Noise {
    burst_s: 3.0,
    every_s: 40.0,
    shared: 2.5,
    own: 1.08,
};

/// A pipeline whose steps are simulated.
struct Machines {
    dice: Dice,
    noise: Noise,
    /// What the model says of a step, beside the first stage.
    shares: Vec<f64>,
    /// How many times as long as the model says each stage takes.
    slow: Vec<f64>,
    own: Vec<f64>,
    shared: f64,
    /// When each stage's last burst ends, in seconds, and how strong it is.
    bursts: Vec<(f64, f64)>,
    /// Engine time of the busiest stage, in seconds.
    now_s: f64,
    drift: Drift,
}

impl Machines {
    fn new(n_stages: usize, noise: Noise, seed: u64) -> Machines {
        let mut dice = Dice::new(seed);
        let own = (0..n_stages).map(|_| dice.roll(1.0 / noise.own, noise.own));
        let own = own.collect();
        let shares = (0..n_stages).map(|_| dice.roll(0.6, 1.4)).collect();
        Machines {
            dice,
            noise,
            shares,
            slow: vec![1.0; n_stages],
            own,
            shared: 1.0,
            bursts: vec![(0.0, 1.0); n_stages],
            now_s: 0.0,
            drift: Drift::default(),
        }
    }

    /// A step of one row or of a long chunk.
    fn step(&mut self) -> Vec<Drifted> {
        let step_s = match self.dice.is(0.2) {
            true => self.dice.roll(0.1, 0.6),
            false => self.dice.roll(0.004, 0.04),
        };
        let walk = self.dice.roll(-0.05, 0.05) * step_s.sqrt() * 10.0;
        let limit = self.noise.shared;
        self.shared = (self.shared * walk.exp()).clamp(1.0 / limit, limit);
        let mut took = Vec::new();
        let mut longest_s: f64 = 0.0;
        for stage in 0..self.shares.len() {
            let predicted_s = step_s * self.shares[stage];
            let (end_s, strength) = self.bursts[stage];
            let mut s = predicted_s * self.shared * self.own[stage] * self.slow[stage];
            s *= self.dice.roll(0.85, 1.2);
            if self.now_s < end_s {
                s *= strength;
            } else if self.dice.is(step_s / self.noise.every_s) {
                let burst_s = self.dice.roll(0.0, self.noise.burst_s);
                self.bursts[stage] = (self.now_s + burst_s, self.dice.roll(1.5, 4.0));
            }
            if self.dice.is(0.001) {
                s += self.dice.roll(0.05, 0.5);
            }
            longest_s = longest_s.max(s);
            took.push(DeviceTimes {
                busy_ns: (s * 1e9) as u64,
                predicted_ns: (predicted_s * 1e9) as u64,
            });
        }
        self.now_s += longest_s;
        self.drift.observe(&took)
    }

    /// Steps until a drift is told, at most so many seconds.
    fn run(&mut self, seconds: f64) -> Vec<Drifted> {
        let end_s = self.now_s + seconds;
        while self.now_s < end_s {
            let drifted = self.step();
            if !drifted.is_empty() {
                return drifted;
            }
        }
        Vec::new()
    }
}

#[test]
fn devices_that_do_alike_never_drift() {
    for seed in 0..300 {
        for n_stages in 2..=4 {
            let mut machines = Machines::new(n_stages, ROUGH, seed);
            let drifted = machines.run(300.0);
            assert_eq!(drifted, [], "seed {seed}, at {} s", machines.now_s);
        }
    }
}

#[test]
fn a_model_that_is_off_by_half_is_no_drift_of_a_device_alone() {
    for seed in 0..300 {
        let noise = Noise {
            shared: 1.3,
            ..ROUGH
        };
        let mut machines = Machines::new(1, noise, seed);
        let drifted = machines.run(300.0);
        assert_eq!(drifted, [], "seed {seed}, at {} s", machines.now_s);
    }
}

#[test]
fn a_device_alone_that_halves_is_noticed_too() {
    for seed in 0..300 {
        let noise = Noise {
            shared: 1.05,
            ..CALM
        };
        let mut machines = Machines::new(1, noise, seed);
        assert_eq!(machines.run(60.0), []);
        machines.slow[0] = 2.0;
        assert_eq!(machines.run(20.0).len(), 1, "seed {seed}");
    }
}

#[test]
fn a_device_of_half_the_speed_is_noticed_in_twenty_seconds() {
    for seed in 0..300 {
        for n_stages in 2..=4 {
            let mut machines = Machines::new(n_stages, CALM, seed);
            assert_eq!(machines.run(60.0), []);
            let slow = seed as usize % n_stages;
            machines.slow[slow] = 2.0;
            let drifted = machines.run(20.0);
            let [Drifted { device, factor }] = drifted[..] else {
                panic!("seed {seed}, {n_stages} stages: {drifted:?}")
            };
            // Of two devices only the one beside the other is known.
            let factor = match device == slow {
                true => factor,
                false => 1.0 / factor,
            };
            assert!(device == slow || n_stages == 2, "seed {seed}");
            assert!((1.6..2.6).contains(&factor), "seed {seed}: {factor}");
            assert_eq!(machines.run(60.0), [], "seed {seed}: told once");
        }
    }
}

#[test]
fn what_is_over_is_told_too() {
    for seed in 0..100 {
        let mut machines = Machines::new(3, CALM, seed);
        machines.slow[1] = 2.0;
        assert_eq!(machines.run(40.0).len(), 1, "seed {seed}");
        machines.slow[1] = 1.0;
        let drifted = machines.run(40.0);
        assert_eq!(drifted.len(), 1, "seed {seed}");
        let factor = drifted[0].factor;
        assert!(
            drifted[0].device == 1 && (0.8..1.25).contains(&factor),
            "{drifted:?}"
        );
    }
}

#[test]
fn a_profile_that_was_wrong_looks_like_a_device_that_got_slow() {
    let mut machines = Machines::new(2, CALM, 1);
    (machines.slow[0], machines.shared) = (1.5, 1.0);
    let drifted = machines.run(40.0);
    assert_eq!(drifted.len(), 1);
    let shared = machines.drift.shared();
    assert!((0.7..1.4).contains(&shared), "{shared}");
}

#[test]
fn a_program_that_slows_one_machine_for_some_seconds_is_none() {
    for seed in 0..100 {
        let mut machines = Machines::new(2, CALM, seed);
        assert_eq!(machines.run(30.0), []);
        machines.slow[1] = 3.0;
        assert_eq!(machines.run(6.0), []);
        machines.slow[1] = 1.0;
        assert_eq!(machines.run(60.0), [], "seed {seed}");
    }
}

#[test]
fn one_that_is_held_and_let_go_in_turns_is_slow() {
    // Two tenths of a second each: most steps take as long as ever, and some much longer.
    let mut drift = Drift::default();
    let mut noticed_s = None;
    for step in 0..2000 {
        let held_ns = if step % 10 == 0 { 200_000_000 } else { 0 };
        let usual = DeviceTimes {
            busy_ns: 20_000_000,
            predicted_ns: 20_000_000,
        };
        let held = DeviceTimes {
            busy_ns: usual.busy_ns + held_ns,
            ..usual
        };
        let drifted = drift.observe(&[usual, held]);
        if let [told] = drifted[..] {
            assert!(told.device == 1 && (1.6..2.6).contains(&told.factor));
            noticed_s = Some(f64::from(step) * 0.04);
            break;
        }
    }
    assert!(noticed_s.is_some_and(|s| s < 20.0), "{noticed_s:?}");
}
