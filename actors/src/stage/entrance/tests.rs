#![allow(clippy::unwrap_used)]

use jupiter_models::ModelError;
use jupiter_models::draft_model::DraftModel;
use jupiter_models::engine::{EngineParams, StageEngine};
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::text::Vocabulary;
use jupiter_models::{LayerRange, Result, SequenceId};
use ractor::{Actor, ActorProcessingErr};
use tokio::sync::mpsc;

use super::super::StageFactory;
use super::super::engine_thread::EngineArgs;
use super::*;
use crate::factory::Heads;
use crate::link::{Address, Link, LinkError};
use crate::message::{DrafterAssignment, HeadsId, StepHeader};
use crate::verifier::Verifiers;

/// In the place of a Stage: shows what it is told.
struct Told;

impl Actor for Told {
    type Msg = StageMessage;
    type State = mpsc::UnboundedSender<StageMessage>;
    type Arguments = mpsc::UnboundedSender<StageMessage>;

    async fn pre_start(
        &self,
        _: ActorRef<StageMessage>,
        told: Self::Arguments,
    ) -> std::result::Result<Self::State, ActorProcessingErr> {
        Ok(told)
    }

    async fn handle(
        &self,
        _: ActorRef<StageMessage>,
        message: StageMessage,
        told: &mut Self::State,
    ) -> std::result::Result<(), ActorProcessingErr> {
        Ok(told.send(message)?)
    }
}

/// Loads nothing, so that all steps wait.
struct NoEngine;

fn none<T>() -> Result<T> {
    Err(ModelError::BadInput {
        what: "there is none".into(),
    })
}

impl StageFactory for NoEngine {
    fn load(&self, _: &StageAssignment) -> Result<Box<dyn StageEngine>> {
        none()
    }
    fn vocabulary(&self, _: &StageAssignment) -> Result<Arc<Vocabulary>> {
        none()
    }
    fn heads(&self, _: &HeadsId, _: &StageAssignment) -> Result<Heads> {
        none()
    }
    fn draft_model(&self, _: &DrafterAssignment) -> Result<DraftModel> {
        none()
    }
}

struct NoLink;

impl Link for NoLink {
    fn send(&self, _: &Address, _: Vec<u8>) -> std::result::Result<(), LinkError> {
        Err(LinkError::Closed)
    }
}

fn assignment() -> StageAssignment {
    StageAssignment {
        stage: 1,
        n_stages: 3,
        layers: LayerRange::new(4, 8),
        model: "model".into(),
        engine: EngineParams::default(),
        payload_dtype: HiddenDtype::F32,
        credits: 2,
        heads: None,
    }
}

fn step(epoch: u64, step: u64) -> StepBatch {
    let header = StepHeader {
        epoch: PlanEpoch(epoch),
        step: StepId(step),
        stage: 1,
        ..StepHeader::default()
    };
    StepBatch {
        header,
        payload: Vec::new(),
    }
}

/// What a Stage was told so far of faults.
fn faults(told: &mut mpsc::UnboundedReceiver<StageMessage>) -> Vec<(u64, String)> {
    let mut faults = Vec::new();
    while let Ok(message) = told.try_recv() {
        if let StageMessage::Faulted(epoch, what) = message {
            faults.push((epoch.0, what));
        }
    }
    faults
}

#[tokio::test]
async fn steps_enter_in_order_and_an_epoch_fails_once() {
    let entrance = Entrance::new();
    assert!(!entrance.take(step(1, 0)), "no stage lives");
    let (tell, mut told) = mpsc::unbounded_channel();
    let (stage, ended) = Actor::spawn(None, Told, tell).await.unwrap();
    let link: Arc<dyn Link> = Arc::new(NoLink);
    let (guard, mut thread_ended) = mpsc::channel(1);
    let thread = EngineThread::spawn(EngineArgs {
        stage: stage.clone(),
        link,
        verifiers: Verifiers::default(),
        factory: Arc::new(NoEngine),
        assignment: assignment(),
        guards: [guard.clone(), guard],
    });
    entrance.open(thread.unwrap(), stage.clone());
    assert_eq!(thread_ended.recv().await, None);
    let n_waiting = || {
        let inside = entrance.lock();
        inside.as_ref().map(|inside| inside.thread.n_waiting())
    };

    entrance.begin(PlanEpoch(1), &assignment());
    assert!(entrance.is_unused());
    for (epoch, id) in [(1, 0), (1, 0), (0, 1), (2, 1), (1, 1)] {
        assert!(entrance.take(step(epoch, id)));
    }
    assert_eq!(n_waiting(), Some(2), "repeats and other epochs are dropped");
    assert!(!entrance.is_unused());
    // One more than the credits, and what follows it.
    assert!(entrance.take(step(1, 2)) && entrance.take(step(1, 3)));
    // A gap, and what follows it.
    entrance.begin(PlanEpoch(2), &assignment());
    assert!(entrance.take(step(2, 1)) && entrance.take(step(2, 0)));
    assert_eq!(n_waiting(), Some(2));
    assert!(entrance.cancel(CancelRows {
        epoch: PlanEpoch(2),
        seq: SequenceId(0),
        live_from: 1,
        live_from_step: StepId(0),
    }));

    entrance.close();
    assert!(!entrance.take(step(2, 0)), "the stage is gone");
    stage.drain().unwrap();
    ended.await.unwrap();
    let wrong = [
        (1, "more than 2 steps wait".to_owned()),
        (2, format!("{} came, {} expected", StepId(1), StepId(0))),
    ];
    assert_eq!(faults(&mut told), wrong);
}
