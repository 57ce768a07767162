//! GGUF files written byte by byte, and not with the code under test.

use crate::llama::quantize::{F16, F32, Q4_0};

/// `GGML_TYPE_I32`: known, and no type of weights.
pub(super) const I32: u32 = 26;

/// A metadata value for [`Header`].
#[derive(Clone)]
pub(crate) enum V {
    U32(u32),
    F32(f32),
    Str(&'static str),
    Strs(Vec<&'static str>),
    U32s(Vec<u32>),
    F32s(Vec<f32>),
    Raw(u32, Vec<u8>),
}

/// A GGUF file in the making.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) pairs: Vec<(&'static str, V)>,
    /// Name, type, dims, and the offset where it is not the right one.
    pub(crate) tensors: Vec<(&'static str, u32, Vec<u64>, Option<u64>)>,
    pub(crate) alignment: u64,
}

impl Default for Header {
    /// A tiny llama model of 2 layers, with one tensor each.
    fn default() -> Self {
        Header {
            version: 3,
            pairs: vec![
                ("general.architecture", V::Str("llama")),
                ("llama.block_count", V::U32(2)),
                ("llama.context_length", V::U32(128)),
                ("llama.embedding_length", V::U32(64)),
                ("llama.feed_forward_length", V::U32(96)),
                ("llama.attention.head_count", V::U32(4)),
                ("llama.attention.head_count_kv", V::U32s(vec![2, 2])),
                ("llama.attention.layer_norm_rms_epsilon", V::F32(1e-5)),
                ("tokenizer.ggml.model", V::Str("gpt2")),
                ("tokenizer.ggml.tokens", V::Strs(vec!["a", "b", "c", ""])),
            ],
            tensors: vec![
                ("token_embd.weight", F16, vec![64, 4], None),
                ("blk.0.attn_q.weight", Q4_0, vec![64, 64], None),
                ("blk.1.attn_q.weight", Q4_0, vec![64, 64], None),
                ("output_norm.weight", F32, vec![64], None),
            ],
            alignment: 32,
        }
    }
}

impl Header {
    pub(crate) fn set(mut self, key: &'static str, value: V) -> Self {
        self.pairs.retain(|(other, _)| *other != key);
        self.pairs.push((key, value));
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.pairs.retain(|(other, _)| *other != key);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            put_str(&mut out, key);
            put_value(&mut out, value);
        }
        let mut offset = 0;
        let mut data = 0;
        for (name, ty, dims, wrong) in &self.tensors {
            put_str(&mut out, name);
            out.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(ty.to_le_bytes());
            out.extend(wrong.unwrap_or(offset).to_le_bytes());
            let n: u64 = dims.iter().fold(1, |n, &dim| n.wrapping_mul(dim));
            let bytes = match *ty {
                F32 | I32 => n.wrapping_mul(4),
                F16 => n.wrapping_mul(2),
                Q4_0 => (n / 32).wrapping_mul(18),
                _ => 0,
            };
            data = offset.wrapping_add(bytes);
            offset = data.wrapping_add(self.alignment - 1) / self.alignment * self.alignment;
        }
        out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
        // Absurd sizes are the point of some tests; their data stays away.
        let data = if data < 1 << 24 { data as usize } else { 64 };
        out.extend((0..data).map(|i| i as u8));
        out
    }
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &V) {
    match value {
        V::U32(x) => {
            out.extend(4u32.to_le_bytes());
            out.extend(x.to_le_bytes());
        }
        V::F32(x) => {
            out.extend(6u32.to_le_bytes());
            out.extend(x.to_le_bytes());
        }
        V::Str(s) => {
            out.extend(8u32.to_le_bytes());
            put_str(out, s);
        }
        V::Strs(v) => {
            put_array(out, 8, v.len());
            v.iter().for_each(|s| put_str(out, s));
        }
        V::U32s(v) => {
            put_array(out, 4, v.len());
            v.iter().for_each(|x| out.extend(x.to_le_bytes()));
        }
        V::F32s(v) => {
            put_array(out, 6, v.len());
            v.iter().for_each(|x| out.extend(x.to_le_bytes()));
        }
        V::Raw(ty, bytes) => {
            out.extend(ty.to_le_bytes());
            out.extend(bytes);
        }
    }
}

fn put_array(out: &mut Vec<u8>, ty: u32, n: usize) {
    out.extend(9u32.to_le_bytes());
    out.extend(ty.to_le_bytes());
    out.extend((n as u64).to_le_bytes());
}
