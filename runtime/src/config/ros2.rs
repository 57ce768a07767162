//! A node of ROS 2: what may be said of it, and what is used.

use std::fmt::{Display, Formatter};
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::ros2_name::{OFFERED, Remap, Ros2Name};
use super::typed_topics::{self, Ros2Topic};
use crate::error::{Result, Ros2Error};
use crate::net::session::parse_endpoint;

/// Where a router of rmw_zenoh listens, and nodes of ROS 2 look for one.
const ROUTER_ENDPOINT: &str = "tcp/127.0.0.1:7447";

/// The node when nothing is said.
const DEFAULT_NAME: &str = "/llm/jupiter";

/// Largest domain of ROS 2 (its ports end there).
const MAX_DOMAIN: u32 = 232;

/// A node for robots of ROS 2.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "ROS 2")]
#[serde(default)]
pub struct Ros2Settings {
    /// Be a node of ROS 2 for robots with rmw_zenoh: at their router, as `tcp/robot:7447`, or as the
    /// router itself: `router` for this machine alone, `router@tcp/0.0.0.0:7447` for others
    #[arg(long, env = "JUPITER_ROS2", value_name = "ENDPOINT|router")]
    pub ros2: Option<String>,

    /// Namespace and name of that node; without it /llm/jupiter
    #[arg(long, env = "JUPITER_ROS2_NAME", value_name = "NAME")]
    pub ros2_name: Option<String>,

    /// Its ROS domain; without it ROS_DOMAIN_ID, or 0
    #[arg(long, env = "JUPITER_ROS2_DOMAIN", value_name = "N")]
    pub ros2_domain: Option<u32>,

    /// What the robot runs; without it ROS_DISTRO, or one that is newer than Humble
    #[arg(long, env = "JUPITER_ROS2_DISTRO", value_name = "DISTRO")]
    pub ros2_distro: Option<Ros2Distro>,

    /// Another name for what the node offers, as `prompt:=/robot/ask` or `/llm/answer:=said`; may be
    /// repeated
    #[arg(
        long,
        env = "JUPITER_ROS2_REMAP",
        value_name = "FROM:=TO",
        value_delimiter = ','
    )]
    pub ros2_remap: Vec<String>,

    /// Interfaces of the robot's own packages, which answers may be of too (`answer_type`): a package's
    /// folder, or one of packages as /opt/ros/jazzy/share; may be repeated
    #[arg(
        long,
        env = "JUPITER_ROS2_INTERFACES",
        value_name = "FOLDER",
        value_delimiter = ','
    )]
    pub ros2_interfaces: Vec<PathBuf>,

    /// What is said on the topic `prompt` becomes a message of this type on the topic NAME (`cmd_vel` in
    /// the node's namespace, `/cmd_vel` without one), or nothing is published; may be repeated
    #[arg(
        long,
        env = "JUPITER_ROS2_TOPIC",
        value_name = "NAME=PKG/msg/TYPE",
        value_delimiter = ','
    )]
    pub ros2_topic: Vec<String>,

    /// What a number in such a message may be, as `linear.x=-0.3..0.3`; with several topics
    /// `/cmd_vel:linear.x=-0.3..0.3`; may be repeated
    #[arg(
        long,
        env = "JUPITER_ROS2_LIMIT",
        value_name = "[TOPIC:]FIELD=MIN..MAX",
        value_delimiter = ','
    )]
    pub ros2_limit: Vec<String>,

    /// A prompt on the topic `prompt` stops those before it, instead of waiting for them
    #[arg(
        long,
        env = "JUPITER_ROS2_BARGE_IN",
        value_name = "true|false",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub ros2_barge_in: Option<bool>,

    /// The robot's own configuration of zenoh, with its TLS files; without it ZENOH_SESSION_CONFIG_URI (as a router
    /// ZENOH_ROUTER_CONFIG_URI too)
    #[arg(long, env = "JUPITER_ROS2_ZENOH_CONFIG", value_name = "FILE")]
    pub ros2_zenoh_config: Option<PathBuf>,

    /// Talk with robots of a DDS behind zenoh-bridge-ros2dds: --ros2 is where the bridge is
    #[arg(
        long,
        env = "JUPITER_ROS2_BRIDGE",
        value_name = "true|false",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub ros2_bridge: Option<bool>,
}

