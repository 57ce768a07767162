//! Layers that keep a state of the past: which, and how large it is.

use super::info::{MAX_LAYERS, MAX_WIDTH, Reader};
use crate::Result;
use crate::architecture::{Architecture, RecurrentLayers, State};

/// Positions of a convolution, and the heads, groups and values of a state: far above any model.
const MAX_CONVOLUTION: u32 = 64;
const MAX_STATE: u32 = 1 << 16;

/// Which layers keep a state of the past. It cannot go back to an earlier position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecurrentInfo {
    /// For each layer, whether it does.
    pub layers: Vec<bool>,
    /// For each layer, whether it has keys and values.
    pub attends: Vec<bool>,
    /// Bytes of the state of one sequence in one such layer, in f32.
    pub state_bytes: u64,
}

impl Reader<'_> {
    /// As the architectures' `load_arch_hparams` tell layers apart; the numbers that states are made of are
    /// bounded, and fit what the graphs assert.
    pub(super) fn recurrent(&self, n_layer: u32, n_embd: u32) -> Result<Option<RecurrentInfo>> {
        let recurrent = Architecture::from_name(&self.arch).and_then(|arch| arch.recurrent);
        let Some(recurrent) = recurrent else {
            return Ok(None);
        };
        let with = |suffix| {
            let numbers = self.per_layer(suffix, n_layer)?;
            let numbers = numbers.unwrap_or_else(|| vec![1; n_layer as usize]);
            Ok(numbers.into_iter().map(|n| n > 0).collect::<Vec<bool>>())
        };
        let not = |flags: &[bool]| flags.iter().map(|flag| !flag).collect::<Vec<bool>>();
        let (layers, attends) = match recurrent.layers {
            RecurrentLayers::AllButEvery(default) => {
                let named = self.per_layer("attention.recurrent_layers", n_layer)?;
                let interval = self.opt_bounded("full_attention_interval", 1, MAX_LAYERS)?;
                let interval = interval.unwrap_or(default);
                let layers: Vec<bool> = match named {
                    Some(flags) => flags.into_iter().map(|flag| flag != 0).collect(),
                    None => (0..n_layer).map(|il| (il + 1) % interval != 0).collect(),
                };
                let attends = not(&layers);
                (layers, attends)
            }
            RecurrentLayers::WithoutKeyHeads => {
                let attends = with("attention.head_count_kv")?;
                (not(&attends), attends)
            }
            RecurrentLayers::WithoutEither => {
                let heads = with("attention.head_count_kv")?;
                let feeds = with("feed_forward_length")?;
                let pairs = || heads.iter().zip(&feeds);
                if let Some(il) = pairs().position(|(&heads, &feeds)| heads && feeds) {
                    return Err(self.bad(format!(
                        "layer {il} attends and has a feed-forward, which {} layers cannot",
                        self.arch
                    )));
                }
                let layers = pairs().map(|(&heads, &feeds)| !heads && !feeds).collect();
                (layers, heads)
            }
            RecurrentLayers::All => (vec![true; n_layer as usize], vec![true; n_layer as usize]),
            RecurrentLayers::Only => (vec![true; n_layer as usize], vec![false; n_layer as usize]),
        };
        let may_attend = recurrent.layers != RecurrentLayers::Only;
        if !layers.contains(&true) || may_attend && !attends.contains(&true) {
            return Err(self.bad("it needs layers that attend, and recurrent ones"));
        }
        let state_bytes = 4 * self.state_values(recurrent.state, n_embd)?;
        Ok(Some(RecurrentInfo {
            layers,
            attends,
            state_bytes,
        }))
    }

    /// Values that a layer keeps of a sequence.
    fn state_values(&self, state: State, n_embd: u32) -> Result<u64> {
        if state == State::ShortConvolution {
            let n = self.bounded("shortconv.l_cache", 2, MAX_CONVOLUTION)?;
            return Ok(u64::from(n_embd) * u64::from(n - 1));
        }
        let n_conv = self.bounded("ssm.conv_kernel", 2, MAX_CONVOLUTION)?;
        if state == State::KimiDelta {
            let head = u64::from(self.bounded("kda.head_dim", 1, MAX_STATE)?);
            let heads = self
                .per_layer("attention.head_count", 1)?
                .unwrap_or_default();
            let inner = head * u64::from(heads.first().copied().unwrap_or(0).min(MAX_STATE));
            return self.counted([3 * u64::from(n_conv - 1) * inner, head * inner]);
        }
        let inner = self.bounded("ssm.inner_size", 1, MAX_WIDTH)?;
        let n_state = self.bounded("ssm.state_size", 1, MAX_STATE)?;
        let n_heads = self.bounded("ssm.time_step_rank", 1, MAX_STATE)?;
        let n_groups = self.bounded("ssm.group_count", 1, MAX_STATE)?;
        let is_whole = inner.is_multiple_of(n_heads) && n_heads.is_multiple_of(n_groups);
        let fits = match state {
            State::DeltaNet => inner == n_heads.saturating_mul(n_state),
            // `granite-hybrid.cpp` asserts it.
            State::TwiceWide => inner == 2 * n_embd,
            _ => true,
        };
        if !is_whole || !fits {
            return Err(self.bad(format!(
                "`{}` {inner}, {n_heads} heads of {n_state} values in {n_groups} groups do not fit \
                 each other",
                self.key("ssm.inner_size")
            )));
        }
        let channels = u64::from(inner) + 2 * u64::from(n_groups) * u64::from(n_state);
        self.counted([
            u64::from(n_conv - 1) * channels,
            u64::from(n_state) * u64::from(inner),
        ])
    }

    /// All values of a state, of each part of which llama.cpp counts 32 bits.
    fn counted(&self, parts: [u64; 2]) -> Result<u64> {
        match parts.iter().find(|part| **part > u64::from(u32::MAX)) {
            Some(part) => Err(self.bad(format!("a state of {part} values is too large"))),
            None => Ok(parts.iter().sum()),
        }
    }
}
