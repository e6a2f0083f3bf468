//! User data: who sent it is stamped by the server, who receives it is decided here. Contents stay opaque.

mod stamp;

use bytes::Bytes;
use sfu_protocol::{DataKind, ParticipantSid, RoomSid};

pub use self::stamp::{Stamped, stamp};

/// A user message on its way through the room.
#[derive(Debug, Clone)]
pub struct UserData {
    /// The room.
    pub room: RoomSid,
    /// The shard of its sender.
    pub origin: u16,
    /// Who sent it; never receives it.
    pub sender: ParticipantSid,
    /// The channel that it came by and leaves by.
    pub kind: DataKind,
    /// For whom.
    pub destinations: Destinations,
    /// The encoded `livekit.DataPacket` with its sender stamped.
    pub packet: Bytes,
}

impl UserData {
    /// What it takes between shards, in bytes.
    pub fn cost(&self) -> usize {
        self.packet.len().saturating_add(std::mem::size_of::<Self>())
    }
}

/// For whom a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destinations {
    /// All others in the room.
    Everyone,
    /// Participants of these identities or sids.
    Only {
        /// Identities, in order.
        identities: Vec<String>,
        /// Sids, as older clients name them, in order.
        sids: Vec<String>,
    },
}

impl Destinations {
    /// Those that a message names; everyone if it names nobody.
    fn of(identities: &[&str], sids: &[&str]) -> Self {
        if identities.is_empty() && sids.is_empty() {
            return Self::Everyone;
        }
        // A message may name thousands, and each member of the room is looked for.
        let sorted = |names: &[&str]| {
            let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            names.sort_unstable();
            names
        };
        Self::Only { identities: sorted(identities), sids: sorted(sids) }
    }

    /// Whether a participant is meant.
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

/// Who a message is from, as the server knows it.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// Its session.
    pub participant: &'a ParticipantSid,
    /// Its identity.
    pub identity: &'a str,
    /// Its name is left out.
    pub hidden: bool,
}

/// Why a message is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// Not a `livekit.DataPacket`.
    #[error("data packet: not a livekit.DataPacket")]
    Malformed,
    /// A kind of message that participants may not send.
    #[error("data packet: value: participants may not send this kind of message")]
    NotForParticipants,
}
