//! Random histories: whatever happens, every text is right and nothing is lost.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use jupiter_models::LayerRange;
use proptest::prelude::*;

use super::super::super::fault;
use super::answers::Text;
use super::events::{Ask, Event, Urgency, crowd, event};
use super::planned::{PLENTY, planned};
use super::*;

struct History {
    world: World,
    texts: Vec<Text>,
    /// The parts of each answer.
    answers: Vec<Vec<Text>>,
    /// Whether a stage was lost for good.
    has_lost_stage: bool,
    /// Whether the Planner has panicked.
    has_panicked: bool,
}

impl History {
    fn new(world: World) -> Self {
        Self {
            world,
            texts: Vec::new(),
            answers: Vec::new(),
            has_lost_stage: false,
            has_panicked: false,
        }
    }

    /// The event comes, and with it perhaps the panic: then the Planner's actor is started anew, as its
    /// Supervisor does.
    fn happen(&mut self, event: Event) {
        if let Event::PanicAfter(n) = event {
            return fault::arm(Some(n));
        }
        let (n_texts, n_answers) = (self.texts.len(), self.answers.len());
        let is_ask = matches!(
            event,
            Event::Ask(_)
                | Event::AskForAll(_)
                | Event::AskPrivately(_)
                | Event::AskUrgently(..)
                | Event::GoOn(_)
        );
        let is_flood = matches!(event, Event::AskUrgently(..));
        let has_parts = matches!(event, Event::AskParts { .. });
        let happened = catch_unwind(AssertUnwindSafe(|| self.try_to_happen(event)));
        let Err(panic) = happened else {
            return;
        };
        if !fault::is_one(&panic) {
            resume_unwind(panic);
        }
        self.has_panicked = true;
        // Who asked in this moment has nowhere to read an answer from. The id is taken.
        let was_lost = self.texts.len() == n_texts || is_flood;
        if is_ask && was_lost {
            self.texts.push(Text::lost());
        }
        if has_parts && self.answers.len() == n_answers {
            self.answers.push(Vec::new());
        }
        self.world.core.resume(self.world.now);
        self.world.settle();
    }

    fn try_to_happen(&mut self, event: Event) {
        let id = self.texts.len() as u64;
        match event {
            Event::Ask(Ask { prompt, n, source }) => {
                self.world.source = source;
                let events = self.world.ask(id, &prompt, n);
                self.texts.push(Text::new(&prompt, Some(n), events));
            }
            Event::AskForAll(Ask { prompt, source, .. }) => {
                self.world.source = source;
                let events = self.world.ask_for_all(id, &prompt);
                self.texts.push(Text::new(&prompt, None, events));
            }
            Event::AskPrivately(Ask { prompt, n, source }) => {
                self.world.source = source;
                let events = self.world.ask_privately(id, &prompt, n);
                self.texts.push(Text::new(&prompt, Some(n), events));
            }
            Event::AskUrgently(n, ask, urgency) => {
                (0..n).for_each(|_| self.ask_urgently(&ask, urgency));
            }
            Event::GoOn(with) => self.go_on(id, with),
            Event::AskParts { .. }
            | Event::CancelParts(_)
            | Event::ClosePart(..)
            | Event::FinishPart(..) => self.happen_to_parts(event),
            Event::Cancel(i) if i < self.texts.len() => {
                self.texts[i].events = None;
                self.world.core.cancel(RequestId(i as u64), self.world.now);
            }
            Event::Finish(i) if i < self.texts.len() => {
                self.texts[i].is_enough = true;
                self.world.core.finish(RequestId(i as u64), self.world.now);
            }
            event => self.happen_to_cluster(event),
        }
        self.world.settle();
    }

    fn ask_urgently(&mut self, ask: &Ask, urgency: Urgency) {
        self.world.source = ask.source;
        let id = self.texts.len() as u64;
        let events = self.world.submit(GenerateRequest {
            priority: urgency.priority,
            deadline: urgency.deadline,
            client: urgency.client,
            ..self.world.request(id, &ask.prompt, Some(ask.n))
        });
        self.texts.push(Text {
            has_deadline: urgency.deadline.is_some(),
            ..Text::new(&ask.prompt, Some(ask.n), events)
        });
    }

    fn go_on(&mut self, id: u64, with: usize) {
        let Some(text) = self.texts.get(with) else {
            return;
        };
        let mut prompt = text.prompt.clone();
        prompt.extend(expected(&text.prompt, text.n.unwrap_or(5)));
        prompt.truncate(N_CTX as usize - 8);
        prompt.push(5);
        let events = self.world.ask_part(with as u64, id, &prompt, 4);
        self.texts.push(Text::new(&prompt, Some(4), events));
    }

    fn part(&mut self, answer: usize, part: usize) -> Option<&mut Text> {
        self.answers.get_mut(answer)?.get_mut(part)
    }

    fn happen_to_parts(&mut self, event: Event) {
        let id = answer_id(self.answers.len());
        match event {
            Event::AskParts {
                suffixes,
                are_private,
                ask,
            } => {
                self.world.source = ask.source;
                self.world.parts_are_private = are_private;
                let parts = self.world.ask_parts(id, &ask.prompt, &suffixes, ask.n);
                let parts = parts.into_iter();
                let text = |(prompt, events): (Vec<_>, _)| Text::new(&prompt, Some(ask.n), events);
                self.answers.push(parts.map(text).collect());
            }
            Event::CancelParts(i) if i < self.answers.len() => {
                let n_parts = std::mem::take(&mut self.answers[i]).len();
                self.world.cancel_parts(answer_id(i), n_parts);
            }
            Event::ClosePart(i, part) => {
                if let Some(text) = self.part(i, part) {
                    text.events = None;
                }
            }
            Event::FinishPart(i, part) => {
                if let Some(text) = self.part(i, part) {
                    text.is_enough = true;
                    let id = RequestId(answer_id(i) + 1 + part as u64);
                    self.world.core.finish(id, self.world.now);
                }
            }
            _ => {}
        }
    }

