//! The block behind the last layer, which guesses tokens ahead: what llama.cpp asserts of it.

use super::GgufFile;
use super::checks::PER_LAYER;
use super::info::{MAX_LAYERS, MAX_WIDTH, ModelInfo, Reader};
use crate::Result;

/// Checks the block behind the last layer of a model that has one, before llama.cpp can abort the process.
///
/// # Errors
/// [`ModelError::BadGguf`](crate::ModelError::BadGguf) with what is wrong.
pub fn check_mtp(file: &GgufFile, info: &ModelInfo) -> Result<()> {
    Reader::of(file)?.check_block(info)
}

impl Reader<'_> {
    /// The block behind the last layer: it has to be as the last layer that attends, whose graph it has.
    fn check_block(&self, info: &ModelInfo) -> Result<()> {
        let width = self.opt_bounded("embedding_length_out", 0, MAX_WIDTH)?;
        if width.is_some_and(|width| width != info.n_embd) {
            return Err(self.bad("`embedding_length_out` is not `embedding_length`"));
        }
        // The graph of a latent attention's block asserts it (deepseek2.cpp).
        let temperature = self
            .meta
            .opt_f32(&self.key("attention.temperature_scale"))?;
        if info.latent.is_some() && temperature.is_some_and(|scale| scale != 0.0) {
            return Err(
                self.bad("its attention grows sharper with the position, which its block cannot")
            );
        }
        let lead = self.opt_bounded("leading_dense_block_count", 0, MAX_LAYERS)?;
        if lead.is_some_and(|lead| lead > info.n_layer) {
            return Err(self.bad("`leading_dense_block_count` is more than all layers"));
        }
        let attends = (0..info.n_layer as usize).rfind(|&il| info.attends(il));
        let like = attends.ok_or_else(|| self.bad("no layer attends"))?;
        for suffix in PER_LAYER {
            let values = self.per_layer(suffix, info.n_blocks)?.unwrap_or_default();
            if values.get(info.n_layer as usize) != values.get(like) {
                return Err(self.bad(format!(
                    "`{}` of the block behind the last layer is not that of layer {like}",
                    self.key(suffix)
                )));
            }
        }
        let block = info.n_layer;
        for suffix in ["eh_proj", "enorm", "hnorm"] {
            self.needs(&format!("blk.{block}.nextn.{suffix}.weight"))?;
        }
        let like_it = format!("blk.{like}.");
        for tensor in self.file.tensors() {
            let Some(suffix) = tensor.name.strip_prefix(&like_it) else {
                continue;
            };
            let own = self.needs(&format!("blk.{block}.{suffix}"))?;
            if own.dims != tensor.dims {
                return Err(self.bad(format!(
                    "`{}` has another shape than `{}`",
                    own.name, tensor.name
                )));
            }
        }
        Ok(())
    }
}
