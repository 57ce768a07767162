// The action as a node of a behaviour tree (BehaviorTree.CPP v4, package behaviortree_ros2), as in
// tree.xml. It fails where there is no answer, or none within the deadline of its options; halting it
// cancels the goal.
//
//     factory.registerNodeType<GenerateNode>("Generate", BT::RosNodeParams(node, "/llm/generate"));
#pragma once

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
      BT::InputPort<std::string>("options", "", "as {\"priority\": 0, \"deadline_ms\": 5000}"),
      BT::OutputPort<std::string>("answer"),
      BT::OutputPort<std::string>("error"),
    });
  }

  bool setGoal(Goal & goal) override
  {
    getInput("answer_type", goal.answer_type);
    getInput("options", goal.options_json);
    return getInput("prompt", goal.prompt).has_value();
  }

  BT::NodeStatus onResultReceived(const WrappedResult & wrapped) override
  {
    setOutput("answer", wrapped.result->text);
    return BT::NodeStatus::SUCCESS;
  }

  BT::NodeStatus onFailure(BT::ActionNodeErrorCode code) override
  {
    setOutput("error", std::string(BT::toStr(code)));
    return BT::NodeStatus::FAILURE;
  }
};
