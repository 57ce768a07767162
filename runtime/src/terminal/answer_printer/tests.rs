#![allow(clippy::unwrap_used)]
//! Whole answers on an emulated terminal. Long, as each screen that is expected stands here as people
//! see it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream;
use jupiter_actors::request::FinishReason;
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;
use crate::outline::{BranchEnd, BranchEvent, Joiner, Point};

/// Fewest lines of a terminal: the model of it cannot break lines with less.
const MIN_HEIGHT: usize = 2;
/// Rows of what scrolled away that a terminal keeps: all of them.
const SCROLLBACK: usize = 10_000;
/// What stands on the terminal before the answer.
const BEFORE: &str = "> How do I change it?";

/// A terminal: what is written is applied to its screen.
#[derive(Clone)]
struct Terminal(Arc<Mutex<vt100::Parser>>);

impl Terminal {
    fn new(width: usize, height: usize) -> Self {
        let parser = vt100::Parser::new(height as u16, width as u16, SCROLLBACK);
        let mut terminal = Self(Arc::new(Mutex::new(parser)));
        writeln!(terminal, "{BEFORE}").unwrap();
        terminal
    }

    fn lock(&self) -> MutexGuard<'_, vt100::Parser> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn printer(&self) -> AnswerPrinter<Self> {
        let screen = self.clone();
        let printer = AnswerPrinter::new(self.clone(), move || {
            let (height, width) = screen.lock().screen().size();
            Some(ViewSize {
                width: width.into(),
                height: height.into(),
            })
        });
        printer.on_terminal(true)
    }

    fn resize(&self, width: usize, height: usize) {
        let mut parser = self.lock();
        parser.screen_mut().set_size(height as u16, width as u16);
    }

    /// All lines, those that scrolled away too, as they would be copied: rows that the terminal
    /// itself has broken are one line.
    fn text(&self) -> String {
        let mut parser = self.lock();
        let screen = parser.screen_mut();
        let (height, width) = screen.size();
        let mut text = String::new();
        screen.set_scrollback(usize::MAX);
        for above in (0..=screen.scrollback()).rev() {
            screen.set_scrollback(above);
            let n_rows = if above == 0 { height } else { 1 };
            for (i, row) in screen.rows(0, width).take(n_rows.into()).enumerate() {
                text.push_str(&row);
                if !screen.row_wrapped(i as u16) {
                    text.push('\n');
                }
            }
        }
        text.truncate(text.trim_end_matches('\n').len());
        text
    }

    /// The lines behind what stood there before.
    fn answer(&self) -> String {
        let text = self.text();
        let answer = text.strip_prefix(BEFORE).unwrap();
        answer.strip_prefix('\n').unwrap_or(answer).to_owned()
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // As the kernel does on the way to a terminal.
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        self.lock().process(text.replace('\n', "\r\n").as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn outline(titles: &[&str]) -> Outline {
    let point = |title: &&str| Point {
        title: (*title).to_owned(),
    };
    Outline {
        points: titles.iter().map(point).collect(),
    }
}

const TITLES: [&str; 3] = ["Lift the car", "Take off the wheel", "Mount the spare"];

fn sketch(titles: &[&str]) -> StreamItem {
    StreamItem::Outline {
        outline: outline(titles),
        is_complete: false,
    }
}

fn points(titles: &[&str]) -> StreamItem {
    StreamItem::Outline {
        outline: outline(titles),
        is_complete: true,
    }
}

fn token(text: &str) -> StreamItem {
    StreamItem::Token {
        id: None,
        text: text.into(),
    }
}

fn text(branch: usize, text: &str) -> BranchEvent {
    BranchEvent::Text {
        branch,
        text: text.into(),
    }
}

fn end(branch: usize) -> BranchEvent {
    let end = BranchEnd::Stop;
    BranchEvent::End { branch, end }
}

fn completion() -> Completion {
    Completion {
        reason: FinishReason::Stop,
        limit: None,
        n_prompt: 1,
        n_cached: 0,
        n_eval: 1,
        prompt_ms: 1.0,
        eval_ms: 0.0,
        n_replays: 0,
        n_preempted: 0,
        stages: Vec::new(),
        speculation: None,
        outline: None,
    }
}

/// The parts of an answer of these points, and its text in order.
fn written(titles: &[&str], events: &[BranchEvent]) -> (Vec<StreamItem>, String) {
    let mut joiner = Joiner::new(&outline(titles));
    let (mut items, mut in_order) = (vec![points(titles)], String::new());
    for event in events {
        let Ok(joined) = joiner.push(event) else {
            continue;
        };
        let (BranchEvent::Text { branch, .. } | BranchEvent::End { branch, .. }) = event;
        if !joined.branch.is_empty() {
            items.push(StreamItem::Branch(text(*branch, &joined.branch)));
        }
        if let BranchEvent::End { .. } = event {
            items.push(StreamItem::Branch(event.clone()));
        }
        if !joined.answer.is_empty() {
            items.push(token(&joined.answer));
        }
        in_order += &joined.answer;
    }
    (items, in_order)
}

fn answer_in_parts() -> (Vec<StreamItem>, String) {
    let events = [
        text(1, "Turn the nuts, one after another"),
        text(0, "Use a jack on flat ground"),
        end(1),
        end(0),
        text(2, "Push it on"),
    ];
    written(&TITLES, &events)
}

#[test]
fn thoughts_stand_before_the_answer_on_a_terminal_and_not_in_a_pipe() {
    let thought = |text: &str| StreamItem::Thought {
        id: None,
        text: text.to_owned(),
    };
    let token = |text: &str| StreamItem::Token {
        id: None,
        text: text.to_owned(),
    };
    let items = [
        thought("They "),
        thought("greet."),
        token(""),
        token("Hello."),
    ];
    let terminal = Terminal::new(40, 12);
    let mut printer = terminal.printer();
    items.iter().for_each(|item| printer.take(item).unwrap());
    printer.complete().unwrap();
    assert_eq!(terminal.answer(), "They greet.\n\nHello.");
    assert_eq!(printer.into_answer(None).text, "Hello.");

    let mut pipe = Vec::new();
    let mut printer = AnswerPrinter::new(&mut pipe, || None);
    items.iter().for_each(|item| printer.take(item).unwrap());
    printer.complete().unwrap();
    drop(printer);
    assert_eq!(pipe, b"Hello.\n");
}

#[test]
fn the_beginning_of_an_answer_leaves_the_view_of_its_outline() {
    let terminal = Terminal::new(30, 9);
    let mut printer = terminal.printer();
    let one = sketch(&TITLES[..1]);
    for item in [sketch(&[]), token("1. "), one, token("Lift the car")] {
        printer.take(&item).unwrap();
        assert!(printer.is_live(), "{item:?}");
    }
    printer.take(&token(": Use it")).unwrap();
    assert!(!printer.is_live());
    assert_eq!(terminal.answer(), "1. Lift the car: Use it");
}

#[test]
fn points_fill_in_side_by_side_and_their_text_takes_the_place() {
    let terminal = Terminal::new(30, 9);
    let mut printer = terminal.printer();
    printer.take(&sketch(&TITLES[..2])).unwrap();
    assert_eq!(terminal.answer(), "");
    printer.draw().unwrap();
    let drawn = "· 1. Lift the car\n· 2. Take off the wheel";
    assert_eq!(terminal.answer(), drawn);
    let (items, in_order) = answer_in_parts();
    for item in &items {
        printer.take(item).unwrap();
        printer.draw().unwrap();
    }
    let drawn = "\
✓ 1. Lift the car
     Use a jack on flat
     ground.
✓ 2. Take off the wheel
     Turn the nuts, one after
     another.
▸ 3. Mount the spare
     Push it on";
    assert_eq!(terminal.answer(), drawn);
    printer.take(&StreamItem::Branch(end(2))).unwrap();
    printer.complete().unwrap();
    assert_eq!(terminal.answer(), in_order);
    assert!(in_order.ends_with("3. Mount the spare: Push it on"));
}

#[test]
fn a_terminal_takes_no_orders_from_the_text() {
    let pieces = ["Red: \x1b[31mx\r", "\ny\r", "z \u{9b}2J\x1b]0;t\x07", "\r"];
    let terminal = Terminal::new(60, 9);
    let mut printer = terminal.printer();
    let mut pipe = Vec::new();
    let mut to_pipe = AnswerPrinter::new(&mut pipe, || None);
    for piece in pieces {
        printer.take(&token(piece)).unwrap();
        to_pipe.take(&token(piece)).unwrap();
    }
    printer.complete().unwrap();
    to_pipe.complete().unwrap();
    let shown = r"\u{d}z \u{9b}2J\u{1b}]0;t\u{7}\u{d}";
    assert_eq!(terminal.answer(), format!("Red: \\u{{1b}}[31mx\ny{shown}"));
    drop(to_pipe);
    assert_eq!(String::from_utf8(pipe).unwrap(), pieces.concat() + "\n");
    // Nor do points.
    let terminal = Terminal::new(60, 9);
    let mut printer = terminal.printer();
    let (items, _) = written(&["\x1b[2JA"], &[text(0, "B \x1b[1;1Hc"), end(0)]);
    for item in &items {
        printer.take(item).unwrap();
        printer.draw().unwrap();
    }
    assert!(
        terminal.answer().contains(r"1. \u{1b}[2JA"),
        "{}",
        terminal.answer()
    );
    printer.complete().unwrap();
    assert!(
        terminal.answer().starts_with(r"1. \u{1b}[2JA: B"),
        "{}",
        terminal.answer()
    );
}

#[test]
fn a_sketch_that_comes_to_nothing_vanishes() {
    let terminal = Terminal::new(30, 9);
    let mut printer = terminal.printer();
    printer.take(&sketch(&TITLES)).unwrap();
    printer.draw().unwrap();
    printer.take(&token("Just")).unwrap();
    assert_eq!(terminal.answer(), "Just");
    printer.take(&token(" do it.")).unwrap();
    assert_eq!(terminal.answer(), "Just do it.");
    assert!(!printer.is_live());
}

#[test]
fn a_point_that_is_left_out_after_all_leaves_no_line() {
    let terminal = Terminal::new(30, 9);
    let mut printer = terminal.printer();
    for item in [sketch(&TITLES), points(&TITLES[..2])] {
        printer.take(&item).unwrap();
        printer.draw().unwrap();
    }
    let drawn = "· 1. Lift the car\n· 2. Take off the wheel";
    assert_eq!(terminal.answer(), drawn);
}

#[test]
fn a_terminal_that_becomes_too_small_gets_the_text_in_order() {
    let terminal = Terminal::new(40, 12);
    let mut printer = terminal.printer();
    let (items, in_order) = answer_in_parts();
    for (i, item) in items.iter().enumerate() {
        printer.take(item).unwrap();
        printer.draw().unwrap();
        if i == 3 {
            assert!(printer.is_live());
            terminal.resize(40, 3);
            printer.draw().unwrap();
            assert!(!printer.is_live());
        }
    }
    printer.complete().unwrap();
    assert!(terminal.text().ends_with(&in_order), "{}", terminal.text());
    assert_eq!(terminal.text().matches("Lift the car").count(), 1);
}

#[test]
fn an_event_that_cannot_be_ends_the_view_but_not_the_text() {
    let terminal = Terminal::new(40, 12);
    let mut printer = terminal.printer();
    printer.take(&points(&TITLES)).unwrap();
    printer.take(&token("1. Lift")).unwrap();
    printer.draw().unwrap();
    printer.take(&StreamItem::Branch(end(7))).unwrap();
    printer.take(&token(" it.")).unwrap();
    assert_eq!(terminal.answer(), "1. Lift it.");
}

#[test]
fn a_dropped_printer_leaves_what_was_there() {
    let terminal = Terminal::new(40, 12);
    let mut printer = terminal.printer();
    for item in answer_in_parts().0 {
        printer.take(&item).unwrap();
    }
    printer.draw().unwrap();
    drop(printer);
    let expected = "\
1. Lift the car: Use a jack on flat ground.
2. Take off the wheel: Turn the nuts, one after another.
3. Mount the spare: Push it on…";
    assert_eq!(terminal.answer(), expected);
}

/// Prints items, and then stops the answer.
async fn print_and_stop<W: Write>(printer: AnswerPrinter<W>, items: Vec<StreamItem>) -> Answer {
    let (stop, stopped) = oneshot::channel();
    let last = stream::once(async {
        stop.send(()).unwrap();
        std::future::pending().await
    });
    let items = stream::iter(items.into_iter().map(Ok)).chain(last);
    let stopped = async {
        stopped.await.unwrap();
        Ok(())
    };
    printer.print(Box::pin(items), stopped).await.unwrap()
}

#[tokio::test]
async fn a_stopped_answer_is_what_is_on_the_screen() {
    let terminal = Terminal::new(40, 12);
    let (items, in_order) = answer_in_parts();
    let answer = print_and_stop(terminal.printer(), items.clone()).await;
    assert_eq!(answer.done, None);
    assert_eq!(answer.text, format!("{in_order}…"));
    assert_eq!(terminal.answer(), answer.text);

    let mut pipe = Vec::new();
    let answer = print_and_stop(AnswerPrinter::new(&mut pipe, || None), items).await;
    assert_eq!(answer.text, in_order);
    assert_eq!(String::from_utf8(pipe).unwrap(), format!("{in_order}\n"));
}

#[tokio::test]
async fn an_error_stands_behind_what_was_written() {
    let terminal = Terminal::new(40, 12);
    let items = answer_in_parts().0.into_iter().map(Ok);
    let items = stream::iter(items.chain([Err(Error::Stopped)]));
    let printed = terminal.printer().print(items, std::future::pending());
    assert!(matches!(printed.await, Err(Error::Stopped)));
    let answer = terminal.answer();
    assert!(
        answer.ends_with("3. Mount the spare: Push it on…"),
        "{answer}"
    );
    let nothing = terminal.printer();
    let failed = stream::iter([Err(Error::Stopped)]);
    let printed = nothing.print(failed, std::future::pending());
    assert!(printed.await.is_err());
    assert_eq!(terminal.answer(), answer);
}

#[tokio::test]
async fn a_plain_answer_is_printed_as_it_comes() {
    let terminal = Terminal::new(40, 12);
    let items = [token("A lidar"), token(""), token(" turns.")].map(Ok);
    let items = stream::iter(
        items
            .into_iter()
            .chain([Ok(StreamItem::Done(completion()))]),
    );
    let printed = terminal.printer().print(items, std::future::pending());
    let answer = printed.await.unwrap();
    assert_eq!(answer.text, "A lidar turns.");
    assert_eq!(answer.done, Some(completion()));
    assert_eq!(terminal.answer(), "A lidar turns.");
}

/// What happens between two parts of an answer.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    Draw,
    Resize(usize, usize),
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        4 => Just(Between::Nothing),
        4 => Just(Between::Draw),
        1 => (2..90usize, MIN_HEIGHT..24).prop_map(|(width, height)| Between::Resize(width, height)),
    ]
}

