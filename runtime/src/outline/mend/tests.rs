//! Texts of branches as models write them.

use proptest::prelude::*;

use super::*;

fn mend_as(number: usize, title: &str, text: &str, end: BranchEnd) -> String {
    let mut mender = Mender::new(number, title);
    let mut out = mender.push(text);
    out.push_str(&mender.finish(end));
    // Letter by letter gives the same.
    let mut mender = Mender::new(number, title);
    let mut single: String = text.chars().map(|c| mender.push(&c.to_string())).collect();
    single.push_str(&mender.finish(end));
    assert_eq!(single, out, "{text}");
    out
}

fn mend(text: &str) -> String {
    mend_as(2, "Lift the car", text, BranchEnd::Stop)
}

#[test]
fn a_repeated_number_or_title_is_left_out() {
    for text in [
        "Use a jack.",
        "  Use a jack.",
        "2. Use a jack.",
        "2) Lift the car: Use a jack.",
        "Lift the car: Use a jack.",
        "**Lift the car**: Use a jack.",
        "**Lift the car:** Use a jack.",
        "**Lift the car** Use a jack.",
        "Lift the car\nUse a jack.",
        "Lift the car. Use a jack.",
        "LIFT THE CAR - Use a jack.",
        "Point 2: Lift the car. Use a jack.",
        "Point 2: Use a jack.",
        "**2. Lift the car**\n\nUse a jack.",
        "\"Lift the car\": Use a jack.",
        "Step 2 - Use a jack.",
        "\n\n 2.  Use a jack.  \n",
        "<think>\n2. Lift the car: no.\n</think>\n\n2. Use a jack.",
        "Lift\n</think>Lift the car: Use a jack.",
    ] {
        assert_eq!(mend(text), "Use a jack.", "{text}");
    }
}

#[test]
fn a_sentence_that_begins_as_the_title_stays() {
    assert_eq!(mend("2. **Use** a jack."), "**Use** a jack.");
    assert_eq!(mend("**2.** Use a jack."), "Use a jack.");
    for text in [
        "Lift the car with a jack.",
        "Lift the cart.",
        "Lift.",
        "2 jacks are best.",
        "Lift the car-like thing.",
        "Point it up.",
        "25 people lift it.",
        "**Use** a jack.",
        "- a jack\n- a block.",
    ] {
        assert_eq!(mend(text), text);
    }
}

#[test]
fn behind_a_thought_the_text_begins_anew() {
    assert_eq!(mend("Lift the car\n</think>3. Jacks."), "3. Jacks.");
    assert_eq!(mend("Lift the car: 1. a </think> b."), "1. a </think> b.");
}

#[test]
fn nothing_but_the_title_is_nothing() {
    for text in [
        "",
        "  \n",
        "Lift the car",
        "Lift the car.",
        "2. Lift the car",
        "**Lift the car**",
        "2.",
        "Point 2:",
        "\u{7}",
        "<think>",
        "<think>Use a jack.\n3. Well, no",
        "<think>Use a jack.</think>\nLift the car",
    ] {
        assert_eq!(mend(text), "", "{text}");
    }
}

#[test]
fn the_end_is_mended() {
    assert_eq!(mend("Use a jack"), "Use a jack.");
    assert_eq!(mend("Use a jack,"), "Use a jack.");
    assert_eq!(mend("Use a jack: "), "Use a jack.");
    assert_eq!(mend("Is it up?"), "Is it up?");
    assert_eq!(mend("Use \"a jack.\""), "Use \"a jack.\"");
    assert_eq!(mend("使用千斤顶"), "使用千斤顶。");
    assert_eq!(mend_as(1, "x", "Use a", BranchEnd::Cut), "Use a…");
    assert_eq!(
        mend_as(1, "x", "Use a jack.", BranchEnd::Cut),
        "Use a jack."
    );
    assert_eq!(mend("Use `jack`"), "Use `jack`");
    assert_eq!(mend("Write </think>"), "Write </think>");
}

#[test]
fn the_next_point_is_cut_off() {
    assert_eq!(
        mend("Use a jack.\n\n3. Take off the wheel\nTurn."),
        "Use a jack."
    );
    assert_eq!(mend("Use a jack.\n3."), "Use a jack.");
    assert_eq!(mend("Use a jack\n**3. Take off**"), "Use a jack.");
    assert_eq!(
        mend("Use:\n1. a jack\n2. a block\n3. a helper"),
        "Use:\n1. a jack\n2. a block\n3. a helper."
    );
    assert_eq!(mend("Use 3. Good.\n30 times."), "Use 3. Good.\n30 times.");
}

