//! The KV cache of a pipeline: which sequence holds which cells. All stages apply the same
//! operations in the same order, so one stands for all of them.

use jupiter_models::{KvOp, SequenceId};

/// Cells that sequences hold, some of them together.
pub(super) struct KvMemory {
    /// By sequence, the cells of its tokens in order.
    sequences: Vec<Vec<u32>>,
    /// For each cell that was ever used, how many sequences hold it.
    holders: Vec<u16>,
    free: Vec<u32>,
    n_cells: u32,
}

impl KvMemory {
    pub(super) fn new(n_cells: u32, n_seq_max: u32) -> Self {
        Self {
            sequences: vec![Vec::new(); n_seq_max as usize],
            holders: Vec::new(),
            free: Vec::new(),
            n_cells,
        }
    }

    /// Tokens of a sequence.
    pub(super) fn len(&self, seq: SequenceId) -> usize {
        self.sequences[seq.0 as usize].len()
    }

    /// Cells in use.
    pub(super) fn n_used(&self) -> usize {
        self.holders.len() - self.free.len()
    }

    pub(super) fn apply(&mut self, op: KvOp) {
        match op {
            KvOp::Truncate { seq, pos } => self.truncate(seq, pos as usize),
            KvOp::Drop { seq } => self.truncate(seq, 0),
            KvOp::Fork { src, dst, len } => {
                self.truncate(dst, 0);
                let cells = self.sequences[src.0 as usize][..len as usize].to_vec();
                for &cell in &cells {
                    self.holders[cell as usize] += 1;
                }
                self.sequences[dst.0 as usize] = cells;
            }
        }
    }

    /// Computes a token at `pos` that all of `seqs` share.
    ///
    /// # Panics
    /// When it does not follow what a sequence holds, or no cell is free: the Planner has broken
    /// its promise to stages that would fail there.
    pub(super) fn compute(&mut self, seqs: &[SequenceId], pos: u32) {
        let cell = self.free.pop().unwrap_or_else(|| {
            let n_used = self.holders.len() as u32;
            assert!(n_used < self.n_cells, "more rows than {n_used} cells");
            self.holders.push(0);
            n_used
        });
        self.holders[cell as usize] = seqs.len() as u16;
        for seq in seqs {
            let cells = &mut self.sequences[seq.0 as usize];
            assert_eq!(cells.len(), pos as usize, "a row continues its sequence");
            cells.push(cell);
        }
    }

    fn truncate(&mut self, seq: SequenceId, len: usize) {
        let cells = &mut self.sequences[seq.0 as usize];
        for cell in cells.drain(len.min(cells.len())..) {
            let holders = &mut self.holders[cell as usize];
            *holders -= 1;
            if *holders == 0 {
                self.free.push(cell);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_free_when_nobody_holds_it() {
        let [a, b] = [0, 1].map(SequenceId);
        let mut memory = KvMemory::new(8, 2);
        (0..4).for_each(|pos| memory.compute(&[a], pos));
        memory.apply(KvOp::Fork {
            src: a,
            dst: b,
            len: 3,
        });
        memory.compute(&[b], 3);
        assert_eq!((memory.len(a), memory.len(b), memory.n_used()), (4, 4, 5));
        memory.apply(KvOp::Drop { seq: a });
        assert_eq!(memory.n_used(), 4);
        memory.apply(KvOp::Truncate { seq: b, pos: 1 });
        assert_eq!((memory.len(b), memory.n_used()), (1, 1));
    }

    #[test]
    #[should_panic(expected = "continues its sequence")]
    fn a_gap_is_a_broken_promise() {
        KvMemory::new(8, 1).compute(&[SequenceId(0)], 1);
    }
}
