//! Progress bars on stderr, where a person looks at it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jupiter_models::LayerRange;

use crate::node::Progress;

/// One bar for each piece of work that is under way; nothing when stderr is no terminal.
#[derive(Default)]
pub struct ProgressBars {
    screen: MultiProgress,
    bars: Mutex<HashMap<String, ProgressBar>>,
}

impl ProgressBars {
    /// No bars yet. They draw on stderr; indicatif hides them when that is no terminal.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows `done` of `total` bytes for the piece of work `what` ("slicing layers 0..8"). The
    /// bar appears with the first call and goes when all is done.
    pub fn bytes(&self, what: &str, done: u64, total: u64) {
        const STYLE: &str =
            "{msg:32} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec}, {eta} left";
        self.update(what, STYLE, done, total);
    }

    /// Shows the share `done` (0 to 1) of the piece of work `what`.
    pub fn share(&self, what: &str, done: f32) {
        const PARTS: u64 = 1000;
        const STYLE: &str = "{msg:32} [{bar:30}] {percent}% {eta} left";
        self.update(
            what,
            STYLE,
            (done.clamp(0.0, 1.0) * PARTS as f32) as u64,
            PARTS,
        );
    }

    /// Removes all bars, finished or not.
    pub fn clear(&self) {
        for (_, bar) in self.lock().drain() {
            bar.finish_and_clear();
        }
    }

    fn update(&self, what: &str, style: &str, done: u64, total: u64) {
        let mut bars = self.lock();
        if done >= total {
            if let Some(bar) = bars.remove(what) {
                bar.finish_and_clear();
            }
            return;
        }
        let bar = bars.entry(what.to_owned()).or_insert_with(|| {
            let bar = self.screen.add(ProgressBar::new(total));
            // The templates are ours: a wrong one only loses the style.
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.with_message(what.to_owned())
        });
        bar.set_length(total);
        bar.set_position(done);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, ProgressBar>> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for ProgressBars {
    fn slicing(&self, layers: LayerRange, done: u64, total: u64) {
        self.bytes(&format!("slicing layers {layers}"), done, total);
    }

    fn loading(&self, layers: LayerRange, share: f32) {
        self.share(&format!("loading layers {layers}"), share);
    }
}

impl Drop for ProgressBars {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_lives_from_the_first_to_the_last_byte() {
        let bars = ProgressBars::new();
        bars.bytes("a", 0, 10);
        bars.share("b", 0.5);
        assert_eq!(bars.lock().len(), 2);
        bars.bytes("a", 10, 10);
        bars.share("b", 1.0);
        assert!(bars.lock().is_empty());
    }
}
