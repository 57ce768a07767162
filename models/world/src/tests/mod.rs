//! The streams of examples as a whole.
#![allow(clippy::unwrap_used)]

mod knowledge;

use std::collections::BTreeSet;

use crate::draw::Draw;
use crate::held_out::hash;
use crate::{Check, Example, Kind, Split, Turn, World, command, phrasing, prompts};

const SEED: u64 = 1;
/// Of the first 500 examples of both splits.
const SNAPSHOT: u64 = 0xce88_b6e0_1c53_330b;

fn stream(world: &World, split: Split, count: u64) -> impl Iterator<Item = Example> {
    (0..count).map(move |index| world.example(split, SEED, index))
}

/// The conversation up to the last question.
fn question(example: &Example) -> u64 {
    let mut parts = Vec::new();
    for turn in &example.turns {
        parts.extend([turn.user.as_str(), turn.assistant.as_str()]);
    }
    parts.pop();
    hash(&parts)
}

#[test]
fn every_answer_passes_its_own_check() {
    let world = World::load().unwrap();
    for split in [Split::Training, Split::HeldOut] {
        for example in stream(&world, split, 5_000) {
            let answer = &example.turns.last().unwrap().assistant;
            assert!(example.check.score(answer).is_perfect(), "{example:?}");
        }
    }
}

#[test]
fn nothing_held_out_is_trained_on() {
    let world = World::load().unwrap();
    let trained: BTreeSet<u64> = stream(&world, Split::Training, 100_000)
        .map(|example| question(&example))
        .collect();
    let seen: Vec<_> = stream(&world, Split::HeldOut, 20_000)
        .filter(|example| trained.contains(&question(example)))
        .map(|example| (example.kind, example.turns))
        .collect();
    assert!(seen.is_empty(), "{seen:#?}");
}

#[test]
fn every_topic_occurs_in_both_splits() {
    let world = World::load().unwrap();
    for split in [Split::Training, Split::HeldOut] {
        let seen: BTreeSet<String> = (0..6_000)
            .map(|index| world.example_of(Kind::Long, split, SEED, index))
            .map(|example| example.turns[0].assistant.clone())
            .collect();
        assert_eq!(seen.len(), world.topics().count(), "{split:?}");
    }
}

/// A model that is trained on nothing else cannot know what a word means that it never read, and
/// in commands and small talk one word can be all that there is.
#[test]
fn held_out_commands_and_small_talk_use_words_that_are_trained_on() {
    let world = World::load().unwrap();
    let words = |example: &Example| -> Vec<String> {
        let split = |turn: &Turn| turn.user.to_lowercase();
        let text: Vec<String> = example.turns.iter().map(split).collect();
        let text = text.join(" ");
        let parts = text.split(|c: char| !c.is_alphabetic() && c != '\'');
        parts.map(str::to_owned).collect()
    };
    for kind in [Kind::Command, Kind::Talk] {
        let example = |split, index| {
            let mut draw = Draw::new([SEED, split as u64, kind as u64, index]);
            draw.is_careful = true;
            world.example_by(kind, split, draw)
        };
        let known: BTreeSet<String> = (0..20_000)
            .flat_map(|index| words(&example(Split::Training, index)))
            .collect();
        let unknown: BTreeSet<String> = (0..5_000)
            .flat_map(|index| words(&example(Split::HeldOut, index)))
            .filter(|word| !known.contains(word))
            .collect();
        assert!(unknown.is_empty(), "{kind:?}: {unknown:?}");
    }
}

/// A change of the knowledge or of the phrasings moves this, and nothing else may.
#[test]
fn examples_of_a_seed_are_the_same_everywhere() {
    let world = World::load().unwrap();
    let texts: Vec<String> = [Split::Training, Split::HeldOut]
        .into_iter()
        .flat_map(|split| stream(&world, split, 500))
        .map(|example| format!("{example:?}"))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(
        hash(&texts),
        SNAPSHOT,
        "the stream of examples is another one"
    );
}

#[test]
fn the_canonical_prompts_are_those_of_the_lists() {
    let question = "How do I clean the lidar?";
    assert_eq!(
        phrasing::OUTLINE[0].replace("{q}", question),
        prompts::outline(question)
    );
    let places = [("{n}", "3"), ("{title}", "Wipe")];
    assert_eq!(
        phrasing::fill(phrasing::EXPAND[0], &places),
        prompts::expand(3, None)
    );
    assert_eq!(
        phrasing::fill(phrasing::EXPAND[1], &places),
        prompts::expand(3, Some("Wipe"))
    );
}

#[test]
fn commands_read_back_as_written() {
    let world = World::load().unwrap();
    for index in 0..2_000 {
        let example = world.example_of(Kind::Command, Split::Training, SEED, index);
        let line = &example.turns[0].assistant;
        let actions = command::parse(line).unwrap();
        assert_eq!(&command::write(&actions).unwrap(), line);
    }
}

#[test]
fn hostile_command_lines_are_refused() {
    for line in [
        "",
        "{\"actions\":[]}",
        "{\"actions\":[{\"action\":\"fly\"}]}",
        "{\"actions\":[{\"action\":\"dock\",\"place\":\"kitchen\"}]}",
        "{\"actions\":[{\"action\":\"go_to\",\"place\":\"moon\"}]}",
        "{\"actions\":[{\"action\":\"stop\"},{\"action\":\"stop\"},{\"action\":\"stop\"},{\"action\":\"stop\"}]}",
    ] {
        assert!(command::parse(line).is_err(), "{line}");
    }
}

#[test]
fn scores_tell_what_is_missing_and_what_is_foreign() {
    let outline = Check::Outline {
        titles: vec!["Wipe it".into(), "Dry it".into()],
    };
    let score = outline.score("1. Wipe it\n3. Paint it");
    assert_eq!(
        (score.valid, score.due, score.found, score.foreign),
        (false, 2, 1, 1)
    );
    let point = Check::Expansion {
        key: "soft cloth".into(),
        others: vec!["motor".into()],
    };
    let score = point.score("Stop the motor.");
    assert_eq!(
        (score.valid, score.due, score.found, score.foreign),
        (true, 1, 0, 1)
    );
    let actions = serde_json::json!([{"action": "stop"}, {"action": "dock"}]);
    let score = Check::Command { actions }.score("{\"actions\":[{\"action\":\"stop\"}]}");
    assert_eq!(
        (score.valid, score.due, score.found, score.foreign),
        (true, 2, 1, 0)
    );
}

#[test]
fn every_subject_occurs_in_both_splits() {
    let world = World::load().unwrap();
    for split in [Split::Training, Split::HeldOut] {
        for kind in [Kind::Define, Kind::Purpose] {
            let seen: BTreeSet<String> = (0..3_000)
                .map(|index| world.example_of(kind, split, SEED, index))
                .map(|example| example.turns[0].assistant.clone())
                .collect();
            assert_eq!(seen.len(), world.subjects.len(), "{kind:?} {split:?}");
        }
    }
}
