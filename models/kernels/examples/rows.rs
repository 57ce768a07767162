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
    GROUP, InstructionSet, Kernels, Shape, WeightMemory, WeightType, limits, pack, packed_bytes,
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
            read = read.min(seconds(|| {
                for matrix in &self.matrices {
                    black_box(limits::read(matrix.bytes()));
                }
            }));
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

/// Multiplications of `set` in a second, from registers, of integers or (for weights that are floats) of floats.
fn peak_gmacs(set: InstructionSet, t: WeightType) -> f64 {
    let are_floats = matches!(t, WeightType::F16 | WeightType::Bf16 | WeightType::F32);
    let mut macs = None;
    let seconds = seconds(|| macs = limits::multiply(set, are_floats));
    macs.map_or(f64::INFINITY, |macs| macs as f64 / seconds / 1e9)
}
