//! Whose kernels compute, and how a person sees and chooses it.

use std::sync::LazyLock;

use jupiter_kernels::InstructionSet;
use serde_json::Value;

use super::{FOLDER, command, events, jupiter, text};

/// A quantized model beside the shared one.
static QUANTIZED: LazyLock<&str> = LazyLock::new(|| {
    let output = jupiter(&["synth", "--type", "q4_0", "-o", "q4.gguf"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    "q4.gguf"
});

/// Whether our kernels can be used on this system.
fn can_be_used() -> bool {
    cfg!(target_os = "linux") && InstructionSet::best() != InstructionSet::Scalar
}

#[test]
fn devices_say_whose_kernels_compute() {
    let told = text(&jupiter(&["devices"]).stdout);
    let best = format!("kernels: {} for Q4_0, ", InstructionSet::best());
    assert_eq!(told.contains(&best), can_be_used(), "{told}");
    let told = text(&jupiter(&["devices", "--kernels", "off"]).stdout);
    assert!(
        told.contains("kernels: llama.cpp's for all (--kernels off)"),
        "{told}"
    );
}

#[test]
fn every_instruction_set_writes_the_same_text() {
    let model = *QUANTIZED;
    let run = [
        "run", "-m", model, "-p", "Hello", "--temp", "0", "-n", "24", "--json",
    ];
    let written = |set: &str| {
        let mut command = command(&FOLDER, &run);
        let output = command.env("JUPITER_KERNELS", set).output().unwrap();
        assert!(output.status.success(), "{set}: {}", text(&output.stderr));
        events(&text(&output.stdout)).0
    };
    let expected = written("auto");
    assert_eq!(expected.len(), 24);
    for set in InstructionSet::available().filter(|_| can_be_used()) {
        assert_eq!(written(set.name()), expected, "{set}");
    }
}

#[test]
fn instructions_that_the_processor_lacks_are_refused_in_one_line() {
    let lacking = InstructionSet::ALL
        .into_iter()
        .find(|set| !set.is_available());
    let lacking = lacking.unwrap().name();
    for verb in ["run", "devices", "bench"] {
        let arguments = match verb {
            "run" => vec![verb, "-p", "x", "--kernels", lacking],
            _ => vec![verb, "--kernels", lacking],
        };
        let output = jupiter(&arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let expected = format!("this processor has no {lacking} (--kernels): take auto, off");
        assert!(
            told.contains(&expected) && told.lines().count() == 1,
            "{told}"
        );
    }
}

#[test]
fn the_row_curve_is_printed_beside_the_limits() {
    let bench = [
        "bench",
        "-m",
        *QUANTIZED,
        "--rows",
        "1,3",
        "-r",
        "1",
        "--baseline",
    ];
    let told = text(&jupiter(&bench).stdout);
    assert!(
        told.contains("llama.cpp ms") && told.contains("limits: "),
        "{told}"
    );
    let json = text(&jupiter(&[&bench[..], &["--json"]].concat()).stdout);
    let report: Value = serde_json::from_str(&json).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{report}");
    for key in ["ms", "baseline_ms", "ratio", "gbps", "gmacs"] {
        assert!(rows[1][key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    assert!(report["limits"]["read_gbps"].as_f64().unwrap() > 0.0);
    let output = jupiter(&["bench", "--rows", "0"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}
