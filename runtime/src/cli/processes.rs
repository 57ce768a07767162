//! `--processes`: one `jupiter worker` per stage as a child of this process.
//!
//! Each child holds the read end of a pipe as its stdin and ends when that closes, so that no
//! child outlives this process, however it ends. A child that ends by itself is started again
//! with backoff; the cluster replays what it worked on. What children log goes to our stderr
//! under their names, when asked for with `-v`.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use jupiter::config::EmulationSettings;
use jupiter_models::kernels::KernelChoice;

use super::output;

/// Ends in a row, each soon after the start, after which a child is given up: its fault will not
/// go away by itself.
const MAX_FAILED_STARTS: u32 = 4;

/// A child that lived so long had a good start; when it ends, the count of failed starts begins
/// anew. Loading a slice from a slow card takes longer than failing to.
const GOOD_START: Duration = Duration::from_secs(10);

/// Pause before a child is started again, doubled with each failed start.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// How long a child may take to end when its stdin closes, before it is killed. Closing a zenoh
/// session takes far less; a step that is under way is the rest.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Lines of a child's stderr that are kept to say why it failed.
const KEPT_LINES: usize = 8;

/// How to start the children.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Name of each child's node.
    pub nodes: Vec<String>,
    /// The cluster that they join.
    pub cluster: String,
    /// Where the head listens.
    pub connect: String,
    /// The model file.
    pub model: PathBuf,
    /// Whether to try unproven architectures.
    pub allow_unproven: bool,
    /// Whose kernels they compute with.
    pub kernels: KernelChoice,
    /// The file of Medusa heads, if there is one.
    pub medusa: Option<PathBuf>,
    /// The draft model's file, if there is one.
    pub draft: Option<PathBuf>,
    /// What each child emulates, in the order of the nodes; the others emulate nothing.
    pub emulations: Vec<EmulationSettings>,
    /// How much they log; at 0 only their last words are kept, for when they fail.
    pub verbose: u8,
}

/// The children. Dropping it closes their stdins, and with the tokio runtime they are killed.
pub(crate) struct StageProcesses {
    stop: watch::Sender<bool>,
    keepers: Vec<JoinHandle<()>>,
    failures: tokio::sync::Mutex<mpsc::Receiver<anyhow::Error>>,
    pids: Arc<Mutex<HashMap<String, u32>>>,
}

impl StageProcesses {
    /// Starts the children and keeps them running.
    pub(crate) fn start(launch: &Launch) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let (stop, stopping) = watch::channel(false);
        // Each child fails at most once.
        let (failed, failures) = mpsc::channel(launch.nodes.len().max(1));
        let pids = Arc::default();
        let keepers = launch.nodes.iter().enumerate().map(|(i, node)| {
            let keeper = Keeper {
                program: program.clone(),
                node: node.clone(),
                emulation: launch.emulations.get(i).cloned().unwrap_or_default(),
                launch: launch.clone(),
                pids: Arc::clone(&pids),
                last_words: Arc::default(),
            };
            tokio::spawn(keep(keeper, stopping.clone(), failed.clone()))
        });
        Ok(Self {
            stop,
            keepers: keepers.collect(),
            failures: failures.into(),
            pids,
        })
    }

    /// Waits until a child cannot be kept running, and says why. Cancel safe.
    pub(crate) async fn failure(&self) -> anyhow::Error {
        match self.failures.lock().await.recv().await {
            Some(why) => why,
            // All keepers ended without complaint: they were stopped.
            None => std::future::pending().await,
        }
    }

    /// Process ids of the living children, by node.
    pub(crate) fn pids(&self) -> HashMap<String, u32> {
        self.pids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Ends all children and waits for them.
    pub(crate) async fn stop(self) {
        // No keeper may be left to hear it, which is as good.
        let _ = self.stop.send(true);
        for keeper in self.keepers {
            if let Err(error) = keeper.await {
                tracing::warn!(%error, "the keeper of a stage process failed");
            }
        }
    }
}

/// What keeps one child running.
struct Keeper {
    program: PathBuf,
    node: String,
    emulation: EmulationSettings,
    launch: Launch,
    pids: Arc<Mutex<HashMap<String, u32>>>,
    last_words: Arc<Mutex<VecDeque<String>>>,
}

