//! The bytes of a GGUF header become metadata and a tensor index, or one line that says why not.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::cursor::{Cursor, Outcome};
use super::kind::other_format;
use super::metadata::{Array, Metadata, Value};
use super::parts::Part;
use super::tensor::TensorInfo;
use crate::llama::quantize::{removed_type, type_traits};

/// `GGUF_DEFAULT_ALIGNMENT`.
const DEFAULT_ALIGNMENT: u64 = 32;
/// The specification wants a multiple of 8; less would misalign the blocks that kernels read.
const MIN_ALIGNMENT: u64 = 8;
/// `GGML_MAX_NAME`, with the NUL.
const MAX_TENSOR_NAME: usize = 64;
/// `GGML_MAX_DIMS`.
const MAX_DIMS: u32 = 4;
/// A key-value pair has at least a length, one byte of key, a type and one byte of value.
const MIN_PAIR_BYTES: u64 = 8 + 1 + 4 + 1;
/// A tensor has at least a length, one byte of name, n_dims, one dim, a type and an offset.
const MIN_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;
/// Longest part of a hostile name that a message repeats.
const MAX_QUOTED: usize = 80;

/// What a header holds.
pub(super) struct Parsed {
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
    /// Which part of a model it is, if not all of it.
    pub(super) part: Option<Part>,
}

/// Reads and checks the header of the file whose bytes are `bytes`.
pub(super) fn header(path: &Path, bytes: &[u8]) -> Outcome<Parsed> {
    let mut cursor = Cursor::new(bytes);
    let magic: [u8; 4] = cursor.array("the magic")?;
    if &magic != b"GGUF" {
        if let Some(what) = other_format(bytes) {
            return Err(what.to_owned());
        }
        return Err(format!(
            "it starts with {:?} and not with \"GGUF\": convert the model to GGUF, or download it again",
            String::from_utf8_lossy(&magic)
        ));
    }
    match cursor.u32("the version")? {
        2 | 3 => {}
        1 => return Err("GGUF version 1 is no longer readable: convert the model again".into()),
        version if version & 0xffff == 0 => {
            return Err("it is big endian: convert the model for little-endian machines".into());
        }
        version => {
            return Err(format!(
                "GGUF version {version} is unknown: 2 and 3 are read"
            ));
        }
    }
    let n_tensors = cursor.u64("the tensor count")?;
    let n_pairs = cursor.count(MIN_PAIR_BYTES, "the key-value count")?;
    // Checked again after the pairs, when fewer bytes are left.
    cursor.fits(n_tensors, MIN_TENSOR_BYTES, "the tensor count")?;

    let values = pairs(&mut cursor, n_pairs)?;
    let metadata = Metadata::new(path.to_owned(), values);
    let part = Part::of(&metadata)?;
    let alignment = alignment(&metadata)?;

    let n_tensors = cursor.fits(n_tensors, MIN_TENSOR_BYTES, "the tensor count")?;
    let mut tensors = tensor_index(&mut cursor, n_tensors)?;
    place(
        &mut tensors,
        cursor.position(),
        bytes.len() as u64,
        alignment,
    )?;
    Ok(Parsed {
        metadata,
        tensors,
        part,
    })
}

fn pairs(cursor: &mut Cursor<'_>, n: usize) -> Outcome<BTreeMap<String, Value>> {
    let mut values = BTreeMap::new();
    for i in 0..n {
        let key = cursor.string("a key's length")?;
        let key = std::str::from_utf8(key)
            .map_err(|_| format!("key {i} is not UTF-8: the file is corrupt, download it again"))?;
        if key.is_empty() || key.contains('\0') {
            return Err(format!(
                "key {i} is empty or holds a NUL: the file is corrupt"
            ));
        }
        let value = value(cursor, key)?;
        if values.insert(key.to_owned(), value).is_some() {
            return Err(format!("the key `{}` is there twice", quoted(key)));
        }
    }
    Ok(values)
}

