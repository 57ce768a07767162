//! The sets of devices that a search goes through, as numbers: a set with one more device has a larger
//! one, so that a pass over them in order has every set before those that grow from it.
//!
//! ```text
//! any order      one digit a class, to base `count + 1`: how many of it are used
//! side by side   which classes are done with (a bit each), then the class of the last device and how many
//!                of it are used: one of as many as there are devices
//! ```

use super::classes::Order;
use super::search::AtLeast;

/// The sets of devices of some classes.
#[derive(Clone, Debug)]
pub(super) struct Sets {
    /// Devices of each class.
    pub(super) counts: Vec<usize>,
    /// No set has this number or a larger one; 0 is none.
    pub(super) number: usize,
    order: Order,
    /// Place value of each class in a number; side by side, the devices of the classes before it.
    units: Vec<usize>,
}

impl Sets {
    /// None where numbers end before the sets do.
    pub(super) fn new(counts: Vec<usize>, order: Order) -> Option<Sets> {
        let mut units = Vec::with_capacity(counts.len());
        let mut unit = usize::from(order == Order::Any);
        for &count in &counts {
            units.push(unit);
            unit = match order {
                Order::Any => unit.checked_mul(count + 1)?,
                Order::SideBySide => unit + count,
            };
        }
        let number = match order {
            Order::Any => unit,
            Order::SideBySide => 1usize
                .checked_shl(counts.len() as u32)?
                .checked_mul(unit)?
                .checked_add(1)?,
        };
        Some(Sets {
            counts,
            number,
            order,
            units,
        })
    }

    /// The set of one device of `class`.
    pub(super) fn first(&self, class: usize) -> usize {
        match self.order {
            Order::Any => self.units[class],
            Order::SideBySide => self.units[class] + 1,
        }
    }

    /// A number for a set whose last device is of `class`, below [`Sets::n_states`].
    pub(super) fn state(&self, set: usize, class: usize) -> usize {
        match self.order {
            Order::Any => set * self.counts.len() + class,
            Order::SideBySide => set,
        }
    }

    pub(super) fn n_states(&self) -> usize {
        self.state(self.number, 0)
    }

    /// Whether a device of `class` may be the last of the set's.
    pub(super) fn may_end(&self, set: usize, class: usize) -> bool {
        match self.order {
            Order::Any => self.count_in(set, class) > 0,
            Order::SideBySide => self.parts(set).1 == class,
        }
    }

    /// The set with one more device, of class `next`, if there is one; side by side, a class is done with
    /// only when `at_least` so many of it are used.
    pub(super) fn with(&self, set: usize, next: usize, at_least: Option<AtLeast>) -> Option<usize> {
        match self.order {
            Order::Any => {
                (self.count_in(set, next) < self.counts[next]).then(|| set + self.units[next])
            }
            Order::SideBySide => {
                let (done, class, count) = self.parts(set);
                if next == class {
                    return (count < self.counts[class]).then_some(set + 1);
                }
                let is_open = done >> next & 1 == 0 && self.may_leave(class, count, at_least);
                is_open.then(|| self.number_of(done | 1 << class, next, 1))
            }
        }
    }

    /// The sets, with the class of their last device, that become `set` by one of class `last`.
    pub(super) fn before(
        &self,
        set: usize,
        last: usize,
        at_least: Option<AtLeast>,
    ) -> Vec<(usize, usize)> {
        let classes = 0..self.counts.len();
        if self.order == Order::Any {
            let before = set - self.units[last];
            return classes.map(|class| (before, class)).collect();
        }
        let (done, _, count) = self.parts(set);
        if count > 1 {
            return vec![(set - 1, last)];
        }
        let done_with = classes.filter(|class| done >> class & 1 == 1);
        let all_of = |class: usize| {
            let counts = (1..=self.counts[class])
                .filter(move |&count| self.may_leave(class, count, at_least));
            counts.map(move |count| (self.number_of(done & !(1 << class), class, count), class))
        };
        done_with.flat_map(all_of).collect()
    }

    /// Whether the set has what is wanted at least; side by side, [`Sets::with`] saw to the classes that
    /// are done with.
    pub(super) fn has(&self, set: usize, least: AtLeast) -> bool {
        match self.order {
            Order::Any => self.count_in(set, least.class) >= least.count,
            Order::SideBySide => {
                let (done, class, count) = self.parts(set);
                let is_done_with = done >> least.class & 1 == 1;
                is_done_with || class == least.class && count >= least.count
            }
        }
    }

    fn count_in(&self, set: usize, class: usize) -> usize {
        set / self.units[class] % (self.counts[class] + 1)
    }

    fn may_leave(&self, class: usize, count: usize, at_least: Option<AtLeast>) -> bool {
        at_least.is_none_or(|least| least.class != class || count >= least.count)
    }

    fn n_devices(&self) -> usize {
        self.counts.iter().sum()
    }

    fn number_of(&self, done: usize, class: usize, count: usize) -> usize {
        done * self.n_devices() + self.units[class] + count
    }

    /// Side by side: the classes that are done with, the class of the last device, and how many of it.
    fn parts(&self, set: usize) -> (usize, usize, usize) {
        let (done, at) = ((set - 1) / self.n_devices(), (set - 1) % self.n_devices());
        let class = self.units.partition_point(|&unit| unit <= at) - 1;
        (done, class, at - self.units[class] + 1)
    }
}
