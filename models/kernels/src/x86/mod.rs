//! The kernels of x86-64: one generic tile ([`tile`]) over vectors of 8 or 16 lanes ([`simd`]).

mod quantize;
pub(crate) mod simd;
mod tile;

use crate::kernels::{Quantizer, Tile, TileKernel};
use crate::panels::MAX_TILE;
use crate::{InstructionSet, WeightType};
use simd::{Avx2, Avx512Vnni, AvxVnni};

/// Most rows of a tile: as many as leave the registers free for sums.
pub(crate) fn max_tile(set: InstructionSet) -> usize {
    match set {
        InstructionSet::Avx2 => 4,
        InstructionSet::AvxVnni => 6,
        _ => MAX_TILE,
    }
}

/// How rows are quantized, or `None` where a set is none of these.
pub(crate) fn quantizer(set: InstructionSet) -> Option<Quantizer> {
    use InstructionSet as I;
    matches!(set, I::Avx2 | I::AvxVnni | I::Avx512Vnni).then_some(quantize::row as Quantizer)
}

/// The tile of `m` rows, or `None` where a set is none of these.
pub(crate) fn tile(set: InstructionSet, weights: WeightType, m: usize) -> Option<TileKernel> {
    let table = match set {
        InstructionSet::Avx2 => &AVX2,
        InstructionSet::AvxVnni => &AVX_VNNI,
        InstructionSet::Avx512Vnni => &AVX512_VNNI,
        _ => return None,
    };
    Some(table[weights as usize][m - 1])
}

/// Tiles of each type and number of rows.
type Table = [[TileKernel; MAX_TILE]; WeightType::ALL.len()];

macro_rules! tiles {
    ($table:ident, $kernel:ident, $simd:ty, $parts:literal, $features:literal, $rows:tt) => {
        /// # Safety
        /// As [`Tile`] says, and the processor has the features.
        #[target_feature(enable = $features)]
        unsafe fn $kernel<const T: usize, const M: usize>(tile: &Tile<'_>) {
            // SAFETY: the caller's contract; these are the features that the vectors need.
            unsafe { tile::tile::<$simd, T, M, $parts>(tile) }
        }
        static $table: Table = tiles!(@ $kernel, $rows, 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
    };
    (@ $kernel:ident, $rows:tt, $($t:literal)*) => { [$(tiles!(@@ $kernel, $t, $rows)),*] };
    (@@ $kernel:ident, $t:literal, [$($m:literal)*]) => { [$($kernel::<$t, $m>),*] };
}

tiles!(AVX2, avx2, Avx2, 2, "avx2,fma,f16c", [1 2 3 4 4 4 4 4]);
tiles!(AVX_VNNI, avx_vnni, AvxVnni, 2, "avx2,fma,f16c,avxvnni", [1 2 3 4 5 6 6 6]);
tiles!(AVX512_VNNI, avx512_vnni, Avx512Vnni, 1,
    "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni", [1 2 3 4 5 6 7 8]);
