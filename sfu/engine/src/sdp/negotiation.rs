//! The negotiation state of one peer connection: what each media section is used for.
//!
//! A [`Slot`] is the state of one media section; slots are in the order of the descriptions.
//! [`answer`](super::answer) and [`offer`](super::offer) work on a copy of the slots and replace the originals only
//! on success, so a rejected description changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use rand::Rng;
use sfu_protocol::{AddTrack, ClientTraits, MediaKind, ParticipantSid, TrackSid};

use super::SdpError;
use super::codecs::NegotiatedCodec;
use super::description::{Description, Fingerprint, IceCredentials, Section, SectionKind, Setup};
use super::offer::Outstanding;
use super::placement::SectionsNeeded;
use super::publish::{PublishedSection, PublishedSlot};
use crate::limits::Limits;
use crate::rtp::codec::format::Format;
use crate::units::Ssrc;

/// Our side of the connection, as our descriptions state it. New ICE credentials here restart ICE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalParameters {
    /// ICE credentials of our ICE-lite agent.
    pub ice: IceCredentials,
    /// Hash of our DTLS certificate.
    pub fingerprint: Fingerprint,
    /// Addresses of our host candidates, best first.
    pub candidates: Vec<SocketAddr>,
}

/// Which media a peer connection carries, and which side offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Media in both directions; the client offers.
    Single,
    /// Media from the client only; the client offers.
    Publisher,
    /// Media to the client only; we offer.
    Subscriber,
}

/// A track that the client subscribes to and that has no media section yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTrack {
    /// Id of the subscribed track.
    pub track: TrackSid,
    /// Participant that publishes the track.
    pub publisher: ParticipantSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// Formats in which the track is available, the one to be sent first in front; empty while unknown.
    pub available: Vec<Format>,
}

/// Our role in the DTLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// We send the ClientHello.
    Client,
    /// The other side sends the ClientHello.
    Server,
}

/// Transport parameters of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTransport {
    /// ICE credentials of the other side.
    pub ice: IceCredentials,
    /// Hash that the other side's certificate must have.
    pub fingerprint: Fingerprint,
    /// Our role in the handshake. Never changes once set.
    pub dtls_role: DtlsRole,
}

/// The accepted data channel section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSection {
    /// Mid of the section.
    pub mid: String,
    /// SCTP port of the other side.
    pub sctp_port: u16,
    /// Longest message that the other side accepts, in bytes; 0 means no limit.
    pub max_message_size: u64,
}

/// A media section in which we send a track to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundSection {
    /// Mid of the section.
    pub mid: String,
    /// Track that is sent in the section.
    pub track: TrackSid,
    /// Participant that publishes the track.
    pub publisher: ParticipantSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// Formats in which the track was available when it was bound; the client accepts at least one of them. Empty if
    /// they were unknown at that time and have not been learned since.
    pub available: Vec<Format>,
    /// SSRC that we send with; unchanged while the track is bound to this section.
    pub ssrc: Ssrc,
    /// SSRC of our retransmissions; only for video whose codecs have RTX.
    pub rtx_ssrc: Option<Ssrc>,
    /// Negotiated payload types, those of the track's own codecs first.
    pub codecs: Vec<NegotiatedCodec>,
    /// Negotiated header extensions as (id, URI).
    pub extensions: Vec<(u8, &'static str)>,
}

/// A section in which the client sends and whose track is not announced yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmatchedSection {
    /// Mid of the section.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Track id from the section's `a=msid` in the offer.
    pub sdp_cid: String,
}

/// A section in which the client wants to send but which we cannot accept, because it offers no codec that we
/// forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefusedSection {
    pub kind: MediaKind,
    /// Track id from the section's `a=msid` in the offer.
    pub sdp_cid: String,
}

/// A section in which the client has stopped sending a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpublishedSection {
    /// Mid of the section.
    pub mid: String,
    /// Track that ended; `None` if it was never announced.
    pub track: Option<TrackSid>,
}

