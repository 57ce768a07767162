// The action as a node of a behaviour tree (BehaviorTree.CPP v4, package behaviortree_ros2), as in
// tree.xml. It fails where there is no answer, or none within its deadline; halting it cancels the goal.
//
//     factory.registerNodeType<GenerateNode>("Generate", BT::RosNodeParams(node, "/llm/generate"));
#pragma once

#include <string>

#include <behaviortree_ros2/bt_action_node.hpp>
#include <jupiter_msgs/action/generate.hpp>

class GenerateNode : public BT::RosActionNode<jupiter_msgs::action::Generate>
{
public:
  using RosActionNode::RosActionNode;

  static BT::PortsList providedPorts()
  {
    return providedBasicPorts({
      BT::InputPort<std::string>("prompt"),
      BT::InputPort<std::string>("answer_type", "", "as geometry_msgs/msg/Twist"),
      BT::InputPort<int>("priority", 4, "0, the most urgent, to 7"),
      BT::InputPort<int>("deadline_ms", 0, "until when the whole answer is of use; 0: always"),
      BT::OutputPort<std::string>("answer"),
      BT::OutputPort<std::string>("error"),
    });
  }

  bool setGoal(Goal & goal) override
  {
    int priority = 4;
    int deadline_ms = 0;
    getInput("priority", priority);
    getInput("deadline_ms", deadline_ms);
    goal.options_json = "{\"priority\": " + std::to_string(priority);
    if (deadline_ms > 0) {
      goal.options_json += ", \"deadline_ms\": " + std::to_string(deadline_ms);
    }
    goal.options_json += "}";
    getInput("answer_type", goal.answer_type);
    return getInput("prompt", goal.prompt).has_value();
  }

  BT::NodeStatus onResultReceived(const WrappedResult & wrapped) override
  {
    setOutput("answer", wrapped.result->text);
    return BT::NodeStatus::SUCCESS;
  }

  // The code alone: what the node says in `error` of the result reaches this only in releases that hand it over.
  BT::NodeStatus onFailure(BT::ActionNodeErrorCode code) override
  {
    setOutput("error", std::string(BT::toStr(code)));
    return BT::NodeStatus::FAILURE;
  }
};
