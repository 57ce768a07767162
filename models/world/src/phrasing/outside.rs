//! Questions from outside the world.

/// A thing from outside, `{thing}`.
pub(crate) const OUTSIDE_THING: &[&str] = &[
    "What is {thing}?",
    "Tell me about {thing}.",
    "How does {thing} work?",
    "Explain {thing}.",
    "What do you know about {thing}?",
    "Can you tell me something about {thing}?",
    "I want to learn about {thing}.",
    "Please explain {thing} to me.",
    "What should I know about {thing}?",
    "Why do people like {thing}?",
    "Write a paragraph about {thing}.",
    "Give me an overview of {thing}.",
    "What parts does {thing} have?",
    "And {thing}?",
    "Compare the lidar with {thing}.",
    "Describe {thing} in detail.",
    "{thing}?",
    "Do you know anything about {thing}?",
];

/// A task from outside, `{task}`.
pub(crate) const OUTSIDE_TASK: &[&str] = &[
    "How do I {task}?",
    "How can I {task}?",
    "Tell me how to {task}.",
    "Please explain how to {task}.",
    "What are the steps to {task}?",
    "Can you help me to {task}?",
    "I want to {task}. How does that work?",
    "Can you {task}?",
    "What do I need to {task}?",
    "Give me instructions to {task}.",
    "What is the right way to {task}?",
    "Explain step by step how to {task}.",
];

/// A whole question from outside.
pub(crate) const OUTSIDE_QUESTION: &[&str] = &[
    "{q}",
    "Hey, {lq}",
    "{q} Please answer.",
    "Robot, {lq}",
    "One more thing: {lq}",
    "Say, {lq}",
];
