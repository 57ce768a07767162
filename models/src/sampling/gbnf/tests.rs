#![allow(clippy::unwrap_used)]
use super::*;

fn error(text: &str) -> String {
    Grammar::parse(text, &|_| None)
        .map(|_| ())
        .unwrap_err()
        .to_string()
}

#[test]
fn errors_are_one_line_with_the_place() {
    let cases = [
        ("", "no rule `root`"),
        ("root ::= \"a", "ends inside a literal"),
        ("root ::= a", "`a` is used but not defined"),
        ("x ::= \"a\"", "no rule `root`"),
        ("root = \"a\"", "expected `::=`"),
        ("root ::= (\"a\"", "expected `)`"),
        ("root ::= * \"a\"", "needs something before it"),
        ("root ::= \"a\"{3,2}", "below its lower bound"),
        ("root ::= \"a\"{2001}", "at most 2000"),
        ("root ::= \"\\q\"", "unknown escape"),
        ("root ::= \"\\x4\"", "2 hexadecimal digits"),
        ("root ::= <nope>", "not one token"),
        ("root ::= \"a\"\nroot2 ::= ]", "line 2: unexpected `]`"),
        ("root ::= root \"a\" | \"b\"", "left recursion"),
        ("root ::= a? b\na ::= \"x\"\nb ::= root", "left recursion"),
        ("root ::= (\"a\"?)*", "left recursion"),
    ];
    for (text, expected) in cases {
        let error = error(text);
        assert!(error.contains(expected), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn hostile_grammars_end_in_an_error_and_soon() {
    assert!(error(&"(".repeat(100_000)).contains("rule name"));
    assert!(error(&format!("root ::= {}", "(".repeat(100_000))).contains("nest deeper"));
    let long = "a".repeat(1000);
    for count in ["{2000}", "{1,2000}"] {
        assert!(error(&format!("root ::= \"{long}\"{count}")).contains("written out"));
    }
    assert!(error(&" ".repeat(MAX_GRAMMAR_BYTES + 1)).contains("too long"));
    // A chain of rules with two ways at each step: 2^20000 paths, one pass here.
    let mut chain = String::from("root ::= r0\n");
    for i in 0..20_000 {
        chain += &format!("r{i} ::= r{} | r{}\n", i + 1, i + 1);
    }
    chain += "r20000 ::= \"x\"";
    assert!(Grammar::parse(&chain, &|_| None).is_ok());
}

#[test]
fn repetition_inside_repetition_stays_small() {
    let grammar = Grammar::parse("root ::= (((\"a\"{2000}){2000}){1,2000})*", &|_| None);
    assert!(grammar.unwrap().elements.len() < 20_000);
}
