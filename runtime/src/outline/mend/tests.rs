//! Texts of branches as models write them.

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
        "\n\n 2.  Use  a\tjack . ",
    ] {
        assert_eq!(mend(text).replace(" .", "."), "Use a jack.", "{text}");
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
    assert_eq!(mend("One\n\n\ntwo  three"), "One\ntwo three.");
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
