//! A robot: a node of ROS 2 as rmw_zenoh writes it, by hand, over plain zenoh.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::support::PATIENCE;
use zenoh::Session;
use zenoh::bytes::ZBytes;
use zenoh::handlers::FifoChannelHandler;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Subscriber;
use zenoh::query::{ConsolidationMode, QueryTarget, ReplyKeyExpr};
use zenoh::sample::Sample;

pub(crate) const STRING: &str = "std_msgs::msg::dds_::String_/RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18";
pub(crate) const STATUS: &str = "action_msgs::msg::dds_::GoalStatusArray_/RIHS01_6c1684b00f177d37438febe6e709fc4e2b0d4248dca4854946f9ed8b30cda83e";
pub(crate) const CANCEL: &str = "action_msgs::srv::dds_::CancelGoal_/RIHS01_573d8b0a534451d7bc2ac8c5ffde8ac14b8593b7001175d0cd6516dcbeb8689a";
pub(crate) const TRIGGER: &str = "std_srvs::srv::dds_::Trigger_/RIHS01_eeff2cd6fa5ad9d27cdf4dec64818317839b62f212a91e6b5304b634b2062c5f";
pub(crate) const LIST: &str = "rcl_interfaces::srv::dds_::ListParameters_/RIHS01_3e6062bfbb27bfb8730d4cef2558221f51a11646d78e7bb30a1e83afac3aad9d";
pub(crate) const SET: &str = "rcl_interfaces::srv::dds_::SetParameters_/RIHS01_56eed9a67e169f9cb6c1f987bc88f868c14a8fc9f743a263bc734c154015d7e0";
// What `rosidl.py`, which agrees with ROS, makes of examples/ros2/jupiter_msgs.
pub(crate) const SEND_GOAL: &str = "jupiter_msgs::action::dds_::Generate_SendGoal_/RIHS01_9233342687e3f52f30d24303e8a6989213c5bfde3fbe76b32936c60e1fd7ea95";
pub(crate) const GET_RESULT: &str = "jupiter_msgs::action::dds_::Generate_GetResult_/RIHS01_3fa4ee50b2524e13477dd1eda63aead69fb00c896420b8533b7df9ba9e84efbc";
pub(crate) const FEEDBACK: &str = "jupiter_msgs::action::dds_::Generate_FeedbackMessage_/RIHS01_bb2be754e3819bdc78a87f85ca05246ddf750a11ba099f8489efd8e96b486a76";
pub(crate) const ASK: &str = "jupiter_msgs::srv::dds_::Ask_/RIHS01_9543dd95611f330603bf8bdce5b6838497eda1c0f8968fb67d095cf3c175e6ef";

/// A robot's session.
pub(crate) struct Robot {
    pub(crate) session: Session,
    sequence: AtomicI64,
}

impl Robot {
    /// Connects to the router as ROS 2 nodes elsewhere do.
    pub(crate) async fn at(router: &str) -> Self {
        Self {
            session: session("client", "connect", router).await,
            sequence: AtomicI64::new(0),
        }
    }

    pub(crate) async fn subscribe(&self, key: String) -> Subscriber<FifoChannelHandler<Sample>> {
        self.session.declare_subscriber(key).await.unwrap()
    }

    /// Publishes when somebody subscribes.
    pub(crate) async fn publish(&self, key: String, message: Cdr) {
        let publisher = self.session.declare_publisher(key).await.unwrap();
        while !publisher.matching_status().await.unwrap().matching() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        publisher.put(message.bytes()).await.unwrap();
    }

