//! Where others' messages come in: queryables and subscribers that hear what names their key.
//!
//! A key expression with a wildcard reaches every key that it matches: `get **` of someone who looks
//! around, a put on `prompt/*`. That is not meant for us, and neither is a deletion: both are left
//! alone. A query that is left alone ends at once, without a reply.

use zenoh::pubsub::Subscriber;
use zenoh::query::{Query, Queryable};
use zenoh::sample::{Sample, SampleKind};
use zenoh::{Session, Wait};

use crate::error::{Result, zenoh_error};

/// Hands queries for `key` to `accept`, which is called from zenoh's threads and must not wait.
///
/// # Errors
/// When zenoh refuses the queryable.
pub(crate) fn queryable(
    session: &Session,
    key: String,
    accept: impl Fn(Query) + Send + Sync + 'static,
) -> Result<Queryable<()>> {
    let own = key.clone();
    let accept = move |query: Query| {
        if query.key_expr().as_str() == own {
            accept(query);
        }
    };
    let queryable = session.declare_queryable(key).callback(accept);
    queryable.wait().map_err(zenoh_error)
}

/// Hands what is put on a key that matches `keys` to `accept`, which is called from zenoh's threads
/// and must not wait.
///
/// # Errors
/// When zenoh refuses the subscription.
pub(crate) fn subscriber(
    session: &Session,
    keys: String,
    accept: impl Fn(Sample) + Send + Sync + 'static,
) -> Result<Subscriber<()>> {
    let accept = move |sample: Sample| {
        if sample.kind() == SampleKind::Put && !sample.key_expr().is_wild() {
            accept(sample);
        }
    };
    let subscriber = session.declare_subscriber(keys).callback(accept);
    subscriber.wait().map_err(zenoh_error)
}
