//! What a stopped run needs to go on: weights, the optimizer's averages, and where the text stood.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::optimizer::AdamW;
use crate::transformer::Parameter;

/// Says which run a folder belongs to.
const RUN_FILE: &str = "run.json";
const CHECKPOINT_FILE: &str = "checkpoint.safetensors";

/// Where a run stood.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Steps done.
    pub(crate) step: u64,
    /// The next example of each worker.
    pub(crate) next: Vec<u64>,
    /// Tokens seen.
    pub(crate) n_tokens: u64,
    /// Seconds of training so far.
    pub(crate) seconds: f64,
    /// The curve: see [`Point`].
    pub(crate) curve: Vec<Point>,
}

/// A point of the loss curve.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) step: u64,
    /// Mean loss per answer token since the point before, in nats.
    pub(crate) training: f32,
    /// The same on held-out text, where it was measured.
    pub(crate) held_out: Option<f32>,
}

/// The folder of one run.
pub(crate) struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Opens or makes the folder for the run that `settings` describe.
    ///
    /// # Errors
    /// When it holds another run.
    pub(crate) fn open<S>(path: &Path, settings: &S) -> Result<Self>
    where
        S: Serialize + DeserializeOwned + PartialEq,
    {
        fs::create_dir_all(path).with_context(|| path.display().to_string())?;
        let run_file = path.join(RUN_FILE);
        let folder = Self {
            path: path.to_owned(),
        };
        match fs::read_to_string(&run_file) {
            Ok(text) => {
                let same = serde_json::from_str::<S>(&text).is_ok_and(|other| other == *settings);
                ensure!(
                    same,
                    "{} holds another run's checkpoints (see its {RUN_FILE}): name another folder \
                     with --out, or remove this one",
                    path.display()
                );
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                ensure!(
                    !folder.checkpoint_file().exists(),
                    "{} holds checkpoints of an unknown run: name another folder with --out",
                    path.display()
                );
                replace(
                    &run_file,
                    serde_json::to_string_pretty(settings)?.as_bytes(),
                )?;
            }
            Err(error) => bail!("{}: {error}", run_file.display()),
        }
        Ok(folder)
    }

    /// A file of the run.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn checkpoint_file(&self) -> PathBuf {
        self.file(CHECKPOINT_FILE)
    }

    /// Saves everything; a file half written never replaces a whole one.
    pub(crate) fn save(
        &self,
        parameters: &[Parameter],
        optimizer: &AdamW,
        progress: &Progress,
    ) -> Result<()> {
        let mut tensors = Vec::new();
        for (parameter, moments) in parameters.iter().zip(&optimizer.moments) {
            let weights = parameter.var.flatten_all()?.to_vec1::<f32>()?;
            let shape = parameter.var.dims().to_vec();
            let [first, second] = moments;
            let parts = [("", &weights), (".first", first), (".second", second)];
            for (suffix, values) in parts {
                let name = format!("{}{suffix}", parameter.name);
                tensors.push((name, Values::new(values, shape.clone())));
            }
        }
        let metadata = HashMap::from([("progress".to_owned(), serde_json::to_string(progress)?)]);
        let bytes = safetensors::serialize(tensors, Some(metadata))?;
        replace(&self.checkpoint_file(), &bytes)
    }

    /// Sets weights and averages to those saved, if any were.
    pub(crate) fn resume(
        &self,
        parameters: &[Parameter],
        optimizer: &mut AdamW,
    ) -> Result<Option<Progress>> {
        let path = self.checkpoint_file();
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let progress = saved_progress(&bytes)
            .with_context(|| format!("{} is damaged: remove it to begin anew", path.display()))?;
        let tensors = SafeTensors::deserialize(&bytes)?;
        load(&tensors, parameters)?;
        for (parameter, [first, second]) in parameters.iter().zip(&mut optimizer.moments) {
            *first = floats(&tensors, &format!("{}.first", parameter.name))?;
            *second = floats(&tensors, &format!("{}.second", parameter.name))?;
        }
        optimizer.n_steps = progress.step;
        Ok(Some(progress))
    }
}

/// Sets `parameters` to the weights of the run in `folder`.
pub(crate) fn load_weights(folder: &Path, parameters: &[Parameter]) -> Result<()> {
    let path = folder.join(CHECKPOINT_FILE);
    let bytes =
        fs::read(&path).with_context(|| format!("{}: train that model first", path.display()))?;
    load(&SafeTensors::deserialize(&bytes)?, parameters).with_context(|| path.display().to_string())
}

/// The progress of the run in `folder`.
pub(crate) fn progress(folder: &Path) -> Result<Progress> {
    let path = folder.join(CHECKPOINT_FILE);
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    saved_progress(&bytes).with_context(|| path.display().to_string())
}

/// The progress in a checkpoint's header.
fn saved_progress(bytes: &[u8]) -> Result<Progress> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let progress = header.metadata().as_ref().and_then(|m| m.get("progress"));
    Ok(serde_json::from_str(
        progress.context("no progress saved")?,
    )?)
}

/// The settings of the run in `folder`.
pub(crate) fn settings<S: DeserializeOwned>(folder: &Path) -> Result<S> {
    let path = folder.join(RUN_FILE);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: train that model first", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn load(tensors: &SafeTensors<'_>, parameters: &[Parameter]) -> Result<()> {
    for parameter in parameters {
        let values = floats(tensors, &parameter.name)?;
        let value = Tensor::from_vec(values, parameter.var.shape(), &Device::Cpu)?;
        parameter.var.set(&value)?;
    }
    Ok(())
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>> {
    let tensor = tensors.tensor(name)?;
    ensure!(tensor.dtype() == Dtype::F32, "{name} is not f32");
    Ok(tensor
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect())
}

/// Writes beside `path`, then renames.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let half = path.with_extension("half");
    fs::write(&half, bytes).with_context(|| half.display().to_string())?;
    fs::rename(&half, path).with_context(|| path.display().to_string())
}

/// Floats as safetensors wants them.
struct Values {
    bytes: Vec<u8>,
    shape: Vec<usize>,
}

impl Values {
    fn new(values: &[f32], shape: Vec<usize>) -> Self {
        Self {
            bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            shape,
        }
    }
}

impl View for Values {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
