//! One fact, and what decides where nothing else is said.

use super::rule;
use crate::outline::route::Class::{Advice, Brief, Fact, HowTo};
use crate::outline::route::pattern::Rule;

pub(super) const RULES: &[Rule] = &[
    rule(
        "asks for one fact",
        Fact,
        6,
        &[
            "^who|whos|whom|whose",
            "^when|where|wheres is|was|did|does|do|will|are|were|can|has",
            "how many|much|long|far|old|tall|big|high|deep|fast|heavy|often|hot|cold|large|wide|strong|late|soon|expensive",
            "which|what|whats year|country|city|element|planet|time|date|day|voltage|colour|color|size|age|currency|price|temperature|number|animal|team|language|name|continent|river|century|month|weight|brand|version|type|president",
            "name of",
            "capital|population|boiling|melting|currency|height|maximum|minimum|largest|smallest|highest|longest|author|inventor|ceo|president|voltage|speed|weight|price point|of|in|load|speed|temperature|planet|country",
        ],
    ),
    rule(
        "asks what a word means",
        Brief,
        5,
        &[
            "what|whats is|are? meant by",
            "what does|do ... mean|stand",
            "^define",
            "definition|meaning of",
            "^what|whats is? a|an _ _? $",
            "what kind of thing",
            "^what a|an|the _ _? is|are $",
        ],
    ),
    rule(
        "asks for one thing",
        Fact,
        4,
        &[
            "^what|whats is|was|were|s? the|your|my|his|her|its|their|this|that",
            "^whats|what is|was _ _? _? $",
            "^what|which _ is|does|did|has|was|do|comes|can|belongs",
            "tell|give me|us the ... of",
        ],
    ),
    rule(
        "can be answered by yes or no",
        Fact,
        3,
        &[
            "^is|are|does|did|was|were|has|had|will|am|isnt|doesnt the|a|an|it|there|this|that|all|these|those|he|she|they|we|my|_",
            "^can|could|do|have|would the|a|an|it|they|we|people|humans|dogs|cats|*s|he|she",
        ],
    ),
    rule(
        "wants help with something",
        HowTo,
        3,
        &["help me|us to|with? _"],
    ),
    rule(
        "has trouble",
        Advice,
        3,
        &[
            "help $",
            "^i feel|am|need|want|keep|struggle",
            "refuses|struggles|hurts|annoys|worried|afraid|nervous|anxious",
        ],
    ),
];
