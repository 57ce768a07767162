//! What else the machine did while it was measured, and how far the measurements can be trusted.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A profile is doubtful when steps that were repeated usually took so much longer than the fastest
/// of them: a plan is only worth what such differences leave of it.
const DOUBTFUL_SPREAD: f64 = 0.15;
/// So is one whose threads waited for a core for this share of the time: long steps, of which there
/// are few, took as much longer.
const DOUBTFUL_WAIT: f64 = 0.05;
/// So is one of a virtual machine that lost this share of its computing time to others.
const DOUBTFUL_STEAL: f64 = 0.10;

/// How much a measurement was disturbed. All are shares, 0 where nothing was, or where the system
/// does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Noise {
    /// How much longer than its fastest repetition a step usually took: the median over the steps
    /// of the median over their repetitions.
    pub spread: f64,
    /// Part of the time for which threads of this program could have run, and other programs had
    /// the cores.
    pub waited: f64,
    /// Part of its computing time that the hypervisor gave to others.
    pub stolen: f64,
    /// Part of the machine's cores that other programs kept busy.
    pub others: f64,
}

impl Noise {
    /// Whether to measure again before relying on it.
    pub fn is_doubtful(&self) -> bool {
        self.spread > DOUBTFUL_SPREAD || self.waited > DOUBTFUL_WAIT || self.stolen > DOUBTFUL_STEAL
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| (100.0 * share).round();
        write!(
            f,
            "its steps differ by {} %, waited {} % of the time for a core, {} % were stolen, others \
             kept {} % of the cores busy",
            percent(self.spread),
            percent(self.waited),
            percent(self.stolen),
            percent(self.others)
        )
    }
}

/// A moment in the life of a machine: what was counted up to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counters {
    /// Time that each thread of this program waited for a core, by its number. Threads end, so a
    /// sum might shrink.
    waited: BTreeMap<u32, Duration>,
    /// Computing of all programs since the machine started, in ticks.
    busy_ticks: u64,
    /// Time of all cores, in ticks.
    all_ticks: u64,
    /// Time that the hypervisor took, in ticks.
    stolen_ticks: u64,
    /// Computing of this program, in ticks.
    own_ticks: u64,
}

impl Counters {
    /// What this machine counts now; zeros where it does not tell.
    pub(super) fn read() -> Counters {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Counters {
            waited: waited(),
            own_ticks: own_ticks(&text("/proc/self/stat")),
            ..machine(&text("/proc/stat"))
        }
    }

    /// What happened between `before` and now, `elapsed` apart; steps were spread by `spread`.
    pub(super) fn noise_since(&self, before: &Counters, elapsed: Duration, spread: f64) -> Noise {
        let ticks = |of: fn(&Counters) -> u64| of(self).saturating_sub(of(before)) as f64;
        let share = |part: f64, all: f64| {
            if all > 0.0 {
                (part / all).min(1.0)
            } else {
                0.0
            }
        };
        let busy = ticks(|c| c.busy_ticks);
        let stolen = ticks(|c| c.stolen_ticks);
        let waited = self.waited.iter().map(|(thread, &waited)| {
            let already = before.waited.get(thread).copied().unwrap_or_default();
            waited.saturating_sub(already)
        });
        let waited: Duration = waited.sum();
        Noise {
            spread,
            waited: share(waited.as_secs_f64(), elapsed.as_secs_f64()),
            stolen: share(stolen, busy + stolen),
            others: share(
                (busy - ticks(|c| c.own_ticks)).max(0.0),
                ticks(|c| c.all_ticks),
            ),
        }
    }
}

/// Time for which each thread that lives now was ready to run and did not.
fn waited() -> BTreeMap<u32, Duration> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return BTreeMap::new();
    };
    let of_thread = |thread: fs::DirEntry| {
        let number = thread.file_name().to_str()?.parse().ok()?;
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        Some((number, waited_of_thread(&text)))
    };
    threads.flatten().filter_map(of_thread).collect()
}