/// Result of applying a description. Apply the ended tracks (`unpublished`, `unbound`) before the new ones
/// (`published`, `bound`): one description may move a track from one section to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Transport parameters of the other side: the first time to be set, later to be compared.
    pub remote: RemoteTransport,
    /// The other side's ICE credentials changed. The caller has passed new credentials of ours (or will next time),
    /// and the transport continues with them.
    pub ice_restart: bool,
    /// The answer to send; empty when the description applied was itself an answer.
    pub answer_sdp: String,
    /// All sections in which we send, by mid.
    pub mid_to_track: BTreeMap<String, TrackSid>,
    /// Sections in which the client has stopped sending a track.
    pub unpublished: Vec<UnpublishedSection>,
    /// Sections newly matched with an announced track.
    pub published: Vec<PublishedSection>,
    /// Already published sections whose parameters changed.
    pub republished: Vec<PublishedSection>,
    /// Sections whose track is not announced yet; see [`Negotiation::match_parked`].
    pub unmatched: Vec<UnmatchedSection>,
    /// Announced tracks whose section we cannot accept.
    pub refused: Vec<TrackSid>,
    /// Tracks that lost their section. A track that is also in `bound` got another section.
    pub unbound: Vec<TrackSid>,
    /// Sections newly assigned to wanted tracks, and already bound sections whose parameters changed.
    pub bound: Vec<BoundSection>,
    /// Wanted tracks that the client cannot receive, because there is no codec in common.
    pub unsupported: Vec<TrackSid>,
    /// The data channel section; `None` if there is none.
    pub data: Option<DataSection>,
}

impl Outcome {
    pub(super) fn new(remote: RemoteTransport, ice_restart: bool) -> Self {
        Self {
            remote,
            ice_restart,
            answer_sdp: String::new(),
            mid_to_track: BTreeMap::new(),
            unpublished: Vec::new(),
            published: Vec::new(),
            republished: Vec::new(),
            unmatched: Vec::new(),
            refused: Vec::new(),
            unbound: Vec::new(),
            bound: Vec::new(),
            unsupported: Vec::new(),
            data: None,
        }
    }
}

impl RefusedSection {
    /// Whether the client wants to send the announced track in this section. The track ids decide; for a client that
    /// renames ids (`keeps_ids` false), the media kind is enough.
    pub(super) fn is_of(&self, track: &AddTrack, keeps_ids: bool) -> bool {
        let named = !self.sdp_cid.is_empty() && track.cids.contains(&self.sdp_cid);
        track.kind == self.kind && (named || !keeps_ids)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub mid: String,
    pub kind: SlotKind,
    pub usage: Usage,
    /// Our last description of this section is out of date, for example it says that we send a track that has been
    /// released since. A new negotiation is needed.
    pub stale: bool,
    /// The track sent here was released, and no description of ours has said yet that nothing is sent.
    pub unsilenced: bool,
    /// Track id of what the client has stopped sending here.
    pub left: Option<String>,
}

impl Slot {
    /// Call when a description of ours states the current use of the section.
    pub fn described(&mut self) {
        (self.stale, self.unsilenced) = (false, false);
    }

