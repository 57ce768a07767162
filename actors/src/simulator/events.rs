//! The virtual clock: what happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::PlanEpoch;
use crate::message::{CancelRows, StepReport};

/// Something that happens at a time.
#[derive(Debug)]
pub(super) enum Event {
    /// A request comes from its client.
    Asked { request: usize },
    /// The first stage begins with a step.
    Begun { epoch: PlanEpoch },
    /// The last stage is done with a step, unless that takes longer since.
    Computed { epoch: PlanEpoch },
    /// A node hears that rows are dead.
    Cancelled { stage: usize, cancel: CancelRows },
    /// The Verifier's answer is back at the Planner; the texts that it goes on with.
    Reported {
        report: Box<StepReport>,
        streams: Vec<usize>,
    },
}

/// All that is going to happen, by time; what happens at one time happens in the order in which it
/// was decided, so that a run repeats.
#[derive(Default)]
pub(super) struct Events {
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// Events by their place in `order`; places are used again.
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    n_decided: u64,
}

impl Events {
    pub(super) fn at(&mut self, time_ns: u64, event: Event) {
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() - 1
            }
        };
        self.n_decided += 1;
        self.order.push(Reverse((time_ns, self.n_decided, place)));
    }

    /// When the next event is; none when nothing is going to happen.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.order.peek().map(|Reverse((time_ns, ..))| *time_ns)
    }

    /// The next event and its time.
    pub(super) fn next(&mut self) -> Option<(u64, Event)> {
        let Reverse((time_ns, _, place)) = self.order.pop()?;
        self.free.push(place);
        Some((time_ns, self.events[place].take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_decision() {
        let mut events = Events::default();
        for (time, request) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            events.at(time, Event::Asked { request });
        }
        let mut seen = Vec::new();
        while let Some((time, event)) = events.next() {
            let Event::Asked { request } = event else {
                continue;
            };
            seen.push((time, request));
            if seen.len() == 1 {
                events.at(4, Event::Asked { request: 4 });
            }
        }
        assert_eq!(seen, [(3, 1), (3, 3), (4, 4), (5, 0), (5, 2)]);
    }
}
