//! Where values come from: variables that say nothing, and files that are pipes.

use std::io::Write;
use std::process::{Output, Stdio};

use super::{FOLDER, command, jupiter, text};

/// Machines that are not there.
const DEVICES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../configs/devices-jetson-nx-1000mbps.toml"
);

/// The variables that the help of `verb` names.
fn variables(verb: &str) -> Vec<String> {
    let help = text(&jupiter(&[verb, "--help"]).stdout);
    let words = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("JUPITER_"));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.push("JUPITER_LOG".to_owned());
    names
}

#[test]
fn an_empty_variable_is_not_set() {
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let names = variables(arguments[0]);
        assert!(names.len() > 3, "{names:?}");
        let mut command = command(&FOLDER, arguments);
        command.envs(names.iter().map(|name| (name, "")));
        let output = command.output().unwrap();
        let told = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(expected), "{arguments:?}: {told}");
    };
    let run = ["run", "-m", "m.gguf", "-p", "Hello", "-n", "2", "--json"];
    check(&run, 0, r#""event":"done""#);
    check(&["split", "-m", "m.gguf", "--stages", "2"], 0, "0..3");
    check(&["synth", "-o", "empty.gguf"], 0, "");
    check(&["devices"], 0, "device");
    check(&["worker"], 2, "--connect");
    check(&["plan", "--devices", DEVICES], 0, "weights");
}

/// Runs the command with `input` on a pipe that is its stdin.
fn with_input(arguments: &[&str], input: &str) -> Output {
    let mut command = command(&FOLDER, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses the input early does not read it to its end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn files_that_are_read_whole_may_be_pipes() {
    let run = ["run", "-m", "m.gguf", "-n", "2", "--temp", "0"];
    let hello = [&run[..], &["-p", "Hello"]].concat();
    let answer = text(&jupiter(&hello).stdout);
    let check = |arguments: &[&str], input: &str| {
        let output = with_input(arguments, input);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let of_file = [&run[..], &["-f", "/dev/stdin"]].concat();
    assert_eq!(check(&of_file, "\u{feff}Hello\n"), answer);
    let configured = [&hello[..], &["--config", "/dev/stdin"]].concat();
    assert_eq!(check(&configured, "ctx_size = 512\n"), answer);
    let guided = [&hello[..], &["--grammar-file", "/dev/stdin"]].concat();
    assert_eq!(check(&guided, "root ::= \"b\"").trim_end(), "b");
    let devices = std::fs::read_to_string(DEVICES).unwrap();
    check(&["plan", "--devices", "/dev/stdin"], &devices);

    for (flag, input, named) in [
        ("--config", "ctx_sise = 1", "`ctx_size`"),
        ("--plan", "{}", "jupiter plan --json"),
    ] {
        let serve = ["serve", "-m", "m.gguf", "--listen", "tcp/127.0.0.1:0"];
        let output = with_input(&[&serve[..], &[flag, "/dev/stdin"]].concat(), input);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(
            told.contains(named) && told.contains("/dev/stdin"),
            "{told}"
        );
    }
    // A model is mapped, which a pipe cannot be.
    let output = with_input(&["run", "-m", "/dev/stdin", "-p", "x"], "GGUF");
    let told = text(&output.stderr);
    assert!(told.contains("not a regular file"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}
