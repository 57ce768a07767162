//! The zenoh session, with the settings that tensors and failure detection need.
//!
//! Peers with explicit endpoints: nothing listens unless asked, nothing is sought by multicast.
//! Gossip stays on, so that workers that all connect to the head learn of each other and talk
//! directly. With neither endpoint the session works inside the process, without any network.

use std::net::SocketAddr;
use std::time::Duration;

use jupiter_actors::codec::MAX_FRAME_BYTES;
use serde_json::json;
use zenoh::Session;
use zenoh::config::EndPoint;

use crate::error::{ConfigError, Error, Result, zenoh_error};

/// How long a silent peer counts as alive. Killed processes are noticed at once, by their closed
/// socket; this is for pulled cables. Shorter ones fall to scheduling noise on loaded machines.
const LEASE_MS: u64 = 2_500;

/// Keep-alives per lease: three may be late before the peer is given up.
const KEEP_ALIVES_PER_LEASE: u64 = 4;

/// How long a sender waits for a receiver that does not read before zenoh closes the connection
/// and loses what was under way. Far longer than any step, so that a slow stage is only slow.
const BLOCK_WAIT_US: u64 = 60_000_000;

/// Largest message taken from a peer: the largest frame, and what zenoh writes around it.
const MAX_MESSAGE_BYTES: usize = MAX_FRAME_BYTES + (64 << 10);

/// First and longest pause between attempts to reach an endpoint that does not answer.
const CONNECT_RETRY_MS: (u64, u64) = (250, 2_000);

/// How often is looked whether someone is connected.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long the other side of `--connect` may take to be reached before something is said: one that
/// is there is reached at once.
pub(crate) const REACH_PATIENCE: Duration = Duration::from_secs(5);

/// How long the closing of the session may take; peers notice by the lease otherwise.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Protocols compiled into the session.
const PROTOCOLS: [&str; 3] = ["tcp", "tls", "unixsock-stream"];

/// The endpoints of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Where it listens, as `tcp/127.0.0.1:7447`; port 0 takes a free one.
    pub listen: Vec<String>,
    /// Where it connects to, again and again until someone answers.
    pub connect: Vec<String>,
}

/// Opens a session.
///
/// # Errors
/// When an endpoint is in use or cannot be used. A peer that does not answer is no error: the
/// session goes on trying.
pub async fn open(endpoints: &Endpoints) -> Result<Session> {
    for endpoint in &endpoints.listen {
        warn_if_exposed(endpoint);
    }
    open_config(zenoh_config(endpoints)?, &endpoints.listen).await
}

/// Opens a session with a whole configuration of zenoh, which listens at `listen`.
///
/// # Errors
/// When an endpoint is in use or cannot be used.
pub(crate) async fn open_config(config: zenoh::Config, listen: &[String]) -> Result<Session> {
    zenoh::open(config).await.map_err(|error| {
        let text = error.to_string();
        if text.contains("in use") || text.contains("os error 98") {
            let named = listen.iter().find(|it| text.contains(it.as_str()));
            let endpoint = named.cloned().unwrap_or_else(|| listen.join(", "));
            return Error::EndpointInUse { endpoint };
        }
        zenoh_error(error)
    })
}

/// The endpoints on which `session` really listens, with the ports that were chosen.
pub async fn locators(session: &Session) -> Vec<String> {
    session
        .info()
        .locators()
        .await
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Whether anyone is connected to `session` before `patience` is over. Cancel safe.
pub(crate) async fn is_reached(session: &Session, patience: Duration) -> bool {
    let connected = async {
        let info = session.info();
        while info.peers_zid().await.next().is_none() && info.routers_zid().await.next().is_none() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::time::timeout(patience, connected).await.is_ok()
}

/// Closes a session, but does not wait for peers that do not answer.
pub(crate) async fn close(session: Session) {
    match tokio::time::timeout(CLOSE_TIMEOUT, session.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "closing the session"),
        Err(_) => tracing::debug!("the session does not close in {CLOSE_TIMEOUT:?}"),
    }
}

/// Brings an endpoint into zenoh's form: `host:port` means TCP.
///
/// # Errors
/// When the protocol is unknown or the port is missing.
pub fn parse_endpoint(text: &str) -> Result<String, ConfigError> {
    let endpoint = if text.contains('/') {
        text.to_owned()
    } else {
        format!("tcp/{text}")
    };
    let wrong = |why: String| {
        let endpoint = text.to_owned();
        ConfigError::Endpoint { endpoint, why }
    };
    let parsed = endpoint
        .parse::<EndPoint>()
        .map_err(|_| wrong("not an endpoint".to_owned()))?;
    let protocol = parsed.protocol().as_str().to_owned();
    if !PROTOCOLS.contains(&protocol.as_str()) {
        return Err(wrong(format!(
            "unknown protocol {protocol:?} ({})",
            PROTOCOLS.join(", ")
        )));
    }
    if protocol != "unixsock-stream" {
        let address = parsed.address().as_str().to_owned();
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            return Err(wrong("the port is missing".to_owned()));
        }
    }
    Ok(endpoint)
}

