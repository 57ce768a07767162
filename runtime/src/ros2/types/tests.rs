//! Against golden data of real ROS 2 (`make ros2-golden`), random types and values, hostile bytes.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const TEST_MSGS: &str = include_str!("../golden/test_msgs.txt");
const HASHES: &str = include_str!("../golden/hashes.txt");
const MESSAGES: &str = include_str!("../golden/messages.jsonl");

fn all() -> Types {
    let mut types = Types::embedded().unwrap();
    types.add_all(TEST_MSGS).unwrap();
    types.check().unwrap();
    types
}

fn of(text: &str) -> Result<Types, TypeError> {
    let mut types = Types::embedded()?;
    types.add("t/msg/T", text)?;
    types.check()?;
    Ok(types)
}

#[test]
fn hashes_are_those_of_ros() {
    let types = all();
    let mut n = 0;
    for line in HASHES.lines() {
        let (name, hash) = line.split_once(' ').unwrap();
        assert_eq!(types.hash(name).unwrap(), hash, "{name}");
        n += 1;
    }
    assert!(n > 150, "{n} hashes");
}

#[test]
fn messages_of_rclpy_are_read_and_written() {
    let types = all();
    let mut n = 0;
    for line in MESSAGES.lines() {
        let golden: Value = serde_json::from_str(line).unwrap();
        let (name, hex) = (
            golden["type"].as_str().unwrap(),
            golden["cdr"].as_str().unwrap(),
        );
        let theirs: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
            .collect();
        let read = types.decode(name, &theirs).unwrap();
        let ours = types.encode(name, &golden["value"]).unwrap();
        // Fast CDR fills up to alignments with whatever was there, and leaves bytes behind the end: of
        // these two, reading is compared, and the length.
        assert_eq!(types.decode(name, &ours).unwrap(), read, "{line}");
        assert_eq!(types.encode(name, &read).unwrap(), ours, "{line}");
        assert!(theirs.len() >= ours.len(), "{line}");
        let without_dummy = |mut value: Value| {
            let fields = value.as_object_mut().unwrap();
            fields.remove(DUMMY_FIELD);
            value
        };
        if !line.contains("\"test_msgs/msg/") {
            assert_eq!(without_dummy(read), golden["value"], "{line}");
        }
        n += 1;
    }
    assert!(n > 450, "{n} messages");
}

#[test]
fn bytes_are_as_they_are_documented() {
    let types = of("bool b\nuint32 n 7\nstring<=3 s\nint16[] l\nfloat64 x").unwrap();
    let value = json!({ "b": true, "s": "aß", "l": [-2, 3], "x": "inf" });
    let expected = [
        vec![0, 1, 0, 0],                   // header
        vec![1, 0, 0, 0, 7, 0, 0, 0],       // b, alignment, n by default
        vec![4, 0, 0, 0],                   // bytes of s with its zero
        vec![b'a', 0xc3, 0x9f, 0],          // s
        vec![2, 0, 0, 0, 0xfe, 0xff, 3, 0], // l
        vec![0, 0, 0, 0],                   // alignment
        vec![0, 0, 0, 0, 0, 0, 0xf0, 0x7f], // x
    ]
    .concat();
    // 8 + 4 + 4 + 8 = 24 is a multiple of 8: no alignment is needed before x.
    let expected = [&expected[..28], &expected[32..]].concat();
    assert_eq!(types.encode("t/msg/T", &value).unwrap(), expected);
    let mut big = vec![0, 0, 0, 0, 1, 9, 9, 9, 0, 0, 0, 7, 0, 0, 0, 1, 0, 9, 9, 9];
    big.extend([0, 0, 0, 0, 9, 9, 9, 9, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 9]);
    let read = types.decode("t/msg/T", &big);
    // Big endian: b, n, an empty string, no elements, x; anything in gaps and behind the end.
    let expected = json!({ "b": true, "n": 7, "s": "", "l": [], "x": 1.0 });
    assert_eq!(read.unwrap(), expected);
}

#[test]
fn defaults_are_those_of_the_definition() {
    let types = all();
    let bytes = types.encode("test_msgs/msg/Defaults", &json!({})).unwrap();
    let read = types.decode("test_msgs/msg/Defaults", &bytes).unwrap();
    assert_eq!(read["int64_value"], -40_000_000);
    let bytes = types.encode("test_msgs/msg/Strings", &json!({})).unwrap();
    let read = types.decode("test_msgs/msg/Strings", &bytes).unwrap();
    assert_eq!(read["string_value_default4"], "Hello'world!");
    assert_eq!(read["string_value_default5"], "Hello\"world!");
}

