//! The phrases. Each line is alternatives; `^` is the begin of a sentence, `$` its end. Words have no
//! apostrophes and no capitals.

use super::Class::{self, Advice, Causes, Comparison, Explanation, HowTo, List};

/// Polite words before a question.
pub(super) const LEAD_INS: &[&str] = &[
    "please",
    "can you",
    "could you",
    "would you",
    "will you",
    "i want you to",
    "i need you to",
    "hey",
    "ok",
    "so",
    "well",
    "robot",
    "i would like you to",
    "help me",
    "i want to know",
    "id like to know",
];

/// Signs of programs.
pub(super) const SIGNS: &[&str] = &[
    "```",
    "();",
    "};",
    "==",
    "!=",
    "=>",
    "->",
    "::",
    "</",
    "def ",
    "#include",
    "error:",
    "exception:",
];

/// The answer is a fact, a text, code, a result, a thought that needs the one before it, small talk, or
/// is to be done or short.
pub(super) const ONE_PIECE: &[&str] = &[
    "in one|in a few words|in short|briefly|one sentence|two sentences|one line|two lines",
    "short answer|brief|quick answer|yes or no|just the|only the|keep it short|tl dr",
    "step by step|show your|your reasoning|think carefully|carefully",
    "python|javascript|typescript|java|c++|rust|sql|regex|regular expression|html|css",
    "bash|json|yaml|git|docker|kubernetes|function|script|code|compile|compiler|unit test",
    "unit tests|stack trace|segfault|algorithm|complexity|pandas|numpy|react",
    "linux command|bug",
    "^solve|^calculate|^compute|^prove|^convert|^simplify|square root|integral|derivative",
    "percent of|how many ways|probability|equation|area of|volume of|cost|average speed",
    "divided by|greatest common",
    "comes next|taller|older|riddle|puzzle|if all|valid|sequence|does not belong",
    "all labels|twice as|days before",
    "translate|summarize|summarise|rewrite|rephrase|paraphrase|correct the|proofread",
    "shorten|shorter|improve this|the following|this text|this sentence|this paragraph",
    "this email|fix the grammar|make this|turn this|tl",
    "poem|story|haiku|limerick|song|email|letter|message|speech|tweet|slogan|joke",
    "dialogue|toast|lyrics|verse|essay in|caption|pretend|imagine",
    "^turn|^drive|^go|^move|^stop|^wait|^pick|^put|^bring|^take|^open|^close|^follow|^set",
    "^remind|^play|^look|^dock|^undock|^raise|^lower|^come|^call|^dim|^return",
    "^hi|^hello|^hey|^thanks|^thank|^good morning|^good night|are you|your name|you like",
    "do you|how are|^ok|^sorry|^bye|i love|i had|^lol",
    "that one|the third|the second|the last|^and|^why$|^how$|^more|again|you mean",
    "what about|you sure|that true|^how so|that$",
    "^who|^when|^where is|^where was|^where does|^where are|how many|how much|how long",
    "how far|how old|how tall|how big|how heavy|how high|how often|how fast|how hot",
    "how deep|which year|which country|what year|what time|what date|what colour",
    "what color|name of the|capital of|stand for|mean|meaning of|meant by|^define|^is",
    "^does|^did|^was|^can you tell|^has",
];

/// The answer is a list of points; English, and the usual words of German, French and Spanish.
pub(super) const SUITING: &[(Class, &[&str])] = &[
    (
        Comparison,
        &[
            "difference between|differences between|compare|comparison|versus|vs|pros and cons",
            "advantages and disadvantages|differ|differs|different from|better|speaks for|or a",
            "strengths and|strong and weak",
            "for and against|gegenüber|unterschied|vergleich|vergleiche|différence entre",
            "diferencia entre",
        ],
    ),
    (
        List,
        &[
            "^list|^name|^give me|^suggest|^recommend|ideas|examples|types of|kinds of|parts of",
            "benefits|advantages|disadvantages|symptoms|components|features|ingredients|top",
            "reasons to|things|what should i pack|tools|which parts|uses of|signs of|options",
            "hobbies|^nenne|beispiele|vorteile|nachteile|ideen|avantages|idées|exemples|ventajas",
            "ideas para|consejos para",
        ],
    ),
    (
        Advice,
        &[
            "tips|advice|should i|should we|how can i|how should|best way|ways to|suggestions",
            "recommend|strategies|habits|can i do|to avoid|cope|prevent|worth|tipps|ratschläge",
            "soll ich|conseils|consejos",
        ],
    ),
    (
        Causes,
        &[
            "^why does|^why do|^why is|^why are|^why did|^why was|^why my|causes|cause|reasons",
            "reason|what led|wrong|^warum|^pourquoi|^por qué|ursachen",
        ],
    ),
    (
        HowTo,
        &[
            "how to|how do i|how do you|how do we|how can you|how would|how does one|hw do|steps",
            "walk me|guide me|teach me to|instructions|recipe|procedure|where do i start|set up",
            "wie kann|wie mache|wie wechsle|wie lade|wie baue|anleitung|schritte|comment faire",
            "comment puis|cómo puedo|cómo hago|pasos para",
        ],
    ),
    (
        Explanation,
        &[
            "^explain|^describe|^discuss|tell me about|tell me more about|tell me all|teach me",
            "overview|introduction|history of|basics|how does|how do|how is|how are|how did",
            "how was|what happens|effects of|impact of|role of|importance of|what should i know",
            "everything about|know about|^erkläre|^beschreibe|^explique|^explica|essay about",
            "essay on",
        ],
    ),
];
