#![allow(clippy::unwrap_used)]
//! Outlines as models write them, and texts that are none. Long, as they write them in many ways.

use proptest::prelude::*;

use super::*;
use crate::outline::title::MAX_TITLE_CHARS;

fn titles(text: &str) -> Result<Vec<String>, NotAnOutline> {
    let outline = parse(text, OutlineLimits::default())?;
    Ok(outline
        .points
        .into_iter()
        .map(|point| point.title)
        .collect())
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(
        titles(text).as_deref(),
        Ok(expected
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .as_slice()),
        "{text}"
    );
}

const ABC: [&str; 3] = ["Lift the car", "Take off the wheel", "Mount the spare"];

#[test]
fn markers_of_all_sorts_make_an_outline() {
    for (a, b, c) in [
        ("1.", "2.", "3."),
        ("1)", "2)", "3)"),
        ("(1)", "(2)", "(3)"),
        ("1:", "2:", "3:"),
        ("1 -", "2 -", "3 -"),
        ("-", "-", "-"),
        ("*", "*", "*"),
        ("+", "+", "+"),
        ("•", "•", "•"),
        ("I.", "II.", "III."),
        ("i)", "ii)", "iii)"),
        ("A.", "B.", "C."),
        ("a)", "b)", "c)"),
        ("Step 1:", "Step 2:", "Step 3:"),
        ("Point 1:", "Point 2:", "Point 3:"),
        ("**1.", "**2.", "**3."),
        ("### 1.", "### 2.", "### 3."),
        ("> 1.", "> 2.", "> 3."),
        ("①", "②", "③"),
        ("١.", "٢.", "٣."),
        ("一、", "二、", "三、"),
        ("а)", "б)", "в)"),
        ("1.", "1.", "1."),
        ("5.", "6.", "7."),
        ("[ ]", "-", "-"),
        ("h.", "i.", "j."),
        ("-  **Step 1**:", "- **Step 2**:", "- **Step 3**:"),
        ("\t1.", "\t2.", "\t3."),
        (
            "1\u{fe0f}\u{20e3}",
            "2\u{fe0f}\u{20e3}",
            "3\u{fe0f}\u{20e3}",
        ),
    ]
    .iter()
    .filter(|(a, ..)| *a != "[ ]")
    {
        for end in ["\n", "\r\n", "\n\n"] {
            let text = [a, b, c]
                .iter()
                .zip(ABC)
                .map(|(m, t)| format!("{m} {t}"))
                .collect::<Vec<_>>()
                .join(end);
            check(&text, &ABC);
            check(
                &format!("Sure! Here is an outline:\n\n{text}\n\nLet me know if you want more!"),
                &ABC,
            );
            check(&format!("```\n{text}\n```"), &ABC);
        }
    }
}

/// Each block is `=== titles` and what a model wrote; `=== not: reason` where that is no outline.
const OUTLINES: &str = include_str!("outlines.txt");

