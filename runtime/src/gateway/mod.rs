//! How programs of others ask this cluster.

pub(crate) mod zenoh;
