//! Sequences of models with recurrent layers: whatever came before, the next row has the bits that it has
//! behind the same text computed from its beginning.

use jupiter_models::gguf::ModelInfo;
use jupiter_models::synth::{SynthArch, SynthSpec, SynthType};
use jupiter_models::{KvOp, SequenceId, Token};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::company::is_ours;
use crate::kit::{Model, Pipeline, assert_same_bits, params, rows};

const N_VOCAB: u32 = 320;
const N_SEEDS: u64 = 50;
const N_SEQUENCES: usize = 4;
/// All sequences fit into the cache, without a common cell.
const MAX_TEXT: usize = 56;

/// The texts of the sequences, and a pipeline that has computed them.
struct World {
    pipeline: Pipeline,
    texts: Vec<Vec<Token>>,
    rng: ChaCha8Rng,
}

impl World {
    fn seq(&mut self) -> usize {
        self.rng.random_range(0..N_SEQUENCES)
    }

    /// A step of some sequences; some rows of each may be guesses.
    fn step(&mut self) {
        let mut step = Vec::new();
        for seq in 0..N_SEQUENCES {
            let room = MAX_TEXT - self.texts[seq].len();
            let n = self.rng.random_range(0..=room.min(5));
            let tokens: Vec<Token> = (0..n)
                .map(|_| self.rng.random_range(0..N_VOCAB as Token))
                .collect();
            let wants_logits = self.rng.random_bool(0.7);
            let first = self.texts[seq].len() as u32;
            step.extend(rows(&[seq as u32], first, &tokens, wants_logits));
            self.texts[seq].extend(tokens);
        }
        if !step.is_empty() {
            self.pipeline.step(&step);
        }
    }

    fn change(&mut self) {
        let (src, dst) = (self.seq(), self.seq());
        let len = self.texts[src].len();
        // Mostly a little.
        let back = self.rng.random_range(0..=len.min(6));
        let kept = if self.rng.random_bool(0.8) {
            len - back
        } else {
            back
        };
        let seq = SequenceId(src as u32);
        match self.rng.random_range(0..4) {
            0 if src != dst => {
                let (len, dst_seq) = (kept as u32, SequenceId(dst as u32));
                let dst_text = self.texts[src][..kept].to_vec();
                self.texts[dst] = dst_text;
                let (src, dst) = (seq, dst_seq);
                self.pipeline.apply(KvOp::Fork { src, dst, len });
            }
            1 if self.rng.random_bool(0.3) => {
                self.texts[src].clear();
                self.pipeline.apply(KvOp::Drop { seq });
            }
            _ => {
                self.texts[src].truncate(kept);
                let pos = kept as u32;
                self.pipeline.apply(KvOp::Truncate { seq, pos });
            }
        }
    }
}

#[test]
fn after_random_histories_the_next_row_is_that_of_a_fresh_prefill() {
    if !is_ours() {
        return;
    }
    for arch in SynthArch::ALL
        .into_iter()
        .filter(|arch| arch.is_recurrent())
    {
        let model = Model::new(&SynthSpec {
            n_embd: 64,
            n_ff: 96,
            n_vocab: N_VOCAB,
            ty: SynthType::Q4_0,
            ..SynthSpec::new(arch)
        });
        let n_layer = ModelInfo::from_gguf(&model.file).unwrap().n_layer;
        let cuts = model.cut_lists();
        for seed in 0..N_SEEDS {
            let cut = &cuts[seed as usize % cuts.len()];
            let mut world = World {
                pipeline: model.pipeline(cut, n_layer, &params()),
                texts: vec![Vec::new(); N_SEQUENCES],
                rng: ChaCha8Rng::seed_from_u64(seed),
            };
            for _ in 0..30 {
                match world.rng.random_bool(0.5) {
                    true => world.step(),
                    false => world.change(),
                }
            }
            let mut fresh = model.reference(&params());
            for (seq, text) in (0..).zip(&world.texts) {
                if !text.is_empty() {
                    fresh.step(&rows(&[seq], 0, text, false));
                }
                let last = rows(&[seq], text.len() as u32, &[7], true);
                let (got, expected) = (world.pipeline.step(&last), fresh.step(&last));
                assert_same_bits(&got, &expected, &format!("{arch}, seed {seed}, {seq}"));
            }
        }
    }
}
