//! The kernels of aarch64: one generic tile ([`tile`]), with `sdot` or with `smmla` ([`neon`]).

pub(crate) mod neon;
mod quantize;
mod tile;

use crate::kernels::{Quantizer, Tile, TileKernel};
use crate::panels::MAX_TILE;
use crate::{InstructionSet, WeightType};

/// Most rows of a tile: `sdot` takes a row at a time, and four rows leave their sums in registers.
/// `smmla` takes two, and weights have to be put in order for it, which pays over more rows.
pub(crate) fn max_tile(set: InstructionSet) -> usize {
    if set == InstructionSet::NeonI8mm {
        MAX_TILE
    } else {
        4
    }
}

/// How rows are quantized, or `None` where a set is none of these.
pub(crate) fn quantizer(set: InstructionSet) -> Option<Quantizer> {
    match set {
        InstructionSet::NeonDotprod => Some(quantize::row::<false>),
        InstructionSet::NeonI8mm => Some(quantize::row::<true>),
        _ => None,
    }
}

/// The tile of `m` rows, or `None` where a set is none of these.
pub(crate) fn tile(set: InstructionSet, weights: WeightType, m: usize) -> Option<TileKernel> {
    let table = match set {
        InstructionSet::NeonDotprod => &DOTPROD,
        InstructionSet::NeonI8mm => &I8MM,
        _ => return None,
    };
    Some(table[weights as usize][m - 1])
}

/// Tiles of each type and of 1 to 8 rows.
type Table = [[TileKernel; MAX_TILE]; WeightType::ALL.len()];

macro_rules! tiles {
    ($table:ident, $kernel:ident, $pairs:expr, $features:literal, [$($t:literal)*], $rows:tt) => {
        /// # Safety
        /// As [`Tile`] says, and the processor has the features.
        #[target_feature(enable = $features)]
        unsafe fn $kernel<const T: usize, const M: usize>(tile: &Tile<'_>) {
            // SAFETY: the caller's contract; these are the features that the tile needs.
            unsafe { tile::tile::<$pairs, T, M>(tile) }
        }
        static $table: Table = [$(tiles!(@ $kernel, $t, $rows)),*];
    };
    (@ $kernel:ident, $t:literal, [$($m:literal)*]) => { [$($kernel::<$t, $m>),*] };
}

tiles!(DOTPROD, dotprod, false, "neon,dotprod", [0 1 2 3 4 5 6 7 8 9 10 11 12 13], [1 2 3 4 4 4 4 4]);
tiles!(I8MM, i8mm, true, "neon,dotprod,i8mm", [0 1 2 3 4 5 6 7 8 9 10 11 12 13], [1 2 3 4 5 6 7 8]);