/// Says loudly that anyone in reach of `endpoint` may use the cluster.
fn warn_if_exposed(endpoint: &str) {
    if !is_local(endpoint) {
        tracing::warn!(
            "listening on {endpoint} WITHOUT AUTHENTICATION: anyone who reaches it can use and \
             disturb this cluster; listen on a loopback address unless you trust the network"
        );
    }
}

/// Whether only this machine reaches `endpoint`.
pub(crate) fn is_local(endpoint: &str) -> bool {
    let Ok(endpoint) = endpoint.parse::<EndPoint>() else {
        return false;
    };
    if endpoint.protocol().as_str() == "unixsock-stream" {
        return true;
    }
    let address = endpoint.address();
    match address.as_str().parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => address.as_str().starts_with("localhost:"),
    }
}

/// zenoh's configuration for these endpoints.
fn zenoh_config(endpoints: &Endpoints) -> Result<zenoh::Config> {
    let settings = [
        ("mode", json!("peer")),
        ("listen/endpoints", json!(endpoints.listen)),
        ("connect/endpoints", json!(endpoints.connect)),
        ("connect/timeout_ms", json!(-1)),
        ("connect/exit_on_failure", json!(false)),
        (
            "connect/retry",
            json!({
                "period_init_ms": CONNECT_RETRY_MS.0,
                "period_max_ms": CONNECT_RETRY_MS.1,
                "period_increase_factor": 2.0,
            }),
        ),
        ("scouting/multicast/enabled", json!(false)),
        ("scouting/gossip/enabled", json!(true)),
        ("transport/link/tx/lease", json!(LEASE_MS)),
        ("transport/link/tx/keep_alive", json!(KEEP_ALIVES_PER_LEASE)),
        (
            "transport/link/tx/queue/congestion_control/block/wait_before_close",
            json!(BLOCK_WAIT_US),
        ),
        (
            "transport/link/rx/max_message_size",
            json!(MAX_MESSAGE_BYTES),
        ),
    ];
    let mut config = zenoh::Config::default();
    for (key, value) in settings {
        config
            .insert_json5(key, &value.to_string())
            .map_err(|error| Error::Zenoh(format!("setting {key}: {error}")))?;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn endpoints_are_completed_or_refused() {
        assert_eq!(
            parse_endpoint("10.0.0.1:7447").unwrap(),
            "tcp/10.0.0.1:7447"
        );
        assert_eq!(
            parse_endpoint("tls/head.local:7447").unwrap(),
            "tls/head.local:7447"
        );
        assert_eq!(
            parse_endpoint("unixsock-stream//run/j").unwrap(),
            "unixsock-stream//run/j"
        );
        for bad in [
            "",
            "tcp/",
            "tcp/host",
            "udp/1.2.3.4:5",
            "quic/a:1",
            "host",
            "tcp/a:99999",
        ] {
            let error = parse_endpoint(bad).unwrap_err().to_string();
            assert!(
                error.contains("tcp/192.168.1.2:7447") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    #[test]
    fn only_what_other_machines_reach_is_called_exposed() {
        for local in [
            "tcp/127.0.0.1:1",
            "tcp/[::1]:1",
            "tcp/localhost:1",
            "unixsock-stream/x",
        ] {
            assert!(is_local(local), "{local}");
        }
        for exposed in [
            "tcp/0.0.0.0:1",
            "tcp/[::]:1",
            "tcp/192.168.1.2:1",
            "tls/robot:1",
        ] {
            assert!(!is_local(exposed), "{exposed}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_endpoint_in_use_is_named_in_one_line() {
        let listen = vec!["tcp/127.0.0.1:0".to_owned()];
        let first = open(&Endpoints {
            listen,
            connect: vec![],
        })
        .await
        .unwrap();
        let listen = locators(&first).await;
        assert_eq!(listen.len(), 1);
        let error = open(&Endpoints {
            listen: listen.clone(),
            connect: vec![],
        })
        .await
        .unwrap_err();
        let text = error.to_string();
        assert!(matches!(&error, Error::EndpointInUse { endpoint } if *endpoint == listen[0]));
        assert!(text.contains("--listen") && !text.contains('\n'), "{text}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_session_without_endpoints_opens_at_once() {
        let start = std::time::Instant::now();
        let session = open(&Endpoints::default()).await.unwrap();
        assert!(locators(&session).await.is_empty());
        assert!(start.elapsed().as_millis() < 400, "{:?}", start.elapsed());
    }
}
