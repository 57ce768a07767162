//! Which files of a repository are the model that is asked for; pure.

use super::name::{HubModel, is_word};
use crate::error::HubError;

/// What is taken where nothing is said, as in llama.cpp.
const DEFAULT_QUANT: &str = "Q4_K_M";

/// How the names of quantizations begin, in capitals.
const QUANT_STARTS: [&str; 8] = ["Q", "IQ", "TQ", "F16", "F32", "BF16", "MXFP4", "NVFP4"];

/// The files of `model` among all `files` of its repository: one, or all its parts in order.
///
/// # Errors
/// No GGUF at all, none that is asked for (with those that there are), a part that is missing.
pub(super) fn choose(files: &[String], model: &HubModel) -> Result<Vec<String>, HubError> {
    let repo = model.repo.clone();
    let models: Vec<&str> = files.iter().map(String::as_str).filter(is_model).collect();
    if let Some(file) = &model.file {
        return match models.iter().find(|name| *name == file) {
            Some(name) => with_parts(&models, name, &repo),
            None => Err(HubError::NoSuchFile {
                repo,
                file: file.clone(),
                there: models.into_iter().map(Into::into).collect(),
            }),
        };
    }
    let Some(first) = models.first() else {
        return Err(HubError::NoGguf { repo });
    };
    let quant = model.quant.as_deref().unwrap_or(DEFAULT_QUANT);
    let found = models.iter().find(|name| has_quant(name, quant));
    match (found, &model.quant) {
        (Some(name), _) => with_parts(&models, name, &repo),
        (None, None) => with_parts(&models, first, &repo),
        (None, Some(quant)) => Err(HubError::NoSuchQuant {
            repo,
            quant: quant.clone(),
            there: quants(&models),
        }),
    }
}

/// A GGUF that can be run by itself; mmproj files only see, imatrix files only measure. Names that
/// would lead out of the cache are none of the hub's.
fn is_model(name: &&str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.ends_with(".gguf")
        && !lower.contains("mmproj")
        && !lower.contains("imatrix")
        && name.split('/').all(is_word)
}

/// Whether `quant` stands in `name` as a word by itself, in any case: `Q4_0` is not in `IQ4_0`, nor
/// `Q4_K` in `Q4_K_M`.
fn has_quant(name: &str, quant: &str) -> bool {
    let (name, quant) = (name.to_ascii_lowercase(), quant.to_ascii_lowercase());
    name.match_indices(&quant).any(|(at, _)| {
        let before = name[..at].chars().next_back();
        let after = name[at + quant.len()..].chars().next();
        before.is_none_or(|c| !c.is_ascii_alphanumeric())
            && after.is_some_and(|c| "-./".contains(c))
    })
}

/// `name`, and all other parts where it is a part.
fn with_parts(files: &[&str], name: &str, repo: &str) -> Result<Vec<String>, HubError> {
    let Some((stem, n_parts)) = part_of(name) else {
        return Ok(vec![name.into()]);
    };
    let part = |i: u32| format!("{stem}-{i:05}-of-{n_parts:05}.gguf");
    // The first missing one ends it: a name may claim 99999 parts.
    (1..=n_parts)
        .map(part)
        .map(|file| match files.contains(&file.as_str()) {
            true => Ok(file),
            false => Err(HubError::MissingPart {
                repo: repo.into(),
                file,
            }),
        })
        .collect()
}

/// What stands before `-00001-of-00003.gguf`, and the number of parts.
fn part_of(name: &str) -> Option<(&str, u32)> {
    let number = |text: &str| match text.len() {
        5 => text.parse::<u32>().ok().filter(|n| *n > 0),
        _ => None,
    };
    let (rest, n_parts) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, part) = rest.rsplit_once('-')?;
    number(part)?;
    Some((stem, number(n_parts)?))
}

/// What the files are quantized to, each once; a file that does not say so by its name.
fn quants(files: &[&str]) -> Vec<String> {
    let mut quants: Vec<String> = Vec::new();
    for file in files {
        let name = file.rsplit('/').next().unwrap_or(file);
        let stem = match part_of(name) {
            Some((stem, _)) => stem,
            None => &name[..name.len() - ".gguf".len()],
        };
        let last = stem.rsplit(['-', '.']).find(|word| {
            let word = word.to_ascii_uppercase();
            let digit_follows = |start: &&str| {
                let rest = word.strip_prefix(*start);
                rest.is_some_and(|r| start.len() > 2 || r.starts_with(|c: char| c.is_ascii_digit()))
            };
            QUANT_STARTS.iter().any(digit_follows)
        });
        let quant = last.unwrap_or(name).to_owned();
        if !quants.contains(&quant) {
            quants.push(quant);
        }
    }
    quants
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILES: [&str; 10] = [
        "README.md",
        "mmproj-m-Q4_K_M.gguf",
        "m-IQ4_0.gguf",
        "m-UD-Q4_K_XL.gguf",
        "Q8_0/m-Q8_0-00002-of-00002.gguf",
        "Q8_0/m-Q8_0-00001-of-00002.gguf",
        "m-q4_k_m.gguf",
        "m-BF16-00001-of-00002.gguf",
        "plain.gguf",
        "../m-Q2_K.gguf",
    ];

    fn chosen(
        files: &[&str],
        quant: Option<&str>,
        file: Option<&str>,
    ) -> Result<Vec<String>, HubError> {
        let files: Vec<String> = files.iter().map(|&f| f.into()).collect();
        let mut model = HubModel::parse("u/r").unwrap();
        (model.quant, model.file) = (quant.map(Into::into), file.map(Into::into));
        choose(&files, &model)
    }

    #[test]
    fn a_quantization_names_its_file_or_all_parts_of_it() {
        for (quant, files) in [
            (None, &["m-q4_k_m.gguf"][..]),
            (Some("iq4_0"), &["m-IQ4_0.gguf"]),
            (Some("UD-Q4_K_XL"), &["m-UD-Q4_K_XL.gguf"]),
            (Some("Q4_K_XL"), &["m-UD-Q4_K_XL.gguf"]),
            (
                Some("q8_0"),
                &[
                    "Q8_0/m-Q8_0-00001-of-00002.gguf",
                    "Q8_0/m-Q8_0-00002-of-00002.gguf",
                ],
            ),
        ] {
            assert_eq!(chosen(&FILES, quant, None).unwrap(), files, "{quant:?}");
        }
        assert_eq!(chosen(&FILES[2..6], None, None).unwrap(), ["m-IQ4_0.gguf"]);
        assert_eq!(
            chosen(&FILES, None, Some("plain.gguf")).unwrap(),
            ["plain.gguf"]
        );
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is() {
        for (quant, file, words) in [
            (
                Some("Q4_0"),
                None,
                "has no Q4_0: it has IQ4_0, Q4_K_XL, Q8_0, q4_k_m, BF16, plain.gguf",
            ),
            (Some("Q2_K"), None, "has no Q2_K"),
            (Some("BF16"), None, "lacks m-BF16-00002-of-00002.gguf"),
            (
                None,
                Some("x.gguf"),
                "has no file x.gguf: it has m-IQ4_0.gguf",
            ),
        ] {
            let error = chosen(&FILES, quant, file).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let none = chosen(&FILES[..2], None, None).unwrap_err();
        assert!(matches!(none, HubError::NoGguf { .. }), "{none}");
    }
}
