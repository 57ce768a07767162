//! How programs of others ask this cluster.

pub(crate) mod request;
pub(crate) mod zenoh;
