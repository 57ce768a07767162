//! The loop: text in, gradients from two workers, a step, now and then a checkpoint.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::Tensor;
use indicatif::{ProgressBar, ProgressStyle};
use jupiter_world::{Split, World};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::batch::{Batch, Stream};
use crate::checkpoint::{Point, Progress, RunFolder};
use crate::optimizer::{AdamW, Schedule};
use crate::plot;
use crate::tokenizer::Tokenizer;
use crate::transformer::Parameter;

/// Time between checkpoints of a run.
pub(crate) const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// Steps between points of the curve.
const POINT_EVERY: u64 = 50;
/// Steps between looks at held-out text.
const HELD_OUT_EVERY: u64 = 500;
/// Rows of held-out text in such a look.
const HELD_OUT_TOKENS: usize = 8192;

/// What is learnt: some parameters, and their loss on a batch.
pub(crate) trait Objective: Sync {
    /// The parameters that a step changes.
    fn parameters(&self) -> &[Parameter];

    /// Sum of the loss over the targets of `batch`, and how many count.
    fn loss(&self, batch: &Batch) -> candle_core::Result<(Tensor, usize)>;
}

/// How much is learnt, and how fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pace {
    pub(crate) n_steps: u64,
    /// Rows of a step, over all workers.
    pub(crate) step_tokens: usize,
    /// Threads; each computes the gradient of its part of a step.
    pub(crate) n_workers: usize,
    pub(crate) peak_rate: f32,
    /// Seed of the text and of the fresh weights.
    pub(crate) seed: u64,
}

/// Trains until the last step, from the last checkpoint in `out` if there is one; saves one when
/// `checkpoint_every` has gone by, and at the end.
pub(crate) fn train<S>(
    objective: &dyn Objective,
    world: &World,
    tokenizer: &Tokenizer,
    pace: &Pace,
    settings: &S,
    out: &Path,
    checkpoint_every: Duration,
) -> Result<()>
where
    S: Serialize + DeserializeOwned + PartialEq,
{
    let (folder, parameters) = (RunFolder::open(out, settings)?, objective.parameters());
    let mut optimizer = AdamW::new(parameters);
    let resumed = folder.resume(parameters, &mut optimizer)?;
    let mut progress = resumed.unwrap_or_else(|| Progress {
        next: (0..pace.n_workers as u64).collect(),
        ..Progress::default()
    });
    let stream = |split, next, step| Stream {
        world,
        tokenizer,
        split,
        seed: pace.seed,
        next,
        step,
    };
    let each = |&next: &u64| stream(Split::Training, next, pace.n_workers as u64);
    let mut streams: Vec<Stream<'_>> = progress.next.iter().map(each).collect();
    let held_out = stream(Split::HeldOut, 0, 1).batch(HELD_OUT_TOKENS);
    let schedule = pace.schedule();
    let bar = progress_bar(pace.n_steps, progress.step);
    let (began, before, mut saved) = (Instant::now(), progress.seconds, Instant::now());
    let mut since = Since::default();
    while progress.step < pace.n_steps {
        let pass = gradients(objective, &mut streams, pace.step_tokens)?;
        let (scale, rate) = (1.0 / pass.n_targets as f32, schedule.rate(progress.step));
        optimizer.step(parameters, &pass.gradients, scale, rate)?;
        since.add(&pass);
        progress.step += 1;
        progress.n_tokens += pass.n_tokens as u64;
        progress.seconds = before + began.elapsed().as_secs_f64();
        progress.next = streams.iter().map(|s| s.next).collect();
        bar.inc(1);
        let is_last = progress.step == pace.n_steps;
        if progress.step.is_multiple_of(POINT_EVERY) || is_last {
            let is_held_out_due = progress.step.is_multiple_of(HELD_OUT_EVERY) || is_last;
            let held_out = is_held_out_due.then(|| mean_loss(objective, &held_out));
            let point = std::mem::take(&mut since).point(progress.step, held_out.transpose()?);
            progress.curve.push(point);
            report(&bar, &progress, point);
        }
        if saved.elapsed() >= checkpoint_every || is_last {
            folder.save(parameters, &optimizer, &progress)?;
            saved = Instant::now();
        }
    }
    bar.finish();
    plot::loss_curve(&folder.file("loss.svg"), &progress.curve)
}

impl Pace {
    fn schedule(&self) -> Schedule {
        Schedule {
            peak: self.peak_rate,
            n_warmup: (self.n_steps / 40).clamp(10, 200),
            n_steps: self.n_steps,
        }
    }
}

/// What the steps since the last point of the curve have lost.
#[derive(Default)]
struct Since {
    loss: f64,
    n_targets: usize,
}

impl Since {
    fn add(&mut self, pass: &Pass) {
        self.loss += pass.loss;
        self.n_targets += pass.n_targets;
    }

    fn point(self, step: u64, held_out: Option<f32>) -> Point {
        Point {
            step,
            training: (self.loss / self.n_targets as f64) as f32,
            held_out,
        }
    }
}

/// The loss of a target in a text, in the mean.
fn mean_loss(objective: &dyn Objective, text: &Batch) -> Result<f32> {
    let (sum, n) = objective.loss(text)?;
    Ok(sum.to_scalar::<f32>()? / n as f32)
}

/// What the workers found in one step.
struct Pass {
    gradients: Vec<Vec<f32>>,
    loss: f64,
    n_targets: usize,
    n_tokens: usize,
}

