//! Generated models, pipelines of slices in one thread, and the greedy loop.

use jupiter_models::architecture::cuts;
use jupiter_models::engine::{
    Engine, EngineParams, Logits, ReferenceEngine, StageEngine, StepInput, StepOutput,
};
use jupiter_models::gguf::{GgufFile, ModelInfo};
use jupiter_models::slice::SliceCache;
use jupiter_models::split::{Weights, split_by_weight};
use jupiter_models::synth::{self, SynthArch, SynthSpec, SynthType};
use jupiter_models::{KvOp, LayerRange, Row, SequenceId, Token};
use jupiter_tests::model::ranges_between;
use tempfile::TempDir;

/// A generated model and a cache for its slices; both go with it.
pub(crate) struct Model {
    pub(crate) dir: TempDir,
    pub(crate) file: GgufFile,
}

impl Model {
    pub(crate) fn new(spec: &SynthSpec) -> Model {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        synth::write(spec, &path, &mut |_, _| {}).unwrap();
        Model {
            file: GgufFile::open(path).unwrap(),
            dir,
        }
    }

    /// Four layers whose rows are whole blocks of every type.
    pub(crate) fn of_any_type(arch: SynthArch, ty: SynthType, n_vocab: u32) -> Model {
        Model::new(&SynthSpec {
            n_embd: 256,
            n_ff: 512,
            n_vocab,
            n_layer: 4,
            ty,
            ..SynthSpec::new(arch)
        })
    }

    pub(crate) fn cache(&self) -> SliceCache {
        SliceCache::new(self.dir.path().join("cache"))
    }

    /// Where the model may be cut: at every single layer, and into three and four stages as even as
    /// can be.
    pub(crate) fn cut_lists(&self) -> Vec<Vec<u32>> {
        let info = ModelInfo::from_gguf(&self.file).unwrap();
        let (n_layer, cuts) = (info.n_layer, cuts(&info, false));
        let singles =
            (1..n_layer).map(|cut| vec![LayerRange::new(0, cut), LayerRange::new(cut, n_layer)]);
        let allowed =
            singles.filter(|ranges| ranges.iter().all(|&range| cuts.allows(range, n_layer)));
        let even = Weights {
            embedding: 0,
            layers: vec![1; n_layer as usize],
            head: 0,
        };
        let many = (3..=4).filter_map(|n| split_by_weight(&even, n, &cuts).ok());
        let starts =
            |ranges: Vec<LayerRange>| ranges[1..].iter().map(|range| range.start).collect();
        allowed.chain(many).map(starts).collect()
    }

    pub(crate) fn engine(&self, range: LayerRange, params: &EngineParams) -> Engine {
        let slice = self
            .cache()
            .slice(&self.file, range, &mut |_, _| {})
            .unwrap();
        Engine::load(&self.file, &slice, params, &mut |_| {}).unwrap()
    }

    /// The slices between `cuts`, one behind the other.
    pub(crate) fn pipeline(&self, cuts: &[u32], n_layer: u32, params: &EngineParams) -> Pipeline {
        let ranges = ranges_between(cuts, n_layer);
        Pipeline(
            ranges
                .into_iter()
                .map(|range| Box::new(self.engine(range, params)) as _)
                .collect(),
        )
    }

    /// The whole model by plain llama.cpp.
    pub(crate) fn reference(&self, params: &EngineParams) -> Pipeline {
        let engine = ReferenceEngine::load(&self.file, params, &mut |_| {}).unwrap();
        Pipeline(vec![Box::new(engine)])
    }
}

/// One thread, so that the machine's other work does not matter.
pub(crate) fn params() -> EngineParams {
    EngineParams {
        n_ctx: 256,
        n_seq_max: 8,
        n_batch: 64,
        n_threads: 1,
        ..EngineParams::default()
    }
}

/// Stages in one thread: hidden states go from each to the next.
pub(crate) struct Pipeline(Vec<Box<dyn StageEngine>>);

