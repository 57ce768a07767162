#![allow(clippy::unwrap_used)]
use super::super::quantize::{F32, Q4_0};
use super::*;

#[test]
fn metadata_survives_a_copy_and_holes_read_as_zeroes() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first.gguf");
    let mut writer = GgufWriter::new().unwrap();
    writer.set_str("general.architecture", "llama").unwrap();
    writer.set_u32("n", 7).unwrap();
    writer.set_array_bool("flags", &[true, false]).unwrap();
    writer.set_array_str("words", &["a", "", "é"]).unwrap();
    writer.add_tensor("hole", F32, &[5]).unwrap();
    writer.add_tensor("rows", Q4_0, &[32, 2]).unwrap();
    writer.add_tensor("end", F32, &[1, 1, 3]).unwrap();
    assert_eq!((writer.n_tensors(), writer.data_bytes()), (3, 32 + 64 + 32));
    let mut file = File::create(&first).unwrap();
    file.write_all(&[0xff; 9000]).unwrap();
    let sum = writer
        .write(&mut file, &first, &mut |index, name, sink| {
            assert_eq!(name, ["hole", "rows", "end"][index]);
            if name == "rows" {
                sink.put(&[7; 30]).and_then(|()| sink.put(&[8; 6]))?
            }
            sink.hole();
            Ok(())
        })
        .unwrap();
    let bytes = std::fs::read(&first).unwrap();
    assert_eq!(sum, blake3::hash(&bytes));
    let data = bytes.len() - 128;
    let mut expected = vec![0; 128];
    expected[32..62].fill(7);
    expected[62..68].fill(8);
    assert_eq!(bytes[data..], expected);

    // A copy of the metadata without the tensors is the same file cut before its tensor index.
    let copy = GgufWriter::copy_metadata_of(&first)
        .unwrap()
        .metadata_bytes();
    let n_kv = &bytes[16..24];
    assert_eq!((&copy[..4], &copy[16..24]), (&b"GGUF"[..], n_kv));
    let words = |bytes: &[u8]| bytes.windows(5).position(|w| w == b"words");
    assert_eq!(words(&copy), words(&bytes));
    assert!(GgufWriter::copy_metadata_of(Path::new("no such file")).is_err());
}

#[test]
fn what_would_abort_in_c_is_an_error() {
    let mut writer = GgufWriter::new().unwrap();
    assert!(writer.set_u32("", 1).is_err());
    assert!(writer.set_u32("a\0b", 1).is_err());
    assert!(writer.set_u32(ALIGNMENT_KEY, 3).is_err());
    assert!(writer.set_array_u32(ALIGNMENT_KEY, &[]).is_err());
    assert!(writer.set_str("a", "b\0").is_err());
    assert!(writer.set_array_str("a", &["b", "c\0"]).is_err());
    assert!(!writer.remove_key("absent").unwrap());
    writer.set_array_f32("empty", &[]).unwrap();
    assert!(writer.remove_key("empty").unwrap());
    writer.add_tensor("t", F32, &[1]).unwrap();
    let long = "x".repeat(64);
    for (name, ty, dims) in [
        ("t", F32, &[1][..]),
        ("", F32, &[1]),
        (&long, F32, &[1]),
        ("n\0", F32, &[1]),
        ("u", 4, &[32]),
        ("u", u32::MAX, &[32]),
        ("u", F32, &[]),
        ("u", F32, &[1, 1, 1, 1, 1]),
        ("u", F32, &[1, 0]),
        ("u", Q4_0, &[33]),
        ("u", F32, &[u64::MAX]),
        ("u", F32, &[1 << 40, 1 << 40]),
    ] {
        assert!(
            writer.add_tensor(name, ty, dims).is_err(),
            "{name} {ty} {dims:?}"
        );
    }
    assert_eq!(writer.n_tensors(), 1);
}

#[test]
fn a_tensor_of_the_wrong_size_is_an_error() {
    let mut writer = GgufWriter::new().unwrap();
    writer.add_tensor("t", F32, &[2]).unwrap();
    for n in [0, 7, 9] {
        let mut file = tempfile::tempfile().unwrap();
        let written = writer.write(&mut file, Path::new("t"), &mut |_, _, sink| {
            sink.put(&vec![0; n])
        });
        assert!(
            written.unwrap_err().to_string().contains("has 8 bytes"),
            "{n}"
        );
    }
}
