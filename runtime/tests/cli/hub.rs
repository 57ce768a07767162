//! `jupiter pull` and `-hf`, against a server on this machine that speaks the hub's paths.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::{FOLDER, command, text};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server does.
#[derive(Clone, Default)]
struct Behaviour {
    files: HashMap<String, Vec<u8>>,
    /// The token without which it refuses.
    token: Option<&'static str>,
    /// Bytes after which the first connection for a file is cut.
    cuts_after: Option<usize>,
    /// Whether it announces other bytes than it sends.
    alters: bool,
}

/// A hub that keeps what it was asked: request line, Range, Authorization, Host.
struct Hub {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

impl Hub {
    fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut behaviour = behaviour;
            for stream in listener.incoming() {
                answer(stream.unwrap(), port, &mut behaviour, &seen);
            }
        });
        Self {
            port,
            asked,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn with(files: &[(&str, &[u8])]) -> Behaviour {
        let files = files
            .iter()
            .map(|(name, bytes)| ((*name).into(), bytes.to_vec()));
        Behaviour {
            files: files.collect(),
            ..Behaviour::default()
        }
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = command(&FOLDER, arguments);
        for name in [
            "HF_TOKEN",
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_HUB_OFFLINE",
        ] {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", format!("http://127.0.0.1:{}", self.port))
            .env("HF_HOME", self.folder.path())
            .env("NO_PROXY", "*")
            .envs(variables.iter().copied());
        command.output().unwrap()
    }

    /// The path that a pull prints, from the folder of the repository's commit on.
    fn pull(&self, arguments: &[&str]) -> (String, Vec<u8>) {
        let output = self.run(&[&["pull"], arguments].concat(), &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let printed = text(&output.stdout);
        let path = Path::new(printed.trim_end());
        let snapshot = self
            .folder
            .path()
            .join("hub/models--u--r/snapshots")
            .join(COMMIT);
        let name = path.strip_prefix(snapshot).unwrap();
        (name.to_str().unwrap().into(), std::fs::read(path).unwrap())
    }

    /// The one line of a failure.
    fn refusal(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let output = self.run(&[&["pull"], arguments].concat(), variables);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        let line = text(&output.stderr);
        assert_eq!(line.lines().count(), 1, "{line}");
        line
    }

    fn asked(&self, words: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|line| line.contains(words))
            .cloned()
            .collect()
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn answer(mut stream: TcpStream, port: u16, hub: &mut Behaviour, seen: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut lines = std::iter::from_fn(|| lines.next()?.ok()).take_while(|line| !line.is_empty());
    let request = lines.next().unwrap_or_default();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| {
            line.split_once(": ")
                .map(|(k, v)| (k.to_lowercase(), v.into()))
        })
        .collect();
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    seen.lock().unwrap().push(format!(
        "{request} | {} | {} | {}",
        header("range"),
        header("authorization"),
        header("host")
    ));
    let mut respond = |status: &str, headers: &str, body: &[u8]| {
        let n = body.len();
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}");
        let length = if headers.contains("Content-Length") {
            String::new()
        } else {
            format!("Content-Length: {n}\r\n")
        };
        // A client that has heard enough hangs up.
        let _ = stream.write_all(format!("{head}{length}\r\n").as_bytes());
        let _ = stream.write_all(body);
    };
    let path = request.split(' ').nth(1).unwrap_or_default();
    let needed = hub.token.map(|token| format!("Bearer {token}"));
    if let Some(name) = path.strip_prefix("/cdn/") {
        let bytes = &hub.files[name];
        let start = header("range")
            .trim_start_matches("bytes=")
            .trim_end_matches('-')
            .parse()
            .unwrap_or(0);
        let rest = &bytes[start..];
        let sent = &rest[..hub.cuts_after.take().unwrap_or(rest.len())];
        let length = format!("Content-Length: {}\r\n", rest.len());
        if start == 0 {
            return respond("200 OK", &length, sent);
        }
        let range = format!(
            "{length}Content-Range: bytes {start}-{}/{}\r\n",
            bytes.len() - 1,
            bytes.len()
        );
        respond("206 Partial Content", &range, sent);
    } else if needed.is_some_and(|token| token != header("authorization")) {
        respond("401 Unauthorized", "", b"");
    } else if path == "/api/models/u/r/revision/main" {
        let mut names: Vec<_> = hub.files.keys().collect();
        names.sort();
        let siblings: Vec<_> = names
            .iter()
            .map(|n| serde_json::json!({ "rfilename": n }))
            .collect();
        let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        respond("200 OK", "", body.as_bytes());
    } else if let Some(name) = path.strip_prefix(&format!("/u/r/resolve/{COMMIT}/")) {
        let bytes = &hub.files[name];
        let hash = if hub.alters {
            sha256(b"other")
        } else {
            sha256(bytes)
        };
        // By another name of this machine: another host.
        let headers = format!(
            "Location: http://localhost:{port}/cdn/{name}\r\nX-Linked-Etag: \"{hash}\"\r\nX-Linked-Size: {}\r\nX-Repo-Commit: {COMMIT}\r\n",
            bytes.len()
        );
        respond("302 Found", &headers, b"");
    } else {
        respond("404 Not Found", "", b"");
    }
}

#[test]
fn a_quantization_is_pulled_once_and_is_there_offline() {
    let hub = Hub::start(Hub::with(&[
        ("m-Q4_K_M.gguf", b"four"),
        ("m-Q8_0.gguf", b"eight"),
        ("mmproj-m-Q8_0.gguf", b"eye"),
    ]));
    assert_eq!(hub.pull(&["u/r"]), ("m-Q4_K_M.gguf".into(), b"four".into()));
    assert_eq!(
        hub.pull(&["u/r:q8_0"]),
        ("m-Q8_0.gguf".into(), b"eight".into())
    );
    let n_gets = hub.asked("GET /cdn/").len();
    assert_eq!(n_gets, 2, "{:?}", hub.asked(""));
    assert_eq!(hub.pull(&["u/r"]).1, b"four");
    assert_eq!(hub.asked("GET /cdn/").len(), n_gets);
    let n_asked = hub.asked("").len();
    assert_eq!(hub.pull(&["u/r:Q8_0", "--offline"]).1, b"eight");
    assert!(
        hub.refusal(&["u/r:Q2_K", "--offline"], &[])
            .contains("u/r:Q2_K is not in the cache")
    );
    assert!(
        hub.refusal(&["u/x"], &[("HF_HUB_OFFLINE", "1")])
            .contains("u/x is not in the cache")
    );
    assert_eq!(hub.asked("").len(), n_asked);
    let gone = &[("HF_ENDPOINT", "http://127.0.0.1:1")];
    let output = hub.run(&["pull", "u/r"], gone);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        hub.refusal(&["u/x"], gone)
            .contains("cannot reach http://127.0.0.1:1")
    );
}

