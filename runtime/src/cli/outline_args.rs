//! Flags of answers that are written point by point.

use clap::{Args, ValueEnum};
use jupiter::{OutlineMode, Settings};

use super::args::positive;

/// Whether answers are written with an outline, and how large that may be.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Outlines")]
pub(crate) struct OutlineArgs {
    /// Write an outline first and then its points side by side: when the question suits (auto, the
    /// default), always (on) or never (off)
    #[arg(long, env = "JUPITER_OUTLINE", value_name = "MODE")]
    outline: Option<Mode>,

    /// Most points of an outline, 3 to 32
    #[arg(long, env = "JUPITER_OUTLINE_POINTS", value_name = "N")]
    outline_points: Option<usize>,

    /// Most tokens of each point
    #[arg(long, env = "JUPITER_POINT_TOKENS", value_name = "N", value_parser = positive())]
    point_tokens: Option<u32>,
}

/// When there is an outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Auto,
    On,
    Off,
}

impl From<Mode> for OutlineMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::On => Self::On,
            Mode::Off => Self::Off,
        }
    }
}

impl OutlineArgs {
    /// Adds what the flags say to `settings`.
    pub(crate) fn add_to(&self, settings: &mut Settings) {
        settings.outline = self.outline.map(Into::into);
        settings.outline_points = self.outline_points;
        settings.point_tokens = self.point_tokens;
    }
}
