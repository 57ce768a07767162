//! The wire codec: a versioned frame around a bincode header and raw tensor bytes.
//!
//! ```text
//! byte 0        protocol version, PROTOCOL_VERSION
//! byte 1        kind: 1 step, 2 report, 3 command, 4 node report, 5 cancel,
//!               6 ask for guesses, 7 guesses
//! bytes 2..4    zero
//! bytes 4..8    length H of the header, u32 little endian
//! bytes 8..8+H  header: bincode 2, standard configuration (little endian, variable-length integers)
//! the rest      payload: hidden states (n_rows, n_embd) in the header's dtype; only steps have one
//! ```
//!
//! This is the only module that imports bincode. Every length is checked before anything is
//! allocated for it, and every byte has to be used: what decodes is what was encoded.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{Message, StepBatch, StepHeader};

/// Version of the wire format. Peers of another version are refused.
pub const PROTOCOL_VERSION: u8 = 7;

/// Longest header: a context of a million tokens at 5 bytes each, twice over, with room for rows.
pub const MAX_HEADER_BYTES: usize = 16 << 20;

/// Longest frame: 4096 rows of 4096 values in f32, as zenoh's `rx/max_message_size` is set.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Bytes before the header.
const PREFIX_BYTES: usize = 8;

/// Why a frame cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The peer runs another version of the protocol.
    #[error(
        "protocol version {got}, expected {PROTOCOL_VERSION}: install the same jupiter on all nodes"
    )]
    Version {
        /// The peer's version.
        got: u8,
    },
    /// Fewer bytes than a frame needs, or more than one may have.
    #[error("frame of {got} bytes, expected {expected}")]
    Length {
        /// What the frame's own fields ask for.
        expected: String,
        /// What arrived.
        got: usize,
    },
    /// A kind that does not exist.
    #[error("unknown kind {0}")]
    Kind(u8),
    /// The header is not what its kind says.
    #[error("bad header: {0}")]
    Header(String),
}

/// Writes a message as a frame.
pub fn encode(message: &Message) -> Vec<u8> {
    match message {
        Message::Step(step) => frame(Kind::Step, &step.header, &step.payload),
        Message::Report(report) => frame(Kind::Report, report, &[]),
        Message::Cancel(cancel) => frame(Kind::Cancel, cancel, &[]),
        Message::Draft(request) => frame(Kind::Draft, request, &[]),
        Message::Drafted(reply) => frame(Kind::Drafted, reply, &[]),
        Message::Command(command) => frame(Kind::Command, command, &[]),
        Message::Node(report) => frame(Kind::Node, report, &[]),
    }
}

/// Reads a frame.
///
/// # Errors
/// When the version, a length, the kind or the header is wrong, or when bytes are left over.
pub fn decode(frame: &[u8]) -> Result<Message, CodecError> {
    let length = |expected: String| CodecError::Length {
        expected,
        got: frame.len(),
    };
    let Some((prefix, body)) = frame.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(length(format!("at least {PREFIX_BYTES}")));
    };
    let [version, kind, zero_a, zero_b, h0, h1, h2, h3] = *prefix;
    if version != PROTOCOL_VERSION {
        return Err(CodecError::Version { got: version });
    }
    if frame.len() > MAX_FRAME_BYTES {
        return Err(length(format!("at most {MAX_FRAME_BYTES}")));
    }
    let kind = Kind::try_from(kind)?;
    if (zero_a, zero_b) != (0, 0) {
        return Err(CodecError::Header("reserved bytes are not zero".into()));
    }
    let n_header = u32::from_le_bytes([h0, h1, h2, h3]) as usize;
    if n_header > MAX_HEADER_BYTES {
        return Err(CodecError::Header(format!(
            "{n_header} bytes, more than the {MAX_HEADER_BYTES} allowed"
        )));
    }
    let Some((header, payload)) = body.split_at_checked(n_header) else {
        return Err(length(format!("at least {}", PREFIX_BYTES + n_header)));
    };
    if kind == Kind::Step {
        let header: StepHeader = decode_header(header)?;
        let expected = payload_bytes(&header)?;
        if payload.len() != expected {
            return Err(length(format!("{}", PREFIX_BYTES + n_header + expected)));
        }
        return Ok(Message::Step(StepBatch {
            header,
            payload: payload.to_vec(),
        }));
    }
    if !payload.is_empty() {
        return Err(length(format!("{}", PREFIX_BYTES + n_header)));
    }
    match kind {
        Kind::Step | Kind::Report => decode_header(header).map(Message::Report),
        Kind::Cancel => decode_header(header).map(Message::Cancel),
        Kind::Draft => decode_header(header).map(Message::Draft),
        Kind::Drafted => decode_header(header).map(Message::Drafted),
        Kind::Command => decode_header(header).map(Message::Command),
        Kind::Node => decode_header(header).map(Message::Node),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Step = 1,
    Report = 2,
    Command = 3,
    Node = 4,
    Cancel = 5,
    Draft = 6,
    Drafted = 7,
}

impl TryFrom<u8> for Kind {
    type Error = CodecError;

    fn try_from(kind: u8) -> Result<Self, CodecError> {
        Ok(match kind {
            1 => Self::Step,
            2 => Self::Report,
            3 => Self::Command,
            4 => Self::Node,
            5 => Self::Cancel,
            6 => Self::Draft,
            7 => Self::Drafted,
            other => return Err(CodecError::Kind(other)),
        })
    }
}

fn wire_config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_HEADER_BYTES>()
}

fn frame(kind: Kind, header: &impl Serialize, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(PREFIX_BYTES + 256 + payload.len());
    frame.extend_from_slice(&[PROTOCOL_VERSION, kind as u8, 0, 0, 0, 0, 0, 0]);
    let written = bincode::serde::encode_into_std_write(header, &mut frame, wire_config());
    let n_header = written.and_then(|n| {
        u32::try_from(n).map_err(|_| bincode::error::EncodeError::Other("header too long"))
    });
    // Our own types have no maps without length and no floats that refuse: failing is a broken
    // invariant, and the panic reaches the Supervisor.
    let n_header = n_header.unwrap_or_else(|error| panic!("a message must encode: {error}"));
    frame[4..8].copy_from_slice(&n_header.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn decode_header<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (header, used) = bincode::serde::decode_from_slice(bytes, wire_config())
        .map_err(|error| CodecError::Header(error.to_string()))?;
    if used != bytes.len() {
        return Err(CodecError::Header(format!(
            "{} bytes are left over",
            bytes.len() - used
        )));
    }
    Ok(header)
}

/// Length of the payload that the header announces.
fn payload_bytes(header: &StepHeader) -> Result<usize, CodecError> {
    let (n_rows, n_embd) = (header.rows.len(), header.n_embd as usize);
    let bytes = header.payload_dtype.encoded_bytes(n_rows, n_embd);
    bytes.map_err(|error| CodecError::Header(error.to_string()))
}

#[cfg(test)]
mod tests;