#[test]
fn definitions_that_cannot_be_used_are_refused_in_one_line() {
    let many = (0..1001)
        .map(|i| format!("bool b{i}\n"))
        .collect::<String>();
    for (text, expected) in [
        ("Missing m", "t/msg/Missing, which t/msg/T names"),
        ("T t", "contains itself"),
        ("bool", "type name"),
        ("bool 1b", "begin with a name"),
        ("bool b\nbool b", "line 2: `b` is there twice"),
        ("bool[x] b", "number of elements"),
        ("bool<=3 b", "only strings"),
        ("a/b/c/d e", "no name of a message"),
        ("bool b maybe", "no value of bool"),
        ("../x y", "no name of a type"),
        ("bool b\n---\nbool c", "no `---`"),
        ("float64[4000000000] b", "bytes without a word"),
        (many.as_str(), "1000 members"),
    ] {
        let error = of(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    // Looked at from the outer end, and from the inner one.
    for inner in [|i: usize| i + 1, |i: usize| i - 1] {
        let mut chain = Types::embedded().unwrap();
        for i in 101..140 {
            let field = format!("M{} m", inner(i));
            chain.add(&format!("t/msg/M{i}"), &field).unwrap();
        }
        for end in ["t/msg/M100", "t/msg/M140"] {
            chain.add(end, "bool b").unwrap();
        }
        assert!(chain.check().unwrap_err().to_string().contains("within"));
    }
    // Sequences are empty, whatever is in them.
    let mut lists = Types::embedded().unwrap();
    lists.add("t/msg/M0", "float64[100] b").unwrap();
    for i in 1..30 {
        let inner = format!("M{0}[] a\nM{0}[] b", i - 1);
        lists.add(&format!("t/msg/M{i}"), &inner).unwrap();
    }
    lists.check().unwrap();
    // Arrays of arrays: small to write, too large to hold.
    let mut wide = Types::embedded().unwrap();
    wide.add("t/msg/A", "B[1000] b").unwrap();
    wide.add("t/msg/B", "C[1000] c").unwrap();
    wide.add("t/msg/C", "byte[1000] d").unwrap();
    assert!(wide.check().is_err());
}

#[test]
fn values_that_do_not_fit_are_named_by_their_path() {
    let types =
        of("uint8 n\nstring<=2 s\nbool[2] a\nstring[<=1] l\nfloat32 f\ngeometry_msgs/Pose p")
            .unwrap();
    for (value, expected) in [
        (json!([]), "the message: it is not an object"),
        (json!({ "m": 1 }), "no member `m`"),
        (
            json!({ "n": 256 }),
            "n: 256 is no whole number from 0 to 255",
        ),
        (json!({ "n": 1.5 }), "n: "),
        (json!({ "s": "abc" }), "s: it has 3 characters"),
        (json!({ "s": "a\u{0}" }), "zero byte"),
        (json!({ "a": [true] }), "a: it has 1 elements, not 2"),
        (json!({ "l": ["", ""] }), "l: it has 2 elements, at most 1"),
        (json!({ "l": 7 }), "l: it is not a list"),
        (json!({ "f": 1e300 }), "too large for a float32"),
        (
            json!({ "p": { "position": { "x": "far" } } }),
            "p.position.x: ",
        ),
    ] {
        let error = types.encode("t/msg/T", &value).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn hostile_lengths_end_the_reading() {
    let types = of("string s\nuint64[] l\nstd_msgs/String[<=2] m").unwrap();
    let read = |body: &[u8]| types.decode("t/msg/T", &[&[0, 1, 0, 0], body].concat());
    let most = [0xff; 4];
    assert!(matches!(read(&most), Err(TypeError::Short { .. })));
    let list = [[1, 0, 0, 0].as_slice(), &[0, 0, 0, 0], &most, &[0; 9]].concat();
    assert!(matches!(read(&list), Err(TypeError::Short { .. })));
    let bounded = [[1, 0, 0, 0].as_slice(), &[0; 8], &[3, 0, 0, 0], &[0; 40]].concat();
    assert!(matches!(read(&bounded), Err(TypeError::Value { .. })));
    let text = [[2, 0, 0, 0].as_slice(), &[0xff, 0], &[0; 60]].concat();
    assert!(read(&text).unwrap_err().to_string().contains("UTF-8"));
    for header in [&[][..], &[0, 1, 0], &[0, 2, 0, 0], &[1, 1, 0, 0, 0]] {
        assert_eq!(types.decode("t/msg/T", header), Err(TypeError::Header));
    }
}

/// A definition of a few members, each of any kind and shape.
fn definition() -> impl Strategy<Value = String> {
    let kind = proptest::sample::select(vec![
        "bool",
        "byte",
        "char",
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float32",
        "float64",
        "string",
        "string<=3",
        "geometry_msgs/Twist",
        "std_srvs/msg/Nothing",
    ]);
    let shape = proptest::sample::select(vec!["", "[2]", "[]", "[<=3]"]);
    proptest::collection::vec((kind, shape), 1..9).prop_map(|members| {
        let line = |(i, (kind, shape)): (usize, (&str, &str))| format!("{kind}{shape} f{i}\n");
        members.into_iter().enumerate().map(line).collect()
    })
}

/// A value of these types, chosen by bytes.
fn value(types: &Types, name: &str, bytes: &mut impl Iterator<Item = u8>) -> Value {
    let mut next = || bytes.next().unwrap_or(0);
    let mut message = serde_json::Map::new();
    let mut counts = Vec::new();
    for field in types.fields(name).unwrap() {
        counts.push(match field.shape {
            Shape::One => 1,
            Shape::Array(n) => n,
            Shape::Bounded(_) | Shape::Sequence => u32::from(next()) % 4,
        });
    }
    for (field, n) in types.fields(name).unwrap().iter().zip(counts) {
        let mut one = || match &field.kind {
            Kind::Message(inner) => value(types, inner, bytes),
            kind => {
                let next = bytes.next().unwrap_or(0);
                match kind {
                    Kind::Bool => (next > 127).into(),
                    Kind::Integer {
                        bytes,
                        is_signed: true,
                    } => {
                        let bits = u32::from(*bytes) * 8 - 1;
                        json!(if next.is_multiple_of(2) {
                            -(1_i128 << bits) as i64
                        } else {
                            i64::from(next / 2)
                        })
                    }
                    Kind::Integer { bytes: 8, .. } => json!(u64::MAX - u64::from(next)),
                    Kind::Integer { .. } | Kind::Byte => next.into(),
                    Kind::Float32 | Kind::Float64 => json!(f64::from(next) / 4.0 - 9.0),
                    _ => "aß\u{10ffff}"
                        .chars()
                        .take(usize::from(next) % 4)
                        .collect::<String>()
                        .into(),
                }
            }
        };
        let items: Vec<Value> = (0..n).map(|_| one()).collect();
        let said = match field.shape {
            Shape::One => items[0].clone(),
            _ => Value::Array(items),
        };
        message.insert(field.name.clone(), said);
    }
    Value::Object(message)
}

proptest! {
    #[test]
    fn random_messages_of_random_types_survive(text in definition(), bytes: Vec<u8>, cut: usize) {
        let mut types = Types::embedded().unwrap();
        types.add("std_srvs/msg/Nothing", "").unwrap();
        types.add("t/msg/T", &text).unwrap();
        types.check().unwrap();
        let said = value(&types, "t/msg/T", &mut bytes.into_iter());
        let written = types.encode("t/msg/T", &said).unwrap();
        prop_assert_eq!(&types.decode("t/msg/T", &written).unwrap(), &said);
        // What is behind the end is not read; what is cut is an error, or ends in an empty message.
        let longer = [written.as_slice(), &[0xee; 9]].concat();
        prop_assert_eq!(&types.decode("t/msg/T", &longer).unwrap(), &said);
        let cut = &written[..cut % written.len()];
        if let Ok(read) = types.decode("t/msg/T", cut) {
            prop_assert_ne!(read, said);
        }
    }

    #[test]
    fn no_bytes_break_the_reader(text in definition(), bytes: Vec<u8>) {
        let mut types = Types::embedded().unwrap();
        types.add("std_srvs/msg/Nothing", "").unwrap();
        types.add("t/msg/T", &text).unwrap();
        let _ = types.decode("t/msg/T", &[&[0, bytes.len() as u8 % 2, 0, 0], bytes.as_slice()].concat());
    }

    #[test]
    fn no_text_breaks_the_parser(text in "[a-z<>=\\[\\]\"'#/ 0-9_\n-]{0,80}") {
        let mut types = Types::embedded().unwrap();
        if types.add("t/msg/T", &text).is_ok() && types.check().is_ok() {
            let _ = types.hash("t/msg/T");
            let _ = Grammar::new(&types).message("t/msg/T", &[]);
            let _ = types.encode("t/msg/T", &json!({}));
        }
    }
}
