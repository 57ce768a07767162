//! Many robots, and many goals of one.

use futures::future::join_all;

use super::robot::{CANCEL, Cdr, FEEDBACK, Read, Robot, goal};
use super::{CANCELED, GID, SUCCEEDED, part, result, send, start};
use crate::support::PATIENCE;

/// Goals that are worked on at once.
const MOST_GOALS: u8 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn ten_robots_have_goals_at_once_beside_one_whose_callback_hangs() {
    let (_dir, runtime, robot) = start(1.0).await;
    let router = runtime.ros2_endpoints().await.remove(0);
    let deaf = Robot::at(&router).await;
    let (unread, begun) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel());
    let (wait, began) = (std::sync::Mutex::new(unread.1), begun.0);
    let subscriber = deaf.session.declare_subscriber(part("feedback", FEEDBACK));
    let never = subscriber.callback(move |_| {
        let _ = began.send(());
        let _ = wait.lock().map(|wait| wait.recv());
    });
    let never = never.await.unwrap();
    let robots = join_all((0..10).map(|_| Robot::at(&router))).await;
    let asked = robots.iter().zip(1..).map(async |(robot, id)| {
        for round in 0..3 {
            let id = 10 * id + round;
            assert!(send(robot, [id; 16], goal(id, "Hi", 20)).await);
            let (status, text, ..) = result(robot, id).await;
            assert!(status == SUCCEEDED && !text.is_empty());
        }
    });
    tokio::time::timeout(PATIENCE, join_all(asked))
        .await
        .unwrap();
    begun.1.recv().unwrap();
    assert_eq!(
        result(&robot, 10).await.0,
        SUCCEEDED,
        "others hear of it too"
    );
    drop(unread.0);
    never.undeclare().await.unwrap();
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_goals_than_can_be_worked_on_are_refused_until_all_are_cancelled() {
    let (_dir, runtime, robot) = start(60.0).await;
    for id in 0..MOST_GOALS {
        assert!(send(&robot, GID, goal(id, "Hi", 400)).await, "goal {id}");
    }
    assert!(!send(&robot, GID, goal(99, "Hi", 400)).await);
    // Neither an id nor a time: all.
    let all = Cdr::default()
        .raw(&[0; 16])
        .put(&0_i32.to_le_bytes())
        .put(&0_u32.to_le_bytes());
    let response = robot.call(part("cancel_goal", CANCEL), GID, all).await;
    let mut read = Read::of(&response);
    // Goal 0 has the id that means none.
    assert_eq!((read.byte(), read.u32()), (0, u32::from(MOST_GOALS)));
    for id in 1..MOST_GOALS {
        assert_eq!(result(&robot, id).await.0, CANCELED, "goal {id}");
    }
    assert!(send(&robot, GID, goal(99, "Hi", 4)).await);
    runtime.shutdown().await;
}
