//! Prompts for an outline and for one of its points.

/// Asks for an outline; the first is [`crate::prompts::outline`].
pub(crate) const OUTLINE: &[&str] = &[
    "{q}\nOutline only: numbered points of 2 to 5 words.",
    "Give only an outline of the answer, as a numbered list of short points.\n{q}",
    "{q}\nAnswer with a numbered outline only.",
    "You are to write only the skeleton of an answer, not the answer itself. Give the skeleton as \
     a numbered list of points of 2 to 5 words.\nQuestion: {q}\nSkeleton:",
    "{q} Please list just the main points, numbered, a few words each.",
    "Before you answer in full, write a short numbered outline of your answer.\n{q}",
    "Outline the answer to this question in short numbered points: {q}",
    "{q}\nWrite an outline of the answer first: a numbered list, a few words a point.",
    "Question: {q}\nWrite only the outline of the answer, 3 to 8 numbered points.",
    "{q}\nGive me just the numbered headings.",
    "Which points belong into the answer? Number them and keep them short.\n{q}",
    "{q}\nOnly the key points as a numbered list, no explanations.",
    "Make a numbered outline, nothing else.\n{q}",
    "{q}\nKey points only, as a numbered list.",
    "{q}\nNo explanations, just a numbered list of the points.",
    "List only the key points of the answer, numbered, without explanations.\n{q}",
    "{q} Only a numbered list of headings, no sentences.",
    "{q}\nA short numbered list of the key points, nothing else, please.",
    "{q}\nJust the outline, please.",
    "First the outline only, numbered, a few words a point.\n{q}",
    "{q}\nSkeleton only: numbered points.",
    "Write the headings of your answer as a numbered list.\n{q}",
    "{q}\nWrite no explanations yet, only the numbered key points.",
    "Give only the numbered main points of the answer.\n{q}",
];
/// How many of [`OUTLINE`], from its start, are canonical.
pub(crate) const CANONICAL_OUTLINES: usize = 1;

/// Asks for one point; the first two are [`crate::prompts::expand`].
pub(crate) const EXPAND: &[&str] = &[
    "Write point {n}.",
    "Write point {n}: {title}",
    "Now write only point {n}.",
    "Write the text of point {word}.",
    "Expand point {n}, {title}, in one or two sentences.",
    "Please go on with point {n}: {title}",
    "Continue with point {n} only. Do not write the other points.",
    "{n}. {title}",
    "Point {word}, please.",
    "What do you say about point {n}?",
    "Write the {nth} point: {title}",
    "Say more about number {word}.",
];
/// How many of [`EXPAND`], from its start, are canonical.
pub(crate) const CANONICAL_EXPANSIONS: usize = 2;
