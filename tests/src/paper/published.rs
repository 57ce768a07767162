//! Seconds for 260 prompt tokens and 64 generated ones, read off the paper's figures (bars within
//! about 3 %).

use super::cells::Environment;

/// The systems beside Jupiter.
pub const SYSTEMS: [&str; 5] = ["SP", "Megatron-LM", "DeTransformer", "Galaxy", "EdgeShard"];

/// A model in 4 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Llama2-7B.
    Llama7B,
    /// Llama2-13B.
    Llama13B,
}

/// What the paper says of a cell: [`SYSTEMS`], then Jupiter. Sequence parallelism (SP) ran out of
/// memory with 13B.
pub fn seconds(model: Model, environment: Environment, mbps: u32) -> ([Option<f64>; 5], f64) {
    use Environment::{A, B};
    use Model::{Llama7B, Llama13B};
    let (sp, rest, jupiter) = match (model, environment, mbps) {
        (Llama7B, A, 100) => (Some(53.5), [431.2, 228.5, 427.6, 42.2], 16.5),
        (Llama7B, A, 500) => (Some(37.4), [106.9, 66.4, 103.9, 39.0], 15.2),
        (Llama7B, A, _) => (Some(35.4), [66.4, 46.1, 65.0, 38.6], 14.9),
        (Llama7B, B, 100) => (Some(63.1), [491.2, 288.6, 458.3, 59.3], 22.4),
        (Llama7B, B, 500) => (Some(47.0), [167.0, 126.4, 142.9, 56.1], 21.4),
        (Llama7B, B, _) => (Some(44.8), [126.4, 106.2, 104.9, 55.7], 20.9),
        (Llama13B, A, 100) => (None, [503.4, 270.1, 496.5, 66.2], 26.3),
        (Llama13B, A, 500) => (None, [130.1, 83.4, 125.0, 63.4], 25.2),
        (Llama13B, A, _) => (None, [83.4, 60.1, 81.3, 63.1], 24.9),
        (Llama13B, B, 100) => (None, [624.5, 391.2, 566.4, 102.4], 38.8),
        (Llama13B, B, 500) => (None, [251.2, 204.5, 208.0, 99.7], 37.3),
        (Llama13B, B, _) => (None, [204.5, 181.2, 165.7, 98.3], 36.8),
    };
    let [megatron, detransformer, galaxy, edgeshard] = rest.map(Some);
    ([sp, megatron, detransformer, galaxy, edgeshard], jupiter)
}
