//! Later questions of a conversation, which point back to their subject.

use crate::knowledge::TopicKind;

/// "What is it for?", after the subject was named.
pub(crate) const THEN_PURPOSE: &[&str] = &[
    "What is it for?",
    "And what is it for?",
    "Why does the robot need it?",
    "What is its purpose?",
    "What does the robot use it for?",
    "And why do we need it?",
    "What is it good for?",
    "And what does the robot use it for?",
    "Okay, and what is it used for?",
    "Why is it there?",
    "And its purpose?",
    "What is the use of it?",
];

/// "What is it?", after the subject was named.
pub(crate) const THEN_DEFINE: &[&str] = &[
    "What is it exactly?",
    "And what is it?",
    "What is that?",
    "Can you say in one sentence what it is?",
    "So what is it?",
    "Please define it.",
    "What is it, in one sentence?",
    "Give me a short definition of it.",
    "Remind me, what is it?",
    "And what exactly is that?",
    "Sorry, what is it?",
    "What do you mean by it?",
];

/// One fact; `{q}` and `{ask}` hold "it" in the place of the subject.
pub(crate) const THEN_FACT: &[&str] = &[
    "{q}",
    "And {lq}",
    "What is {ask}?",
    "And what is {ask}?",
    "Okay. {q}",
    "Tell me {ask} too.",
    "Tell me {ask}.",
    "And {ask}?",
    "Thanks. {q}",
    "What about {ask}?",
    "Do you also know {ask}?",
    "Good. And {lq}",
];

/// All about it.
pub(crate) const THEN_ABOUT: &[&str] = &[
    "Tell me more.",
    "Tell me more about it.",
    "Explain it in detail.",
    "How does it work?",
    "What should I know about it?",
    "Please tell me more about that.",
    "What else should I know about it?",
    "Give me an overview of it.",
    "And how does it work?",
    "More, please.",
    "Can you explain it?",
    "I want to know more about it.",
];

/// How to do something; `{do}` holds "it".
pub(crate) const THEN_STEPS: &[&str] = &[
    "How do I {do}?",
    "And how do I {do}?",
    "How can I {do}?",
    "And what are the steps to {do}?",
    "Tell me how to {do}.",
    "Now I want to {do}. How?",
    "Okay, and how can I {do}?",
    "Please explain how to {do}.",
    "And if I want to {do}?",
    "What do I have to do to {do}?",
    "What are the steps to {do}?",
    "I see. How do I {do}?",
];

/// Why it goes wrong; `{when}` holds "it".
pub(crate) const THEN_CAUSES: &[&str] = &[
    "Why can it happen that {when}?",
    "And why can it be that {when}?",
    "What can be the cause when {when}?",
    "And what if {when}?",
    "What should I check when {when}?",
    "Now {when}. What can be the reason?",
    "And when {when}, what can be the reason?",
    "But {when}. Why?",
    "What is wrong when {when}?",
    "And why does it happen that {when}?",
    "What does it mean when {when}?",
    "Okay, but {when}. What should I check?",
];

/// What it consists of.
pub(crate) const THEN_PARTS: &[&str] = &[
    "What parts does it have?",
    "And what parts does it have?",
    "What does it consist of?",
    "What are its parts?",
    "And its main parts?",
    "Which components does it have?",
    "And what is inside?",
    "What is inside it?",
    "How is it built?",
    "Name its main parts.",
    "And what does it consist of?",
    "Please list its parts.",
];

/// The phrasings of a long question about "it".
pub(crate) fn then_long(kind: TopicKind) -> &'static [&'static str] {
    match kind {
        TopicKind::About => THEN_ABOUT,
        TopicKind::Steps => THEN_STEPS,
        TopicKind::Causes => THEN_CAUSES,
        TopicKind::Parts => THEN_PARTS,
    }
}

/// It and another subject, `{the}`.
pub(crate) const THEN_COMPARE: &[&str] = &[
    "How does it compare with {the}?",
    "And compared with {the}?",
    "Compare it with {the}.",
    "What is the difference between it and {the}?",
    "Is it better than {the}?",
    "And how does it differ from {the}?",
    "How is it different from {the}?",
    "And how does it compare to {the}?",
    "Please compare it with {the}.",
    "It or {the}, which is better?",
    "And what is the difference to {the}?",
    "Now compare it to {the}.",
];

/// Trouble with "it", which nobody named before.
pub(crate) const NAMELESS: &[&str] = &[
    "It does not work.",
    "It is broken.",
    "Why does it not work?",
    "It makes a noise.",
    "How do I fix it?",
    "Why is it broken?",
    "What is this for?",
    "How do I clean it?",
    "Is it dangerous?",
    "It is hot, is that normal?",
    "Where is it?",
    "Is it broken, and how do I fix it?",
    "It fell down, what now?",
    "How much does it cost?",
    "How do I turn it off?",
    "There is something wrong with it.",
    "What does the thing do?",
    "What is this thing for?",
    "It stopped again.",
    "Something is wrong here.",
    "The red light is on.",
    "How do I replace that?",
    "What is that thing there?",
    "Something is wrong with it again.",
    "I broke it.",
    "Can I touch it?",
    "How long does it last?",
    "How heavy is it?",
    "How often do I have to do that?",
    "How long does that last?",
];

/// The question before, of another subject.
pub(crate) const THEN_SAME: &[&str] = &[
    "And {the}?",
    "What about {the}?",
    "And what about {the}?",
    "How about {the}?",
    "The same for {the}, please.",
    "And for {the}?",
    "Now the same for {the}.",
    "Okay, and {the}?",
    "And now {the}.",
    "Same question for {the}.",
    "And how about {the}?",
    "Now {the}, please.",
];