#[test]
fn lines_and_spaces_stay() {
    for text in [
        "One\n\ntwo  three.",
        "Use:\n- a jack\n  - with  a block\n\n    indented\n\tmore.",
        "| a  | b |\n|----|---|\n| 1  | 2 |",
    ] {
        assert_eq!(mend(text), text);
    }
    assert_eq!(mend("One  \r\n \t \r\n\n\n  two\n \n"), "One\n\n  two.");
    assert_eq!(mend("One\r\ntwo\rthree"), "One\ntwo\nthree.");
    assert_eq!(mend("Lift the car\n- a jack\n- it"), "- a jack\n- it.");
}

#[test]
fn code_stays_as_it_is() {
    for text in [
        "So:\n```rust\nfn  f() {  \n\n\n    1,\n}\n```",
        "So:\n```\n3. Take off\n1. x\n```\nDone.",
        "So:\n~~~~ `a`\n```\n~~~\n    ~~~~\n~~~~\nDone.",
        "So:\n- ```\n  3. Take off\n  ```\n- x.",
        "So:\n1. a:\n\n   ```sh\n   ls,\n   ```\n\nDone.",
        "So:\n```a``` is\n- it.",
        "So:\n``\nis  it.",
    ] {
        assert_eq!(mend(text), text);
    }
    assert_eq!(mend("So:\n```\na\n```   \n\n\nb"), "So:\n```\na\n```\n\nb.");
    assert_eq!(mend("So:\n```\na\n```\n3. Take"), "So:\n```\na\n```");
    // The opening line of a point has its title.
    for text in [
        "```\na\n```",
        "Lift the car:\n```\na\n```",
        "2. ```\na\n```",
    ] {
        assert_eq!(mend(text), "\n```\na\n```", "{text}");
    }
    assert_eq!(
        mend_as(1, "Python", "```python\nx\n```", BranchEnd::Stop),
        "\n```python\nx\n```"
    );
}

#[test]
fn code_that_is_left_open_is_closed() {
    for (text, closed) in [
        ("So:\n```", "So:\n```\n```"),
        ("So:\n````js:", "So:\n````js:\n````"),
        ("So:\n```\n", "So:\n```\n```"),
        ("So:\n```\na", "So:\n```\na\n```"),
        ("So:\n```\na,\n", "So:\n```\na,\n```"),
        ("So:\n```\na\n``", "So:\n```\na\n```"),
        ("So:\n```\na\n~~~", "So:\n```\na\n~~~\n```"),
        ("So:\n  ~~~\n  a\n  ", "So:\n  ~~~\n  a\n  ~~~"),
        ("So:\n- ```\n  a", "So:\n- ```\n  a\n  ```"),
    ] {
        assert_eq!(mend(text), closed, "{text}");
        let cut = mend_as(2, "Lift the car", text, BranchEnd::Cut);
        assert_eq!(cut, format!("{closed}\n…"), "{text}");
    }
    let complete = "So:\n```\na\n```";
    assert_eq!(mend_as(2, "x", complete, BranchEnd::Cut), complete);
}

#[test]
fn behind_its_end_a_branch_is_over() {
    let mut mender = Mender::new(2, "Lift the car");
    mender.push("Use a jack\n3.");
    assert!(!mender.is_over());
    mender.push(" T");
    assert!(mender.is_over());
    assert_eq!(mender.finish(BranchEnd::Cut), ".");
}

/// Texts with more of what is mended than chance would give.
fn pieces() -> impl Strategy<Value = Vec<String>> {
    let piece = prop_oneof![
        "[a-z]{1,6}",
        "[ \t]{1,5}",
        "(\r?\n){1,3}",
        "\n {0,5}(`{1,5}|~{1,5})",
        "\n {0,4}(`{3,4}|~{3,4}) ?[a-z,:]{0,3}\n",
        "\n(- |[1-4][.)] )",
        "[`~*#<:,.…]{1,3}",
        Just("Lift the car".to_owned()),
        Just("<think>".to_owned()),
        Just("</think>".to_owned()),
        "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..14)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn where_pieces_are_cut_changes_nothing(pieces in pieces(), is_cut: bool) {
        let end = if is_cut { BranchEnd::Cut } else { BranchEnd::Stop };
        let whole = mend_as(2, "Lift the car", &pieces.concat(), end);
        let mut mender = Mender::new(2, "Lift the car");
        let mut mended: String = pieces.iter().map(|piece| mender.push(piece)).collect();
        mended.push_str(&mender.finish(end));
        prop_assert_eq!(&mended, &whole);
    }

    #[test]
    fn code_comes_out_as_it_went_in(
        lines in prop::collection::vec("[ \\t]{0,3}([a-z:,.]|[1-4]\\. |~|#|`{1,2}x| ){0,4}", 0..6),
        sign in "`{3,5}|~{3,5}",
    ) {
        prop_assume!(lines.iter().all(|line| !line.trim_start().starts_with("~~~")));
        let code: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let text = format!("So:\n{sign}\n{code}{sign}\nEnd.");
        prop_assert_eq!(mend(&text), text);
    }
}
