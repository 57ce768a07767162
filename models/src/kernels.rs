//! Which kernels compute products with weights: ours, or llama.cpp's.

use std::fmt;
use std::str::FromStr;

use jupiter_kernels::{InstructionSet, Kernels, WeightType};
use serde::{Deserialize, Serialize};

use crate::llama::kernels::readiness;
use crate::{ModelError, Result};

/// What is wished: flag `--kernels`, variable `JUPITER_KERNELS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KernelChoice {
    /// Ours, with the best instructions of the processor, where they can be used.
    #[default]
    Auto,
    /// llama.cpp's.
    Off,
    /// Ours with these instructions: to measure and test them.
    Only(InstructionSet),
}

impl KernelChoice {
    /// Refuses instructions that this processor lacks.
    ///
    /// # Errors
    /// [`ModelError::BadInput`], with what it has.
    pub fn check(self) -> Result<()> {
        let Self::Only(set) = self else {
            return Ok(());
        };
        if set.is_available() {
            return Ok(());
        }
        let available: Vec<&str> = InstructionSet::available()
            .map(InstructionSet::name)
            .collect();
        Err(ModelError::BadInput {
            what: format!(
                "this processor has no {set} (--kernels): take auto, off, or one of {}",
                available.join(", ")
            ),
        })
    }

    /// The kernels that this gives on this machine; none for llama.cpp's.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when instructions are asked for that the processor lacks, or when
    /// kernels that were asked for cannot be used.
    pub fn kernels(self) -> Result<Option<Kernels>> {
        self.check()?;
        match self {
            Self::Off => Ok(None),
            Self::Auto => {
                let kernels = Kernels::best();
                let is_fast = kernels.instruction_set() != InstructionSet::Scalar;
                Ok(Some(kernels).filter(|_| is_fast && readiness().is_ok()))
            }
            Self::Only(set) => {
                readiness().map_err(|why| ModelError::BadInput {
                    what: format!("--kernels {set} cannot be: {why}"),
                })?;
                Ok(Kernels::with(set))
            }
        }
    }
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Only(set) => set.fmt(f),
        }
    }
}

impl FromStr for KernelChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => text
                .parse()
                .map(Self::Only)
                .map_err(|_| format!("`{text}` is not known: take auto or off")),
        }
    }
}

impl TryFrom<String> for KernelChoice {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<KernelChoice> for String {
    fn from(choice: KernelChoice) -> String {
        choice.to_string()
    }
}

/// What the processor can do at best; see [`jupiter_kernels::limits`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes that all threads together read from memory in a second.
    pub read_bytes_per_s: f64,
    /// Multiplications of 8-bit integers, each with an addition, in a second.
    pub macs_per_s: Option<f64>,
}

/// Measures the limits of `n_threads` threads, with the instructions that `choice` gives; where it
/// gives llama.cpp's kernels, with the processor's best.
///
/// # Errors
/// See [`KernelChoice::kernels`]; [`ModelError::OutOfMemory`].
pub fn limits(choice: KernelChoice, n_threads: u32) -> Result<Limits> {
    let set = choice
        .kernels()?
        .map_or_else(InstructionSet::best, Kernels::instruction_set);
    let n_threads = n_threads as usize;
    let read_bytes_per_s =
        jupiter_kernels::limits::read_bytes_per_s(n_threads).map_err(|error| {
            ModelError::OutOfMemory {
                what: error.to_string(),
            }
        })?;
    Ok(Limits {
        read_bytes_per_s,
        macs_per_s: jupiter_kernels::limits::macs_per_s(set, n_threads),
    })
}

/// Which kernels a choice gives on this machine, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelReport {
    /// The instructions that ours use; none where llama.cpp's compute everything.
    pub instructions: Option<String>,
    /// The types of weights that ours compute, as llama.cpp names them.
    pub types: Vec<String>,
    /// Why ours are not used.
    pub reason: Option<String>,
}

/// See [`KernelReport`].
///
/// # Errors
/// See [`KernelChoice::kernels`].
pub fn report(choice: KernelChoice) -> Result<KernelReport> {
    let reason = match (choice.kernels()?, choice, readiness()) {
        (Some(kernels), _, _) => {
            return Ok(KernelReport {
                instructions: Some(kernels.instruction_set().to_string()),
                types: WeightType::ALL.map(|t| t.name().to_owned()).into(),
                reason: None,
            });
        }
        (None, KernelChoice::Off, _) => "--kernels off",
        (None, _, Err(why)) => why,
        (None, _, Ok(())) => "this processor has none of their instruction sets",
    };
    Ok(KernelReport {
        instructions: None,
        types: Vec::new(),
        reason: Some(reason.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_written() {
        for choice in InstructionSet::ALL
            .map(KernelChoice::Only)
            .into_iter()
            .chain([KernelChoice::Auto, KernelChoice::Off])
        {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!(
            "fast".parse::<KernelChoice>().unwrap_err(),
            "`fast` is not known: take auto or off"
        );
    }

    #[test]
    fn instructions_that_the_processor_lacks_are_refused() {
        let lacking = InstructionSet::ALL
            .into_iter()
            .find(|set| !set.is_available())
            .unwrap();
        let error = KernelChoice::Only(lacking).kernels().unwrap_err();
        let begin = format!(
            "this processor has no {lacking} (--kernels): take auto, off, or one of scalar"
        );
        assert!(error.to_string().starts_with(&begin), "{error}");
        assert_eq!(KernelChoice::Off.kernels().unwrap(), None);
    }
}