fn value(cursor: &mut Cursor<'_>, key: &str) -> Outcome<Value> {
    let what = "a value";
    Ok(match cursor.u32("a value's type")? {
        0 => Value::Uint(u8::from_le_bytes(cursor.array(what)?).into()),
        1 => Value::Int(i8::from_le_bytes(cursor.array(what)?).into()),
        2 => Value::Uint(u16::from_le_bytes(cursor.array(what)?).into()),
        3 => Value::Int(i16::from_le_bytes(cursor.array(what)?).into()),
        4 => Value::Uint(cursor.u32(what)?.into()),
        5 => Value::Int(i32::from_le_bytes(cursor.array(what)?).into()),
        6 => Value::Float(f32::from_le_bytes(cursor.array(what)?).into()),
        7 => Value::Bool(cursor.array::<1>(what)? != [0]),
        8 => Value::Str(String::from_utf8_lossy(cursor.string("a string's length")?).into_owned()),
        9 => Value::Array(array(cursor, key)?),
        10 => Value::Uint(cursor.u64(what)?),
        11 => Value::Int(i64::from_le_bytes(cursor.array(what)?)),
        12 => Value::Float(f64::from_le_bytes(cursor.array(what)?)),
        other => {
            return Err(format!(
                "`{}` has the unknown value type {other}",
                quoted(key)
            ));
        }
    })
}

fn array(cursor: &mut Cursor<'_>, key: &str) -> Outcome<Array> {
    /// The elements of an array of `$ty`, wrapped in `$kind`.
    macro_rules! elements {
        ($kind:ident, $ty:ty, $wide:ty) => {{
            const N: usize = size_of::<$ty>();
            let n = cursor.count(N as u64, "an array's length")?;
            let bytes = cursor.take((n * N) as u64, "an array")?;
            let (chunks, _) = bytes.as_chunks::<N>();
            Array::$kind(
                chunks
                    .iter()
                    .map(|&c| <$wide>::from(<$ty>::from_le_bytes(c)))
                    .collect(),
            )
        }};
    }
    Ok(match cursor.u32("an array's type")? {
        0 => elements!(Uint, u8, u64),
        1 => elements!(Int, i8, i64),
        2 => elements!(Uint, u16, u64),
        3 => elements!(Int, i16, i64),
        4 => elements!(Uint, u32, u64),
        5 => elements!(Int, i32, i64),
        6 => elements!(Float, f32, f64),
        7 => {
            let n = cursor.count(1, "an array's length")?;
            Array::Bool(
                cursor
                    .take(n as u64, "an array")?
                    .iter()
                    .map(|&b| b != 0)
                    .collect(),
            )
        }
        8 => Array::Str(strings(cursor, key)?),
        10 => elements!(Uint, u64, u64),
        11 => elements!(Int, i64, i64),
        12 => elements!(Float, f64, f64),
        other => {
            return Err(format!(
                "`{}` is an array of the unknown type {other}",
                quoted(key)
            ));
        }
    })
}

fn strings(cursor: &mut Cursor<'_>, key: &str) -> Outcome<Vec<String>> {
    let n = cursor.count(8, "an array's length")?;
    let mut strings = Vec::with_capacity(n);
    for _ in 0..n {
        strings.push(cursor.string("a string's length")?);
    }
    if key == "tokenizer.ggml.tokens" {
        refuse_equal_tokens(&strings)?;
    }
    let text = |bytes: &&[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(strings.iter().map(text).collect())
}

/// llama.cpp asserts that tokens differ, after it has cut them at a NUL and named the empty ones.
fn refuse_equal_tokens(tokens: &[&[u8]]) -> Outcome<()> {
    let mut seen = HashSet::with_capacity(tokens.len());
    for (i, token) in tokens.iter().enumerate() {
        let text = token.split(|&b| b == 0).next().unwrap_or_default();
        let fresh = if text.is_empty() {
            seen.insert(Cow::Owned(format!("[EMPTY_{i}]").into_bytes()))
        } else {
            seen.insert(Cow::Borrowed(text))
        };
        if !fresh {
            return Err(format!(
                "token {i} of the vocabulary is there twice: convert the model again"
            ));
        }
    }
    Ok(())
}

fn alignment(metadata: &Metadata) -> Outcome<u64> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::Uint(n))
            if n.is_power_of_two() && (MIN_ALIGNMENT..=u64::from(u32::MAX)).contains(&n) =>
        {
            Ok(n)
        }
        Some(_) => Err("`general.alignment` must be a power of two of at least 8".into()),
    }
}

