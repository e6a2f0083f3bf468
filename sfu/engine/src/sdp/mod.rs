//! Session descriptions: what a client offers, what we make of it, what we answer.
//!
//! Everything here is pure. A description goes in as text, descriptions and decisions come out as data;
//! transports, streams and tracks are set up by the caller from those decisions.
//!
//! [`description`] turns text into typed data and refuses what is malformed, [`codecs`] and [`extensions`]
//! say what we relay, [`negotiation`] keeps the state of one peer connection, [`answer`] and [`offer`] move
//! it, [`matching`] gives announced tracks their sections, [`placement`] wanted ones, [`text`] writes descriptions.

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
pub use description::{Description, Direction, Fingerprint, IceCredentials, Setup};
pub use negotiation::{
    BoundSection, DtlsRole, LocalParameters, Negotiation, Outcome, RemoteTransport, Role, UnmatchedSection,
    UnpublishedSection, WantedTrack,
};
pub use offer::OutgoingOffer;
pub use placement::SectionsNeeded;
pub use publish::{PublishedSection, StreamSsrcs};

/// Why a description cannot be used. Nothing was changed by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct SdpError {
    /// The line, attribute or section at fault, such as `a=fingerprint` or `a=rid (mid 3)`.
    pub field: String,
    /// What is wrong with it, in plain words.
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