    pub fn new(mid: String, kind: SlotKind, usage: Usage) -> Self {
        Self { mid, kind, usage, stale: false, unsilenced: false, left: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotKind {
    Media(MediaKind),
    Data,
    Other,
}

impl SlotKind {
    pub fn of(section: &Section) -> Self {
        match section.kind {
            SectionKind::Audio => Self::Media(MediaKind::Audio),
            SectionKind::Video => Self::Media(MediaKind::Video),
            SectionKind::Data { .. } => Self::Data,
            SectionKind::Other => Self::Other,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Usage {
    /// Port 0: the section is stopped, and can be used again only under a new mid.
    Rejected,
    /// Nobody sends.
    Inactive,
    /// Data channels.
    Data,
    /// The client sends a track.
    Published(Box<PublishedSlot>),
    /// The client is ready to receive, but no track is bound.
    Free,
    /// Our description says that we send, but we send nothing; see [`placement`](super::placement).
    Placeholder,
    /// We send a track to the client.
    Bound(Box<BoundSection>),
}

/// The negotiation state of one peer connection.
#[derive(Debug, Clone)]
pub struct Negotiation {
    pub(super) role: Role,
    pub(super) client: ClientTraits,
    pub(super) limits: Limits,
    /// Session id and version in the origin line of our last description; `None` before the first.
    pub(super) origin: Option<(u64, u64)>,
    pub(super) remote: Option<RemoteTransport>,
    pub(super) slots: Vec<Slot>,
    /// Sections that the client was asked to add and has not offered yet.
    pub(super) requested: Option<SectionsNeeded>,
    pub(super) outstanding: Option<Box<Outstanding>>,
    pub(super) next_offer: u32,
    /// Mid of the next section that we create, as a number.
    pub(super) next_mid: u32,
    /// ICE credentials in our last offer; different ones mean an ICE restart.
    pub(super) offered_ice: Option<IceCredentials>,
    /// At least one track's id in the SDP was its announced id, so this client's stack renames ids only where
    /// necessary.
    pub(super) keeps_ids: bool,
    /// Sections of the last offer that we cannot accept and whose tracks are not announced yet.
    pub(super) refused: Vec<RefusedSection>,
    /// Number of offers received from the client.
    pub(super) offers: u32,
}

/// Number of mids that Firefox 153 reads from a BUNDLE group. Sections beyond that would each need their own
/// transport; without one nothing connects.
const FIREFOX_BUNDLE: usize = 128;
/// Number of sections reserved for what a Firefox with a single connection publishes.
const FIREFOX_PUBLISHES: usize = 8;

impl Negotiation {
    /// The state before the first description.
    pub fn new(role: Role, client: ClientTraits, mut limits: Limits) -> Self {
        if client.firefox {
            let sends = if role == Role::Single { FIREFOX_PUBLISHES } else { 0 };
            limits.media_sections = limits.media_sections.min(FIREFOX_BUNDLE - sends);
        }
        Self {
            role,
            client,
            limits,
            origin: None,
            remote: None,
            slots: Vec::new(),
            requested: None,
            outstanding: None,
            next_offer: 1,
            next_mid: 0,
            offered_ice: None,
            keeps_ids: false,
            refused: Vec::new(),
            offers: 0,
        }
    }

    /// Whether a description of the other side has been applied.
    pub fn has_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Parses an offer of the other side. Later offers may be longer than the first.
    ///
    /// # Errors
    /// Names the line, attribute or section at fault.
    pub fn read(&self, sdp: &str) -> Result<Description, SdpError> {
        let longest = if self.has_remote() { self.limits.later_sdp_bytes } else { self.limits.sdp_bytes };
        Description::parse_within(sdp, &self.limits, longest)
    }

    /// Number of media sections so far, including unused ones.
    pub fn sections(&self) -> usize {
        self.slots.len()
    }

    /// Tracks that have a negotiated section. Sections in an unanswered offer of ours do not count.
    pub fn bound_tracks(&self) -> BTreeSet<&TrackSid> {
        bound_in(&self.slots).map(|bound| &bound.track).collect()
    }

    /// Sets the formats of a track that were unknown when the track was bound or offered. Returns the section that
    /// the track is bound to, if any. On a connection that we offer, the next offer signals a format that is stereo.
    pub fn learn(&mut self, track: &TrackSid, available: &[Format]) -> Option<BoundSection> {
        let to_be_told = self.role == Role::Subscriber && available.iter().any(|format| format.stereo);
        let learn = |slot: &mut Slot| match &mut slot.usage {
            Usage::Bound(bound) if bound.track == *track && bound.available.is_empty() => {
                bound.available = available.to_vec();
                slot.stale |= to_be_told;
                Some((**bound).clone())
            }
            _ => None,
        };
        let proposed = self.outstanding.iter_mut().flat_map(|outstanding| &mut outstanding.slots);
        proposed.for_each(|slot| drop(learn(slot)));
        self.slots.iter_mut().find_map(learn)
    }

    /// Stops sending a track: its section becomes inactive at the next negotiation and is then free for another
    /// track. Returns whether the track had a section.
    pub fn release(&mut self, track: &TrackSid) -> bool {
        let proposed = self.outstanding.iter_mut().flat_map(|outstanding| &mut outstanding.slots);
        let mut found = false;
        for slot in self.slots.iter_mut().chain(proposed) {
            if matches!(&slot.usage, Usage::Bound(bound) if bound.track == *track) {
                slot.usage = Usage::Free;
                (slot.stale, slot.unsilenced) = (true, true);
                found = true;
            }
        }
        found
    }

    /// Whether the section of a newly announced track was offered but could not be accepted. Call when no waiting
    /// section matched the announcement. Each refused section is reported only once.
    pub fn match_refused(&mut self, track: &AddTrack) -> bool {
        let keeps_ids = self.keeps_ids;
        let place = self.refused.iter().position(|section| section.is_of(track, keeps_ids));
        place.map(|place| self.refused.remove(place)).is_some()
    }

    /// Stops taking a published track, whether or not the client continues to send it. The section then waits for
    /// another announcement of its track id. Returns the section's mid.
    pub fn withdraw(&mut self, track: &TrackSid) -> Option<String> {
        let (mid, published) = self.slots.iter_mut().find_map(|slot| match &mut slot.usage {
            Usage::Published(published) if published.track() == Some(track) => Some((&slot.mid, published)),
            _ => None,
        })?;
        published.withdraw();
        Some(mid.clone())
    }

    pub(super) fn published(&self) -> impl Iterator<Item = &PublishedSlot> {
        self.slots.iter().filter_map(|slot| match &slot.usage {
            Usage::Published(published) => Some(&**published),
            _ => None,
        })
    }

    pub(super) fn mid_to_track(&self) -> BTreeMap<String, TrackSid> {
        mid_to_track(&self.slots)
    }

    /// Counts the client's offer. A pending request for sections is over: the offer contains them, or they will not
    /// come.
    pub(super) fn offer_arrived(&mut self) {
        self.requested = None;
        self.offers = self.offers.wrapping_add(1);
    }

    /// Transport parameters in a description, and whether ICE restarts. `default` is the role assumed when `a=setup`
    /// is absent. Fails if the DTLS role or the certificate changes within the connection.
    pub(super) fn transport_of(
        &self,
        description: &Description,
        default: Setup,
    ) -> Result<(RemoteTransport, bool), SdpError> {
        let known = self.remote.as_ref();
        let dtls_role = match (description.setup.unwrap_or(default), known.map(|known| known.dtls_role)) {
            (Setup::ActPass, Some(role)) => role,
            (Setup::ActPass, None) | (Setup::Active, None | Some(DtlsRole::Server)) => DtlsRole::Server,
            (Setup::Passive, None | Some(DtlsRole::Client)) => DtlsRole::Client,
            (Setup::Active, Some(DtlsRole::Client)) | (Setup::Passive, Some(DtlsRole::Server)) => {
                return Err(SdpError::new("a=setup", "changes roles within a connection"));
            }
        };
        if known.is_some_and(|known| known.fingerprint != description.fingerprint) {
            return Err(SdpError::new("a=fingerprint", "changes within a connection"));
        }
        let ice_restart = known.is_some_and(|known| known.ice != description.ice);
        let (ice, fingerprint) = (description.ice.clone(), description.fingerprint.clone());
        Ok((RemoteTransport { ice, fingerprint, dtls_role }, ice_restart))
    }

    /// Session id and version of our next description (RFC 8829 section 5.2.1: 62 bits, version counts up).
    pub(super) fn next_origin(&mut self, rng: &mut impl Rng) -> (u64, u64) {
        let (id, version) = self.origin.unwrap_or_else(|| (rng.random::<u64>() >> 2, 0));
        let next = (id, version.wrapping_add(1));
        self.origin = Some(next);
        next
    }
}

pub(super) fn bound_in(slots: &[Slot]) -> impl Iterator<Item = &BoundSection> {
    slots.iter().filter_map(|slot| match &slot.usage {
        Usage::Bound(bound) => Some(&**bound),
        _ => None,
    })
}

pub(super) fn mid_to_track(slots: &[Slot]) -> BTreeMap<String, TrackSid> {
    bound_in(slots).map(|bound| (bound.mid.clone(), bound.track.clone())).collect()
}

/// A random nonzero SSRC that is not in `used`; it is added to `used`.
pub(super) fn draw_ssrc(used: &mut BTreeSet<u32>, rng: &mut impl Rng) -> Ssrc {
    loop {
        let ssrc = rng.random::<u32>();
        if ssrc != 0 && used.insert(ssrc) {
            return Ssrc(ssrc);
        }
    }
}

/// SSRCs that we send with.
pub(super) fn own_ssrcs(slots: &[Slot]) -> BTreeSet<u32> {
    let ssrcs = bound_in(slots).flat_map(|bound| [Some(bound.ssrc), bound.rtx_ssrc]);
    ssrcs.flatten().map(|ssrc| ssrc.0).collect()
}
