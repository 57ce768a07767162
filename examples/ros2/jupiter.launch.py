"""Starts jupiter as a node of ROS 2, with the robot's router beside it.

    ros2 launch ./jupiter.launch.py model:=/models/model.gguf
    ros2 launch ./jupiter.launch.py router:=tcp/robot:7447     # a router that is there already
"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration


def jupiter(context):
    def value(name):
        return LaunchConfiguration(name).perform(context)

    command = ["jupiter", "serve", "--ros2", value("router"), "--ros2-name", value("name")]
    for flag in ("model", "ros2-topic", "ros2-limit"):
        if value(flag):
            command += [f"--{flag}", value(flag)]
    # It ends as it would by Ctrl-C: what moves is told to stand still.
    return [ExecuteProcess(cmd=command, output="screen", respawn=True, respawn_delay=2.0)]


def generate_launch_description():
    arguments = {
        "router": ("router", "the router's endpoint, or `router` to be it"),
        "name": ("/llm/jupiter", "namespace and name of the node"),
        "model": ("", "a GGUF file; empty for the default model"),
        "ros2-topic": ("", "as /cmd_vel=geometry_msgs/msg/Twist"),
        "ros2-limit": ("", "as linear.x=-0.3..0.3,angular.z=-0.8..0.8"),
    }
    declared = [
        DeclareLaunchArgument(name, default_value=value, description=description)
        for name, (value, description) in arguments.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=jupiter)])