    fn happen_to_cluster(&mut self, event: Event) {
        let world = &mut self.world;
        let node = |stage: u32| NodeId(format!("n{stage}"));
        match event {
            Event::Steps(n) => (0..n).for_each(|_| _ = world.step()),
            Event::LoseStep => {
                world.pipeline.clear();
                world.tick(3000);
            }
            Event::RepeatReport => {
                if let Some(header) = world.pipeline.pop_front() {
                    let report = world.compute(&header);
                    world.core.report(report.clone(), world.now);
                    world.core.report(report, world.now);
                }
            }
            Event::StepFault => {
                let fault = NodeReport::StepFault {
                    epoch: None,
                    node: node(0),
                    what: "a step is missing".into(),
                };
                world.core.node_report(fault, world.now);
            }
            Event::StageDown { stage, restarting } => {
                self.has_lost_stage |= !restarting;
                let down = NodeReport::StageDown {
                    epoch: world.epoch,
                    stage,
                    node: node(stage),
                    why: "broke".into(),
                    restarting,
                };
                world.core.node_report(down, world.now);
            }
            // One node always stays, so that nothing has to be given up.
            Event::NodeDown(i) if i > 0 => world.node_down(i),
            Event::NodeUp(i) => world.node_up(i),
            Event::Tick(ms) => world.tick(ms),
            Event::Drafts(n) => (0..n).for_each(|_| _ = world.draft()),
            Event::LoseDrafts => {
                world.wishes.clear();
                world.told.clear();
                world.tick(3000);
            }
            Event::Resume => world.core.resume(world.now),
            _ => {}
        }
    }

    fn end(&mut self) {
        fault::arm(None);
        // What waits for nodes gets them.
        (0..3).for_each(|i| self.world.node_up(i));
        // What is held is not held for ever, but others may wait for it one after the other.
        for _ in 0..50 {
            self.world.run();
            self.world.tick(2100);
        }
        // More than ten faults in a row are given up, in a clear error.
        let mut may_fail = vec!["gave up"];
        if self.has_lost_stage {
            may_fail.extend(["broke", "nodes are there", "one more device"]);
        }
        let parts = self.answers.iter_mut().flatten();
        for text in self.texts.iter_mut().chain(parts) {
            text.check(&may_fail, self.has_panicked);
        }
        let status = self.world.core.status();
        assert_eq!((status.n_live, status.n_waiting), (0, 0));
    }
}

/// Those of its parts follow.
fn answer_id(i: usize) -> u64 {
    1000 + 100 * i as u64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_text_is_right(
        events in proptest::collection::vec(event(), 1..40),
        hears_cancels: bool,
        has_states: bool,
    ) {
        let split = SplitPolicy::Stages(2);
        let past = has_states.then_some(0);
        let mut world = World::of(3, PlannerConfig { split, past, ..config() });
        world.hears_cancels = hears_cancels;
        let mut history = History::new(world);
        events.into_iter().for_each(|event| history.happen(event));
        history.end();
        let stages = history.world.core.status().stages;
        prop_assert!(stages.iter().all(|s| s.layers != LayerRange::new(0, 4)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_with_measured_plans_every_text_is_right(
        events in proptest::collection::vec(event(), 1..40),
        hears_cancels: bool,
    ) {
        let mut world = planned(3);
        (0..3).for_each(|i| world.joins(i, f64::from(i + 1), PLENTY));
        world.hears_cancels = hears_cancels;
        let mut history = History::new(world);
        events.into_iter().for_each(|event| history.happen(event));
        history.end();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_in_a_crowd_every_text_is_right(
        events in proptest::collection::vec(crowd(), 1..60),
        hears_cancels: bool,
        cache_cells in proptest::option::of(0..60_u32),
        has_states: bool,
    ) {
        let mut config = crowded(8);
        config.past = has_states.then_some(0);
        config.cache_cells = cache_cells;
        let mut world = World::of(3, config);
        world.hears_cancels = hears_cancels;
        let mut history = History::new(world);
        events.into_iter().for_each(|event| history.happen(event));
        history.end();
    }
}

/// Parts and guesses beside prompts, and a node that is started anew.
#[test]
fn a_history_that_was_wrong_once_is_right() {
    let ask = |prompt: &[Token], n, source| Ask {
        prompt: prompt.to_vec(),
        n,
        source,
    };
    let first = [
        1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    ];
    let second = [
        0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1,
    ];
    let world = World::new(3, SplitPolicy::Stages(2));
    let mut history = History::new(world);
    history.world.hears_cancels = false;
    let parts = Event::AskParts {
        suffixes: vec![vec![0], vec![2], vec![0, 0]],
        are_private: false,
        ask: ask(&[1, 0], 8, Guessing::Model),
    };
    for event in [
        Event::Ask(ask(&first, 7, Guessing::Oracle(0.5))),
        parts,
        Event::Ask(ask(&second, 10, Guessing::Auto)),
        Event::Steps(10),
        Event::Ask(ask(&[0; 12], 3, Guessing::Oracle(0.5))),
        Event::NodeUp(0),
    ] {
        history.happen(event);
    }
    history.end();
}
