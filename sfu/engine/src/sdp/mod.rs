//! SDP session descriptions: reading a client's offers and answers, deciding what to accept, and writing our own.
//!
//! Everything here is pure. A description goes in as text; descriptions and decisions come out as data. The caller
//! sets up transports, streams and tracks from those decisions.
//!
//! - [`description`] parses text into typed data and rejects malformed input.
//! - [`codecs`] and [`extensions`] list what we support.
//! - [`negotiation`] holds the state of one peer connection.
//! - [`answer`] and [`offer`] advance that state.
//! - [`matching`] assigns media sections to announced (published) tracks.
//! - [`placement`] assigns media sections to subscribed tracks.
//! - [`text`] writes descriptions.

pub mod answer;
pub mod codecs;
pub mod description;
pub mod extensions;
mod matching;
pub mod negotiation;
pub mod offer;
mod placement;
pub mod publish;
mod section;
mod text;

pub use codecs::NegotiatedCodec;
pub use description::{Fingerprint, IceCredentials};
pub use negotiation::{
    BoundSection, DtlsRole, LocalParameters, Negotiation, Outcome, RemoteTransport, Role, WantedTrack,
};
pub use publish::PublishedSection;
#[cfg(any(test, feature = "internals"))]
pub use {
    description::{Description, Direction, Setup},
    offer::OutgoingOffer,
    placement::SectionsNeeded,
};

/// Why a description was rejected. The negotiation state is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct SdpError {
    /// The line, attribute or section at fault, such as `a=fingerprint` or `a=rid (mid 3)`.
    pub field: String,
    /// What is wrong with `field`, in plain words.
    pub reason: String,
}

impl SdpError {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

impl From<SdpError> for sfu_protocol::NegotiationError {
    fn from(error: SdpError) -> Self {
        Self { field: error.field, reason: error.reason }
    }
}

#[cfg(test)]
mod tests;
