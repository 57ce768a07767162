//! What the hub says of a repository: its files, and the hash and size of each.

use std::time::Duration;

use serde::Deserialize;
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::name::is_word;
use super::variable;
use crate::error::HubError;

/// Where the hub is, if `HF_ENDPOINT` does not say otherwise.
const ENDPOINT: &str = "https://huggingface.co";

/// Longest wait for a connection: a slow line of a phone needs a few seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest silence of a server. A file takes as long as it takes.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest list of files, in bytes: the largest repositories have some thousand.
const MAX_LISTING: u64 = 16 << 20;

/// Redirects within the hub that lead to a file: a renamed repository has one.
const MAX_REDIRECTS: usize = 5;

/// The hub, seen from one repository.
pub(super) struct Remote {
    agent: Agent,
    endpoint: String,
    repo: String,
    token: Option<String>,
}

/// A repository as it is now.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// The bytes of a file.
pub(super) struct Blob {
    pub(super) url: String,
    /// Their name in the cache: SHA-256 of large files, Git's hash of small ones.
    pub(super) etag: String,
    pub(super) n_bytes: u64,
}

/// The fields of the hub's answer that are read.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Remote {
    /// The hub as the environment names it; `stored` is used where `HF_TOKEN` says nothing.
    ///
    /// # Errors
    /// A token that cannot be sent.
    pub(super) fn from_environment(repo: &str, stored: Option<String>) -> Result<Self, HubError> {
        let token = variable("HF_TOKEN").or(stored);
        if token
            .as_ref()
            .is_some_and(|t| !t.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(HubError::BadToken);
        }
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(concat!("jupiter/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(READ_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .build();
        Ok(Self {
            agent: agent.into(),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            repo: repo.to_owned(),
            token,
        })
    }

    /// The files of the newest commit.
    pub(super) fn listing(&self) -> Result<Listing, HubError> {
        let url = format!("{}/api/models/{}/revision/main", self.endpoint, self.repo);
        let mut response = self.checked(self.get(&url, None)?)?;
        let body = response.body_mut().with_config().limit(MAX_LISTING);
        let text = body.read_to_string().map_err(|error| self.network(error))?;
        let info: Info = serde_json::from_str(&text)
            .map_err(|_| self.odd("something else than a list of files"))?;
        if !is_word(&info.sha) {
            return Err(self.odd("a commit that is none"));
        }
        let files = info.siblings.into_iter().map(|file| file.rfilename);
        Ok(Listing {
            commit: info.sha,
            files: files.collect(),
        })
    }

    /// What `file` holds. It may lie on another host, which is not asked here.
    pub(super) fn blob(&self, commit: &str, file: &str) -> Result<Blob, HubError> {
        let mut url = format!("{}/{}/resolve/{commit}/{file}", self.endpoint, self.repo);
        for _ in 0..MAX_REDIRECTS {
            let request = self.agent.head(&url).config().max_redirects(0).build();
            let request = request.header("Accept-Encoding", "identity");
            let response = self.authorized(request).call();
            let response = response.map_err(|error| self.network(error))?;
            let header = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
            // Only a way within the hub: another host gets no token.
            if let Some(way) =
                header("location").filter(|way| way.starts_with('/') && !way.starts_with("//"))
            {
                url = self.on_endpoint(&way);
                continue;
            }
            if !response.status().is_redirection() {
                self.status(response.status().as_u16())?;
            }
            let etag = header("x-linked-etag")
                .or_else(|| header("etag"))
                .unwrap_or_default();
            let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
            let n_bytes = header("x-linked-size").or_else(|| header("content-length"));
            return match n_bytes.and_then(|n| n.parse().ok()) {
                Some(n_bytes) if is_word(&etag) => Ok(Blob { url, etag, n_bytes }),
                _ => Err(self.odd(&format!("without hash or size of {file}"))),
            };
        }
        Err(self.odd("redirects without end"))
    }

    /// Asks for what is at `url`, from byte `start` on.
    pub(super) fn get(&self, url: &str, start: Option<u64>) -> Result<Response<Body>, HubError> {
        let request = self.authorized(self.agent.get(url));
        let request = match start {
            Some(start) => request.header("Range", format!("bytes={start}-")),
            None => request,
        };
        request.call().map_err(|error| self.network(error))
    }

    /// `response`, if it is what was asked for.
    pub(super) fn checked(&self, response: Response<Body>) -> Result<Response<Body>, HubError> {
        self.status(response.status().as_u16())?;
        Ok(response)
    }

    /// No connection, or none any more.
    pub(super) fn network(&self, why: impl std::fmt::Display) -> HubError {
        HubError::Network {
            endpoint: self.endpoint.clone(),
            why: why.to_string(),
        }
    }

    /// An answer that makes no sense.
    pub(super) fn odd(&self, what: &str) -> HubError {
        HubError::Answer {
            endpoint: self.endpoint.clone(),
            what: what.into(),
        }
    }

    fn status(&self, status: u16) -> Result<(), HubError> {
        let (repo, has_token) = (self.repo.clone(), self.token.is_some());
        match status {
            200..=299 => Ok(()),
            404 => Err(HubError::NoSuchRepository { repo, has_token }),
            401 | 403 => Err(HubError::Refused { repo, has_token }),
            _ => Err(self.odd(&format!("with status {status}"))),
        }
    }

    fn authorized<T>(&self, request: ureq::RequestBuilder<T>) -> ureq::RequestBuilder<T> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// `way`, which begins with a slash, on the host of the endpoint.
    fn on_endpoint(&self, way: &str) -> String {
        let after_scheme = self.endpoint.find("://").map_or(0, |at| at + 3);
        let host_end = self.endpoint[after_scheme..].find('/');
        let end = host_end.map_or(self.endpoint.len(), |at| after_scheme + at);
        format!("{}{way}", &self.endpoint[..end])
    }
}
