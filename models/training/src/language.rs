//! The plain objective: the next token of an answer.

use candle_core::Tensor;

use crate::batch::Batch;
use crate::ops::CrossEntropy;
use crate::trainer::Objective;
use crate::transformer::{Parameter, Transformer};

impl Objective for Transformer {
    fn parameters(&self) -> &[Parameter] {
        Transformer::parameters(self)
    }

    fn loss(&self, batch: &Batch) -> candle_core::Result<(Tensor, usize)> {
        let logits = self.logits(&self.hidden(batch)?)?;
        let loss = logits.apply_op1(CrossEntropy {
            targets: batch.targets.clone(),
        })?;
        Ok((loss, batch.targets.len()))
    }
}
