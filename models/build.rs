//! The default model is embedded in the library. Where its files are missing, the build ends with
//! one line that says how to get them back, not with an error of the macro that reads them.

use std::path::Path;

/// What `src/default_model.rs` embeds.
const FILES: [&str; 4] = [
    "robot-q8_0.gguf",
    "robot-draft-q8_0.gguf",
    "robot-medusa-q8_0.gguf",
    "B3SUMS",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for file in FILES {
        println!("cargo::rerun-if-changed=default/{file}");
    }
    let missing = FILES
        .iter()
        .find(|file| !Path::new("default").join(file).is_file());
    if let Some(file) = missing {
        println!(
            "cargo::error=models/default/{file} is missing: get it back with \
             `git checkout -- models/default`, then build again"
        );
    }
}
