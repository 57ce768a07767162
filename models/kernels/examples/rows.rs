//! What steps of few rows cost:
//! `cargo run --release -p jupiter-kernels --example rows -- [types] [sets] [rows] [MiB]`, the first three lists
//! with commas, or `all`.
//!
//! For each type and instruction set, products with matrices of 256 MiB together, or as many as the last argument
//! says: a large last-level cache may serve 100 MiB twice as fast as memory. Limits are measured in the
//! same run, interleaved: reading the packed weights once, and the peak of the instruction that multiplies
//! (`vpdpbusd`, `vpmaddubsw`, fma for floats) with nothing else. `share` is the larger of both limits over
//! the time taken.

use jupiter_kernels::{
    GROUP, InstructionSet, Kernels, Shape, WeightMemory, WeightType, pack, packed_bytes,
    panel_bytes,
};
use std::hint::black_box;
use std::time::Instant;

/// An FFN's matrix, some of which are passed over in turn.
const SHAPE: Shape = Shape {
    n_rows: 5120,
    n_cols: 1536,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let list = |i: usize| arguments.get(i).map_or("all", String::as_str);
    let picked = |list: &str, name: &str| {
        list == "all" || list.split(',').any(|part| part.eq_ignore_ascii_case(name))
    };
    let rows: Vec<usize> = match list(2) {
        "all" => vec![1, 2, 3, 4, 6, 8, 16, 64, 512],
        some => some.split(',').filter_map(|n| n.parse().ok()).collect(),
    };
    let bytes = arguments
        .get(3)
        .map_or(256, |mib| mib.parse().expect("MiB"))
        << 20;
    println!(
        "type    set            pack GB/s   rows       ms   ms/row    GB/s  GMAC/s  read GB/s  peak GMAC/s  share"
    );
    for t in WeightType::ALL
        .into_iter()
        .filter(|t| picked(list(0), t.name()))
    {
        let sets: Vec<Kernels> = InstructionSet::available()
            .filter(|set| *set != InstructionSet::Scalar && picked(list(1), set.name()))
            .filter_map(Kernels::with)
            .collect();
        let weights = Weights::new(t, bytes);
        for &n in &rows {
            weights.compare(&sets, n);
        }
    }
}

struct Weights {
    t: WeightType,
    matrices: Vec<WeightMemory>,
    pack_gbps: f64,
}

impl Weights {
    fn new(t: WeightType, at_least: usize) -> Self {
        let mut random = 88172645463325252u64;
        let source: Vec<u8> = (0..SHAPE.n_rows * t.row_bytes(SHAPE.n_cols).expect("whole blocks"))
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // As halves of an f16, bf16 or f32 these are neither subnormal nor infinite.
                (random >> 32) as u8 & 0x3f | 0x08
            })
            .collect();
        let bytes = packed_bytes(t, SHAPE).expect("a shape that is taken");
        let mut pack_gbps = 0f64;
        let matrices = (0..at_least.div_ceil(bytes))
            .map(|_| {
                let mut memory = WeightMemory::new(bytes).expect("memory");
                // SAFETY: the memory is ours, and as large.
                let packed = unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr(), bytes) };
                packed.fill(1);
                let start = Instant::now();
                pack(t, SHAPE, &source, packed);
                pack_gbps =
                    pack_gbps.max(source.len() as f64 / start.elapsed().as_secs_f64() / 1e9);
                memory
            })
            .collect();
        Self {
            t,
            matrices,
            pack_gbps,
        }
    }

    /// Steps of `n` rows by each set in turn, and the limits between them.
    fn compare(&self, sets: &[Kernels], n: usize) {
        let macs = (SHAPE.n_rows * SHAPE.n_cols * n * self.matrices.len()) as f64;
        let bytes: usize = self.matrices.iter().map(WeightMemory::len).sum();
        let x: Vec<f32> = (0..n * SHAPE.n_cols)
            .map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0)
            .collect();
        let mut panels = WeightMemory::new(panel_bytes(self.t, SHAPE.n_cols, n)).expect("memory");
        let mut out = vec![0f32; n * SHAPE.n_rows];
        let (mut best, mut read, mut peak) =
            (vec![f64::MAX; sets.len()], f64::MAX, vec![0f64; sets.len()]);
        for _ in 0..if n >= 64 { 3 } else { 10 } {
            read = read.min(seconds(|| self.matrices.iter().for_each(read_all)));
            for (i, &kernels) in sets.iter().enumerate() {
                peak[i] = peak[i].max(peak_gmacs(kernels.instruction_set(), self.t));
                best[i] = best[i].min(seconds(|| self.step(kernels, &x, n, &mut panels, &mut out)));
            }
        }
        for (i, kernels) in sets.iter().enumerate() {
            let limit = read.max(macs / peak[i] / 1e9);
            println!(
                "{:7} {:14} {:9.2} {:6} {:8.2} {:8.3} {:7.1} {:7.0} {:10.1} {:12.0} {:6.2}",
                self.t.name(),
                kernels.instruction_set().name(),
                self.pack_gbps,
                n,
                best[i] * 1e3,
                best[i] * 1e3 / n as f64,
                bytes as f64 / best[i] / 1e9,
                macs / best[i] / 1e9,
                bytes as f64 / read / 1e9,
                peak[i],
                limit / best[i]
            );
        }
    }

    fn step(
        &self,
        kernels: Kernels,
        x: &[f32],
        n: usize,
        panels: &mut WeightMemory,
        out: &mut [f32],
    ) {
        let start = out.as_mut_ptr();
        for matrix in &self.matrices {
            // SAFETY: panels and outputs are as large as n rows need, and there is one thread.
            unsafe {
                for (i, row) in x.chunks_exact(SHAPE.n_cols).enumerate() {
                    kernels.quantize_row(self.t, row, i, n, panels.as_mut_ptr());
                }
                let groups = 0..SHAPE.n_rows / GROUP;
                kernels.matmul(
                    self.t,
                    SHAPE,
                    matrix.as_ptr(),
                    groups,
                    panels.as_ptr(),
                    n,
                    &|r| start.wrapping_add(r * SHAPE.n_rows),
                );
            }
        }
        black_box(out);
    }
}

fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

#[cfg(not(target_arch = "x86_64"))]
fn read_all(memory: &WeightMemory) {
    // SAFETY: the memory's own bytes.
    let bytes =
        unsafe { std::slice::from_raw_parts(memory.as_ptr().cast::<u64>(), memory.len() / 8) };
    black_box(bytes.iter().fold(0, |sum, word| sum ^ word));
}

#[cfg(not(target_arch = "x86_64"))]
fn peak_gmacs(_: InstructionSet, _: WeightType) -> f64 {
    f64::INFINITY
}

#[cfg(target_arch = "x86_64")]
use x86::{peak_gmacs, read_all};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use std::arch::x86_64::*;

    /// Reads everything, 8 KiB ahead, with the widest loads that there are.
    pub(super) fn read_all(memory: &WeightMemory) {
        if InstructionSet::Avx512Vnni.is_available() {
            // SAFETY: the processor has the features; the memory is a multiple of 64 bytes.
            black_box(unsafe { read_512(memory.as_ptr(), memory.len()) });
        } else if InstructionSet::Avx2.is_available() {
            // SAFETY: as above.
            black_box(unsafe { read_256(memory.as_ptr(), memory.len()) });
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn read_512(start: *const u8, bytes: usize) -> i32 {
        let mut sums = [_mm512_setzero_si512(); 4];
        for i in (0..bytes / 256).map(|i| i * 256) {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: within the memory, or a hint.
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(i + j * 64 + 8192).cast());
                    *sum = _mm512_xor_si512(*sum, _mm512_loadu_si512(start.add(i + j * 64).cast()));
                }
            }
        }
        sums.into_iter()
            .map(|sum| _mm512_reduce_add_epi32(sum))
            .fold(0, i32::wrapping_add)
    }

    #[target_feature(enable = "avx2")]
    unsafe fn read_256(start: *const u8, bytes: usize) -> i32 {
        let mut sums = [_mm256_setzero_si256(); 8];
        for i in (0..bytes / 256).map(|i| i * 256) {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: within the memory, or a hint.
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(i + j * 32 + 8192).cast());
                    *sum = _mm256_xor_si256(*sum, _mm256_loadu_si256(start.add(i + j * 32).cast()));
                }
            }
        }
        sums.into_iter()
            .fold(0, |all, sum| all ^ _mm256_extract_epi32::<0>(sum))
    }

    /// The peak of the multiplying instruction from registers.
    pub(super) fn peak_gmacs(set: InstructionSet, t: WeightType) -> f64 {
        let float = matches!(t, WeightType::F16 | WeightType::Bf16 | WeightType::F32);
        let (run, lanes): (unsafe fn(usize) -> i32, usize) = match (set, float) {
            (InstructionSet::Avx512Vnni, false) => (dot_512, 64),
            (InstructionSet::Avx512Vnni, true) => (fma_512, 16),
            (InstructionSet::AvxVnni, false) => (dot_256, 32),
            (_, false) => (maddubs_256, 32),
            (_, true) => (fma_256, 8),
        };
        let times = 20_000;
        // SAFETY: only sets that the processor has are measured.
        let seconds = seconds(|| _ = black_box(unsafe { run(black_box(times)) }));
        (times * 12 * lanes) as f64 / seconds / 1e9
    }

    macro_rules! peak {
        ($name:ident, $features:literal, $zero:expr, |$sum:ident, $w:ident| $op:expr, $end:expr) => {
            #[target_feature(enable = $features)]
            unsafe fn $name(times: usize) -> i32 {
                let mut sums = [$zero; 12];
                for _ in 0..times {
                    let $w = black_box($zero);
                    for sum in &mut sums {
                        let $sum = *sum;
                        *sum = $op;
                    }
                }
                sums.into_iter().map($end).fold(0, i32::wrapping_add)
            }
        };
    }
    peak!(
        dot_512,
        "avx512f,avx512vnni",
        _mm512_setzero_si512(),
        |s, w| _mm512_dpbusd_epi32(s, w, w),
        |s| { _mm512_reduce_add_epi32(s) }
    );
    peak!(
        dot_256,
        "avx2,avxvnni",
        _mm256_setzero_si256(),
        |s, w| _mm256_dpbusd_avx_epi32(s, w, w),
        |s| { _mm256_extract_epi32::<0>(s) }
    );
    peak!(
        maddubs_256,
        "avx2",
        _mm256_setzero_si256(),
        |s, w| _mm256_add_epi16(s, _mm256_maddubs_epi16(w, s)),
        |s| _mm256_extract_epi32::<0>(s)
    );
    peak!(
        fma_512,
        "avx512f",
        _mm512_setzero_ps(),
        |s, w| _mm512_fmadd_ps(w, w, s),
        |s| { _mm512_reduce_add_ps(s) as i32 }
    );
    peak!(
        fma_256,
        "avx2,fma",
        _mm256_setzero_ps(),
        |s, w| _mm256_fmadd_ps(w, w, s),
        |s| { _mm256_cvtss_f32(s) as i32 }
    );
}
