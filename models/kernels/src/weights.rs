//! Types of weights, and their blocks in a GGUF file (ggml-common.h).

/// A type of weights that the kernels know. A row of a matrix is a whole number of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightType {
    /// 32 values: f16 scale, 4-bit values less 8.
    Q4_0,
    /// 32 values: f16 scale, f16 minimum, 4-bit values.
    Q4_1,
    /// 32 values: f16 scale, a plane of fifth bits, 4-bit values; less 16.
    Q5_0,
    /// 32 values: f16 scale, f16 minimum, a plane of fifth bits, 4-bit values.
    Q5_1,
    /// 32 values: f16 scale, signed bytes.
    Q8_0,
    /// 256 values: f16 scale and minimum, 8 pairs of 6-bit scales and minima, 4-bit values.
    Q4K,
    /// The same with a plane of fifth bits.
    Q5K,
    /// 256 values: 4-bit values, 2-bit tops, 16 signed bytes of scales, f16 scale; less 32.
    Q6K,
    /// 32 values: f16 scale, 4-bit indices of a table of 16 signed bytes.
    Iq4Nl,
    /// 256 values: f16 scale, eight 6-bit scales less 32, 4-bit indices of the same table.
    Iq4Xs,
    /// 32 values: scale 2^(e - 128), 4-bit indices of a table of doubled E2M1 values.
    Mxfp4,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// IEEE single precision.
    F32,
}

impl WeightType {
    /// All types.
    pub const ALL: [Self; 14] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Mxfp4,
        Self::F16,
        Self::Bf16,
        Self::F32,
    ];

    /// The type with this number in a file (`enum ggml_type`).
    pub fn from_ggml(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.ggml_type() == number)
    }

    /// Its number in a file (`enum ggml_type`).
    pub fn ggml_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Iq4Nl => 20,
            Self::Iq4Xs => 23,
            Self::Bf16 => 30,
            Self::Mxfp4 => 39,
        }
    }

    /// Its name, as llama.cpp writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
            Self::Bf16 => "BF16",
            Self::Mxfp4 => "MXFP4",
        }
    }

    /// Values of a block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs => 256,
            _ => 32,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 | Self::Iq4Nl => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::Iq4Xs => 136,
            Self::Mxfp4 => 17,
        }
    }

    /// Bytes of a row of `n_cols` values in a file, or `None` where it is no whole number of blocks.
    pub fn row_bytes(self, n_cols: usize) -> Option<usize> {
        n_cols
            .is_multiple_of(self.block_len())
            .then(|| n_cols / self.block_len() * self.block_bytes())
    }
}