#[test]
fn all_parts_are_pulled_and_the_first_is_named() {
    let (first, second) = (
        "Q8_0/m-Q8_0-00001-of-00002.gguf",
        "Q8_0/m-Q8_0-00002-of-00002.gguf",
    );
    let hub = Hub::start(Hub::with(&[(second, b"second"), (first, b"first")]));
    assert_eq!(hub.pull(&["u/r"]), (first.into(), b"first".into()));
    assert_eq!(
        hub.pull(&["u/r", "--hf-file", second, "--offline"]).0,
        first
    );
    assert_eq!(hub.asked("GET /cdn/").len(), 2);
}

#[test]
fn a_connection_that_is_cut_is_followed_by_one_for_the_rest() {
    let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    let mut behaviour = Hub::with(&[("m.gguf", &bytes)]);
    behaviour.cuts_after = Some(40_000);
    let hub = Hub::start(behaviour);
    assert_eq!(hub.pull(&["u/r"]), ("m.gguf".into(), bytes));
    assert!(hub.asked("bytes=40000-").len() == 2, "{:?}", hub.asked(""));
}

#[test]
fn what_an_earlier_run_left_is_not_asked_for_again() {
    let hub = Hub::start(Hub::with(&[("m.gguf", b"0123456789")]));
    let blobs = hub.folder.path().join("hub/models--u--r/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let left = blobs.join(format!("{}.incomplete", sha256(b"0123456789")));
    std::fs::write(&left, b"0123").unwrap();
    assert_eq!(hub.pull(&["u/r"]).1, b"0123456789");
    assert!(!left.exists() && !hub.asked("bytes=4-").is_empty());
}

#[test]
fn the_token_is_for_the_hub_and_no_other_host() {
    let mut behaviour = Hub::with(&[("m.gguf", b"secret")]);
    behaviour.token = Some("hf_right");
    let hub = Hub::start(behaviour);
    let line = hub.refusal(&["u/r"], &[]);
    assert!(
        line.contains("refuses access to u/r") && line.contains("set HF_TOKEN"),
        "{line}"
    );
    let line = hub.refusal(&["u/r"], &[("HF_TOKEN", "hf_wrong")]);
    assert!(line.contains("valid token"), "{line}");
    let output = hub.run(&["pull", "u/r"], &[("HF_TOKEN", "hf_right")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let elsewhere = hub.asked("/cdn/");
    assert!(
        elsewhere.len() == 1 && !elsewhere[0].contains("hf_"),
        "{elsewhere:?}"
    );
    assert!(elsewhere[0].contains("localhost"), "{elsewhere:?}");
}

#[test]
fn refusals_say_what_is_wrong_in_one_line() {
    let hub = Hub::start(Hub::with(&[("m-Q8_0.gguf", b"x"), ("README.md", b"y")]));
    for (arguments, words) in [
        (&["u"][..], "write USER/REPO"),
        (&["u/x"], "the hub has no repository u/x"),
        (&["u/r:Q4_0"], "u/r has no Q4_0: it has Q8_0"),
        (
            &["u/r", "--hf-file", "n.gguf"],
            "no file n.gguf: it has m-Q8_0.gguf",
        ),
    ] {
        let line = hub.refusal(arguments, &[]);
        assert!(line.contains(words), "{line}");
    }
    let none = Hub::start(Hub::with(&[("README.md", b"y")]));
    assert!(none.refusal(&["u/r"], &[]).contains("u/r has no GGUF file"));
}

#[test]
fn altered_bytes_are_refused_and_removed() {
    let mut behaviour = Hub::with(&[("m.gguf", b"these")]);
    behaviour.alters = true;
    let hub = Hub::start(behaviour);
    let line = hub.refusal(&["u/r"], &[]);
    assert!(line.contains("m.gguf came altered"), "{line}");
    let blobs = std::fs::read_dir(hub.folder.path().join("hub/models--u--r/blobs")).unwrap();
    assert_eq!(blobs.count(), 0);
}

#[test]
fn a_model_of_the_hub_answers_as_its_file_does() {
    let bytes = std::fs::read(FOLDER.join("m.gguf")).unwrap();
    let hub = Hub::start(Hub::with(&[("m-F32.gguf", &bytes)]));
    let run = |model: &[&str], variables: &[(&str, &str)]| {
        let rest = ["-p", "hello", "-n", "4", "--temp", "0"];
        let output = hub.run(&[&["run"], model, &rest].concat(), variables);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let expected = run(&["-m", "m.gguf"], &[]);
    assert_eq!(
        run(&["-hf", "u/r:f32"], &[("JUPITER_MODEL", "none.gguf")]),
        expected
    );
    assert_eq!(run(&["--offline"], &[("JUPITER_HF_REPO", "u/r")]), expected);
    let both = hub.run(&["run", "-m", "m.gguf", "-hf", "u/r", "-p", "x"], &[]);
    assert!(
        text(&both.stderr).contains("named twice"),
        "{}",
        text(&both.stderr)
    );
}
