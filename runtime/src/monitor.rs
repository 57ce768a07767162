//! Asks a head, from anywhere, how its cluster is doing.

use std::time::Duration;

use zenoh::Session;

use crate::config::NetworkConfig;
use crate::error::{ClusterError, Result, zenoh_error};
use crate::net::keys::Keys;
use crate::net::session::{self, REACH_PATIENCE};
use crate::status::StatusReport;

/// How long a head may take to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// A connection to a cluster, of which nothing is wanted but how it is doing.
pub struct Monitor {
    session: Session,
    keys: Keys,
    network: NetworkConfig,
}

impl Monitor {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers where it connects to.
    pub async fn connect(network: NetworkConfig) -> Result<Self> {
        let keys = Keys::new(&network.cluster)?;
        let session = session::open(&network.endpoints).await?;
        let monitor = Self {
            session,
            keys,
            network,
        };
        if session::is_reached(&monitor.session, REACH_PATIENCE).await {
            return Ok(monitor);
        }
        let connect = monitor.endpoints();
        monitor.close().await;
        Err(ClusterError::Unreached { connect }.into())
    }

    /// How the cluster is doing now. Cancel safe.
    ///
    /// # Errors
    /// When no head answers.
    pub async fn report(&self) -> Result<StatusReport> {
        let replies = self
            .session
            .get(self.keys.status())
            .timeout(ANSWER_PATIENCE);
        let replies = replies.await.map_err(zenoh_error)?;
        while let Ok(reply) = replies.recv_async().await {
            if let Ok(sample) = reply.result()
                && let Ok(report) = serde_json::from_slice(&sample.payload().to_bytes())
            {
                return Ok(report);
            }
        }
        let no_head = ClusterError::NoHeadAnswers {
            cluster: self.network.cluster.clone(),
            connect: self.endpoints(),
        };
        Err(no_head.into())
    }

    /// Ends the connection.
    pub async fn close(self) {
        session::close(self.session).await;
    }

    fn endpoints(&self) -> String {
        self.network.endpoints.connect.join(", ")
    }
}