    /// Calls a service as a client with this gid; the reply has to name the same call.
    pub(crate) async fn call(&self, key: String, gid: [u8; 16], request: Cdr) -> Vec<u8> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let mut attachment = [sequence.to_le_bytes(), 1_i64.to_le_bytes()].concat();
        attachment.push(16);
        attachment.extend(gid);
        let replies = self.session.get(key.clone()).payload(request.bytes());
        let replies = replies.attachment(attachment.clone()).timeout(PATIENCE);
        let replies = replies.target(QueryTarget::AllComplete);
        let replies = replies
            .consolidation(ConsolidationMode::None)
            .await
            .unwrap();
        let reply = replies
            .recv_async()
            .await
            .expect("nobody offers the service");
        let sample = match reply.into_result() {
            Ok(sample) => sample,
            Err(error) => return [b"error:", &*error.payload().to_bytes()].concat(),
        };
        assert_eq!(sample.key_expr().as_str(), key);
        let named = sample.attachment().map(ZBytes::to_bytes).unwrap();
        assert_eq!(
            (&named[..8], &named[16..]),
            (&attachment[..8], &attachment[16..])
        );
        sample.payload().to_bytes().to_vec()
    }

    /// What a subscription for the last message of a latched topic asks for.
    pub(crate) async fn latched(&self, key: &str) -> Vec<Sample> {
        let replies = self.session.get(format!("{key}/@adv/**?_max=1"));
        let replies = replies.accept_replies(ReplyKeyExpr::Any).timeout(PATIENCE);
        let replies = replies
            .consolidation(ConsolidationMode::None)
            .await
            .unwrap();
        let mut samples = Vec::new();
        while let Ok(reply) = replies.recv_async().await {
            samples.push(reply.into_result().unwrap());
        }
        samples
    }

    /// The token of a client of `/llm/generate`'s send_goal, and the gid that follows from it.
    pub(crate) async fn client_token(&self) -> (LivelinessToken, [u8; 16]) {
        let zid = self.session.zid();
        let token = format!(
            "@ros2_lv/0/{zid}/0/3/SC/%/%/robot/%llm%generate%_action%send_goal/{SEND_GOAL}/::,10:,:,:,,"
        );
        let gid = twox_hash::XxHash3_128::oneshot(token.as_bytes()).to_le_bytes();
        let token = self
            .session
            .liveliness()
            .declare_token(token)
            .await
            .unwrap();
        (token, gid)
    }

    /// All tokens that others see.
    pub(crate) async fn tokens(&self) -> Vec<String> {
        let tokens = self
            .session
            .liveliness()
            .get("@ros2_lv/0/**")
            .await
            .unwrap();
        let mut keys = Vec::new();
        while let Ok(reply) = tokens.recv_async().await {
            keys.push(reply.into_result().unwrap().key_expr().to_string());
        }
        keys
    }
}

/// A session of zenoh alone.
pub(crate) async fn session(mode: &str, side: &str, endpoint: &str) -> Session {
    let mut config = zenoh::Config::default();
    let endpoints = format!("{side}/endpoints");
    for (key, value) in [
        ("mode", format!("\"{mode}\"")),
        (endpoints.as_str(), format!("[\"{endpoint}\"]")),
        ("scouting/multicast/enabled", "false".to_owned()),
    ] {
        config.insert_json5(key, &value).unwrap();
    }
    zenoh::open(config).await.unwrap()
}

/// Writes and reads messages, little endian.
#[derive(Default)]
pub(crate) struct Cdr(Vec<u8>);

impl Cdr {
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// A number, aligned to its size.
    pub(crate) fn put(mut self, bytes: &[u8]) -> Self {
        self.0.resize(self.0.len().next_multiple_of(bytes.len()), 0);
        self.raw(bytes)
    }

    pub(crate) fn text(self, text: &str) -> Self {
        let n = u32::try_from(text.len() + 1).unwrap();
        self.put(&n.to_le_bytes()).raw(text.as_bytes()).raw(&[0])
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        [vec![0, 1, 0, 0], self.0].concat()
    }
}

/// A goal of `Generate`.
pub(crate) fn goal(id: u8, prompt: &str, max_tokens: i32) -> Cdr {
    goal_with(id, prompt, max_tokens, "{\"ignore_eos\": true}")
}

/// The same with these `options_json`.
pub(crate) fn goal_with(id: u8, prompt: &str, max_tokens: i32, options: &str) -> Cdr {
    goal_of((id, prompt), max_tokens, "", options)
}

/// The same with this `answer_type`.
pub(crate) fn goal_of(
    (id, prompt): (u8, &str),
    max_tokens: i32,
    answer_type: &str,
    options: &str,
) -> Cdr {
    Cdr::default()
        .raw(&[id; 16])
        .text(prompt)
        .put(&0_u32.to_le_bytes()) // messages
        .text("")
        .put(&max_tokens.to_le_bytes())
        .put(&0_f32.to_le_bytes())
        .put(&(-1_i64).to_le_bytes())
        .put(&0_u32.to_le_bytes()) // stop
        .text(answer_type)
        .text("")
        .text("")
        .text(options)
}

/// Reads what [`Cdr`] writes.
pub(crate) struct Read<'a>(pub(crate) &'a [u8], pub(crate) usize);

impl<'a> Read<'a> {
    /// Behind the header.
    pub(crate) fn of(message: &'a [u8]) -> Self {
        assert_eq!(
            message[..4],
            [0, 1, 0, 0],
            "{}",
            String::from_utf8_lossy(message)
        );
        Self(&message[4..], 0)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.1 += 1;
        self.0[self.1 - 1]
    }

    pub(crate) fn skip(&mut self, n: usize) {
        self.1 += n;
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.1 = self.1.next_multiple_of(4) + 4;
        u32::from_le_bytes(self.0[self.1 - 4..self.1].try_into().unwrap())
    }

    pub(crate) fn text(&mut self) -> String {
        let n = self.u32() as usize;
        self.1 += n;
        String::from_utf8(self.0[self.1 - n..self.1 - 1].to_vec()).unwrap()
    }
}