/// The entries with their offsets still counted from the start of the data.
fn tensor_index(cursor: &mut Cursor<'_>, n: usize) -> Outcome<Vec<TensorInfo>> {
    let mut tensors = Vec::with_capacity(n);
    let mut names = HashSet::with_capacity(n);
    for i in 0..n {
        let name = cursor.string("a tensor name's length")?;
        let name = std::str::from_utf8(name)
            .ok()
            .filter(|name| !name.is_empty() && name.len() < MAX_TENSOR_NAME && !name.contains('\0'))
            .ok_or_else(|| format!("the name of tensor {i} is not 1 to 63 bytes of UTF-8"))?;
        if !names.insert(name) {
            return Err(format!("the tensor `{name}` is there twice"));
        }
        let n_dims = cursor.u32("a tensor's dims")?;
        if n_dims == 0 || n_dims > MAX_DIMS {
            return Err(format!(
                "the tensor `{name}` has {n_dims} dims: 1 to 4 are possible"
            ));
        }
        let mut dims = Vec::with_capacity(n_dims as usize);
        for _ in 0..n_dims {
            dims.push(cursor.u64("a tensor's dim")?);
        }
        let ggml_type = cursor.u32("a tensor's type")?;
        let n_bytes = tensor_bytes(name, ggml_type, &dims)?;
        let offset = cursor.u64("a tensor's offset")?;
        tensors.push(TensorInfo {
            name: name.to_owned(),
            dims,
            ggml_type,
            offset,
            n_bytes,
            part: 0,
        });
    }
    Ok(tensors)
}

fn tensor_bytes(name: &str, ggml_type: u32, dims: &[u64]) -> Outcome<u64> {
    let Some(traits) = type_traits(ggml_type) else {
        return Err(match removed_type(ggml_type) {
            Some((removed, instead)) => format!(
                "the tensor `{name}` is of the type {removed}, which llama.cpp has removed: {instead}"
            ),
            None => format!(
                "the tensor `{name}` has the unknown type {ggml_type}: the file is corrupt, or newer \
                 than this program"
            ),
        });
    };
    let n_values = dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
    // ggml counts in i64.
    let Some(n_values) = n_values.filter(|&n| n > 0 && i64::try_from(n).is_ok()) else {
        return Err(format!(
            "the tensor `{name}` has the impossible shape {dims:?}"
        ));
    };
    let block = traits.block_values as u64;
    if !dims[0].is_multiple_of(block) {
        return Err(format!(
            "the tensor `{name}` has rows of {} values, not whole {} blocks of {block}",
            dims[0], traits.name
        ));
    }
    (n_values / block)
        .checked_mul(traits.block_bytes as u64)
        .filter(|&n| i64::try_from(n).is_ok())
        .ok_or_else(|| format!("the tensor `{name}` has the impossible shape {dims:?}"))
}

/// Turns offsets into positions in the file and checks that each tensor starts where the one
/// before it ends (as ggml wants) and lies in the file.
fn place(
    tensors: &mut [TensorInfo],
    header_end: u64,
    file_bytes: u64,
    alignment: u64,
) -> Outcome<()> {
    let overflow = || "the tensors' sizes overflow: the file is corrupt".to_owned();
    let data_start = header_end
        .checked_next_multiple_of(alignment)
        .ok_or_else(overflow)?;
    let mut expected = 0u64;
    for tensor in tensors {
        if tensor.offset != expected {
            return Err(format!(
                "the tensor `{}` has offset {}, expected {expected}: the file is corrupt, download it again",
                tensor.name, tensor.offset
            ));
        }
        let start = data_start.checked_add(expected).ok_or_else(overflow)?;
        let end = start.checked_add(tensor.n_bytes).ok_or_else(overflow)?;
        if end > file_bytes {
            return Err(format!(
                "truncated: the tensor `{}` ends at byte {end}, the file has {file_bytes}: download it again",
                tensor.name
            ));
        }
        tensor.offset = start;
        expected = expected
            .checked_add(tensor.n_bytes)
            .and_then(|n| n.checked_next_multiple_of(alignment))
            .ok_or_else(overflow)?;
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_control())
        .take(MAX_QUOTED)
        .collect()
}
