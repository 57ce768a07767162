#![allow(clippy::unwrap_used)]

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::core::tests::config;
use super::*;
use crate::request::{
    Branch, Deadline, DeadlineKind, EventSink, ForkRequest, GenerateRequest, Priority, StreamEvent,
};

type Events = UnboundedReceiver<StreamEvent>;

fn sink(all: &mut Vec<Events>) -> EventSink {
    let (sink, events) = unbounded_channel();
    all.push(events);
    sink
}

fn request(id: u64, all: &mut Vec<Events>) -> Sequence {
    let request = GenerateRequest::new(RequestId(id), vec![1, 2, 3]);
    Sequence::whole(request, sink(all), &config(), Instant::now())
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
    Sequence::whole(request, unbounded_channel().0, &config(), asked)
}

/// The order in which all that waits is admitted, one a second.
fn order(queue: &mut Queue, mut now: Instant) -> Vec<u64> {
    let next = || {
        now += Duration::from_secs(1);
        queue.pop_first(now).map(|sequence| sequence.id.0)
    };
    std::iter::from_fn(next).collect()
}

fn forked(id: u64, all: &mut Vec<Events>) -> (Sequence, Vec<Sequence>) {
    let branches = (1..3).map(|i| Branch {
        request: GenerateRequest::new(RequestId(id + i), vec![1, 2, 3]),
        sink: sink(all),
    });
    let request = ForkRequest::new(RequestId(id), 2, branches.collect());
    Sequence::forked(request, sink(all), &config(), Instant::now())
}

#[test]
fn requests_come_in_the_order_of_their_arrival_but_for_who_goes_first() {
    let (mut queue, mut all) = (Queue::default(), Vec::new());
    for (id, is_first) in [(7, false), (3, false), (5, true)] {
        queue.push(request(id, &mut all), Vec::new(), is_first);
    }
    all.remove(1);
    let order: Vec<u64> = std::iter::from_fn(|| {
        queue.drop_closed();
        queue.pop_first(Instant::now())
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
        queue.push(of(0, id, priority, deadline, now), Vec::new(), false);
    }
    assert_eq!(order(&mut queue, now), [5, 4, 2, 1, 6, 7, 3]);
}

#[test]
fn who_has_waited_comes_before_the_urgent() {
    let (mut queue, began) = (Queue::default(), Instant::now());
    queue.push(of(0, 100, 7, None, began), Vec::new(), false);
    // An urgent request of another client comes each second, and one request is admitted.
    let mut now = began;
    for id in 1.. {
        now += Duration::from_secs(1);
        queue.push(of(id, id, 0, Some(1), now), Vec::new(), false);
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
        queue.push(of(1, id, 4, None, now), Vec::new(), false);
    }
    queue.pop_first(now + Duration::from_secs(1));
    let late = now + Duration::from_secs(5);
    for id in [10, 11] {
        queue.push(of(2, id, 4, None, late), Vec::new(), false);
    }
    queue.push(of(3, 20, 4, None, late), Vec::new(), false);
    // The first client's next one has been its next for longer than the others are there.
    assert_eq!(order(&mut queue, late), [1, 10, 20, 2, 11, 3, 4, 5]);
    assert!(queue.clients.is_empty(), "nothing is kept of who has left");
}

#[test]
fn an_urgent_question_passes_those_of_its_client_and_of_others() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for client in 1..4 {
        queue.push(of(client, client, 4, None, now), Vec::new(), false);
    }
    let late = now + Duration::from_secs(39);
    queue.push(of(1, 10, 0, None, late), Vec::new(), false);
    assert_eq!(order(&mut queue, late)[0], 10);
}

#[test]
fn branches_come_with_their_request_and_go_with_it() {
    let (mut queue, mut all) = (Queue::default(), Vec::new());
    let (base, branches) = forked(10, &mut all);
    queue.push(base, branches, false);
    queue.push(request(1, &mut all), Vec::new(), false);
    assert!(queue.has(RequestId(12)) && queue.len() == 2);
    let base = queue.pop_first(Instant::now()).unwrap();
    queue.tidy(|id| id == RequestId(10));
    let turns = [base.turn, queue.first_branch(base.id).unwrap().turn];
    let late = queue.first().unwrap().turn;
    assert!(turns.is_sorted() && turns[1] < late);
    queue.remove(RequestId(11));
    assert_eq!(queue.pop_branch(base.id).unwrap().id, RequestId(12));
    let (base, branches) = forked(20, &mut all);
    queue.push(base, branches, false);
    assert_eq!(queue.take(|sequence| sequence.is_base()).len(), 3);
    // Its request is lost.
    queue
        .branches
        .insert(RequestId(30), forked(30, &mut all).1.into());
    queue.tidy(|_| false);
    assert!(!queue.has(RequestId(31)));
}
