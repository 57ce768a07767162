//! Model files that are not what they seem, and a cache folder that cannot be written.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::SystemTime;

use serde_json::Value;

use super::default_model::Process;
use super::{FOLDER, command, events, jupiter, jupiter_in, text};

/// The one line of a refusal.
fn refusal(output: &Output) -> String {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    told
}

/// A copy of the shared model whose `llama.block_count` is `n_layer`.
fn with_layers(n_layer: u32) -> PathBuf {
    let mut bytes = std::fs::read(FOLDER.join("m.gguf")).unwrap();
    let key = b"llama.block_count";
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap();
    // Behind the key are the value's type and the value.
    let value = at + key.len() + 4;
    assert_eq!(bytes[value..value + 4], 6_u32.to_le_bytes());
    bytes[value..value + 4].copy_from_slice(&n_layer.to_le_bytes());
    let path = FOLDER.join(format!("{n_layer}-layers.gguf"));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_wrong_number_of_layers_is_refused_alike_whether_cut_or_not() {
    for n_layer in [5, 7] {
        let path = with_layers(n_layer);
        let path = path.to_str().unwrap();
        let told = |more: &[&str]| {
            let run = ["run", "-m", path, "-p", "Hello", "-n", "1"];
            refusal(&jupiter(&[&run, more].concat()))
        };
        let whole = told(&[]);
        assert!(
            whole.contains(&format!("`llama.block_count` is {n_layer}")),
            "{whole}"
        );
        assert_eq!(told(&["--stages", "2"]), whole);
        let worker = ["worker", "-m", path, "--connect", "tcp/127.0.0.1:1"];
        assert_eq!(refusal(&jupiter(&worker)), whole);
        let split = ["split", "-m", path, "--stages", "2"];
        assert_eq!(refusal(&jupiter(&split)), whole);
    }
}

/// A GGUF with two strings of metadata and no tensors.
fn write_kind(path: &Path, pairs: [(&str, &str); 2]) {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    let put = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    for (key, value) in pairs {
        put(&mut bytes, key);
        bytes.extend(8_u32.to_le_bytes());
        put(&mut bytes, value);
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_projector_is_refused_by_name_in_every_place_of_a_model() {
    let path = FOLDER.join("mmproj.gguf");
    write_kind(
        &path,
        [("general.type", "mmproj"), ("general.architecture", "clip")],
    );
    let path = path.to_str().unwrap();
    for arguments in [
        &["run", "-m", path, "-p", "Hello"][..],
        &["run", "-m", path, "-p", "Hello", "--stages", "2"],
        &["split", "-m", path, "--stages", "2"],
        &["worker", "-m", path, "--connect", "tcp/127.0.0.1:1"],
    ] {
        let told = refusal(&jupiter(arguments));
        assert!(told.contains("a projector"), "{arguments:?}: {told}");
        assert!(told.contains("name the language model"), "{told}");
    }
    // A draft model that is none is left out.
    let draft = ["run", "-m", "m.gguf", "-md", path, "-p", "Hello", "-n", "2"];
    let output = jupiter(&draft);
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("no draft model: ") && told.contains("a projector"),
        "{told}"
    );
}

#[test]
fn a_cut_answers_from_the_file_that_is_there_now() {
    let dir = tempfile::tempdir().unwrap();
    let seeds = ["1", "2"];
    for seed in seeds {
        let name = format!("{seed}.gguf");
        let synth = ["synth", "--type", "f32", "--seed", seed, "-o", &name];
        assert!(jupiter_in(dir.path(), &synth).status.success());
    }
    let ask = |model: &str| {
        let run = [
            "run", "-m", model, "-p", "Hello", "-n", "8", "--temp", "0", "--json", "-t", "1",
        ];
        let output = jupiter_in(dir.path(), &[&run[..], &["--stages", "2"]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        events(&text(&output.stdout)).0
    };
    let expected = seeds.map(|seed| ask(&format!("{seed}.gguf")));
    assert_ne!(expected[0], expected[1]);
    let model = dir.path().join("model.gguf");
    for (seed, expected) in seeds.iter().zip(&expected) {
        // As `cp -p` does it: same path, same size, same time.
        std::fs::copy(dir.path().join(format!("{seed}.gguf")), &model).unwrap();
        let file = std::fs::File::options().write(true).open(&model).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(&ask("model.gguf"), expected);
    }
}

#[test]
fn without_a_cache_folder_a_whole_model_is_served_and_a_cut_names_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    std::fs::write(&cache, "no folder").unwrap();
    let model = FOLDER.join("m.gguf");
    let model = model.to_str().unwrap();

    let cut = ["run", "-m", model, "-p", "Hello", "--stages", "2"];
    let output = jupiter_in(dir.path(), &cut);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    // Before it may be told that the model's hash cannot be kept either.
    let error = told.lines().last().unwrap();
    for part in [
        "error: ",
        cache.to_str().unwrap(),
        "cannot write layers",
        "JUPITER_CACHE",
    ] {
        assert!(error.contains(part), "{part}: {told}");
    }

    let cluster = format!("no-cache-{}", std::process::id());
    let listen = ["--listen", "tcp/127.0.0.1:0", "--cluster", &cluster];
    let serve = [&["serve", "-m", model, "-t", "1", "--json"], &listen[..]].concat();
    let mut head = Process::of(&mut command(dir.path(), &serve));
    let mut lines = head.lines().map(|line| line.unwrap());
    let running = lines.find(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["phase"] == "running"
    });
    assert!(running.is_some());
}
