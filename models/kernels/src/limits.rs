//! What the processor can do at best: how fast it reads memory, and how fast it multiplies.
//!
//! A product with quantized weights cannot be faster than both: each weight is read once for a step,
//! and multiplied once for each row.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use crate::prefetch::prefetch;
use crate::{InstructionSet, OutOfMemory, WeightMemory};

/// Bytes that each thread reads: far more than its caches hold.
const READ_BYTES: usize = 128 << 20;
/// Bytes between the reading and what is fetched ahead of it.
const AHEAD_BYTES: usize = 8 << 10;
/// How often each is measured; the best counts.
const REPEATS: usize = 5;
/// Rounds of multiplications: about 10 ms.
#[cfg(target_arch = "x86_64")]
const ROUNDS: usize = 1 << 20;

/// Bytes a second that `n_threads` threads read together, from memory like that of weights.
///
/// # Errors
/// When there is no memory for it.
pub fn read_bytes_per_s(n_threads: usize) -> Result<f64, OutOfMemory> {
    let mut memories = (0..n_threads.max(1))
        .map(|_| WeightMemory::new(READ_BYTES))
        .collect::<Result<Vec<_>, _>>()?;
    for memory in &mut memories {
        memory.bytes_mut().fill(1);
    }
    let best = fastest(|| {
        at_once(&memories, |memory| {
            black_box(read(memory.bytes()));
        })
    });
    Ok((READ_BYTES * memories.len()) as f64 / best)
}

/// Multiplications of 8-bit integers, each with an addition, that `n_threads` threads of `set` do
/// together in a second; none for sets without such instructions here.
pub fn macs_per_s(set: InstructionSet, n_threads: usize) -> Option<f64> {
    let n_macs = multiply(set, false)?;
    let threads = vec![(); n_threads.max(1)];
    let best = fastest(|| {
        at_once(&threads, |()| {
            black_box(multiply(set, false));
        })
    });
    Some((n_macs * threads.len()) as f64 / best)
}

/// Does independent multiplications of `set`, of 8-bit integers or of f32, for about 10 ms, and says how many;
/// none for sets without such instructions here.
pub fn multiply(set: InstructionSet, are_floats: bool) -> Option<usize> {
    if !set.is_available() {
        return None;
    }
    match (set, are_floats) {
        // SAFETY: the processor has the set, as was asked.
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::Avx512Vnni, false) => Some(unsafe { x86::vnni_512() }),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::AvxVnni, false) => Some(unsafe { x86::vnni_256() }),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::Avx2, false) => Some(unsafe { x86::maddubs() }),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::Avx512Vnni, true) => Some(unsafe { x86::fma_512() }),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (InstructionSet::AvxVnni | InstructionSet::Avx2, true) => Some(unsafe { x86::fma_256() }),
        _ => None,
    }
}

/// Seconds of the fastest of several calls.
fn fastest(mut work: impl FnMut()) -> f64 {
    let once = |_| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(once).fold(f64::INFINITY, f64::min)
}

/// Does `work` for each item on a thread of its own; without a second thread where there is one item.
fn at_once<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    if let [one] = items {
        return work(one);
    }
    thread::scope(|scope| {
        for item in items {
            scope.spawn(|| work(item));
        }
    });
}

/// The sum of all bytes, in words: what takes no longer than memory does.
pub fn read(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    let (lines, _) = words.as_chunks::<8>();
    let mut sums = [0u64; 8];
    for line in lines {
        prefetch(line.as_ptr().cast::<u8>().wrapping_add(AHEAD_BYTES), true);
        for (sum, word) in sums.iter_mut().zip(line) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

#[cfg(target_arch = "x86_64")]
/// A loop of independent multiplications, enough to fill the pipes; gives how many there were.
macro_rules! multiply {
    ($name:ident, $features:literal, $zero:expr, $lanes:literal, $step:expr) => {
        /// # Safety
        /// The processor has the features.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name() -> usize {
            let step = $step;
            let mut sums = [black_box($zero); 12];
            let factor = black_box($zero);
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = step(*sum, factor);
                }
            }
            black_box(sums);
            ROUNDS * sums.len() * $lanes
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ROUNDS, black_box};
    use std::arch::x86_64::*;

    multiply!(
        vnni_512,
        "avx512f,avx512bw,avx512vl,avx512vnni",
        _mm512_setzero_si512(),
        64,
        |sum, factor| _mm512_dpbusd_epi32(sum, factor, factor)
    );
    multiply!(
        vnni_256,
        "avx2,avxvnni",
        _mm256_setzero_si256(),
        32,
        |sum, factor| _mm256_dpbusd_avx_epi32(sum, factor, factor)
    );
    multiply!(
        maddubs,
        "avx2",
        _mm256_setzero_si256(),
        32,
        |sum, factor| _mm256_add_epi16(sum, _mm256_maddubs_epi16(factor, sum))
    );
    multiply!(
        fma_512,
        "avx512f",
        _mm512_setzero_ps(),
        16,
        |sum, factor| _mm512_fmadd_ps(factor, factor, sum)
    );
    multiply!(
        fma_256,
        "avx2,fma",
        _mm256_setzero_ps(),
        8,
        |sum, factor| _mm256_fmadd_ps(factor, factor, sum)
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn limits_are_positive_numbers() {
        assert!(read_bytes_per_s(2).unwrap() > 0.0);
        for set in InstructionSet::available() {
            assert!(macs_per_s(set, 1).is_none_or(|rate| rate > 0.0));
        }
    }
}
