//! The cache: what is written, found again, refused, and cleaned up. What a slice computes is
//! tested by parity with the whole model, in the crate `jupiter-tests`.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::synth::{self, SynthArch, SynthSpec};

fn synth_model(dir: &Path, arch: SynthArch, tied: bool) -> GgufFile {
    let spec = SynthSpec {
        n_embd: 64,
        n_ff: 64,
        n_vocab: 320,
        tied,
        ..SynthSpec::new(arch)
    };
    let path = dir.join("model.gguf");
    synth::write(&spec, &path, &mut |_, _| {}).unwrap();
    GgufFile::open(&path).unwrap()
}

fn slice(cache: &SliceCache, model: &GgufFile, start: u32, end: u32) -> Result<StageSlice> {
    cache.slice(model, LayerRange::new(start, end), &mut |_, _| {})
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn slices_hold_their_layers_renamed_and_stubs_for_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let model = synth_model(dir.path(), SynthArch::Llama, false);
    let cache = SliceCache::new(dir.path().join("cache"));

    let middle = GgufFile::open(slice(&cache, &model, 2, 4).unwrap().path).unwrap();
    let info = ModelInfo::from_gguf(&middle).unwrap();
    assert_eq!((info.n_layer, info.n_vocab), (2, 32));
    assert_eq!(
        middle.metadata().str("tokenizer.ggml.model").unwrap(),
        "none"
    );
    assert!(middle.metadata().get("tokenizer.ggml.tokens").is_none());
    for (ours, theirs) in [(0, 2), (1, 3)] {
        let ours = middle.tensor(&format!("blk.{ours}.attn_q.weight")).unwrap();
        let theirs = model
            .tensor(&format!("blk.{theirs}.attn_q.weight"))
            .unwrap();
        assert_eq!(middle.tensor_bytes(ours), model.tensor_bytes(theirs));
    }
    assert!(middle.tensor("blk.2.attn_q.weight").is_none());
    for name in ["token_embd.weight", "output.weight"] {
        let (ours, theirs) = (middle.tensor(name).unwrap(), model.tensor(name).unwrap());
        assert_eq!(
            middle.tensor_bytes(ours),
            &model.tensor_bytes(theirs)[..ours.n_bytes as usize]
        );
    }

    let last = GgufFile::open(slice(&cache, &model, 4, 6).unwrap().path).unwrap();
    let bytes = |file: &GgufFile, name| file.tensor_bytes(file.tensor(name).unwrap()).to_vec();
    assert_eq!(
        bytes(&last, "output.weight"),
        bytes(&model, "output.weight")
    );
    assert!(
        bytes(&last, "token_embd.weight").iter().all(|&b| b == 0),
        "a hole"
    );
    assert_eq!(
        last.metadata().get("tokenizer.ggml.tokens"),
        model.metadata().get("tokenizer.ggml.tokens")
    );

    let whole = slice(&cache, &model, 0, 6).unwrap();
    assert_eq!(whole.path, model.path());
    assert!(whole.is_whole() && whole.is_first() && whole.is_last());
}

#[test]
#[cfg(unix)]
fn the_hole_of_an_untied_last_slice_takes_no_disk() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let spec = SynthSpec {
        n_vocab: 8192,
        n_layer: 2,
        ..SynthSpec::new(SynthArch::Qwen3)
    };
    synth::write(&spec, &path, &mut |_, _| {}).unwrap();
    let model = GgufFile::open(&path).unwrap();
    let last = slice(&SliceCache::new(dir.path().join("cache")), &model, 1, 2).unwrap();
    let about = fs::metadata(last.path).unwrap();
    let hole = model.tensor("token_embd.weight").unwrap().n_bytes;
    assert!(
        about.blocks() * 512 + hole * 9 / 10 < about.len(),
        "{} {hole}",
        about.blocks()
    );
}

#[test]
fn the_last_slice_of_a_tied_model_keeps_the_embedding() {
    let dir = tempfile::tempdir().unwrap();
    let model = synth_model(dir.path(), SynthArch::Gemma3, true);
    let cache = SliceCache::new(dir.path().join("cache"));
    let last = GgufFile::open(slice(&cache, &model, 5, 6).unwrap().path).unwrap();
    let bytes = |file: &GgufFile| {
        file.tensor_bytes(file.tensor("token_embd.weight").unwrap())
            .to_vec()
    };
    assert_eq!(bytes(&last), bytes(&model));
}

#[test]
fn per_layer_metadata_is_cut_and_periods_become_flags() {
    let dir = tempfile::tempdir().unwrap();
    let model = synth_model(dir.path(), SynthArch::Gemma2, true);
    let cache = SliceCache::new(dir.path().join("cache"));
    let window = |start, end| {
        let file = GgufFile::open(slice(&cache, &model, start, end).unwrap().path).unwrap();
        ModelInfo::from_gguf(&file).unwrap().sliding_window.unwrap()
    };
    assert_eq!(
        ModelInfo::from_gguf(&model)
            .unwrap()
            .sliding_window
            .unwrap()
            .layers,
        [true, false, true, false, true, false]
    );
    assert_eq!(window(0, 3).layers, [true, false, true]);
    assert_eq!(window(1, 4).layers, [false, true, false]);
    // No sliding layer: gemma2 gets a window that never reaches.
    assert_eq!(
        window(3, 4),
        crate::gguf::SlidingWindow {
            n_swa: crate::types::MAX_CELLS,
            layers: vec![true]
        }
    );
}

