//! What is known of architectures that are not proven: their names alone, at the pinned version
//! (`LLM_ARCH_NAMES` in llama-arch.cpp).
//!
//! Uncut, a model goes to llama.cpp as it is, so whatever llama.cpp runs with a KV cache is run.
//! Cutting one needs that no layer knows its number, and that nothing but hidden states goes from
//! layer to layer.

/// What can be done with a model of an architecture that is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// It runs uncut; by its graph any cut should be right, but no test has shown it.
    Untested,
    /// It runs uncut. Cut as it stands it would compute something else, or end the process.
    Whole,
    /// It does not run here, and why.
    Refused(&'static str),
}

/// Graphs that were read and have no fact that hangs on a layer's number.
const UNTESTED: [&str; 24] = [
    "arctic",
    "bailingmoe",
    "bitnet",
    "chameleon",
    "codeshell",
    "dbrx",
    "exaone",
    "gptneox",
    "hunyuan-moe",
    "internlm2",
    "jais2",
    "maincoder",
    "nemotron",
    "olmo",
    "olmoe",
    "orion",
    "pangu-embedded",
    "phi2",
    "plamo",
    "plm",
    "qwen",
    "refact",
    "xverse",
    "falcon",
];

/// Everything else that writes text one token at a time and has a KV cache.
const WHOLE: [&str; 33] = [
    "afmoe",
    "baichuan",
    "bloom",
    "chatglm",
    "cohere2moe",
    "deci",
    "deepseek",
    "exaone-moe",
    "gemma3n",
    "gpt2",
    "granite_swa",
    "grok",
    "grovemoe",
    "hunyuan_vl",
    "hy_v3",
    "jais",
    "laguna",
    "maple",
    "mellum",
    "mimo2",
    "minicpm3",
    "mistral4",
    "mpt",
    "muse-glimmer",
    "nanbeige",
    "openelm",
    "paddleocr",
    "plamo3",
    "spark2_5",
    "starcoder",
    "step35",
    "talkie",
    "hrm_text",
];

const STATE: &str = "its layers keep a state of the past, and no test has shown that guesses, branches and \
                     kept answers are right with it";
const CACHE: &str = "its cache is of a kind that branches and guesses are not proven on";
const NO_TEXT: &str = "it does not write text one token after the other";
const IMAGES: &str = "its layers treat images and text differently, and only text is read here";

/// What llama.cpp runs and this program does not.
const REFUSED: [(&str, &[&str]); 4] = [
    (
        STATE,
        &[
            "arwkv7",
            "bailingmoe3",
            "glm5-next",
            "jamba",
            "kimi-k3",
            "mamba",
            "minimax-01",
            "plamo2",
            "qwen4exp",
            "rwkv6",
            "rwkv6qwen2",
            "rwkv7",
        ],
    ),
    (
        CACHE,
        &[
            "deepseek32",
            "deepseek4",
            "dots3note",
            "glm-dsa",
            "hy_v4",
            "minimax-m3",
        ],
    ),
    (
        NO_TEXT,
        &[
            "clef",
            "dflash",
            "dream",
            "eagle3",
            "gemma4-assistant",
            "llada",
            "llada-moe",
            "pockettts",
            "qwen3tts",
            "rnd1",
            "t5",
            "wavtokenizer-dec",
        ],
    ),
    (IMAGES, &["cogvlm", "deepseek2-ocr", "graniteswitch"]),
];

impl Other {
    /// What can be done with `name`, which is not in the table.
    pub fn of(name: &str) -> Other {
        if UNTESTED.contains(&name) {
            return Other::Untested;
        }
        if WHOLE.contains(&name) {
            return Other::Whole;
        }
        let mut refused = REFUSED.iter();
        match refused.find(|(_, names)| names.contains(&name)) {
            Some((why, _)) => Other::Refused(why),
            None => Other::Refused("the llama.cpp inside does not run it"),
        }
    }

    /// The names of those that run uncut, untested ones first.
    pub fn runs_whole() -> impl Iterator<Item = &'static str> {
        UNTESTED.into_iter().chain(WHOLE)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::architecture::ARCHITECTURES;

    #[test]
    fn no_name_is_there_twice() {
        let refused = REFUSED.iter().flat_map(|(_, names)| names.iter().copied());
        let proven = ARCHITECTURES.iter().map(|arch| arch.name);
        let mut seen = HashSet::new();
        for name in Other::runs_whole().chain(refused).chain(proven) {
            assert!(seen.insert(name), "{name}");
        }
    }
}
