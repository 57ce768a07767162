//! What may happen to a Planner.

use jupiter_models::Token;
use proptest::prelude::*;

use super::world::Guessing;
use crate::request::{ClientId, Deadline, DeadlineKind, Priority};

#[derive(Clone, Debug)]
pub(super) enum Event {
    Ask(Ask),
    /// For as many tokens as fit.
    AskForAll(Ask),
    /// Leaves its cells to nobody.
    AskPrivately(Ask),
    /// So many at once, all of one client, as urgent as each other.
    AskUrgently(usize, Ask, Urgency),
    /// Is a part of the answer of the request with this number, and goes on from its text, whether or
    /// not that is complete.
    GoOn(usize),
    /// Parts of one answer.
    AskParts {
        suffixes: Vec<Vec<Token>>,
        /// Whether they leave their cells to nobody else.
        are_private: bool,
        ask: Ask,
    },
    Cancel(usize),
    CancelParts(usize),
    /// The client of one part is gone.
    ClosePart(usize, usize),
    /// The client has enough.
    Finish(usize),
    FinishPart(usize, usize),
    Steps(usize),
    LoseStep,
    RepeatReport,
    StepFault,
    StageDown {
        stage: u32,
        restarting: bool,
    },
    NodeDown(u32),
    NodeUp(u32),
    Tick(u64),
    Drafts(usize),
    /// The draft model's node forgets what it knew, and what it was asked.
    LoseDrafts,
    /// The Planner's actor is started anew between two events.
    Resume,
    /// It panics in the middle of a change, after so many others.
    PanicAfter(u32),
}

#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) prompt: Vec<Token>,
    pub(super) n: u32,
    pub(super) source: Guessing,
}

/// How urgent requests are, and whose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Urgency {
    pub(super) priority: Priority,
    pub(super) deadline: Option<Deadline>,
    pub(super) client: ClientId,
}

fn urgency() -> impl Strategy<Value = Urgency> {
    let kind = prop_oneof![Just(DeadlineKind::Answer), Just(DeadlineKind::FirstToken)];
    let deadline = proptest::option::of((kind, 1..4000_i64));
    (0..8_i64, deadline, 0..3_u64).prop_map(|(priority, deadline, client)| Urgency {
        priority: Priority::try_from(priority).unwrap(),
        deadline: deadline.map(|(kind, ms)| Deadline::new(kind, ms).unwrap()),
        client: ClientId(client),
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    // Few different tokens, so that prompts share beginnings and the prompt cache is hit.
    let prompt = proptest::collection::vec(0..2_i32, 1..40);
    let source = prop_oneof![
        Just(Guessing::None),
        Just(Guessing::Auto),
        Just(Guessing::Model),
        Just(Guessing::Oracle(0.5)),
        Just(Guessing::Oracle(0.9)),
    ];
    (prompt, 1..20_u32, source).prop_map(|(prompt, n, source)| Ask { prompt, n, source })
}

/// What happens where many ask, many of them with one of a few beginnings, and for long answers.
pub(super) fn crowd() -> impl Strategy<Value = Event> {
    let beginning = (0..3_i32, 0..24_usize);
    let tail = proptest::collection::vec(0..2_i32, 1..12);
    let asks = (beginning, tail, 1..60_u32, ask()).prop_map(|((which, n_shared), tail, n, ask)| {
        let beginning = (0..n_shared as Token).map(|i| 10 * which + i);
        let prompt = beginning.chain(tail).collect();
        Event::Ask(Ask { prompt, n, ..ask })
    });
    prop_oneof![1 => asks, 1 => event()]
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let suffix = proptest::collection::vec(0..3_i32, 1..8);
    let suffixes = proptest::collection::vec(suffix, 1..7);
    prop_oneof![
        4 => ask().prop_map(Event::Ask),
        1 => ask().prop_map(Event::AskForAll),
        1 => ask().prop_map(Event::AskPrivately),
        2 => (1..6_usize, ask(), urgency())
            .prop_map(|(n, ask, urgency)| Event::AskUrgently(n, ask, urgency)),
        1 => (0..8_usize).prop_map(Event::GoOn),
        2 => (suffixes, any::<bool>(), ask())
            .prop_map(|(suffixes, are_private, ask)| Event::AskParts { suffixes, are_private, ask }),
        1 => (0..8_usize).prop_map(Event::Cancel),
        1 => (0..4_usize).prop_map(Event::CancelParts),
        1 => (0..4_usize, 0..7_usize).prop_map(|(i, part)| Event::ClosePart(i, part)),
        1 => (0..8_usize).prop_map(Event::Finish),
        1 => (0..4_usize, 0..7_usize).prop_map(|(i, part)| Event::FinishPart(i, part)),
        10 => (1..12_usize).prop_map(Event::Steps),
        1 => Just(Event::LoseStep),
        1 => Just(Event::RepeatReport),
        1 => Just(Event::StepFault),
        1 => (0..2_u32, proptest::bool::weighted(0.8))
            .prop_map(|(stage, restarting)| Event::StageDown { stage, restarting }),
        1 => (0..3_u32).prop_map(Event::NodeDown),
        2 => (0..3_u32).prop_map(Event::NodeUp),
        1 => (1..3000_u64).prop_map(Event::Tick),
        4 => (1..5_usize).prop_map(Event::Drafts),
        1 => Just(Event::LoseDrafts),
        1 => Just(Event::Resume),
        2 => (0..40_u32).prop_map(Event::PanicAfter),
    ]
}
