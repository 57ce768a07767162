//! What the zenoh link promises: order, completeness, back-pressure, and an end to every wait.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jupiter::net::keys::Keys;
use jupiter::net::link::{QUEUE_FRAMES, ZenohLink};
use jupiter::net::session::{self, Endpoints};
use jupiter_actors::{Address, Link, LinkError, NodeId, PlanEpoch};

/// No wait in these tests is longer, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn stage(epoch: u64, stage: u32) -> Address {
    Address::Stage {
        epoch: PlanEpoch(epoch),
        stage,
    }
}

async fn link(endpoints: Endpoints) -> (Arc<ZenohLink>, Vec<String>) {
    let session = session::open(&endpoints).await.unwrap();
    let locators = session::locators(&session).await;
    (
        Arc::new(ZenohLink::new(
            session,
            Keys::new("test").unwrap().of("head"),
        )),
        locators,
    )
}

async fn listening() -> (Arc<ZenohLink>, Endpoints) {
    let listen = vec!["tcp/127.0.0.1:0".to_owned()];
    let (link, connect) = link(Endpoints {
        listen,
        connect: vec![],
    })
    .await;
    (
        link,
        Endpoints {
            listen: vec![],
            connect,
        },
    )
}

/// Makes `link` the node `name` that hosts `stages` of epoch 1; what arrives comes out here.
fn receive(link: &ZenohLink, name: &str, stages: &[u32]) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let deliver = move |frame: &[u8]| _ = sender.lock().unwrap().send(frame.to_vec());
    link.attach(&NodeId(name.into()), false, Arc::new(deliver))
        .unwrap();
    link.host(PlanEpoch(1), stages);
    receiver
}

/// Sends, and waits while the queue is full.
fn send_patiently(link: &ZenohLink, to: &Address, frame: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = link.send(to, frame.to_vec()) {
        assert!(matches!(error, LinkError::Full { .. }), "{error}");
        assert!(Instant::now() < deadline, "the queue stays full");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends `n` frames of `len` bytes from `from` and expects them complete and in order.
fn check_stream(from: &Arc<ZenohLink>, received: &Receiver<Vec<u8>>, n: u32, len: usize) {
    let sending = std::thread::spawn({
        let from = from.clone();
        move || {
            for i in 0..n {
                let mut frame = vec![i as u8; len];
                frame[..4].copy_from_slice(&i.to_le_bytes());
                send_patiently(&from, &stage(1, 0), &frame);
            }
        }
    });
    for i in 0..n {
        let frame = received.recv_timeout(PATIENCE).unwrap();
        assert_eq!(frame.len(), len);
        assert_eq!(frame[..4], i.to_le_bytes(), "out of order");
        assert!(
            frame[4..].iter().all(|&byte| byte == i as u8),
            "frame {i} is damaged"
        );
    }
    sending.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_frames_arrive_complete_and_in_order_between_sessions() {
    let (a, towards_a) = listening().await;
    let (b, _) = link(towards_a).await;
    let received = receive(&b, "b", &[0]);
    tokio::task::spawn_blocking(move || check_stream(&a, &received, 200, 1 << 20))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_reaches_itself_without_any_network() {
    let (a, locators) = link(Endpoints::default()).await;
    assert!(locators.is_empty());
    let received = receive(&a, "a", &[0]);
    tokio::task::spawn_blocking(move || check_stream(&a, &received, 200, 1 << 20))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_loses_nothing() {
    let (a, towards_a) = listening().await;
    let (b, _) = link(towards_a).await;
    let (sender, received) = channel();
    let sender = Mutex::new(sender);
    let slow = move |frame: &[u8]| {
        // Longer than zenoh waits before it drops what may be dropped.
        if frame[..4] == 3_u32.to_le_bytes() {
            std::thread::sleep(Duration::from_secs(1));
        }
        sender.lock().unwrap().send(frame.to_vec()).unwrap();
    };
    b.attach(&NodeId("b".into()), false, Arc::new(slow))
        .unwrap();
    b.host(PlanEpoch(1), &[0]);
    tokio::task::spawn_blocking(move || check_stream(&a, &received, 150, 1 << 20))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_to_nobody_fill_the_queue_and_hang_nobody() {
    let (a, _) = link(Endpoints::default()).await;
    let start = Instant::now();
    for _ in 0..QUEUE_FRAMES {
        a.send(&stage(1, 7), vec![0; 8]).unwrap();
    }
    let error = a.send(&stage(1, 7), vec![0; 8]).unwrap_err();
    assert!(
        matches!(
            error,
            LinkError::Full {
                capacity: QUEUE_FRAMES,
                ..
            }
        ),
        "{error}"
    );
    assert!(start.elapsed() < Duration::from_secs(1), "sending waited");
    a.close();
    assert!(matches!(
        a.send(&stage(1, 7), vec![]),
        Err(LinkError::Closed)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_epoch_ends_the_older_ones() {
    let session = session::open(&Endpoints::default()).await.unwrap();
    let link = || ZenohLink::new(session.clone(), Keys::new("test").unwrap().of("head"));
    let (a, outdated) = (link(), link());
    let received = receive(&outdated, "outdated", &[0]);
    a.send(&stage(1, 0), vec![1]).unwrap();
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), [1]);

    let current = receive(&a, "a", &[]);
    a.host(PlanEpoch(2), &[0]);
    a.send(&stage(2, 0), vec![2]).unwrap();
    a.send(&stage(1, 0), vec![3]).unwrap();
    a.send(&stage(2, 0), vec![4]).unwrap();
    assert_eq!(current.recv_timeout(PATIENCE).unwrap(), [2]);
    assert_eq!(current.recv_timeout(PATIENCE).unwrap(), [4]);
    assert!(
        received.recv_timeout(Duration::from_millis(300)).is_err(),
        "an old epoch lives on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_planners_frames_reach_the_head_only() {
    let (head, towards_head) = listening().await;
    let (worker, _) = link(towards_head).await;
    let (sender, at_head) = channel();
    let sender = Mutex::new(sender);
    let deliver = move |frame: &[u8]| sender.lock().unwrap().send(frame.to_vec()).unwrap();
    head.attach(&NodeId("head".into()), true, Arc::new(deliver))
        .unwrap();
    let at_worker = receive(&worker, "worker", &[]);
    for (to, frame) in [
        (Address::Head, vec![1]),
        (
            Address::Accept {
                epoch: PlanEpoch(9),
            },
            vec![2],
        ),
        (Address::Node(NodeId("head".into())), vec![3]),
    ] {
        worker.send(&to, frame.clone()).unwrap();
        assert_eq!(at_head.recv_timeout(PATIENCE).unwrap(), frame);
    }
    head.send(&Address::Node(NodeId("worker".into())), vec![4])
        .unwrap();
    assert_eq!(at_worker.recv_timeout(PATIENCE).unwrap(), [4]);
}
