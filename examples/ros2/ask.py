#!/usr/bin/env python3
"""Asks jupiter by the action and prints the answer as it comes.

    python3 ask.py "Where is the charger?"      # with jupiter_msgs built and sourced
"""
import sys

import rclpy
from rclpy.action import ActionClient
from jupiter_msgs.action import Generate


def main():
    rclpy.init()
    node = rclpy.create_node("ask")
    client = ActionClient(node, Generate, "/llm/generate")
    if not client.wait_for_server(timeout_sec=10.0):
        sys.exit("no /llm/generate: is jupiter running, and RMW_IMPLEMENTATION=rmw_zenoh_cpp set?")

    def show(message):
        if message.feedback.branch == -1:  # the answer in order
            print(message.feedback.text, end="", flush=True)

    sent = client.send_goal_async(Generate.Goal(prompt=" ".join(sys.argv[1:])), feedback_callback=show)
    rclpy.spin_until_future_complete(node, sent)
    if not sent.result().accepted:
        sys.exit("the goal was refused: too many are worked on")
    ended = sent.result().get_result_async()
    rclpy.spin_until_future_complete(node, ended)
    result = ended.result().result
    sys.exit(result.error or print(f"\n({result.tokens} tokens, {result.tokens_per_s:.1f} a second)"))


main()