/// Without wide characters: the model of a terminal forgets that it broke a line before one. The
/// tests of the view have them.
fn events() -> impl Strategy<Value = Vec<BranchEvent>> {
    let event = (0..5usize, "[a-zéß ,.]{0,40}|\n", prop::bool::weighted(0.2));
    let event = event.prop_map(|(i, piece, is_end)| if is_end { end(i) } else { text(i, &piece) });
    prop::collection::vec(event, 0..40)
}

const LONG_TITLES: [&str; 5] = [
    "Lift the car",
    "Take off the wheel, and put it where it is not in the way of anybody",
    "Why so?",
    "Größe 4, où?",
    "Mount the spare",
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_the_screen_holds_the_text_in_order(
        n_sketched in 0..5usize,
        events in events(),
        cut in any::<prop::sample::Index>(),
        between in prop::collection::vec(between(), 130),
        is_stopped in any::<bool>(),
        width in 2..90usize,
        height in MIN_HEIGHT..24,
    ) {
        let (mut items, in_order) = written(&LONG_TITLES, &events);
        if n_sketched > 0 {
            items.insert(0, sketch(&LONG_TITLES[..n_sketched]));
        }
        let terminal = Terminal::new(width, height);
        let mut printer = terminal.printer();
        let (mut in_order, mut is_resized) = (in_order, false);
        if is_stopped {
            items.truncate(cut.index(items.len() + 1));
            let text = |item: &StreamItem| match item {
                StreamItem::Token { text, .. } => text.clone(),
                _ => String::new(),
            };
            in_order = items.iter().map(text).collect();
        }
        for (item, between) in items.iter().zip(between) {
            printer.take(item).unwrap();
            match between {
                Between::Nothing => {}
                Between::Draw => printer.draw().unwrap(),
                // This terminal breaks no lines anew, and would cut those of the text.
                Between::Resize(width, height) if printer.is_live() => {
                    terminal.resize(width, height);
                    is_resized = true;
                }
                Between::Resize(..) => {}
            }
        }
        if is_stopped {
            printer.stop().unwrap();
            prop_assert!(printer.text.starts_with(&in_order));
        } else {
            printer.complete().unwrap();
            prop_assert_eq!(&printer.text, &in_order);
        }
        let expected = printer.text.trim_end_matches('\n');
        if is_resized {
            // It cut lines of the view, which may stand above.
            prop_assert!(terminal.text().ends_with(expected), "{}", terminal.text());
        } else {
            prop_assert_eq!(terminal.answer(), expected);
        }
    }

    #[test]
    fn a_pipe_gets_the_tokens_and_nothing_else(events in events(), is_sketched in any::<bool>()) {
        let (mut items, in_order) = written(&LONG_TITLES, &events);
        if is_sketched {
            items.insert(0, sketch(&LONG_TITLES[..2]));
        }
        let mut pipe = Vec::new();
        let mut printer = AnswerPrinter::new(&mut pipe, || None);
        for item in &items {
            printer.take(item).unwrap();
            printer.draw().unwrap();
        }
        printer.complete().unwrap();
        drop(printer);
        prop_assert_eq!(String::from_utf8(pipe).unwrap(), format!("{in_order}\n"));
    }
}