/// The second number of a thread's `schedstat`, in nanoseconds.
fn waited_of_thread(schedstat: &str) -> Duration {
    let ns = schedstat.split_whitespace().nth(1);
    Duration::from_nanos(ns.and_then(|ns| ns.parse().ok()).unwrap_or_default())
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what
/// guests take is in user and nice already.
fn machine(stat: &str) -> Counters {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let fields = line.unwrap_or_default().split_whitespace();
    let ticks: Vec<u64> = fields.take(8).map(|n| n.parse().unwrap_or(0)).collect();
    let &[user, nice, system, idle, iowait, irq, softirq, stolen_ticks] = ticks.as_slice() else {
        return Counters::default();
    };
    let busy_ticks = user + nice + system + irq + softirq;
    Counters {
        busy_ticks,
        stolen_ticks,
        all_ticks: busy_ticks + idle + iowait + stolen_ticks,
        ..Counters::default()
    }
}

/// User and system time in `/proc/self/stat`: fields 14 and 15, where the second field, the
/// program's name, may have blanks and brackets.
fn own_ticks(stat: &str) -> u64 {
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = behind_name.split_whitespace().skip(11).take(2);
    fields.map(|n| n.parse().unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  800 10 150 3000 40 0 20 80 5 5\ncpu0 1 1 1 1 1 1 1 1 1 1\n";

    #[test]
    fn what_the_system_says_is_read_and_nothing_else_counts_as_quiet() {
        let read = machine(STAT);
        assert_eq!((read.busy_ticks, read.stolen_ticks), (980, 80));
        assert_eq!(read.all_ticks, 4100);
        assert_eq!(
            own_ticks("7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 31 11 0 0"),
            42
        );
        assert_eq!(
            waited_of_thread("112756 3288714 2\n"),
            Duration::from_nanos(3_288_714)
        );
        for text in ["", "cpu", "cpu 1 2", "\u{fffd}"] {
            assert_eq!(machine(text), Counters::default());
            assert_eq!(
                (own_ticks(text), waited_of_thread("x")),
                (0, Duration::ZERO)
            );
        }
    }

    #[test]
    fn each_disturbance_alone_makes_a_profile_doubtful() {
        let second = Duration::from_secs(1);
        let before = machine(STAT);
        let check = |change: &dyn Fn(&mut Counters), spread, expected: Noise| {
            let mut after = before.clone();
            change(&mut after);
            let noise = after.noise_since(&before, second, spread);
            assert_eq!(noise, expected);
            noise.is_doubtful()
        };
        let none = Noise::default();
        assert!(!check(&|_| {}, 0.0, none));
        // Two cores for a second, of which this program took half.
        let quiet = |c: &mut Counters| {
            (c.busy_ticks, c.all_ticks, c.own_ticks) = (c.busy_ticks + 120, c.all_ticks + 200, 100)
        };
        let others = Noise {
            others: 0.1,
            ..none
        };
        assert!(!check(&quiet, 0.0, others));
        assert!(check(
            &quiet,
            0.2,
            Noise {
                spread: 0.2,
                ..others
            }
        ));
        let waited = |c: &mut Counters| _ = c.waited.insert(7, second / 4);
        assert!(check(
            &waited,
            0.0,
            Noise {
                waited: 0.25,
                ..none
            }
        ));
        let stolen = |c: &mut Counters| {
            (c.busy_ticks, c.stolen_ticks, c.own_ticks) =
                (c.busy_ticks + 80, c.stolen_ticks + 20, 80)
        };
        assert!(check(
            &stolen,
            0.0,
            Noise {
                stolen: 0.2,
                ..none
            }
        ));
    }

    #[test]
    fn a_thread_that_has_no_core_is_seen() {
        // More threads than cores, each computing for 50 ms.
        let n_threads = 2 * std::thread::available_parallelism().map_or(1, usize::from) + 1;
        let before = Counters::read();
        let begin = std::time::Instant::now();
        let compute = || while begin.elapsed() < Duration::from_millis(50) {};
        std::thread::scope(|scope| {
            (1..n_threads).for_each(|_| _ = scope.spawn(compute));
            compute();
        });
        let noise = Counters::read().noise_since(&before, begin.elapsed(), 0.0);
        // Where threads' times are not counted, nothing is seen.
        let counts =
            waited_of_thread(&fs::read_to_string("/proc/self/schedstat").unwrap_or_default());
        assert_eq!(noise.waited > 0.0, !counts.is_zero(), "{noise:?}");
    }
}
