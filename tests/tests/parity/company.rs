//! The bits of a row depend on its sequence alone: not on what shares its step, where its cells lie,
//! how its prompt was cut, or how many threads compute.
//!
//! That is what our kernels are made for, so it holds where these compute.

use jupiter_models::engine::EngineParams;
use jupiter_models::kernels::{self, KernelChoice};
use jupiter_models::synth::{SynthArch, SynthType};
use jupiter_models::{KvOp, Row, SequenceId, Token};

use crate::kit::{Model, Pipeline, params, prompt, rows};

const N_VOCAB: u32 = 320;
const N_TEXT: usize = 70;
/// Types that people use, and the one without rounding.
const TYPES: [SynthType; 4] = [
    SynthType::Q4_0,
    SynthType::Q8_0,
    SynthType::Q4KM,
    SynthType::F32,
];

/// The bits of the logits after each token of a text.
type Bits = Vec<Vec<u32>>;

/// A whole model with a text in sequence 0.
struct Reader {
    pipeline: Pipeline,
    text: Vec<Token>,
    bits: Bits,
}

impl Reader {
    fn new(model: &Model, params: &EngineParams) -> Self {
        Self {
            pipeline: model.reference(params),
            text: prompt(N_TEXT, N_VOCAB),
            bits: Vec::new(),
        }
    }

    /// The next `n` rows of the text.
    fn next(&self, n: usize) -> Vec<Row> {
        let first = self.bits.len();
        let end = self.text.len().min(first + n);
        rows(&[0], first as u32, &self.text[first..end], true)
    }

    /// Computes `step`, and keeps the bits of the text's rows, which come where `text_at` says.
    fn step(&mut self, step: &[Row], text_at: std::ops::Range<usize>) {
        let logits = self.pipeline.step(step);
        let bits = |i: usize| logits.row(i).iter().map(|x| x.to_bits()).collect();
        self.bits.extend(text_at.map(bits));
    }

    /// Reads on to the end, `n` rows a step.
    fn read(mut self, n: usize) -> Bits {
        while self.bits.len() < self.text.len() {
            let step = self.next(n);
            self.step(&step, 0..step.len());
        }
        self.bits
    }
}

fn assert_same(got: &Bits, expected: &Bits, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    if let Some(pos) = (0..got.len()).find(|&pos| got[pos] != expected[pos]) {
        panic!("{what}: the logits after token {pos} have other bits");
    }
}

/// Each way of reading gives the bits of reading one token a step.
fn assert_alike(arch: SynthArch, ty: SynthType, n_threads: u32) {
    let model = Model::of_any_type(arch, ty, N_VOCAB);
    let what = |how: &str| format!("{arch} {ty}, {n_threads} threads, {how}");
    let one = EngineParams {
        n_ctx: 512,
        ..params()
    };
    let params = EngineParams {
        n_threads,
        ..one.clone()
    };
    let expected = Reader::new(&model, &one).read(1);
    for chunk in [1, 2, 3, 5, 8, 24, 33, 64] {
        let got = Reader::new(&model, &params).read(chunk);
        assert_same(&got, &expected, &what(&format!("chunks of {chunk}")));
    }
    assert_same(
        &beside_others(&model, &params),
        &expected,
        &what("beside others"),
    );
    assert_same(
        &after_guesses(&model, &params),
        &expected,
        &what("after guesses"),
    );
    assert_same(
        &in_old_cells(&model, &params),
        &expected,
        &what("in old cells"),
    );
    assert_same(&forked(&model, &params), &expected, &what("forked"));
}

/// Rows of two other texts before and behind each row.
fn beside_others(model: &Model, params: &EngineParams) -> Bits {
    let mut reader = Reader::new(model, params);
    let others = prompt(N_TEXT * 3, N_VOCAB);
    for i in 0..N_TEXT {
        let before = rows(&[1], 2 * i as u32, &others[2 * i..2 * i + 2], false);
        let behind = rows(&[2], i as u32, &others[N_TEXT + i..=N_TEXT + i], true);
        let mut step = before;
        step.extend(reader.next(1));
        step.extend(behind);
        // Rows that want no logits have none in the result.
        reader.step(&step, 0..1);
    }
    reader.bits
}

/// A tree of wrong guesses behind each token, taken back with the next step.
fn after_guesses(model: &Model, params: &EngineParams) -> Bits {
    let mut reader = Reader::new(model, params);
    while reader.bits.len() < N_TEXT {
        let pos = reader.bits.len() as u32;
        let mut step = reader.next(1);
        step[0].seq_ids = [0, 1, 2].map(SequenceId).to_vec();
        step.extend(rows(&[1], pos + 1, &[7, 8, 9], true));
        step.extend(rows(&[2], pos + 1, &[11, 12], true));
        reader.step(&step, 0..1);
        for (seq, pos) in [(1, pos + 1), (2, pos + 1)] {
            let seq = SequenceId(seq);
            reader.pipeline.apply(KvOp::Truncate { seq, pos });
        }
    }
    reader.bits
}

/// Cells that other sequences have left, in another order than the text's.
fn in_old_cells(model: &Model, params: &EngineParams) -> Bits {
    let mut reader = Reader::new(model, params);
    let others = prompt(180, N_VOCAB);
    for i in 0..60 {
        let step: Vec<Row> = (1..4)
            .flat_map(|seq| rows(&[seq], i as u32, &others[i * 3..=i * 3], false))
            .collect();
        reader.pipeline.step_until(&step, 1);
    }
    reader.pipeline.apply(KvOp::Drop { seq: SequenceId(2) });
    for chunk in [24, 1, 1, 20] {
        let step = reader.next(chunk);
        reader.step(&step, 0..step.len());
    }
    reader.pipeline.apply(KvOp::Drop { seq: SequenceId(1) });
    reader.read(9)
}

/// The text goes on in a fork of itself, after the first sequence is gone.
fn forked(model: &Model, params: &EngineParams) -> Bits {
    let mut reader = Reader::new(model, params);
    let step = reader.next(30);
    reader.step(&step, 0..step.len());
    let fork = |src: u32, dst: u32| KvOp::Fork {
        src: SequenceId(src),
        dst: SequenceId(dst),
        len: 30,
    };
    reader.pipeline.apply(fork(0, 3));
    reader.pipeline.apply(KvOp::Drop { seq: SequenceId(0) });
    reader.pipeline.apply(fork(3, 0));
    reader.read(4)
}

/// Whether our kernels compute here; without them there is nothing to show.
pub(crate) fn is_ours() -> bool {
    kernels::report(KernelChoice::Auto)
        .unwrap()
        .instructions
        .is_some()
}

/// One test for each architecture, so that a failure names it.
macro_rules! alike {
    ($($name:ident: $arch:ident,)*) => {$(
        #[test]
        fn $name() {
            for ty in TYPES {
                for n_threads in [1, 2] {
                    if is_ours() {
                        assert_alike(SynthArch::$arch, ty, n_threads);
                    }
                }
            }
        }
    )*};
}

alike! {
    llama: Llama,
    qwen2: Qwen2,
    qwen3: Qwen3,
    qwen3moe: Qwen3Moe,
    gemma2: Gemma2,
    gemma3: Gemma3,
    phi3: Phi3,
    deepseek2: DeepSeek2,
    qwen35: Qwen35,
    qwen35moe: Qwen35Moe,
    lfm2: Lfm2,
    granitehybrid: GraniteHybrid,
    kimi_linear: KimiLinear,
    mamba2: Mamba2,
    falcon_h1: FalconH1,
    nemotron_h: NemotronH,
    nemotron_h_moe: NemotronHMoe,
}
