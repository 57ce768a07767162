"""Robots of two ROS 2 implementations on PyPI talk with `jupiter serve --ros2`: topics and services.

    python ros2_peers.py PATH_OF_JUPITER
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
import traceback

STRING = "string data\n"
# Of std_srvs/srv/Trigger; the SDK would ask the network for it.
TRIGGER = "RIHS01_eeff2cd6fa5ad9d27cdf4dec64818317839b62f212a91e6b5304b634b2062c5f"
QUESTION = "What is a lidar?"
# Loading and answering; on a machine that does other things too.
PATIENCE = 120.0


def pyzeros_robot(port):
    import asyncio_for_robotics as afor
    import pyzeros
    import zenoh
    from ros2_pyterfaces.cydr import all_msgs, all_srvs

    config = zenoh.Config()
    config.insert_json5("mode", '"client"')
    config.insert_json5("connect/endpoints", f'["tcp/127.0.0.1:{port}"]')
    config.insert_json5("scouting/multicast/enabled", "false")

    @afor.scoped
    async def talk():
        answers = pyzeros.Sub(all_msgs.String, "/llm/answer")
        prompts = pyzeros.Pub(all_msgs.String, "/llm/prompt")
        reset = pyzeros.Client(all_srvs.Trigger, "/llm/reset")
        await asyncio.wait_for(reset.wait_for_service(), PATIENCE)

        async def first():
            async for message in answers.listen_reliable():
                return message.data

        answer = asyncio.create_task(first())
        prompts.publish(all_msgs.String(data=QUESTION.encode()))
        text = await asyncio.wait_for(answer, PATIENCE)
        assert b"lidar" in text, text
        done = await asyncio.wait_for(reset.call_async(all_srvs.Trigger.Request()), PATIENCE)
        assert done.success, done

    with zenoh.open(config) as session, pyzeros.auto_context(node="robot", zenoh_session=session):
        asyncio.run(talk())


def sdk_robot(port):
    import zenoh_ros2_sdk as sdk

    at = {"domain_id": 0, "router_ip": "127.0.0.1", "router_port": port}
    string = {"msg_type": "std_msgs/msg/String", "msg_definition": STRING, **at}
    answers = []
    subscriber = sdk.ROS2Subscriber(
        topic="/llm/answer", callback=lambda message: answers.append(message.data), **string
    )
    prompts = sdk.ROS2Publisher(topic="/llm/prompt", **string)
    reset = sdk.ROS2ServiceClient(
        service_name="/llm/reset",
        srv_type="std_srvs/srv/Trigger",
        # An empty definition counts as missing.
        request_definition="# nothing",
        response_definition="bool success\nstring message\n",
        type_hash=TRIGGER,
        **at,
    )
    until = time.monotonic() + PATIENCE
    # It does not say when others know of it.
    while not answers and time.monotonic() < until:
        prompts.publish(data=QUESTION)
        time.sleep(0.5)
    assert answers and "lidar" in answers[0], answers
    done = reset.call()
    assert done.success, done
    subscriber.close()


ROBOTS = {"pyzeros": pyzeros_robot, "zenoh-ros2-sdk": sdk_robot}


def main(jupiter):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    others = ("ROS_", "ZENOH_", "JUPITER_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(others)}
    node = subprocess.Popen(
        [jupiter, "serve", "--stages", "2", "--listen", "tcp/127.0.0.1:0"]
        + ["--ros2", f"router@tcp/127.0.0.1:{port}"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        # Its router is there then.
        assert any(line.strip() == "ready" for line in node.stdout), "it ended"
        for name in ROBOTS:
            robot = [sys.executable, __file__, name, str(port)]
            subprocess.run(robot, env=environment, check=True, timeout=4 * PATIENCE)
            print(f"{name}: topics and service")
    finally:
        node.kill()
        node.wait()


if __name__ == "__main__":
    if sys.argv[1] in ROBOTS:
        try:
            ROBOTS[sys.argv[1]](int(sys.argv[2]))
        except BaseException:
            traceback.print_exc()
            # Threads of the SDK would go on.
            os._exit(1)
    else:
        main(sys.argv[1])