/// A distribution of ROS 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Ros2Distro {
    /// Of 2022: it knows no hashes of types.
    Humble,
    /// Of 2024.
    Jazzy,
    /// Of 2025.
    Kilted,
    /// Of 2026.
    Lyrical,
    /// What comes next.
    Rolling,
}

/// What is used of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ros2Config {
    /// How it reaches robots.
    pub place: Ros2Place,
    /// The node.
    pub name: Ros2Name,
    /// Its domain; without it the environment's `ROS_DOMAIN_ID`, or 0.
    pub domain: Option<u32>,
    /// The robot's distribution; without it the environment's `ROS_DISTRO`.
    pub distro: Option<Ros2Distro>,
    /// Other names of what it offers.
    pub remaps: Vec<Remap>,
    /// Folders with interfaces of the robot's own packages.
    pub interfaces: Vec<PathBuf>,
    /// Where prompts become messages; without one they are answered.
    pub topics: Vec<Ros2Topic>,
    /// Whether a prompt stops those before it.
    pub barge_in: bool,
    /// A file with the robot's configuration of zenoh; without it the environment's.
    pub zenoh_config: Option<PathBuf>,
    /// Whether robots are behind zenoh-bridge-ros2dds, and not of rmw_zenoh.
    pub is_bridged: bool,
}

/// How robots are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ros2Place {
    /// It connects to their router at this endpoint.
    Client(String),
    /// It is their router, and listens at this endpoint.
    Router(String),
}

impl Ros2Config {
    /// Nothing where no robots are to be reached.
    pub(super) fn from_settings(settings: &Ros2Settings) -> Result<Option<Self>> {
        let Some(place) = &settings.ros2 else {
            let typed = settings.ros2_topic.iter().chain(&settings.ros2_limit);
            return match typed.into_iter().next() {
                None => Ok(None),
                Some(said) => Err(Ros2Error::NoNode(said.clone()).into()),
            };
        };
        let place = match (place.as_str(), place.strip_prefix("router@")) {
            ("router", _) => Ros2Place::Router(ROUTER_ENDPOINT.to_owned()),
            (_, Some(endpoint)) => Ros2Place::Router(parse_endpoint(endpoint)?),
            (endpoint, None) => Ros2Place::Client(parse_endpoint(endpoint)?),
        };
        let name = settings.ros2_name.as_deref().unwrap_or(DEFAULT_NAME);
        let name = Ros2Name::parse(name)?;
        let domain = settings.ros2_domain.map(checked_domain).transpose()?;
        let topics = typed_topics::read(&settings.ros2_topic, &settings.ros2_limit, &name)?;
        let remaps = settings.ros2_remap.iter();
        let remaps = remaps.map(|said| Remap::parse(said, &name));
        let remaps = remaps.collect::<Result<_>>()?;
        let config = Self {
            place,
            name,
            domain,
            distro: settings.ros2_distro,
            remaps,
            topics,
            barge_in: settings.ros2_barge_in.unwrap_or(false),
            zenoh_config: settings.ros2_zenoh_config.clone(),
            is_bridged: settings.ros2_bridge.unwrap_or(false),
            interfaces: settings.ros2_interfaces.clone(),
        };
        config.check_names()?;
        Ok(Some(config))
    }

    /// A node that hears what it says would answer itself.
    fn check_names(&self) -> Result<()> {
        let offered = OFFERED.map(|name| self.offered(name));
        let typed = self.topics.iter().map(|topic| topic.name.clone());
        let mut names: Vec<String> = offered.into_iter().chain(typed).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(()),
            Some(pair) => Err(Ros2Error::Remap {
                said: pair[0].clone(),
                why: "the node would have two things of that name".to_owned(),
            }
            .into()),
        }
    }

    /// The whole name under which the node offers what it calls `name`: one of [`OFFERED`].
    pub(crate) fn offered(&self, name: &str) -> String {
        let own = self.name.relative(name);
        let remap = self.remaps.iter().find(|remap| remap.from == own);
        remap.map_or(own, |remap| remap.to.clone())
    }

    /// Whether the robot's nodes know types by their hashes, which the environment may tell.
    pub(crate) fn has_hashes(&self) -> bool {
        match self.distro {
            Some(distro) => distro != Ros2Distro::Humble,
            None => !std::env::var("ROS_DISTRO").is_ok_and(|name| name.trim() == "humble"),
        }
    }

    /// The domain, which the environment may name.
    ///
    /// # Errors
    /// `ROS_DOMAIN_ID` is no domain.
    pub(crate) fn domain_here(&self) -> Result<u32> {
        match (self.domain, std::env::var("ROS_DOMAIN_ID")) {
            (Some(domain), _) => Ok(domain),
            (None, Ok(text)) if !text.trim().is_empty() => match text.trim().parse() {
                Ok(domain) => checked_domain(domain),
                Err(_) => Err(Ros2Error::Domain(text).into()),
            },
            (None, _) => Ok(0),
        }
    }
}

