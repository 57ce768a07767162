//! Devices that get slow or fast, and those that only look so.

use tokio::sync::mpsc::UnboundedReceiver;

use super::super::super::cluster::Moves;
use super::super::super::dice::Dice;
use super::planned::{PLENTY, planned};
use super::*;

/// What a device really takes.
struct Truth {
    /// Milliseconds of a row of a layer.
    row_ms: f64,
    /// The same for a row and a token of its text.
    context_ms: f64,
    /// And for a row and a cell of another text.
    skip_ms: f64,
}

/// As the profiles of these tests say, but for what skipping takes.
const TRUE: Truth = Truth {
    row_ms: 20.0,
    context_ms: 0.004,
    skip_ms: 0.001,
};

/// Clients that come at random, and devices that take what they really take.
struct Traffic {
    world: World,
    dice: Dice,
    answers: Vec<UnboundedReceiver<StreamEvent>>,
    n_asked: u64,
    /// Requests a second.
    rate: f64,
    /// How many times as long as its profile says each node takes.
    slow: [f64; 2],
    /// What all stages share, beside what the cost knows.
    shared: f64,
    began: Instant,
}

impl Traffic {
    /// Two nodes; the second one has so many times the profile of the first.
    fn new(seed: u64, times: f64) -> Traffic {
        let mut world = planned(2);
        world.joins_with(0, TRUE.row_ms, TRUE.context_ms, PLENTY);
        world.joins_with(1, TRUE.row_ms * times, TRUE.context_ms * times, PLENTY);
        Traffic {
            began: world.now,
            world,
            dice: Dice::new(seed),
            answers: Vec::new(),
            n_asked: 0,
            rate: 1.0,
            slow: [1.0, times],
            shared: 1.0,
        }
    }

    fn seconds(&self) -> f64 {
        self.world.now.duration_since(self.began).as_secs_f64()
    }

    fn epoch(&self) -> u64 {
        self.world.core.status().epoch.0
    }

    /// Layers of each node.
    fn layers(&self) -> [u32; 2] {
        let placed = self.world.placed();
        ["n0", "n1"].map(|name| {
            let own = placed.iter().filter(|(node, ..)| node == name);
            own.map(|(_, start, end)| end - start).sum()
        })
    }

    /// Work for so many seconds, or until `is_over`.
    fn run(&mut self, seconds: f64, is_over: impl Fn(&mut World) -> bool) -> bool {
        let end_s = self.seconds() + seconds;
        while self.seconds() < end_s {
            let before_s = self.seconds();
            if self.world.pipeline.is_empty() {
                self.world.tick(100);
            } else {
                self.step();
                self.world.tick(0);
            }
            if self.dice.is(self.rate * (self.seconds() - before_s)) {
                self.ask();
            }
            if is_over(&mut self.world) {
                return true;
            }
        }
        false
    }

    fn ask(&mut self) {
        self.n_asked += 1;
        let n_prompt = self.dice.roll(3.0, 20.0) as usize;
        let prompt: Vec<Token> = (0..n_prompt)
            .map(|i| i as Token + self.n_asked as Token)
            .collect();
        let n = self.dice.roll(1.0, 12.0) as u32;
        self.answers.push(self.world.ask(self.n_asked, &prompt, n));
    }

    fn step(&mut self) {
        let header = self.world.pipeline.pop_front().unwrap();
        let cells = self.world.kv.values().map(Vec::len).sum::<usize>() as f64;
        let rows = header.rows.len() as f64;
        let context: f64 = header.rows.iter().map(|row| f64::from(row.pos)).sum();
        let skipped = (rows * cells - context).max(0.0);
        let layer_ms = TRUE.row_ms * rows + TRUE.context_ms * context + TRUE.skip_ms * skipped;
        self.shared = (self.shared * self.dice.roll(0.93, 1.07)).clamp(0.6, 1.6);
        let mut busy_us = Vec::new();
        for (node, start, end) in self.world.placed() {
            let slow = self.slow[usize::from(node == "n1")];
            let ms = layer_ms * f64::from(end - start) * slow * self.shared;
            let outlier = if self.dice.is(0.01) { 10.0 } else { 1.0 };
            let ms = ms * outlier * self.dice.roll(0.9, 1.15);
            busy_us.push((ms * 1e3) as u64);
        }
        let slowest_us = busy_us.iter().copied().max().unwrap_or_default();
        self.world.now += Duration::from_micros(slowest_us);
        self.world.report_with(&header, &busy_us);
    }
}

