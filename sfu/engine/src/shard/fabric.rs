//! What shards of one process say to each other.

use std::sync::Arc;

use crate::media_packet::MediaPacket;

/// One message between shards.
#[derive(Debug, Clone)]
pub enum FabricMessage {
    /// A published packet, for a shard with subscribers of its track.
    Media(Arc<MediaPacket>),
}

impl FabricMessage {
    /// Whether a full mailbox may drop it (and count it). Media may be dropped, control may not.
    pub fn may_drop(&self) -> bool {
        matches!(self, Self::Media(_))
    }
}
