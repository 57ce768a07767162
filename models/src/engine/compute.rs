//! A context of llama.cpp, with what turns a row's token or hidden states into its input.

use super::states::States;
use super::{EngineParams, KeptStates, StepInput};
use crate::architecture::{Architecture, PLAIN_OUTPUT};
use crate::embedding::EmbeddingTable;
use crate::gguf::{GgufFile, ModelInfo};
use crate::llama::context::{
    ALL_STATES_NODE, BatchInput, BatchRow, Context, Cut, HiddenInput, STATE_NODE, Tapped,
};
use crate::llama::model::LoadedModel;
use crate::slice::StageSlice;
use crate::{Result, Token};

/// What computes rows, whichever sequences they belong to.
pub(super) struct Compute {
    pub(super) context: Context,
    pub(super) embedding: Option<EmbeddingTable>,
    pub(super) is_last: bool,
    /// Whether the states of rows without logits are kept too, where states are.
    pub(super) keeps_all: bool,
}

impl Compute {
    /// Loads the weights of `slice`, which lie in `file`; the embedding table is in `model`.
    pub(super) fn load(
        model: &GgufFile,
        file: &GgufFile,
        info: &ModelInfo,
        slice: &StageSlice,
        params: &EngineParams,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Compute> {
        let has_table = slice.is_first() && !slice.is_whole();
        let embedding = has_table.then(|| EmbeddingTable::new(model)).transpose()?;
        let arch = Architecture::from_name(&info.arch);
        let wants_all = params.keeps_states == KeptStates::All;
        let keeps_all = wants_all && arch.is_some_and(|arch| arch.all_states);
        let cut = Cut {
            tapped: match slice.is_last() {
                false => Tapped::Hidden(arch.map_or(PLAIN_OUTPUT, |arch| arch.output_node)),
                true if params.keeps_states == KeptStates::None => Tapped::Nothing,
                true if keeps_all => Tapped::AllStates(ALL_STATES_NODE),
                true => Tapped::States(STATE_NODE),
            },
            input: match slice.is_whole() {
                true => HiddenInput::Never,
                false => arch.map_or(HiddenInput::Plain, Architecture::hidden_input),
            },
        };
        let loaded = load_weights(file, slice, params, progress)?;
        let recurrent = info.recurrent.as_ref();
        let n_spare = recurrent.map_or(0, |_| States::n_spare(params.n_seq_max));
        let params = params.for_context(params.n_cells_of(info), n_spare);
        Ok(Compute {
            context: Context::new(loaded, &params, cut)?,
            embedding,
            is_last: slice.is_last(),
            keeps_all,
        })
    }

    /// Whether all rows have results: the next stage needs them.
    pub(super) fn gives_all(&self) -> bool {
        !self.is_last
    }

    /// The results of flagged rows, and the states that entered the output head, where they are kept: of
    /// flagged rows, or of all.
    pub(super) fn decode(
        &mut self,
        batch: &[BatchRow<'_>],
        input: StepInput<'_>,
        tokens: &[Token],
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let data = match (input, &self.embedding) {
            (StepInput::Hidden(hidden), _) => {
                self.context.decode(batch, BatchInput::Hidden(&hidden.data))
            }
            (StepInput::Tokens, Some(table)) => {
                let hidden = table.lookup(tokens)?;
                self.context.decode(batch, BatchInput::Hidden(&hidden.data))
            }
            (StepInput::Tokens, None) => self.context.decode(batch, BatchInput::Tokens(tokens)),
        }?;
        Ok((data, self.context.take_states().unwrap_or_default()))
    }
}

/// llama.cpp opens the path anew, and trusts what it finds. A cached slice is only ever replaced by
/// an equal one.
fn load_weights(
    file: &GgufFile,
    slice: &StageSlice,
    params: &EngineParams,
    progress: &mut dyn FnMut(f32),
) -> Result<LoadedModel> {
    let check = || match slice.is_whole() {
        true => file.check_current(),
        false => Ok(()),
    };
    check()?;
    let loaded = LoadedModel::load(
        &slice.path,
        params.n_gpu_layers,
        params.kernels.kernels()?,
        false,
        progress,
    )?;
    check().map(|()| loaded)
}
