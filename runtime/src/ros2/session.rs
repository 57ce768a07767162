//! The session of the node, apart from the cluster's: frames of tensors, short leases and senders that
//! wait have no place in a robot's network.
//!
//! Nodes of ROS 2 are peers that their router does not forward between (rmw_zenoh, README), so a node
//! elsewhere has to be a client of that router, or the router itself.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use zenoh::Session;

use super::wire::{Token, all_nodes};
use crate::config::{Ros2Config, Ros2Place};
use crate::error::{Error, Result, Ros2Error, one_line};
use crate::net::session::{is_local, is_reached, open_config};

/// A file with the robot's own configuration of zenoh (TLS files among it), as rmw_zenoh takes it.
const CONFIG_VARIABLE: &str = "ZENOH_SESSION_CONFIG_URI";

/// What names one before the environment does.
const CONFIG_FLAG: &str = "--ros2-zenoh-config";

/// The same for a router, as rmw_zenohd takes it.
const ROUTER_CONFIG_VARIABLE: &str = "ZENOH_ROUTER_CONFIG_URI";

/// Single values of it, as `key=value;key=value`.
const OVERRIDE_VARIABLE: &str = "ZENOH_CONFIG_OVERRIDE";

/// Longest attempt to reach the router.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// How long nodes that are there may take to say so.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long robots take this node for there when it is silent, in milliseconds.
const LEASE_MS: u64 = 4_000;

/// Opens the session.
///
/// # Errors
/// No router answers, the endpoint is in use, or the environment's configuration cannot be used.
pub(super) async fn open(ros2: &Ros2Config) -> Result<Session> {
    let config = zenoh_config(ros2)?;
    match &ros2.place {
        Ros2Place::Router(endpoint) => {
            if !is_local(endpoint) {
                tracing::warn!(
                    "routing for ROS 2 on {endpoint}: who reaches it can talk with this model and all \
                     robots there, unless a configuration says otherwise ({CONFIG_FLAG})"
                );
            }
            let opened = open_config(config, std::slice::from_ref(endpoint)).await;
            opened.map_err(|error| match error {
                Error::EndpointInUse { endpoint } => Ros2Error::RouterInUse { endpoint }.into(),
                error => error,
            })
        }
        Ros2Place::Client(endpoint) => {
            let endpoint = endpoint.clone();
            let no_router = || Ros2Error::NoRouter { endpoint };
            match tokio::time::timeout(CONNECT_PATIENCE, zenoh::open(config)).await {
                Ok(Ok(session)) if is_reached(&session, CONNECT_PATIENCE).await => Ok(session),
                _ => Err(no_router().into()),
            }
        }
    }
}

/// Looks who is there, and says it.
///
/// Whether no other node is there, in any domain.
///
/// # Errors
/// Another node has this name.
pub(super) async fn look(session: &Session, config: &Ros2Config, domain: u32) -> Result<bool> {
    let (here, elsewhere): (Vec<Token>, Vec<Token>) = nodes(session)
        .await?
        .into_iter()
        .partition(|token| token.domain == domain);
    let here: Vec<String> = here.into_iter().map(|token| token.node).collect();
    let elsewhere: BTreeSet<u32> = elsewhere.iter().map(|token| token.domain).collect();
    let name = config.name.full();
    if here.contains(&name) {
        return Err(Ros2Error::TwoNodes { name, domain }.into());
    }
    let list = match here.is_empty() {
        true => "no other node".to_owned(),
        false => here.join(", "),
    };
    tracing::info!("ROS 2: {name} in domain {domain}, with {list}");
    if here.is_empty() && !elsewhere.is_empty() {
        tell_other_domains(domain, &elsewhere);
    }
    Ok(here.is_empty() && elsewhere.is_empty())
}

/// Says that nodes are in other domains, and none in this one.
pub(super) fn tell_other_domains(domain: u32, others: &BTreeSet<u32>) {
    let others: Vec<_> = others.iter().map(u32::to_string).collect();
    tracing::warn!(
        "no node of ROS 2 is in domain {domain}, but some are in {}: is that the one (--ros2-domain)?",
        others.join(", ")
    );
}

