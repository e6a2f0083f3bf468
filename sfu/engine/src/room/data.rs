//! User data messages. The server stamps the sender and determines the recipients; the contents are opaque.

mod stamp;

use bytes::Bytes;
use sfu_protocol::{DataKind, ParticipantSid, RoomSid};

pub use self::stamp::stamp;

/// A user message on its way through the room.
#[derive(Debug, Clone)]
pub struct UserData {
    /// Room of the sender.
    pub room: RoomSid,
    /// Shard of the sender.
    pub origin: u16,
    /// Sender, which never receives its own message.
    pub sender: ParticipantSid,
    /// Kind of data channel by which the message arrived and is delivered.
    pub kind: DataKind,
    /// Recipients.
    pub destinations: Destinations,
    /// The encoded `livekit.DataPacket` with the sender stamped.
    pub packet: Bytes,
}

impl UserData {
    /// Bytes that the message counts for in flow control between shards.
    pub fn cost(&self) -> usize {
        self.packet.len().saturating_add(std::mem::size_of::<Self>())
    }
}

/// Recipients of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destinations {
    /// All participants of the room other than the sender.
    Everyone,
    /// Participants with one of these identities or sids.
    Only {
        /// Identities, sorted.
        identities: Vec<String>,
        /// Sids, which older clients use, sorted.
        sids: Vec<String>,
    },
}

impl Destinations {
    /// The recipients that a message names; everyone if it names none.
    fn of(identities: &[&str], sids: &[&str]) -> Self {
        if identities.is_empty() && sids.is_empty() {
            return Self::Everyone;
        }
        // Sorted, since a message may name thousands, and each member of the room is looked up.
        let sorted = |names: &[&str]| {
            let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            names.sort_unstable();
            names
        };
        Self::Only { identities: sorted(identities), sids: sorted(sids) }
    }

    /// Whether a participant is a recipient.
    pub fn include(&self, participant: &ParticipantSid, identity: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Only { identities, sids } => {
                let names = |list: &[String], name: &str| {
                    list.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
                };
                names(identities, identity) || names(sids, participant.as_str())
            }
        }
    }
}

/// Sender of a message, as known to the server.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// Sid of the sender's session.
    pub participant: &'a ParticipantSid,
    /// Identity of the sender.
    pub identity: &'a str,
    /// Whether the sender is hidden; then its identity and sid are omitted.
    pub hidden: bool,
}

/// Why a message is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The bytes are not a `livekit.DataPacket`.
    #[error("data packet: not a livekit.DataPacket")]
    Malformed,
    /// The message is of a kind that participants may not send.
    #[error("data packet: value: participants may not send this kind of message")]
    NotForParticipants,
}