/// Each stream's share of a step on a thread of its own, summed.
fn gradients(
    objective: &dyn Objective,
    streams: &mut [Stream<'_>],
    step_tokens: usize,
) -> Result<Pass> {
    let share = step_tokens / streams.len();
    let mut passes = std::thread::scope(|scope| {
        let threads: Vec<_> = streams
            .iter_mut()
            .map(|stream| scope.spawn(move || one_gradient(objective, &stream.batch(share))))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                let result = thread.join();
                result.unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))
            })
            .collect::<Result<Vec<Pass>>>()
    })?;
    let mut sum = passes.pop().context("a run needs at least one worker")?;
    for pass in passes {
        for (sum, other) in sum.gradients.iter_mut().zip(&pass.gradients) {
            sum.iter_mut().zip(other).for_each(|(a, b)| *a += b);
        }
        sum.loss += pass.loss;
        sum.n_targets += pass.n_targets;
        sum.n_tokens += pass.n_tokens;
    }
    Ok(sum)
}

fn one_gradient(objective: &dyn Objective, batch: &Batch) -> Result<Pass> {
    let (loss, n_targets) = objective.loss(batch)?;
    let grads = loss.backward()?;
    let gradients = objective
        .parameters()
        .iter()
        .map(|p| {
            let gradient = grads.get(&p.var).context("a parameter without gradient")?;
            Ok(gradient.flatten_all()?.to_vec1::<f32>()?)
        })
        .collect::<Result<_>>()?;
    Ok(Pass {
        gradients,
        loss: f64::from(loss.to_scalar::<f32>()?),
        n_targets,
        n_tokens: batch.tokens.len(),
    })
}

fn progress_bar(n_steps: u64, done: u64) -> ProgressBar {
    let bar = ProgressBar::new(n_steps).with_position(done);
    let style = "{bar:30} {pos}/{len} steps, {elapsed} gone, {eta} left  {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.reset_eta();
    bar
}

/// The newest point beside the bar, or as a line of its own where there is no terminal.
fn report(bar: &ProgressBar, progress: &Progress, point: Point) {
    let rate = progress.n_tokens as f64 / progress.seconds;
    let held_out = point
        .held_out
        .map_or_else(String::new, |loss| format!(", held out {loss:.4}"));
    let text = format!("loss {:.4}{held_out}, {rate:.0} tokens/s", point.training);
    if bar.is_hidden() {
        eprintln!("step {}: {text}", point.step);
    }
    bar.set_message(text);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::checkpoint;
    use crate::transformer::{Shape, Transformer};

    /// A model that stops being computed after some batches, as if the process were killed.
    struct Killed<'a> {
        model: &'a Transformer,
        n_left: AtomicUsize,
    }

    impl Objective for Killed<'_> {
        fn parameters(&self) -> &[Parameter] {
            self.model.parameters()
        }

        fn loss(&self, batch: &Batch) -> candle_core::Result<(Tensor, usize)> {
            let take = |n: usize| n.checked_sub(1);
            let left = self
                .n_left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            if left.is_err() {
                candle_core::bail!("killed");
            }
            self.model.loss(batch)
        }
    }

    fn weights(model: &Transformer) -> Vec<f32> {
        let values = |p: &Parameter| p.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        model.parameters().iter().flat_map(values).collect()
    }

    #[test]
    fn a_killed_run_goes_on_as_if_nothing_had_happened() {
        let world = World::load().unwrap();
        let texts = (0..300).map(|i| {
            let example = world.example(Split::Training, 0, i);
            example.turns[0].assistant.clone()
        });
        let tokenizer = Tokenizer::train(texts, 400).unwrap();
        let shape = Shape {
            n_vocab: 400,
            n_embd: 16,
            n_layer: 1,
            n_head: 2,
            n_head_kv: 1,
            n_ff: 32,
        };
        let pace = Pace {
            n_steps: 6,
            step_tokens: 256,
            n_workers: 2,
            peak_rate: 1e-2,
            seed: 3,
        };
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, model: &Transformer, n_batches: usize| {
            let objective = Killed {
                model,
                n_left: AtomicUsize::new(n_batches),
            };
            let out = folder.path().join(name);
            train(
                &objective,
                &world,
                &tokenizer,
                &pace,
                &pace,
                &out,
                Duration::ZERO,
            )
        };
        let whole = Transformer::new(shape.clone(), 1).unwrap();
        run("whole", &whole, usize::MAX).unwrap();
        let first = Transformer::new(shape.clone(), 1).unwrap();
        assert!(
            run("killed", &first, 7)
                .unwrap_err()
                .to_string()
                .contains("killed")
        );
        // Another process: its fresh weights must not matter.
        let second = Transformer::new(shape, 2).unwrap();
        run("killed", &second, usize::MAX).unwrap();
        assert_eq!(weights(&whole), weights(&second));

        let progress = checkpoint::progress(&folder.path().join("killed")).unwrap();
        assert_eq!(progress.step, 6);
        assert!(folder.path().join("killed/loss.svg").exists());
        let other = Pace {
            seed: 4,
            ..pace.clone()
        };
        let out = folder.path().join("killed");
        let refused = train(
            &second,
            &world,
            &tokenizer,
            &other,
            &other,
            &out,
            Duration::ZERO,
        );
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("holds another run's checkpoints"),
            "{refused}"
        );
    }
}