#[test]
fn what_the_number_of_layers_tells_is_spelled_out() {
    let dir = tempfile::tempdir().unwrap();
    let model = synth_model(dir.path(), SynthArch::DeepSeek2Lite, false);
    let cache = SliceCache::new(dir.path().join("cache"));
    for key in ["attention.q_lora_rank", "expert_gating_func"] {
        let key = format!("deepseek2.{key}");
        assert!(model.metadata().get(&key).is_none());
    }
    let part = GgufFile::open(slice(&cache, &model, 0, 13).unwrap().path).unwrap();
    let number = |key: &str| part.metadata().u32(&format!("deepseek2.{key}")).unwrap();
    assert_eq!(number("attention.q_lora_rank"), 0);
    assert_eq!(number("expert_gating_func"), 1, "softmax");
    let latent = ModelInfo::from_gguf(&part).unwrap().latent.unwrap();
    assert!(latent.has_one_query_matrix && !latent.is_absorbed);
}

#[test]
fn a_cached_slice_is_found_and_a_damaged_one_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let model = synth_model(dir.path(), SynthArch::Llama, true);
    let cache_dir = dir.path().join("cache");
    let cache = SliceCache::new(&cache_dir);
    let mut seen = Vec::new();
    let first = cache
        .slice(&model, LayerRange::new(0, 3), &mut |done, total| {
            seen.push((done, total))
        })
        .unwrap();
    assert_eq!(seen.first().unwrap().0, 0);
    let last = *seen.last().unwrap();
    assert!(last.0 == last.1 && last.1 > 0, "{last:?}");
    let whole = fs::read(&first.path).unwrap();

    let mut calls = 0;
    cache
        .slice(&model, LayerRange::new(0, 3), &mut |_, _| calls += 1)
        .unwrap();
    assert_eq!(calls, 0, "found, not written");

    let mut longer = whole.clone();
    longer.extend([0; 32]);
    let mut zeros_inside = whole.clone();
    zeros_inside[whole.len() / 2..][..4096].fill(0);
    let mut other_sum = whole.clone();
    *other_sum.last_mut().unwrap() ^= 1;
    let mut other_hash = whole.clone();
    let at = whole
        .windows(8)
        .position(|w| w == &model.content_hash_in(&cache.hashes).unwrap().as_bytes()[..8])
        .unwrap();
    other_hash[at] ^= 1;
    for damaged in [
        &whole[..whole.len() - 40],
        &whole[..10],
        &[],
        &longer,
        &other_hash,
        &zeros_inside,
        &other_sum,
    ] {
        fs::write(&first.path, damaged).unwrap();
        slice(&cache, &model, 0, 3).unwrap();
        assert_eq!(fs::read(&first.path).unwrap(), whole);
    }
    assert_eq!(
        files(&cache_dir).len(),
        1,
        "no temporary files: {:?}",
        files(&cache_dir)
    );
}

#[test]
fn two_at_once_give_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let model = synth_model(dir.path(), SynthArch::Qwen2, false);
    let cache_dir = dir.path().join("cache");
    std::thread::scope(|scope| {
        let run = || slice(&SliceCache::new(&cache_dir), &model, 1, 5).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        let slices: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(slices.windows(2).all(|pair| pair[0] == pair[1]));
        GgufFile::open(&slices[0].path).unwrap();
    });
    assert_eq!(files(&cache_dir).len(), 1);
}

#[test]
fn refusals_are_one_line_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let model = synth_model(dir.path(), SynthArch::Llama, true);
    let cache_dir = dir.path().join("cache");
    let cache = SliceCache::new(&cache_dir);
    assert_eq!(
        slice(&cache, &model, 3, 7).unwrap_err().to_string(),
        "layers 3..7 are not in 0..6, or there are none"
    );
    assert!(slice(&cache, &model, 3, 3).is_err());
    assert!(!cache_dir.exists());

    // The folder's name is taken by a file.
    fs::write(&cache_dir, "x").unwrap();
    let error = slice(&cache, &model, 0, 3).unwrap_err().to_string();
    assert!(error.starts_with("cache folder "), "{error}");
    assert!(error.contains("cannot write layers 0..3"), "{error}");
    assert!(error.contains("JUPITER_CACHE"), "{error}");
    // All layers are the model itself.
    assert!(slice(&cache, &model, 0, 6).unwrap().is_whole());
}

#[test]
fn a_full_disk_is_one_line_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let model = synth_model(dir.path(), SynthArch::Llama, true);
    let cache = SliceCache::new("/caches/x");
    let info = ModelInfo::from_gguf(&model).unwrap();
    let recipe = Recipe::new(&model, &info, LayerRange::new(0, 3), "00").unwrap();
    let full = ModelError::Io {
        path: "/caches/x/.slice-1".into(),
        source: io::Error::from(io::ErrorKind::StorageFull),
    };
    assert_eq!(
        cache.explain(full, &model, &recipe).to_string(),
        format!(
            "cache folder /caches/x: no space left, needed {} MB: free space or set \
             JUPITER_CACHE/XDG_CACHE_HOME",
            recipe.copied_bytes().div_ceil(1_000_000)
        )
    );
}