/// The tokens of all nodes that are there.
async fn nodes(session: &Session) -> Result<Vec<Token>> {
    let tokens = session.liveliness().get(all_nodes()).timeout(LOOK_TIMEOUT);
    let tokens = tokens.await.map_err(crate::error::zenoh_error)?;
    let mut nodes = Vec::new();
    while let Ok(reply) = tokens.recv_async().await {
        let key = reply.result().ok().map(|sample| sample.key_expr().clone());
        nodes.extend(key.and_then(|key| Token::parse(key.as_str())));
    }
    Ok(nodes)
}

/// The robot's configuration where a flag or the environment names one, and over it how it is reached.
fn zenoh_config(ros2: &Ros2Config) -> Result<zenoh::Config> {
    let place = &ros2.place;
    let variables: &[&'static str] = match place {
        Ros2Place::Router(_) => &[ROUTER_CONFIG_VARIABLE, CONFIG_VARIABLE],
        Ros2Place::Client(_) => &[CONFIG_VARIABLE],
    };
    let said = ros2.zenoh_config.clone().map(|path| (CONFIG_FLAG, path));
    let from_environment = |name: &&'static str| Some((*name, variable(name)?.into()));
    let named = said.or_else(|| variables.iter().find_map(from_environment));
    let mut config = match &named {
        Some((name, path)) => {
            let read = zenoh::Config::from_file(path);
            read.map_err(|error| {
                let why = format!("{}: {}", path.display(), one_line(&error));
                wrong(name, &why)
            })?
        }
        None => zenoh::Config::default(),
    };
    let overrides = variable(OVERRIDE_VARIABLE).unwrap_or_default();
    for part in overrides.split(';').filter(|part| !part.trim().is_empty()) {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| wrong(OVERRIDE_VARIABLE, &format!("`{part}` is no key=value")))?;
        let set = config.insert_json5(key.trim(), value);
        set.map_err(|error| {
            let why = format!("{key}: {}", one_line(&error));
            wrong(OVERRIDE_VARIABLE, &why)
        })?;
    }
    // What the file names may be put right by an override.
    let source = named.map_or(OVERRIDE_VARIABLE, |(name, _)| name);
    check_tls(&config).map_err(|why| wrong(source, &why))?;
    let (mode, listen, connect) = match place {
        Ros2Place::Client(endpoint) => ("client", vec![], vec![endpoint]),
        Ros2Place::Router(endpoint) => ("router", vec![endpoint], vec![]),
    };
    for (key, value) in [
        ("mode", json!(mode)),
        ("listen/endpoints", json!(listen)),
        ("connect/endpoints", json!(connect)),
        ("connect/timeout_ms", json!(0)),
        ("scouting/multicast/enabled", json!(false)),
        ("transport/link/tx/lease", json!(LEASE_MS)),
    ] {
        let value = value.to_string();
        let set = config.insert_json5(key, &value);
        set.map_err(|error| Error::Zenoh(format!("setting {key}: {error}")))?;
    }
    Ok(config)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn wrong(variable: &'static str, why: &str) -> Error {
    let why = why.to_owned();
    Ros2Error::Environment { variable, why }.into()
}

/// Files of TLS that a configuration names; zenoh would go on looking for a router without them.
fn check_tls(config: &zenoh::Config) -> std::result::Result<(), String> {
    for name in [
        "root_ca_certificate",
        "listen_private_key",
        "listen_certificate",
        "connect_private_key",
        "connect_certificate",
    ] {
        let key = format!("transport/link/tls/{name}");
        let said = config.get_json(&key).ok();
        let path = said.and_then(|json| serde_json::from_str::<Option<String>>(&json).ok()?);
        if let Some(path) = path
            && let Err(error) = std::fs::metadata(&path)
        {
            return Err(format!("{path}: {error} ({key})"));
        }
    }
    Ok(())
}