impl Pipeline {
    pub(crate) fn apply(&mut self, op: KvOp) {
        self.0.iter_mut().for_each(|stage| stage.apply(op).unwrap());
    }

    pub(crate) fn step(&mut self, rows: &[Row]) -> Logits {
        let mut hidden = None;
        for stage in &mut self.0 {
            let input = hidden.as_ref().map_or(StepInput::Tokens, StepInput::Hidden);
            match stage.step(rows, input).unwrap() {
                StepOutput::Hidden(next) => hidden = Some(next),
                StepOutput::Logits(logits) => return logits,
            }
        }
        panic!("the last stage gave no logits");
    }

    /// Computes the rows on the first `n_stages` stages only.
    pub(crate) fn step_until(&mut self, rows: &[Row], n_stages: usize) {
        let mut hidden = None;
        for stage in self.0.iter_mut().take(n_stages) {
            let input = hidden.as_ref().map_or(StepInput::Tokens, StepInput::Hidden);
            if let StepOutput::Hidden(next) = stage.step(rows, input).unwrap() {
                hidden = Some(next);
            }
        }
    }

    /// Prefills `prompt` in chunks of `chunk` rows and decodes `n` tokens greedily.
    pub(crate) fn greedy(&mut self, prompt: &[Token], chunk: usize, n: usize) -> Trace {
        let mut trace = Trace::default();
        let mut next = 0;
        for (i, tokens) in prompt.chunks(chunk).enumerate() {
            let first = (i * chunk) as u32;
            let logits = self.step(&rows(&[0], first, tokens, true));
            next = argmax(logits.row(logits.n_rows - 1));
            trace.steps.push(logits);
        }
        for i in 0..n {
            trace.tokens.push(next);
            let logits = self.step(&rows(&[0], (prompt.len() + i) as u32, &[next], true));
            next = argmax(logits.row(0));
            trace.steps.push(logits);
        }
        trace
    }
}

/// What a greedy run gave: its tokens, and the logits of every step.
#[derive(Default)]
pub(crate) struct Trace {
    pub(crate) tokens: Vec<Token>,
    pub(crate) steps: Vec<Logits>,
}

/// Rows of `tokens` from position `first` on, each in all of `seqs`.
pub(crate) fn rows(seqs: &[u32], first: u32, tokens: &[Token], wants_logits: bool) -> Vec<Row> {
    (first..)
        .zip(tokens)
        .map(|(pos, &token)| Row {
            seq_ids: seq_ids(seqs),
            pos,
            token,
            wants_logits,
        })
        .collect()
}

pub(crate) fn seq_ids(seqs: &[u32]) -> Vec<SequenceId> {
    seqs.iter().map(|&seq| SequenceId(seq)).collect()
}

pub(crate) fn argmax(row: &[f32]) -> Token {
    let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(i, _)| i as Token)
}

/// A prompt that looks like nothing in particular.
pub(crate) fn prompt(n: usize, n_vocab: u32) -> Vec<Token> {
    (0..n as u32)
        .map(|i| ((i * 7919 + 13) % n_vocab) as Token)
        .collect()
}

/// Compares bits, and names the first difference.
pub(crate) fn assert_same_bits(got: &Logits, expected: &Logits, what: &str) {
    assert_eq!(
        (got.n_rows, got.n_vocab),
        (expected.n_rows, expected.n_vocab),
        "{what}"
    );
    let differs = got
        .data
        .iter()
        .zip(&expected.data)
        .position(|(a, b)| a.to_bits() != b.to_bits());
    if let Some(i) = differs {
        panic!(
            "{what}: logit {i} is {} and not {}",
            got.data[i], expected.data[i]
        );
    }
    assert!(
        got.data.iter().all(|x| x.is_finite()),
        "{what}: a logit is not a number"
    );
}

/// The largest difference of two rows of logits.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}
