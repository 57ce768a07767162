//! What becomes of a reply: the router of our own session knows, but zenoh's API does not tell.
//!
//! `Query::reply` succeeds for a querier that is gone. In the calling thread, that router logs what
//! it does with the reply:
//!
//! ```text
//! WARN   .. Route reply: Query not found!                            the query's time-out is over
//! TRACE  .. Route reply for query <region>/<zid>:<face>:<id> (<key>) the session that it goes to,
//!                                                                    by the beginning of its id
//! ```
//!
//! A log that is in force for the time of the call, and hears nothing but these, reads it. zenoh's
//! version is pinned; should another one say it in other words, every reply counts as taken, and
//! the tests of abandoned queries fail.

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::LazyLock;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, dispatcher, span};
use zenoh::Wait;
use zenoh::query::Query;

/// The module of zenoh that routes replies.
const ROUTER: &str = "zenoh::net::routing::dispatcher::queries";

/// Where a reply went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To the directly connected session whose id begins so: the querier, or the router before it.
    To(String),
    /// Nowhere: the query has timed out.
    Nowhere,
    /// Nobody said.
    Unknown,
}

/// Replies, and waits while the querier is slow.
///
/// # Errors
/// When zenoh refuses the reply.
pub(super) fn reply(query: &Query, key: String, payload: Vec<u8>) -> zenoh::Result<Route> {
    // Two of them: where a program has no other log, tracing would ask the log of the thread in
    // which a message comes up first, which is none, and never ask again.
    static LISTENERS: LazyLock<[Dispatch; 2]> =
        LazyLock::new(|| [Dispatch::new(Listener), Dispatch::new(Listener)]);
    HEARD.take();
    dispatcher::with_default(&LISTENERS[0], || query.reply(key, payload).wait())?;
    Ok(HEARD.take().unwrap_or(Route::Unknown))
}

thread_local! {
    /// What the router said last in this thread.
    static HEARD: Cell<Option<Route>> = const { Cell::new(None) };
}

/// The log of a reply.
struct Listener;

impl Subscriber for Listener {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.enabled(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = *metadata.level();
        metadata.is_event()
            && (level == Level::WARN || level == Level::TRACE)
            && metadata.target() == ROUTER
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Message);
    }

    // No span is enabled: the rest is never called.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Reads the text of a message.
struct Message;

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message"
            && let Some(route) = parse(&format!("{value:?}"))
        {
            HEARD.set(Some(route));
        }
    }
}

fn parse(message: &str) -> Option<Route> {
    if message.ends_with("Route reply: Query not found!") {
        return Some(Route::Nowhere);
    }
    let (_, to) = message.split_once("Route reply for query ")?;
    let (_, face) = to.split(' ').next()?.split_once('/')?;
    let zid = face.split(':').next().filter(|zid| !zid.is_empty())?;
    Some(Route::To(zid.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_router_says_is_understood() {
        let to = |zid: &str| Some(Route::To(zid.to_owned()));
        for (message, expected) in [
            (
                "local/9f1c2d3e:0:7 Route reply: Query not found!",
                Some(Route::Nowhere),
            ),
            (
                "local/9f1c2d3e:0:7 Route reply for query north/8a7b6c5d:3:12 (a/b)",
                to("8a7b6c5d"),
            ),
            (
                "local/9f:0:7 Route reply for query south:0:client/ab:3:12 (a/b/c d)",
                to("ab"),
            ),
            ("local/9f:0:7 Route reply for query north/ (a)", None),
            ("local/9f:0:7 Route final reply: Query not found!!", None),
            ("", None),
        ] {
            assert_eq!(parse(message), expected, "{message}");
        }
    }
}
