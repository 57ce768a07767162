//! Where a worker listens unless told: the addresses by which it reaches its head, on free ports, so
//! that other workers reach it too.
//!
//! A machine that boots has no route and no names yet, and the head may be off: the worker waits for
//! that as it waits for a head that does not answer.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use futures::future::join_all;
use zenoh::config::EndPoint;

/// How long the name of an endpoint may take to resolve before the others go on without it: twice
/// what resolvers give a server before they ask the next one.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(10);

/// Pause before all endpoints are tried again, as long as zenoh's longest between two attempts.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Waits until some of the endpoints `connect` can be reached from an address of this machine, and
/// gives an endpoint to listen on for each such address. Says once what it waits for. Cancel safe.
pub(crate) async fn listen_towards(connect: &[String]) -> Vec<String> {
    let mut is_told = false;
    loop {
        let attempts = connect.iter().map(|endpoint| attempt(endpoint.clone()));
        let mut listen: Vec<String> = Vec::new();
        let mut missing = Vec::new();
        for (endpoint, found) in connect.iter().zip(join_all(attempts).await) {
            match found {
                Ok(address) if listen.contains(&address) => {}
                Ok(address) => listen.push(address),
                Err(why) => missing.push(format!("cannot reach {endpoint} yet ({why})")),
            }
        }
        if !is_told && !missing.is_empty() {
            let missing = missing.join(", ");
            tracing::warn!("{missing}: waiting for it; are --connect and the network right?");
            is_told = true;
        }
        if !listen.is_empty() {
            return listen;
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// Tries one endpoint, on a thread that may block.
async fn attempt(endpoint: String) -> Result<String, String> {
    let attempt = tokio::task::spawn_blocking(move || towards(&endpoint));
    match tokio::time::timeout(RESOLVE_PATIENCE, attempt).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => Err("the program ends".to_owned()),
        Err(_) => Err(format!("no answer in {} s", RESOLVE_PATIENCE.as_secs())),
    }
}

/// The address by which this machine reaches `endpoint`. Blocks while names resolve.
fn towards(endpoint: &str) -> Result<String, String> {
    let endpoint: EndPoint = endpoint.parse().map_err(|_| "not an endpoint".to_owned())?;
    if endpoint.protocol().as_str() == "unixsock-stream" {
        return Ok("tcp/127.0.0.1:0".to_owned());
    }
    let addresses = endpoint.address().as_str().to_socket_addrs();
    let addresses = addresses.map_err(|error| error.to_string())?;
    let mut why = "the name has no address".to_owned();
    for remote in addresses {
        match local_ip_towards(remote) {
            Ok(local) => {
                let local = SocketAddr::new(local, 0);
                return Ok(format!("{}/{local}", endpoint.protocol()));
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

/// The address of the interface that routes to `remote`. Connecting a UDP socket sends nothing.
fn local_ip_towards(remote: SocketAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr = if remote.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A name that no resolver takes, and an address to which no route leads without an interface.
    const UNREACHABLE: [&str; 2] = ["tcp/no..such.name:7447", "tcp/[fe80::1]:7447"];

    #[test]
    fn a_worker_listens_where_it_reaches_the_head() {
        assert_eq!(towards("tcp/127.0.0.1:7447").unwrap(), "tcp/127.0.0.1:0");
        assert_eq!(towards("tcp/[::1]:7447").unwrap(), "tcp/[::1]:0");
        for endpoint in UNREACHABLE {
            towards(endpoint).unwrap_err();
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_can_be_reached_is_enough_wherever_it_stands() {
        let [name, route] = UNREACHABLE;
        let connect = [name, "tcp/127.0.0.1:1", route, "tcp/127.0.0.1:2"];
        let listen = listen_towards(&connect.map(str::to_owned)).await;
        assert_eq!(listen, ["tcp/127.0.0.1:0"]);
    }
}
