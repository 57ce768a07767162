//! Names of architectures, and the types of tensors that can be generated.

use std::fmt;
use std::str::FromStr;

use super::shapes::SynthArch;
use super::spec::refuse;
use crate::architecture::Architecture;
use crate::llama::quantize;
use crate::{ModelError, Result};

/// The type of the matrices. Norms, biases, rope factors and the experts' router stay f32, as
/// llama.cpp's quantizer leaves them; embedding and output head take this type too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SynthType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper halves of 32-bit floats.
    Bf16,
    /// 8.5 bits a weight, blocks of 32.
    Q8_0,
    /// 4.5 bits a weight, blocks of 32.
    Q4_0,
    /// 5 bits a weight, blocks of 32 with a minimum.
    Q4_1,
    /// 5.5 bits a weight, blocks of 32.
    Q5_0,
    /// 6 bits a weight, blocks of 32 with a minimum.
    Q5_1,
    /// 4.5 bits a weight, blocks of 256.
    Q4K,
    /// 5.5 bits a weight, blocks of 256.
    Q5K,
    /// 6.6 bits a weight, blocks of 256.
    Q6K,
    /// 4.5 bits a weight, blocks of 32, uneven steps.
    Iq4Nl,
    /// 4.25 bits a weight, blocks of 256, uneven steps.
    Iq4Xs,
    /// 4.25 bits a weight, blocks of 32, floats of 4 bits.
    Mxfp4,
    /// llama.cpp's mix for everyday use: `Q4_K`, and `Q6_K` where it matters most.
    Q4KM,
}

impl SynthArch {
    /// llama.cpp's name of it.
    pub const fn name(self) -> &'static str {
        self.shape().name
    }

    /// Whether the embedding is always, or never, the output head; none where it can be both.
    pub const fn tied(self) -> Option<bool> {
        self.shape().tied
    }

    /// Whether it is a mixture of experts.
    pub fn has_experts(self) -> bool {
        self.shape().has_experts()
    }

    /// Whether layers are recurrent.
    pub fn is_recurrent(self) -> bool {
        let arch = self.architecture();
        arch.is_some_and(|arch| arch.recurrent.is_some())
    }

    /// What is proven of it.
    pub fn architecture(self) -> Option<&'static Architecture> {
        Architecture::from_name(self.name())
    }
}

impl SynthType {
    /// Every type.
    pub const ALL: [Self; 15] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Mxfp4,
        Self::Q4KM,
    ];

    /// llama.cpp's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
            Self::Mxfp4 => "MXFP4",
            Self::Q4KM => "Q4_K_M",
        }
    }

    /// The `ggml_type` of most matrices.
    pub const fn ggml_type(self) -> u32 {
        match self {
            Self::F32 => quantize::F32,
            Self::F16 => quantize::F16,
            Self::Bf16 => quantize::BF16,
            Self::Q8_0 => quantize::Q8_0,
            Self::Q4_0 => quantize::Q4_0,
            Self::Q4_1 => quantize::Q4_1,
            Self::Q5_0 => quantize::Q5_0,
            Self::Q5_1 => quantize::Q5_1,
            Self::Q4K | Self::Q4KM => quantize::Q4_K,
            Self::Q5K => quantize::Q5_K,
            Self::Q6K => quantize::Q6_K,
            Self::Iq4Nl => quantize::IQ4_NL,
            Self::Iq4Xs => quantize::IQ4_XS,
            Self::Mxfp4 => quantize::MXFP4,
        }
    }

    /// The `ggml_type` of the matrix `name`, which belongs to layer `il` of `n_layer` where it
    /// belongs to one (`llama_tensor_get_type` of llama-quant.cpp).
    pub(super) fn of_matrix(self, name: &str, il: Option<u32>, n_layer: u32) -> u32 {
        let matters = match il {
            None => name == "output.weight",
            Some(il) => {
                let eighth = n_layer / 8;
                let is_chosen = il < eighth || il >= 7 * eighth || (il - eighth) % 3 == 2;
                is_chosen && (name.contains("attn_v") || name.contains("ffn_down"))
            }
        };
        match self == Self::Q4KM && matters {
            true => quantize::Q6_K,
            false => self.ggml_type(),
        }
    }

    /// Values in a block; rows are whole blocks.
    pub fn block(self) -> u32 {
        quantize::type_traits(self.ggml_type()).map_or(1, |traits| traits.block_values as u32)
    }
}

impl fmt::Display for SynthArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SynthArch {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self> {
        by_name("architecture", text, &Self::ALL, Self::name)
    }
}

impl fmt::Display for SynthType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SynthType {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self> {
        by_name("type", text, &Self::ALL, Self::name)
    }
}

fn by_name<T: Copy>(
    what: &str,
    text: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<T> {
    match all
        .iter()
        .find(|&&one| name(one).eq_ignore_ascii_case(text))
    {
        Some(&one) => Ok(one),
        None => {
            let known: Vec<_> = all.iter().map(|&one| name(one)).collect();
            refuse(format!(
                "unknown {what} `{text}`: take one of {}",
                known.join(", ")
            ))
        }
    }
}
