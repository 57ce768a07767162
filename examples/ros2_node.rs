//! A model and a node of ROS 2 in one process, for a robot's own computer: no other program is needed,
//! not even a router.
//!
//! ```sh
//! cargo run --example ros2_node                                           # the default model
//! cargo run --example ros2_node -- --model model.gguf --at tcp/127.0.0.1:7447   # rmw_zenohd is there
//! # on the robot, with RMW_IMPLEMENTATION=rmw_zenoh_cpp
//! ros2 topic echo /llm/answer &
//! ros2 topic pub --once -w 1 /llm/prompt std_msgs/msg/String "{data: 'What is a lidar?'}"
//! ```

use std::io::Write;

use clap::Parser;
use jupiter::terminal::tell;
use jupiter::{Runtime, Settings};

/// A model and a node of ROS 2 in one process
#[derive(Parser)]
struct Args {
    /// A GGUF file; without it the default model
    #[arg(long)]
    model: Option<String>,

    /// The robot's router, or `router` to be it, or `router@tcp/0.0.0.0:7447`
    #[arg(long, default_value = "router")]
    at: String,

    /// Drive by what is said: velocities go to /cmd_vel, at most 0.3 m/s and 0.8 rad/s
    #[arg(long)]
    drive: bool,
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let mut settings = Settings::default();
    if args.drive {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        settings.ros2.ros2_topic = list(&["/cmd_vel=geometry_msgs/msg/Twist"]);
        settings.ros2.ros2_limit = list(&["linear.x=-0.3..0.3", "angular.z=-0.8..0.8"]);
    }
    let mut builder = Runtime::builder().settings(settings).ros2(args.at);
    if let Some(model) = args.model {
        builder = builder.model(model);
    }
    let runtime = builder.start().await?;
    // A client of a router listens nowhere.
    let endpoints = runtime.ros2_endpoints().await.join(", ");
    writeln!(std::io::stdout(), "ready {endpoints}")?;
    tokio::signal::ctrl_c().await?;
    runtime.shutdown().await;
    Ok(())
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    if let Err(error) = serve(Args::parse()).await {
        tell(&format!("error: {error}"));
        return 1.into();
    }
    0.into()
}
