//! Spoken commands move a robot of ROS 2: what the default model makes of them is always a message
//! within the limits, and nearly always the one that was meant.

use std::f64::consts::PI;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jupiter::{Runtime, Settings};
use jupiter_world::{Check, Kind, Split, World};
use serde_json::Value;
use zenoh::Session;
use zenoh::bytes::ZBytes;

/// Commands that are motions, and others, for which no velocity may be published.
const N_MOTIONS: usize = 150;
const N_OTHERS: usize = 50;

/// Right by the table of commands, of 100.
const MIN_RIGHT: usize = 95;

/// Metres and radians per second.
const MAX_SPEED: f64 = 0.5;
const MAX_RATE: f64 = 0.8;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

const STRING: &str = "std_msgs::msg::dds_::String_/RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18";
const TWIST: &str = "geometry_msgs::msg::dds_::Twist_/RIHS01_9c45bf16fe0983d80e3cfe750d6835843d265a9a6c46bd2e609fcddde6fb8d2a";

#[tokio::test(flavor = "multi_thread")]
async fn spoken_commands_are_velocities_within_limits_and_those_that_were_meant() -> Result<()> {
    let runtime = start().await?;
    let robot = robot(&runtime.ros2_endpoints().await[0]).await?;
    let moves: Arc<Mutex<Vec<[f64; 6]>>> = Arc::default();
    let hear = {
        let moves = moves.clone();
        move |sample: zenoh::sample::Sample| {
            let mut moves = moves.lock().unwrap_or_else(PoisonError::into_inner);
            moves.push(twist(sample.payload()));
        }
    };
    let velocities = robot.declare_subscriber(format!("0/cmd_vel/{TWIST}"));
    let _velocities = velocities.callback(hear).await.map_err(why)?;
    let answers = robot.declare_subscriber(format!("0/llm/answer/{STRING}"));
    let answers = answers.await.map_err(why)?;
    let prompts = robot.declare_publisher(format!("0/llm/prompt/{STRING}"));
    let prompts = prompts.await.map_err(why)?;
    while !prompts.matching_status().await.map_err(why)?.matching() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (commands, mut misses) = (commands()?, Vec::new());
    for (said, actions) in &commands {
        let n_before = moves.lock().unwrap_or_else(PoisonError::into_inner).len();
        prompts.put(string(said)).await.map_err(why)?;
        let answer = tokio::time::timeout(PATIENCE, answers.recv_async()).await;
        let answer = answer.context("no answer comes")?.map_err(why)?;
        let told = text(answer.payload());
        let answer: Value = serde_json::from_str(&told).context("an answer that is no JSON")?;
        if let Some(parts) = answer["/cmd_vel"].as_array() {
            let moves = moves.lock().unwrap_or_else(PoisonError::into_inner);
            let first = velocity(&parts[0]);
            let is_out = moves[n_before..].iter().any(|m| (m[0], m[5]) == first);
            ensure!(is_out, "published was not {told}");
        } else {
            ensure!(answer["none"].is_string(), "{told}");
        }
        if !is_meant(actions, &answer) {
            misses.push(format!("> {said}\n{told}"));
        }
    }
    // The end of the node ends a motion that would go on for long.
    prompts
        .put(string("Drive twenty metres forward."))
        .await
        .map_err(why)?;
    let answer = tokio::time::timeout(PATIENCE, answers.recv_async()).await;
    let answer = text(answer.context("no answer comes")?.map_err(why)?.payload());
    ensure!(answer.contains("/cmd_vel"), "{answer}");
    runtime.shutdown().await;
    let stands = async {
        let last = || {
            moves
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .last()
                .copied()
        };
        while last() != Some([0.0; 6]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let stands = tokio::time::timeout(PATIENCE, stands).await;
    stands.context("it does not stand still at the end")?;
    let moves = moves.lock().unwrap_or_else(PoisonError::into_inner);
    let is_within = |[x, y, z, roll, pitch, yaw]: &[f64; 6]| {
        x.abs() <= MAX_SPEED
            && yaw.abs() <= MAX_RATE
            && [y, z, roll, pitch].iter().all(|v| **v == 0.0)
    };
    assert!(moves.iter().all(is_within));
    let n_right = commands.len() - misses.len();
    println!(
        "{n_right} of {} are right; {} messages",
        commands.len(),
        moves.len()
    );
    assert!(
        n_right * 100 >= commands.len() * MIN_RIGHT,
        "{n_right} of {}:\n{}",
        commands.len(),
        misses.join("\n")
    );
    Ok(())
}

async fn start() -> Result<Runtime> {
    let mut settings = Settings::default();
    settings.ros2.ros2_domain = Some(0);
    settings.ros2.ros2_topic = vec!["/cmd_vel=geometry_msgs/msg/Twist".to_owned()];
    settings.ros2.ros2_limit = vec![
        format!("linear.x=-{MAX_SPEED}..{MAX_SPEED}"),
        format!("angular.z=-{MAX_RATE}..{MAX_RATE}"),
    ];
    let builder = Runtime::builder().settings(settings).stages(2);
    Ok(builder.ros2("router@tcp/127.0.0.1:0").start().await?)
}

async fn robot(router: &str) -> Result<Session> {
    let mut config = zenoh::Config::default();
    let endpoints = format!("[\"{router}\"]");
    for (key, value) in [
        ("mode", "\"client\""),
        ("connect/endpoints", &endpoints),
        ("scouting/multicast/enabled", "false"),
    ] {
        config.insert_json5(key, value).map_err(why)?;
    }
    zenoh::open(config).await.map_err(why)
}

/// Held-out commands with their actions.
fn commands() -> Result<Vec<(String, Vec<Value>)>> {
    let world = World::load()?;
    let (mut commands, mut n_motions, mut n_others) = (Vec::new(), 0, 0);
    let mut index = 0;
    while n_motions < N_MOTIONS || n_others < N_OTHERS {
        let example = world.example_of(Kind::Command, Split::HeldOut, 18, index);
        index += 1;
        let Check::Command { actions } = &example.check else {
            continue;
        };
        let actions = actions.as_array().cloned().unwrap_or_default();
        let motions = ["drive", "turn", "wait", "stop", "speed"];
        let is_motion = |action: &Value| motions.iter().any(|name| action["action"] == *name);
        let (n, n_max) = match actions.iter().all(is_motion) {
            true => (&mut n_motions, N_MOTIONS),
            false => (&mut n_others, N_OTHERS),
        };
        if *n < n_max {
            *n += 1;
            commands.push((example.turns[0].user.clone(), actions));
        }
    }
    Ok(commands)
}

/// Whether what was published is what these actions mean by the table of README: way, angle and time of
/// each part, and the speed where one is said.
fn is_meant(actions: &[Value], answer: &Value) -> bool {
    let (mut due, mut speed) = (Vec::new(), None);
    for action in actions {
        let number = |field: &str| action[field].as_f64().unwrap_or_default();
        match action["action"].as_str() {
            Some("drive") => due.push((number("metres"), 0.0, None, speed)),
            Some("turn") => due.push((0.0, number("degrees") * PI / 180.0, None, None)),
            Some("wait") => due.push((0.0, 0.0, Some(number("seconds")), None)),
            Some("stop") => due.push((0.0, 0.0, Some(0.0), None)),
            Some("speed") if number("metres_per_second") <= MAX_SPEED => {
                speed = Some(number("metres_per_second"));
            }
            _ => return answer["none"].is_string(),
        }
    }
    let Some(last) = due.last() else {
        return answer["none"].is_string();
    };
    if last.2 != Some(0.0) {
        due.push((0.0, 0.0, Some(0.0), None));
    }
    let parts = answer["/cmd_vel"].as_array().cloned().unwrap_or_default();
    let is_near = |a: f64, b: f64| (a - b).abs() < 1e-6;
    due.len() == parts.len()
        && due
            .iter()
            .zip(&parts)
            .all(|(&(way, angle, time, speed), part)| {
                let ((x, z), seconds) = (velocity(part), part["seconds"].as_f64().unwrap_or(-1.0));
                is_near(x * seconds, way)
                    && is_near(z * seconds, angle)
                    && time.is_none_or(|time| time == seconds)
                    && speed.is_none_or(|speed: f64| is_near(x.abs(), speed))
            })
}

/// Ahead, and to the left.
fn velocity(part: &Value) -> (f64, f64) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let message = &part["message"];
    (
        number(&message["linear"]["x"]),
        number(&message["angular"]["z"]),
    )
}

/// A message of std_msgs/String.
fn string(text: &str) -> Vec<u8> {
    let length = text.len() as u32 + 1;
    [
        &[0, 1, 0, 0],
        &length.to_le_bytes()[..],
        text.as_bytes(),
        &[0],
    ]
    .concat()
}

fn text(payload: &ZBytes) -> String {
    let bytes = payload.to_bytes();
    String::from_utf8_lossy(&bytes[8..bytes.len() - 1]).into_owned()
}

/// The six numbers of a message of geometry_msgs/Twist.
fn twist(payload: &ZBytes) -> [f64; 6] {
    let bytes = payload.to_bytes();
    let mut numbers = [f64::NAN; 6];
    for (number, bytes) in numbers.iter_mut().zip(bytes[4..].as_chunks::<8>().0) {
        *number = f64::from_le_bytes(*bytes);
    }
    numbers
}

fn why(error: zenoh::Error) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}
