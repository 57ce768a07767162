//! Token embeddings, looked up outside the graph: the input of the first slice.

use crate::architecture::{Architecture, InputScale};
use crate::gguf::{GgufFile, ModelInfo};
use crate::hidden::HiddenStates;
use crate::llama::dequantize::{dequantize_row, is_weight_type};
use crate::{ModelError, Result, Token};

/// The name of the table in every model.
const TABLE: &str = "token_embd.weight";

/// The embedding table of a model, mapped; rows are read as they are asked for.
pub struct EmbeddingTable {
    model: GgufFile,
    n_embd: usize,
    n_vocab: u32,
    scale: Option<f32>,
}

impl EmbeddingTable {
    /// The table of `model`, the whole one (slices hold a stub).
    ///
    /// # Errors
    /// [`ModelError::BadGguf`] when it is missing or its type has no conversion to f32.
    pub fn new(model: &GgufFile) -> Result<EmbeddingTable> {
        let info = ModelInfo::from_gguf(model)?;
        if !model
            .tensor(TABLE)
            .is_some_and(|table| is_weight_type(table.ggml_type))
        {
            return Err(ModelError::BadGguf {
                path: model.path().to_owned(),
                what: format!("`{TABLE}` is missing or cannot be looked up"),
            });
        }
        Ok(EmbeddingTable {
            model: model.clone(),
            n_embd: info.n_embd as usize,
            n_vocab: info.n_vocab,
            scale: scale(model, &info)?,
        })
    }

    /// Number of tokens.
    pub fn n_vocab(&self) -> u32 {
        self.n_vocab
    }

    /// What enters the first layer for `tokens`: shape (tokens.len(), n_embd), scaled as the
    /// architecture's graph scales token input (`build_inp_embd` in llama-graph.cpp).
    ///
    /// # Errors
    /// [`ModelError::BadStep`] for a token outside the vocabulary.
    pub fn lookup(&self, tokens: &[Token]) -> Result<HiddenStates> {
        let missing = || ModelError::BadStep {
            what: format!("`{TABLE}` cannot be read"),
        };
        let table = self.model.tensor(TABLE).ok_or_else(missing)?;
        let rows = self.model.tensor_bytes(table);
        let row_bytes = table.row_bytes() as usize;
        let mut data = vec![0.0; tokens.len() * self.n_embd];
        for (out, &token) in data.chunks_exact_mut(self.n_embd).zip(tokens) {
            let row = usize::try_from(token)
                .ok()
                .filter(|&t| t < self.n_vocab as usize);
            let row = row.ok_or_else(|| ModelError::BadStep {
                what: format!("token {token} is not below {}", self.n_vocab),
            })?;
            let bytes = rows
                .get(row * row_bytes..(row + 1) * row_bytes)
                .ok_or_else(missing)?;
            if !dequantize_row(table.ggml_type, bytes, out) {
                return Err(missing());
            }
            if let Some(scale) = self.scale {
                out.iter_mut().for_each(|x| *x *= scale);
            }
        }
        HiddenStates::new(tokens.len(), self.n_embd, data)
    }
}

/// What the graph multiplies embedded tokens with, if anything.
fn scale(model: &GgufFile, info: &ModelInfo) -> Result<Option<f32>> {
    let Some(arch) = Architecture::from_name(&info.arch) else {
        return Ok(None);
    };
    Ok(match arch.input_scale {
        InputScale::One => None,
        InputScale::Root | InputScale::RootOfAll => Some((info.n_embd as f32).sqrt()),
        InputScale::Key(default) => {
            let key = format!("{}.embedding_scale", info.arch);
            // Without a key, or with 0, nothing is scaled.
            let scale = model.metadata().opt_f32(&key)?.or(default);
            scale.filter(|&scale| scale != 0.0)
        }
    })
}