fn never(_: &mut World) -> bool {
    false
}

fn is_noticed(world: &mut World) -> bool {
    let core = &mut world.core;
    core.cluster.aim(&core.config);
    !core.cluster.is_on_target()
}

#[test]
fn random_loads_on_equal_devices_move_nothing() {
    for seed in 0..20 {
        let mut load = Traffic::new(seed, 1.0);
        for rate in [0.2, 2.0, 0.05, 1.0] {
            load.rate = rate;
            load.run(120.0, never);
        }
        assert!(load.n_asked > 20);
        assert_eq!(load.epoch(), 1, "seed {seed}: {:?}", load.world.placed());
    }
}

#[test]
fn random_loads_on_devices_as_unequal_as_they_said_move_nothing() {
    for seed in 0..10 {
        let mut load = Traffic::new(seed, 2.0);
        let before = load.layers();
        assert!(before[0] > before[1], "{before:?}");
        load.run(300.0, never);
        assert_eq!(load.epoch(), 1, "seed {seed}");
    }
}

#[test]
fn a_device_that_halves_is_noticed_in_twenty_seconds_and_loses_layers_once() {
    for seed in 0..10 {
        let mut load = Traffic::new(seed, 1.0);
        load.run(60.0, never);
        assert_eq!(load.layers(), [2, 2]);
        load.slow[1] = 2.5;
        // While it is busy: idle seconds tell nothing.
        load.rate = 2.0;
        assert!(load.run(20.0, is_noticed), "seed {seed}: not noticed");
        load.rate = 1.0;
        assert!(
            load.run(120.0, |world| world.core.cluster.epoch.0 == 2),
            "seed {seed}"
        );
        assert!(load.layers()[1] < 2, "seed {seed}: {:?}", load.layers());
        load.run(600.0, never);
        assert_eq!(load.epoch(), 2, "seed {seed}: it stays as it is");
    }
}

#[test]
fn a_profile_that_was_wrong_is_mended_by_one_move() {
    let mut load = Traffic::new(1, 1.0);
    load.slow = [2.5, 1.0];
    load.run(600.0, never);
    assert_eq!(load.epoch(), 2);
    assert!(load.layers()[0] < 2, "{:?}", load.layers());
}

#[test]
fn a_program_that_comes_and_goes_moves_layers_less_and_less() {
    let mut load = Traffic::new(1, 1.0);
    let mut moved_at_s = Vec::new();
    for minute in 0..100 {
        load.slow[0] = if minute % 4 < 2 { 3.0 } else { 1.0 };
        let before = load.epoch();
        load.run(60.0, never);
        if load.epoch() > before {
            moved_at_s.push(minute);
        }
    }
    let n_moves = load.epoch() - 1;
    assert!((1..=8).contains(&n_moves), "{moved_at_s:?}");
}

#[test]
fn a_move_has_to_pay_for_the_time_that_it_takes() {
    let mut load = Traffic::new(1, 1.0);
    load.world.load_ms = 30_000;
    // Loaded anew, so that it is known what that takes.
    load.world.core.cluster.moves = Moves::default();
    load.world.core.cluster.moves.begin(load.world.now);
    load.world.now += Duration::from_millis(30_000);
    load.world.core.cluster.moves.loaded(load.world.now);
    load.began = load.world.now;
    load.rate = 20.0;
    load.slow[1] = 2.5;
    load.run(20.0, never);
    load.run(60.0, never);
    assert_eq!(load.epoch(), 1, "it would have saved less than it takes");
    assert!(load.run(300.0, |world| world.core.cluster.epoch.0 == 2));
}
