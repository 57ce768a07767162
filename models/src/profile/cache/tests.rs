#![allow(clippy::unwrap_used)]
use std::cell::Cell;

use super::*;
use crate::profile::{Crowding, LayerProfile, LayerShape, Noise, RowCurve};

fn key() -> Key {
    Key {
        version: VERSION,
        device: "a board, 4 cores".into(),
        host: "robot-1".into(),
        model: "ab".repeat(32),
        n_threads: 4,
        type_k: KvDtype::F16,
        type_v: KvDtype::F16,
        flash_attention: true,
        kernels: None,
        n_gpu_layers: 0,
        n_rows: 512,
        n_cells: 2048,
        slowdown: 1.0,
    }
}

fn shapes() -> ModelProfile {
    let layer = LayerShape {
        class: 0,
        weight_bytes: 1,
        kv_bytes_per_token: 1,
        state_bytes: 0,
    };
    ModelProfile {
        layers: vec![layer; 4],
        embedding_bytes: 1,
        head_bytes: 1,
        tied_head: false,
        buffer_bytes: 1,
        n_embd: 4,
        bytes_per_value: 4.0,
        cuts: Default::default(),
    }
}

fn profile(ms: f64) -> ComputeProfile {
    ComputeProfile {
        layers: vec![LayerProfile {
            rows: RowCurve::new(&[(1, ms), (2, 1.0 / 3.0 + ms)]),
            context_ms: 0.0,
            tile_context_ms: 0.0,
        }],
        step_ms: 0.1,
        embedding_ms: 0.0,
        head: RowCurve::new(&[(1, 1.0)]),
        crowding: Crowding::default(),
        noise: Noise::default(),
    }
}

/// The answer for `key`, and whether it was measured.
fn ask(dir: &Path, key: &Key, ms: f64) -> (ComputeProfile, bool) {
    let was_measured = Cell::new(false);
    let found = cached_in(dir, key, &shapes(), || {
        was_measured.set(true);
        Ok(profile(ms))
    });
    (found.unwrap(), was_measured.get())
}

#[test]
fn what_was_measured_is_found_again_bit_by_bit() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(ask(dir.path(), &key(), 0.1), (profile(0.1), true));
    assert_eq!(ask(dir.path(), &key(), 7.0), (profile(0.1), false));
}

#[test]
fn everything_that_counts_is_in_the_key() {
    let dir = tempfile::tempdir().unwrap();
    ask(dir.path(), &key(), 0.1);
    let changes: [fn(&mut Key); 13] = [
        |key| key.version += 1,
        |key| key.device = "another".into(),
        |key| key.host = "robot-2".into(),
        |key| key.model = "cd".repeat(32),
        |key| key.n_threads = 2,
        |key| key.type_k = KvDtype::Q8_0,
        |key| key.type_v = KvDtype::Q8_0,
        |key| key.flash_attention = false,
        |key| key.kernels = Some("avx2".into()),
        |key| key.n_gpu_layers = 9,
        |key| key.n_rows = 128,
        |key| key.n_cells = 256,
        |key| key.slowdown = 2.5,
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut other = key();
        change(&mut other);
        assert!(ask(dir.path(), &other, 2.0).1, "change {i}");
    }
    assert!(!ask(dir.path(), &key(), 2.0).1);
}

#[test]
fn damaged_files_are_measured_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(key().file_name());
    ask(dir.path(), &key(), 0.1);
    let whole = fs::read_to_string(&path).unwrap();
    let damaged = [
        whole[..whole.len() / 2].to_owned(),
        String::new(),
        whole.replace("\"ms\": 0.1", "\"ms\": -0.1"),
        whole.replace("\"rows\": 1", "\"rows\": 3"),
        whole.replace("robot-1", "robot-2"),
    ];
    for text in damaged {
        assert_ne!(text, whole);
        fs::write(&path, &text).unwrap();
        assert!(ask(dir.path(), &key(), 0.1).1, "{text}");
        assert!(!ask(dir.path(), &key(), 0.1).1);
    }
}

#[test]
fn a_folder_that_cannot_be_made_costs_only_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    assert!(ask(&file, &key(), 0.1).1);
    assert!(ask(&file, &key(), 0.1).1);
}

/// Measured while the machine was busy.
fn doubtful(ms: f64) -> ComputeProfile {
    let noise = Noise {
        waited: 0.4,
        ..Noise::default()
    };
    ComputeProfile {
        crowding: Crowding::default(),
        noise,
        ..profile(ms)
    }
}

#[test]
fn a_doubtful_profile_is_measured_again() {
    let dir = tempfile::tempdir().unwrap();
    let busy = cached_in(dir.path(), &key(), &shapes(), || Ok(doubtful(7.0)));
    assert_eq!(busy.unwrap(), doubtful(7.0));
    assert_eq!(ask(dir.path(), &key(), 0.1), (profile(0.1), true));
    assert_eq!(ask(dir.path(), &key(), 9.0), (profile(0.1), false));
}

#[test]
fn a_wrong_profile_is_forgotten_and_another_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    ask(dir.path(), &key(), 0.1);
    forget(dir.path(), &key(), &profile(7.0));
    assert!(!ask(dir.path(), &key(), 9.0).1);
    forget(dir.path(), &key(), &profile(0.1));
    assert!(ask(dir.path(), &key(), 9.0).1);
}

#[test]
fn who_waited_takes_a_doubtful_profile_too_but_not_an_old_one() {
    let dir = tempfile::tempdir().unwrap();
    keep(dir.path(), &key(), &doubtful(7.0));
    let newer =
        |old: Option<ComputeProfile>| super::newer(dir.path(), &key(), &shapes(), old.as_ref());
    assert_eq!(newer(Some(doubtful(7.0))), None);
    assert_eq!(newer(Some(doubtful(8.0))), Some(doubtful(7.0)));
    assert_eq!(newer(None), Some(doubtful(7.0)));
}

#[test]
fn who_waits_for_the_lock_finds_the_others_profile() {
    let dir = tempfile::tempdir().unwrap();
    let measuring = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            measuring.wait();
            ask(dir.path(), &key(), 9.0)
        });
        let first = cached_in(dir.path(), &key(), &shapes(), || {
            measuring.wait();
            let lock = File::open(dir.path().join(LOCK)).unwrap();
            assert!(lock.try_lock().is_err());
            Ok(profile(0.1))
        });
        assert_eq!(first.unwrap(), profile(0.1));
        assert_eq!(second.join().unwrap(), (profile(0.1), false));
    });
}
