//! Checks that the default model's files are there, and builds the piece of C++ that puts our kernels
//! into llama.cpp.

use std::env;
use std::path::Path;

/// What `src/default_model.rs` embeds.
const FILES: [&str; 4] = [
    "robot-q8_0.gguf",
    "robot-draft-q8_0.gguf",
    "robot-medusa-q8_0.gguf",
    "B3SUMS",
];

/// The way of our kernels into ggml's CPU backend.
const SHIM: &str = "src/llama/kernels/shim.cpp";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    check_default_model();
    build_shim();
}

/// Where files are missing, the build ends with one line that says how to get them back, not with an
/// error of the macro that reads them.
fn check_default_model() {
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

/// `cfg(kernels)` is set where our kernels can be used: ggml's CPU backend is linked into the program,
/// and the system is one that they are tested on.
fn build_shim() {
    println!("cargo::rustc-check-cfg=cfg(kernels)");
    println!("cargo::rerun-if-changed={SHIM}");
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    let is_tested = target("OS") == "linux" && ["x86_64", "aarch64"].contains(&&*target("ARCH"));
    if !is_tested || env::var_os("CARGO_FEATURE_DYNAMIC_BACKENDS").is_some() {
        return;
    }
    println!("cargo::rustc-cfg=kernels");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file(SHIM)
        .compile("jupiter-kernels-shim");
}
