#![allow(clippy::unwrap_used)]

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::core::tests::config;
use super::*;
use crate::request::{Deadline, DeadlineKind, EventSink, GenerateRequest, Priority, StreamEvent};

type Events = UnboundedReceiver<StreamEvent>;

fn sink(all: &mut Vec<Events>) -> EventSink {
    let (sink, events) = unbounded_channel();
    all.push(events);
    sink
}

fn request(id: u64, all: &mut Vec<Events>) -> Sequence {
    let request = GenerateRequest::new(RequestId(id), vec![1, 2, 3]);
    Sequence::new(request, sink(all), &config(), Instant::now())
}

/// One of `client`, with a priority and a deadline in seconds; it has no reader.
fn of(client: u64, id: u64, priority: u8, deadline: Option<u64>, asked: Instant) -> Sequence {
    let deadline = deadline.map(|seconds| Deadline {
        kind: DeadlineKind::Answer,
        within: Duration::from_secs(seconds),
    });
    let request = GenerateRequest {
        priority: Priority::new(priority).unwrap(),
        client: ClientId(client),
        deadline,
        ..GenerateRequest::new(RequestId(id), vec![1, 2, 3])
    };
    Sequence::new(request, unbounded_channel().0, &config(), asked)
}

/// The order in which all that waits is admitted, one a second.
fn order(queue: &mut Queue, mut now: Instant) -> Vec<u64> {
    let next = || {
        now += Duration::from_secs(1);
        queue.pop_first(now).map(|sequence| sequence.id.0)
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn requests_come_in_the_order_of_their_arrival_but_for_who_goes_first() {
    let (mut queue, mut all) = (Queue::default(), Vec::new());
    for (id, is_first) in [(7, false), (3, false), (5, true)] {
        queue.push(request(id, &mut all), is_first);
    }
    all.remove(1);
    let order: Vec<u64> = std::iter::from_fn(|| {
        queue.drop_closed();
        queue.pop_part().or_else(|| queue.pop_first(Instant::now()))
    })
    .map(|sequence| sequence.id.0)
    .collect();
    assert_eq!(order, [5, 7], "nobody waits for 3");
}

#[test]
fn the_urgent_come_first_then_those_with_a_deadline_then_the_earliest() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for (id, priority, deadline) in [
        (1, 4, None),
        (2, 4, Some(8)),
        (3, 7, Some(1)),
        (4, 4, Some(2)),
        (5, 0, None),
        (6, 4, Some(100)),
        (7, 5, Some(1)),
    ] {
        queue.push(of(0, id, priority, deadline, now), false);
    }
    assert_eq!(order(&mut queue, now), [5, 4, 2, 1, 6, 7, 3]);
}

#[test]
fn who_has_waited_comes_before_the_urgent() {
    let (mut queue, began) = (Queue::default(), Instant::now());
    queue.push(of(0, 100, 7, None, began), false);
    // An urgent request of another client comes each second, and one request is admitted.
    let mut now = began;
    for id in 1.. {
        now += Duration::from_secs(1);
        queue.push(of(id, id, 0, Some(1), now), false);
        if queue.pop_first(now).unwrap().id.0 == 100 {
            break;
        }
    }
    let waited = now - began;
    assert!(waited <= 8 * AGEING, "{waited:?}");
    assert!(waited > 7 * AGEING, "{waited:?}");
}

#[test]
fn clients_take_turns_whatever_each_has_waiting() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for id in 0..6 {
        queue.push(of(1, id, 4, None, now), false);
    }
    queue.pop_first(now + Duration::from_secs(1));
    let late = now + Duration::from_secs(5);
    for id in [10, 11] {
        queue.push(of(2, id, 4, None, late), false);
    }
    queue.push(of(3, 20, 4, None, late), false);
    // The first client's next one has been its next for longer than the others are there.
    assert_eq!(order(&mut queue, late), [1, 10, 20, 2, 11, 3, 4, 5]);
    assert!(queue.clients.is_empty(), "nothing is kept of who has left");
}

#[test]
fn an_urgent_question_passes_those_of_its_client_and_of_others() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for client in 1..4 {
        queue.push(of(client, client, 4, None, now), false);
    }
    let late = now + Duration::from_secs(39);
    queue.push(of(1, 10, 0, None, late), false);
    assert_eq!(order(&mut queue, late)[0], 10);
}

#[test]
fn parts_come_in_their_order_and_are_told_from_requests() {
    let (mut queue, mut all) = (Queue::default(), Vec::new());
    for (id, is_part) in [(1, false), (12, true), (11, true), (13, true)] {
        queue.push(request(id, &mut all), is_part);
    }
    assert_eq!((queue.len(), queue.n_of(ClientId::default())), (4, 1));
    assert!(queue.has(RequestId(12)) && queue.n_tokens() == 12);
    let late = queue.next_turn(&request(2, &mut all), false);
    assert_eq!(queue.ahead(ClientId::default(), late).len(), 4);
    // Nobody waits for the first of them, and another is cancelled.
    all.remove(1);
    queue.drop_closed();
    queue.remove(RequestId(13));
    let part = queue.pop_part().unwrap();
    assert!(part.id == RequestId(11) && part.turn.is_part());
    assert!(queue.first_part().is_none());
    // It is preempted.
    queue.put_back(part);
    assert_eq!(queue.first_part().unwrap().id, RequestId(11));
    assert_eq!(queue.take(|_| true).len(), 2);
}
