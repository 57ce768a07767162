//! A topic whose last message is there for who comes later (transient local, depth 1).
//!
//! rmw_zenoh takes zenoh-ext's `AdvancedPublisher` for it; of that this is the part that subscribers
//! see. They ask `<key>/@adv/**` for what was published, hear of publishers that come later by a token
//! on `<key>/@adv/pub/<zid>/<id>/_`, and tell repeats by the number that stands beside each sample.
//! zenoh-ext itself would have zenoh built with other features.

use std::sync::{Arc, Mutex, PoisonError};

use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Publisher;
use zenoh::query::{Query, Queryable};
use zenoh::sample::SourceInfo;
use zenoh::session::EntityGlobalId;
use zenoh::{Session, Wait};

use crate::error::{Result, zenoh_error};

/// What a topic said last.
pub(super) struct Latch {
    last: Arc<Mutex<Last>>,
    id: EntityGlobalId,
    _queryable: Queryable<()>,
    _token: LivelinessToken,
}

#[derive(Default)]
struct Last {
    n_sent: u32,
    /// Payload, attachment and number.
    message: Option<(Vec<u8>, Option<Vec<u8>>, u32)>,
}

impl Latch {
    pub(super) fn new(session: &Session, publisher: &Publisher<'static>) -> Result<Self> {
        let id = publisher.id();
        let key = publisher.key_expr().clone();
        let cache = format!("{key}/@adv/pub/{}/{}/_", id.zid(), id.eid());
        let last = Arc::new(Mutex::new(Last::default()));
        let tell = {
            let last = last.clone();
            move |query: Query| {
                let message = lock(&last).message.clone();
                if let Some((payload, attachment, number)) = message.filter(|_| wants(&query)) {
                    let reply = query.reply(key.clone(), payload).attachment(attachment);
                    let _ = reply.source_info(SourceInfo::new(id, number)).wait();
                }
            }
        };
        let queryable = session.declare_queryable(cache.clone()).callback(tell);
        let token = session.liveliness().declare_token(cache);
        Ok(Self {
            last,
            id,
            _queryable: queryable.wait().map_err(zenoh_error)?,
            _token: token.wait().map_err(zenoh_error)?,
        })
    }

    pub(super) fn put(
        &self,
        publisher: &Publisher<'static>,
        payload: Vec<u8>,
        attachment: Option<Vec<u8>>,
    ) -> zenoh::Result<()> {
        let number = {
            let mut last = lock(&self.last);
            let number = last.n_sent;
            last.n_sent = last.n_sent.wrapping_add(1);
            last.message = Some((payload.clone(), attachment.clone(), number));
            number
        };
        let put = publisher.put(payload).attachment(attachment);
        put.source_info(SourceInfo::new(self.id, number)).wait()
    }
}

/// Whether the query asks for samples at all: `_max=0` would be none.
fn wants(query: &Query) -> bool {
    query.parameters().get("_max") != Some("0")
}

fn lock(last: &Mutex<Last>) -> std::sync::MutexGuard<'_, Last> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}