#[test]
fn outlines_as_models_write_them_are_read() {
    let blocks: Vec<&str> = OUTLINES.split("=== ").skip(1).collect();
    assert!(blocks.len() >= 60, "{}", blocks.len());
    let mut wrong = String::new();
    for block in blocks {
        let (expected, written) = block.split_once('\n').unwrap();
        let found = match titles(written) {
            Ok(titles) => titles.join(" | "),
            Err(reason) => {
                let reason = format!("{reason:?}");
                let name = reason.split(' ').next().unwrap();
                format!("not: {name}")
            }
        };
        if found != expected {
            wrong += &format!("{written}-> {found}\n\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_models_write_around_titles_is_left_out() {
    check(
        "1. **Lift the car** - with a jack\n2. *Take off the wheel*: keep the nuts.\n3. \"Mount the spare\".",
        &ABC,
    );
    check(
        "1. Lift the car\n   - use a jack\n   - on flat ground\n2. Take off the wheel\n   a) nuts\n   b) wheel\n   c) rest\n3. Mount the spare",
        &ABC,
    );
    check(
        "1. Lift the car\n- use a jack\n- on flat ground\n- brake on\n2. Take off the wheel\n- nuts\n3. Mount the spare",
        &ABC,
    );
    check(
        "1. Lift the car\n1.1 Jack\n1.2 Ground\n2. Take off the wheel\n3. Mount the spare",
        &ABC,
    );
    check(
        "1. Lift the car 2. Take off the wheel 3. Mount the spare",
        &ABC,
    );
    check(
        "Here it is: 1) Lift the car 2) Take off the wheel 3) Mount the spare",
        &ABC,
    );
    check(
        "I. Lift the car\n  A. Jack\n  B. Ground\nII. Take off the wheel\nIII. Mount the spare",
        &ABC,
    );
    check(
        "# Outline\n## 1. Lift the car\nUse a jack for it.\n## 2. Take off the wheel\nKeep the nuts.\n## 3. Mount the spare\nDone.",
        &ABC,
    );
    check(
        "**Preparation:**\n1. Lift the car\n\n**Work:**\n2. Take off the wheel\n3. Mount the spare",
        &ABC,
    );
    check(
        "- Outline:\n1. Lift the car\n2. Take off the wheel\n3. Mount the spare",
        &ABC,
    );
    check(
        " 9. Lift the car\n10. Take off the wheel\n11. Mount the spare",
        &ABC,
    );
}

#[test]
fn duplicates_restarts_and_surplus_are_dropped() {
    check(
        "1. Lift the car\n2. lift car!\n3. Take off the wheel\n4. THE WHEEL: take it\n5. Mount the spare\n6. Take off the wheel.",
        &[
            "Lift the car",
            "Take off the wheel",
            "THE WHEEL",
            "Mount the spare",
        ],
    );
    check(
        "1. Lift the car\n2. Take off the wheel\n3. Mount the spare\n1. Something else\n2. Another",
        &ABC,
    );
    check(
        "1. Lift the car\n2. Take off the wheel\n\n1. Mount the spare",
        &ABC,
    );
    let many: String = (1..=500)
        .map(|i| format!("{i}. Point about {i}\n"))
        .collect();
    assert_eq!(titles(&many).unwrap().len(), 10);
    let limits = OutlineLimits {
        max_points: 4,
        ..OutlineLimits::default()
    };
    assert_eq!(parse(&many, limits).unwrap().points.len(), 4);
    let none = OutlineLimits {
        min_points: 0,
        max_points: 0,
    };
    assert_eq!(parse(&many, none).unwrap().points.len(), 1);
}

#[test]
fn other_alphabets_are_read() {
    check(
        "1. Поднять машину\n2. Снять колесо\n3. Поставить запасное",
        &["Поднять машину", "Снять колесо", "Поставить запасное"],
    );
    check(
        "1. 抬起汽车：用千斤顶\n2. 卸下车轮\n3. 安装备胎",
        &["抬起汽车", "卸下车轮", "安装备胎"],
    );
    check(
        "١. ارفع السيارة\n٢. أزل العجلة\n٣. ركب الاحتياطية",
        &["ارفع السيارة", "أزل العجلة", "ركب الاحتياطية"],
    );
    check(
        "Schritt 1: Wagen heben\nSchritt 2: Rad abnehmen\nSchritt 3: Ersatzrad montieren",
        &["Wagen heben", "Rad abnehmen", "Ersatzrad montieren"],
    );
}

#[test]
fn what_is_no_outline_says_why() {
    assert_eq!(titles(""), Err(NotAnOutline::Empty));
    assert_eq!(titles("\u{0}\u{7}\r\n \u{200b}"), Err(NotAnOutline::Empty));
    assert_eq!(
        titles("Lift the car, then take off the wheel."),
        Err(NotAnOutline::NoList)
    );
    assert_eq!(
        titles("1. Lift\n2. lift\n3. The lift"),
        Err(NotAnOutline::TooFew {
            found: 1,
            wanted: 3
        })
    );
    assert_eq!(
        titles("1. A car\n2. Wheel"),
        Err(NotAnOutline::TooFew {
            found: 2,
            wanted: 3
        })
    );
    assert_eq!(
        titles(&"word ".repeat(10_000)),
        Err(NotAnOutline::EndlessLine)
    );
    assert_eq!(
        titles(&"words\n".repeat(10_000)),
        Err(NotAnOutline::TooLong)
    );
    assert_eq!(titles("1.\n2.\n3."), Err(NotAnOutline::NoList));
    for error in [
        NotAnOutline::Empty,
        NotAnOutline::EndlessLine,
        NotAnOutline::TooLong,
    ] {
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn control_characters_never_reach_a_title() {
    check(
        "1. Lift\u{1b}[31m the\u{7} car\n2. Take\u{202e} off\n3. Mount\u{0}",
        &["Lift[31m the car", "Take off", "Mount"],
    );
}

#[test]
fn the_parser_says_when_enough_is_written() {
    let mut parser = OutlineParser::new(OutlineLimits::default());
    assert_eq!(
        parser.push("1. Lift the car\n2. Take off the wheel\n3. Mount"),
        Progress::Open
    );
    assert_eq!(parser.points().len(), 2);
    assert_eq!(parser.push(" the spare\n\nThat is "), Progress::Open);
    assert_eq!(parser.push("all.\n"), Progress::Closed);
    assert_eq!(parser.finish().unwrap().points.len(), 3);
    let mut parser = OutlineParser::new(OutlineLimits {
        min_points: 1,
        max_points: 2,
    });
    assert_eq!(parser.push("- One\n- Two\n"), Progress::Closed);
    let mut parser = OutlineParser::new(OutlineLimits::default());
    assert_eq!(parser.push(&"endless ".repeat(300)), Progress::Closed);
}

const LIST: &str = "1. Lift the car\n2. Take off the wheel\n3. Mount the spare";

#[test]
fn a_line_that_was_cut_off_is_no_point() {
    let cut = |text: &str| {
        let mut parser = OutlineParser::new(OutlineLimits::default());
        parser.push(text);
        parser.cut();
        assert_eq!(parser.push("\n9. More\n"), Progress::Closed);
        parser.finish().map(|outline| outline.render())
    };
    assert_eq!(cut(&format!("{LIST}\n4. Low")).as_deref(), Ok(LIST));
    assert_eq!(cut(&format!("{LIST}\n")).as_deref(), Ok(LIST));
    let too_few = NotAnOutline::TooFew {
        found: 2,
        wanted: 3,
    };
    assert_eq!(cut(LIST), Err(too_few));
    assert_eq!(cut("Here is"), Err(NotAnOutline::NoList));
    assert_eq!(cut("<"), Err(NotAnOutline::NoList));
    assert_eq!(cut("<think>1. Lift\n"), Err(NotAnOutline::Empty));
}

#[test]
fn a_thought_is_no_part_of_the_outline() {
    let wrong = "1. Ask back\n2. Think it over\n";
    for thought in [
        "<think></think>".to_owned(),
        format!("<think>\n{wrong}3. Answer\n\nThat is it.\n</think>\n\n"),
        format!("<think>{}</think>\n", "endless ".repeat(400)),
        format!("Well,\n{wrong}so\n</think>"),
        format!("{wrong}</think>\n"),
    ] {
        check(&format!("{thought}{LIST}"), &ABC);
    }
    assert_eq!(
        titles(&format!("<think>\n{LIST}\n")),
        Err(NotAnOutline::Empty)
    );
    let endless = "1. Lift\n2. Turn\n3. Mount\n\nAnd so on.\n".repeat(500);
    assert_eq!(
        titles(&format!("<think>{endless}")),
        Err(NotAnOutline::TooLong)
    );
}

#[test]
fn control_tokens_are_no_part_of_titles() {
    check(
        "1. <|im_start|>Lift the car\n2. Take off the wheel</s>\n3. [INST]\n4. Mount the spare<|im_end|>",
        &ABC,
    );
}

/// Text with more of what outlines are made of than chance would give.
fn outline_like() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just(" ".to_owned()),
        Just("  ".to_owned()),
        Just("\t".to_owned()),
        Just("**".to_owned()),
        Just("- ".to_owned()),
        Just("• ".to_owned()),
        Just(": ".to_owned()),
        Just("\"".to_owned()),
        Just("Step ".to_owned()),
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just("> ".to_owned()),
        Just("# ".to_owned()),
        Just("i. ".to_owned()),
        Just("a) ".to_owned()),
        Just("三、".to_owned()),
        Just("٣".to_owned()),
        Just("①".to_owned()),
        Just("…".to_owned()),
        Just("<think>".to_owned()),
        Just("</think>".to_owned()),
        Just("<|".to_owned()),
        Just("|>".to_owned()),
        (0..30u32).prop_map(|n| format!("{n}. ")),
        (0..2000u32).prop_map(|n| format!("{n}")),
        (0..12u32).prop_map(|n| format!("\n{n}. ")),
        "[a-zA-Z]{1,8} ?",
        "\\PC{0,6}",
        any::<String>(),
    ];
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_text_gives_a_bounded_outline_that_reads_as_itself(
        text in outline_like(),
        max in 0..12usize,
    ) {
        let limits = OutlineLimits { min_points: 1, max_points: max };
        if let Ok(outline) = parse(&text, limits) {
            prop_assert!((1..=max.max(1)).contains(&outline.points.len()));
            for point in &outline.points {
                prop_assert!(!point.title.is_empty());
                prop_assert!(point.title.chars().count() <= MAX_TITLE_CHARS);
                prop_assert!(!point.title.chars().any(char::is_control));
            }
            prop_assert_eq!(parse(&outline.render(), limits), Ok(outline));
        }
    }

    #[test]
    fn where_pieces_are_cut_changes_nothing(
        text in outline_like(),
        cuts in prop::collection::vec(0..400usize, 0..20),
    ) {
        let limits = OutlineLimits::default();
        let mut parser = OutlineParser::new(limits);
        let chars: Vec<char> = text.chars().collect();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(chars.len())).collect();
        cuts.push(chars.len());
        cuts.sort_unstable();
        let mut from = 0;
        for to in cuts {
            parser.push(&chars[from..to].iter().collect::<String>());
            from = to;
        }
        prop_assert_eq!(parser.finish(), parse(&text, limits));
    }
}
