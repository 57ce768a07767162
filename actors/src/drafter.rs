//! The Drafter: a draft model that guesses for the Planner, on whichever node the plan says.
//!
//! Spawned by the [Supervisor](crate::supervisor). It takes one request after the other; the model
//! computes on a thread that may block. It is never started again: a draft model that fails is left
//! out, and answers go on without it.

use std::sync::Arc;
use std::time::Instant;

use jupiter_models::draft_model::{DraftModel, DraftTask};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::clock;
use crate::factory::{StageFactory, ThreadGuard};
use crate::link::{Address, Link, send_message};
use crate::message::{DraftGuess, DraftReply, DraftRequest, DrafterAssignment, Message};

/// From the Planner: guess. A repeat is answered again.
pub struct DrafterMessage(pub DraftRequest);

/// What a Drafter is made of.
pub struct DrafterArgs {
    pub(crate) link: Arc<dyn Link>,
    pub(crate) factory: Arc<dyn StageFactory>,
    pub(crate) assignment: DrafterAssignment,
    pub(crate) guard: ThreadGuard,
}

/// The actor; its state is [`DrafterState`].
pub struct Drafter;

/// A living Drafter.
pub struct DrafterState {
    link: Arc<dyn Link>,
    /// Away while it computes.
    model: Option<DraftModel>,
    guard: ThreadGuard,
}

impl Actor for Drafter {
    type Msg = DrafterMessage;
    type State = DrafterState;
    type Arguments = DrafterArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<DrafterMessage>,
        args: DrafterArgs,
    ) -> Result<DrafterState, ActorProcessingErr> {
        let (factory, assignment) = (args.factory, args.assignment);
        let load = move || factory.draft_model(&assignment);
        let model = tokio::task::spawn_blocking(load).await??;
        Ok(DrafterState {
            link: args.link,
            model: Some(model),
            guard: args.guard,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<DrafterMessage>,
        DrafterMessage(request): DrafterMessage,
        state: &mut DrafterState,
    ) -> Result<(), ActorProcessingErr> {
        let Some(mut model) = state.model.take() else {
            return Err("the draft model is gone".into());
        };
        let guard = state.guard.clone();
        let work = move || {
            let reply = answer(&mut model, &request);
            drop(guard);
            (model, reply)
        };
        // A panic of the engine ends the actor with it.
        let (model, reply) = tokio::task::spawn_blocking(work).await?;
        state.model = Some(model);
        let reply = Message::Drafted(reply?);
        if let Err(error) = send_message(state.link.as_ref(), &Address::Head, &reply) {
            tracing::warn!(%error, "could not send guesses");
        }
        Ok(())
    }
}

fn answer(model: &mut DraftModel, request: &DraftRequest) -> jupiter_models::Result<DraftReply> {
    let begin = Instant::now();
    let drafted = model.draft(&DraftTask {
        text: request.request.0,
        from: request.from as usize,
        tokens: &request.tokens,
        depth: request.depth as usize,
        width: request.width as usize,
    })?;
    let guesses = drafted.nodes.iter().map(|node| DraftGuess {
        parent: node.parent.map(|parent| parent as u16),
        token: node.token,
        probability: node.probability,
    });
    Ok(DraftReply {
        request: request.request,
        wish: request.wish,
        n_known: drafted.n_known as u32,
        guesses: guesses.collect(),
        busy_us: clock::micros(begin.elapsed()),
    })
}
