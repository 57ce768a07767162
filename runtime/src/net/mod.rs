//! What nodes say to each other, and over what: sessions, names, frames.
//!
//! - [`session`]: connections, with the settings that tensors and failure detection need
//! - [`keys`]: every key expression
//! - [`link`]: frames between actors, `send_queue` what waits to be sent, `emulation` a slower network
//! - `entrance`: queries and puts that are meant for us
//! - `own_address`: where a worker listens

pub(crate) mod emulation;
pub(crate) mod entrance;
pub mod keys;
pub mod link;
pub(crate) mod own_address;
mod send_queue;
pub mod session;