impl Display for Ros2Config {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let name = self.name.full();
        let domain = match self.domain_here() {
            Ok(domain) if !self.is_bridged => format!(" in domain {domain}"),
            _ => String::new(),
        };
        match &self.place {
            Ros2Place::Client(endpoint) => write!(f, "node {name} of ROS 2{domain} at {endpoint}"),
            Ros2Place::Router(endpoint) => {
                write!(
                    f,
                    "node {name} of ROS 2{domain}, and its router at {endpoint}"
                )
            }
        }?;
        for Ros2Topic {
            name: topic, ty, ..
        } in &self.topics
        {
            let prompt = self.offered("prompt");
            write!(f, "\nwhat is said on {prompt} becomes {ty} on {topic}")?;
        }
        Ok(())
    }
}

fn checked_domain(domain: u32) -> Result<u32> {
    match domain {
        0..=MAX_DOMAIN => Ok(domain),
        _ => Err(Ros2Error::Domain(domain.to_string()).into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(place: &str, name: &str) -> Result<Option<Ros2Config>> {
        Ros2Config::from_settings(&Ros2Settings {
            ros2: Some(place.to_owned()),
            ros2_name: Some(name.to_owned()),
            ros2_domain: Some(7),
            ..Ros2Settings::default()
        })
    }

    #[test]
    fn places_and_names_are_read_or_refused() {
        let place = |text| config(text, "a").unwrap().unwrap().place;
        let at = |text: &str| text.to_owned();
        assert_eq!(place("router"), Ros2Place::Router(at("tcp/127.0.0.1:7447")));
        let router = Ros2Place::Router(at("tcp/0.0.0.0:1"));
        assert_eq!(place("router@0.0.0.0:1"), router);
        assert_eq!(place("robot:7447"), Ros2Place::Client(at("tcp/robot:7447")));
        let name = |text| config("router", text).unwrap().unwrap().name;
        assert_eq!(name("/llm/jupiter").relative("answer"), "/llm/answer");
        assert_eq!(name("a/b/c").full(), "/a/b/c");
        assert_eq!(name("c").relative("answer"), "/answer");
        for (place, bad) in [
            ("router", ""),
            ("router", "/llm/"),
            ("router", "a//b"),
            ("router", "1a"),
            ("router", "a-b"),
            ("router", "a*"),
            ("udp/a:1", "a"),
            ("router@", "a"),
        ] {
            let error = config(place, bad).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
        assert_eq!(
            Ros2Config::from_settings(&Ros2Settings::default()).unwrap(),
            None
        );
        let remapped = |said: &str| {
            Ros2Config::from_settings(&Ros2Settings {
                ros2: Some("router".to_owned()),
                ros2_remap: vec![said.to_owned()],
                ..Ros2Settings::default()
            })
        };
        let offered = |said: &str, name: &str| remapped(said).unwrap().unwrap().offered(name);
        assert_eq!(offered("prompt:=/robot/ask", "prompt"), "/robot/ask");
        assert_eq!(offered("/llm/answer:=said", "answer"), "/llm/said");
        assert_eq!(offered("prompt:=/robot/ask", "answer"), "/llm/answer");
        assert!(remapped("prompt:=answer").is_err() && remapped("prompt:=/llm/tokens").is_err());
        for bad in [
            "prompt=/a",
            "prompt:=",
            "prompt:=/a//b",
            "propmt:=/a",
            "/prompt:=/a",
            "prompt:=1a",
        ] {
            let error = remapped(bad).unwrap_err().to_string();
            assert!(error.contains(bad) && !error.contains('\n'), "{error}");
        }
        let alone = Ros2Settings {
            ros2_limit: vec!["linear.x=0..1".to_owned()],
            ..Ros2Settings::default()
        };
        let error = Ros2Config::from_settings(&alone).unwrap_err().to_string();
        assert!(error.contains("--ros2 router"), "{error}");
    }
}