/// Starts the child again whenever it ends, until told to stop or it fails too often.
async fn keep(
    keeper: Keeper,
    mut stopping: watch::Receiver<bool>,
    failed: mpsc::Sender<anyhow::Error>,
) {
    let mut failed_starts = 0;
    loop {
        let started = Instant::now();
        // Held open while the child shall live: `wait` would close it.
        let (mut child, stdin) = match keeper.spawn() {
            Ok(started) => started,
            Err(error) => {
                // The channel holds one failure per child.
                let _ = failed.try_send(error);
                return;
            }
        };
        let ended = tokio::select! {
            status = child.wait() => Some(status),
            () = stopped(&mut stopping) => None,
        };
        let Some(ended) = ended else {
            return keeper.end(child, stdin).await;
        };
        keeper.set_pid(None);
        let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        failed_starts = if started.elapsed() >= GOOD_START {
            0
        } else {
            failed_starts + 1
        };
        if failed_starts >= MAX_FAILED_STARTS {
            let _ = failed.try_send(anyhow::anyhow!(
                "stage process {} ended {failed_starts} times in a row ({how}){}",
                keeper.node,
                keeper.reason()
            ));
            return;
        }
        let backoff = FIRST_BACKOFF * 2_u32.pow(failed_starts);
        tracing::warn!(
            node = keeper.node,
            "stage process ended ({how}); starting it again"
        );
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = stopped(&mut stopping) => return,
        }
    }
}

/// Waits until the children are to end: told so, or because nobody could tell any more.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// The flags that say `emulation`.
fn emulation_flags(emulation: &EmulationSettings) -> impl Iterator<Item = String> {
    let slowdown = emulation.slowdown.map(|factor| factor.to_string());
    let emulation = emulation.clone();
    [
        ("--slowdown", slowdown),
        ("--memory-limit", emulation.memory_limit),
        ("--link-rate", emulation.link_rate),
        ("--link-latency", emulation.link_latency),
    ]
    .into_iter()
    .filter_map(|(flag, value)| Some([flag.to_owned(), value?]))
    .flatten()
}

impl Keeper {
    /// Starts the child; when its stdin is dropped, it ends.
    fn spawn(&self) -> anyhow::Result<(Child, ChildStdin)> {
        let mut command = Command::new(&self.program);
        // What concerns this process (endpoints, node name) does not concern the child.
        for (name, _) in std::env::vars_os() {
            let ours = name
                .to_str()
                .is_some_and(|name| name.starts_with("JUPITER_"));
            if ours && name != "JUPITER_CACHE" {
                command.env_remove(name);
            }
        }
        command
            .arg("worker")
            .arg("--model")
            .arg(&self.launch.model)
            .args(["--node", &self.node])
            .args(["--cluster", &self.launch.cluster])
            .args(["--connect", &self.launch.connect])
            .arg("--end-with-stdin");
        let Launch { medusa, draft, .. } = &self.launch;
        for (flag, path) in [("--medusa", medusa), ("--model-draft", draft)] {
            if let Some(path) = path {
                command.arg(flag).arg(path);
            }
        }
        command.args(["--kernels", &self.launch.kernels.to_string()]);
        if self.launch.allow_unproven {
            command.arg("--allow-unproven");
        }
        command.args(emulation_flags(&self.emulation));
        for _ in 0..self.launch.verbose {
            command.arg("-v");
        }
        // A group of its own, so that Ctrl-C reaches only this process.
        command.process_group(0).kill_on_drop(true);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {} as a worker", self.program.display()))?;
        if let Some(stderr) = child.stderr.take() {
            let forward = self.launch.verbose > 0;
            tokio::spawn(forward_lines(
                stderr,
                self.node.clone(),
                forward,
                Arc::clone(&self.last_words),
            ));
        }
        self.set_pid(child.id());
        let stdin = child
            .stdin
            .take()
            .context("a worker was started without stdin")?;
        Ok((child, stdin))
    }

    /// Closes the child's stdin, waits, and kills it when it takes too long.
    async fn end(&self, mut child: Child, stdin: ChildStdin) {
        drop(stdin);
        if tokio::time::timeout(END_PATIENCE, child.wait())
            .await
            .is_err()
        {
            tracing::warn!(node = self.node, "stage process does not end; killing it");
            if let Err(error) = child.kill().await {
                tracing::warn!(node = self.node, %error, "could not kill the stage process");
            }
        }
        self.set_pid(None);
    }

    /// The child's own complaint, to be added to ours.
    fn reason(&self) -> String {
        let words = self
            .last_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let complaint = words
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix("error: "));
        let told = complaint.or_else(|| words.back().map(String::as_str));
        told.map_or_else(String::new, |line| format!(": {line}"))
    }

    fn set_pid(&self, pid: Option<u32>) {
        let mut pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner);
        match pid {
            Some(pid) => pids.insert(self.node.clone(), pid),
            None => pids.remove(&self.node),
        };
    }
}

/// Passes a child's lines on under its name, and keeps the last ones.
async fn forward_lines(
    stderr: impl AsyncRead + Unpin,
    node: String,
    forward: bool,
    last_words: Arc<Mutex<VecDeque<String>>>,
) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if forward {
            output::note(&format!("[{node}] {line}"));
        }
        let mut words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() == KEPT_LINES {
            words.pop_front();
        }
        words.push_back(line);
    }
}
