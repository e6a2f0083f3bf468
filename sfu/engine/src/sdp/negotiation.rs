//! The state of one peer connection: which section carries what.
//!
//! A [`Slot`] stands for one media section, in the order of the descriptions. [`answer`](super::answer) and
//! [`offer`](super::offer) work on a copy of the slots and put it in place only when all went well, so a
//! description that is refused changes nothing.

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

/// What our side of the connection says of itself. To restart ICE, hand in new credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalParameters {
    /// Credentials of our ICE-lite agent.
    pub ice: IceCredentials,
    /// Hash of our certificate.
    pub fingerprint: Fingerprint,
    /// Host candidates, best first.
    pub candidates: Vec<SocketAddr>,
}

/// What a peer connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Both directions; the client offers.
    Single,
    /// The client publishes; it offers.
    Publisher,
    /// The client receives; we offer.
    Subscriber,
}

/// A track that the client is to receive and that has no section yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTrack {
    /// Which.
    pub track: TrackSid,
    /// Who publishes it.
    pub publisher: ParticipantSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// The codecs that it can be had in, the one to be sent first leading; empty: not known here yet.
    pub available: Vec<Format>,
}

/// Who opens the DTLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// We do.
    Client,
    /// The other side does.
    Server,
}

/// The other side's end of the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTransport {
    /// Its credentials.
    pub ice: IceCredentials,
    /// The hash that its certificate must have.
    pub fingerprint: Fingerprint,
    /// Our part in the handshake. Never changes once set.
    pub dtls_role: DtlsRole,
}

/// The accepted data section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSection {
    /// Its mid.
    pub mid: String,
    /// The other side's SCTP port.
    pub sctp_port: u16,
    /// The longest message that the other side takes, in bytes; 0: any.
    pub max_message_size: u64,
}

/// A section in which we send a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundSection {
    /// Its mid.
    pub mid: String,
    /// What is sent in it.
    pub track: TrackSid,
    /// Who publishes that.
    pub publisher: ParticipantSid,
    /// Audio or video.
    pub kind: MediaKind,
    /// The codecs that the track could be had in when it was bound, one of which the client takes; empty: not known
    /// then.
    pub available: Vec<Format>,
    /// The SSRC to send with; stays while the track is bound here.
    pub ssrc: Ssrc,
    /// The SSRC of retransmissions (video whose codecs have RTX).
    pub rtx_ssrc: Option<Ssrc>,
    /// Agreed payload types, those of the track's own codecs first.
    pub codecs: Vec<NegotiatedCodec>,
    /// Agreed header extensions, by id.
    pub extensions: Vec<(u8, &'static str)>,
}

/// A section in which the client sends and whose track is not announced yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmatchedSection {
    /// Its mid.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Its track id in the offer.
    pub sdp_cid: String,
}

/// A section in which the client would send, and of which nothing can be taken: it offers no codec that is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefusedSection {
    pub kind: MediaKind,
    /// Its track id in the offer.
    pub sdp_cid: String,
}

/// A section whose published media ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpublishedSection {
    /// Its mid.
    pub mid: String,
    /// The track, if it had been announced.
    pub track: Option<TrackSid>,
}

/// What a description decided. Apply the endings before the beginnings: a track may move from one section
/// to another at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Transport facts, to be set or to be compared.
    pub remote: RemoteTransport,
    /// The other side's credentials changed: the caller handed in new ones of ours (or will next time) and
    /// the transport continues on them.
    pub ice_restart: bool,
    /// The answer to give; empty when an answer was applied.
    pub answer_sdp: String,
    /// Every section that we send in.
    pub mid_to_track: BTreeMap<String, TrackSid>,
    /// Published media that ended.
    pub unpublished: Vec<UnpublishedSection>,
    /// Announced tracks that now have their section.
    pub published: Vec<PublishedSection>,
    /// Sections published before whose description changed.
    pub republished: Vec<PublishedSection>,
    /// Sections that wait for their announcement; see [`Negotiation::match_parked`].
    pub unmatched: Vec<UnmatchedSection>,
    /// Announced tracks whose section cannot be taken.
    pub refused: Vec<TrackSid>,
    /// Tracks that lost their section. Those also in `bound` got another.
    pub unbound: Vec<TrackSid>,
    /// Wanted tracks that now have a section, and sections bound before whose parameters changed.
    pub bound: Vec<BoundSection>,
    /// Wanted tracks that the client cannot receive: no codec in common.
    pub unsupported: Vec<TrackSid>,
    /// The data section, if there is one.
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
    /// Whether the announced track is what the client would send here; of a stack that renames, by its kind.
    pub(super) fn is_of(&self, track: &AddTrack, keeps_ids: bool) -> bool {
        let named = !self.sdp_cid.is_empty() && track.cids.contains(&self.sdp_cid);
        track.kind == self.kind && (named || !keeps_ids)
    }
}

/// One media section and its use.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub mid: String,
    pub kind: SlotKind,
    pub usage: Usage,
    /// Our last description says that we send a track here which is released since.
    pub stale: bool,
    /// The track that was sent here is released, and no description has said since that nothing is sent.
    pub unsilenced: bool,
    /// The track id of what the client has ceased to send here.
    pub left: Option<String>,
}

impl Slot {
    /// A description of ours says what the section is used for now.
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

/// What a section is used for.
#[derive(Debug, Clone)]
pub(super) enum Usage {
    /// Stopped for good; only a new mid brings it back.
    Rejected,
    /// Nobody sends.
    Inactive,
    /// Data channels.
    Data,
    /// The client sends.
    Published(Box<PublishedSlot>),
    /// The client would receive; nothing is bound.
    Free,
    /// We say that we send, and send nothing; see [`placement`](super::placement).
    Placeholder,
    /// We send.
    Bound(Box<BoundSection>),
}

/// The state of one peer connection.
#[derive(Debug, Clone)]
pub struct Negotiation {
    pub(super) role: Role,
    pub(super) client: ClientTraits,
    pub(super) limits: Limits,
    /// Id and version of our descriptions' origin line.
    pub(super) origin: Option<(u64, u64)>,
    pub(super) remote: Option<RemoteTransport>,
    pub(super) slots: Vec<Slot>,
    /// Sections asked of the client and not offered yet.
    pub(super) requested: Option<SectionsNeeded>,
    pub(super) outstanding: Option<Box<Outstanding>>,
    pub(super) next_offer: u32,
    /// Number of the next section of ours.
    pub(super) next_mid: u32,
    /// Credentials of our last offer; others mean an ICE restart.
    pub(super) offered_ice: Option<IceCredentials>,
    /// Some track's id in the SDP was its announced one: this stack renames only where it has to.
    pub(super) keeps_ids: bool,
    /// Sections of the last offer that cannot be taken and whose tracks are not announced yet.
    pub(super) refused: Vec<RefusedSection>,
    /// Offers of the client so far.
    pub(super) offers: u32,
}

/// Firefox 153 reads so many mids of a BUNDLE group. Sections beyond would each need a transport of their own, and without
/// it nothing connects.
const FIREFOX_BUNDLE: usize = 128;
/// Sections of a Firefox with one connection that are left to what it publishes.
const FIREFOX_PUBLISHES: usize = 8;

impl Negotiation {
    /// A connection on which nothing was said yet.
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

    /// Whether the other side has described itself.
    pub fn has_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Reads an offer of the other side, within its bounds: later ones are longer than the first.
    ///
    /// # Errors
    /// Names the line, attribute or section at fault.
    pub fn read(&self, sdp: &str) -> Result<Description, SdpError> {
        let longest = if self.has_remote() { self.limits.later_sdp_bytes } else { self.limits.sdp_bytes };
        Description::parse_within(sdp, &self.limits, longest)
    }

    /// Media sections so far, those out of use included.
    pub fn sections(&self) -> usize {
        self.slots.len()
    }

    /// The tracks that have a section that is agreed on.
    pub fn bound_tracks(&self) -> BTreeSet<&TrackSid> {
        bound_in(&self.slots).map(|bound| &bound.track).collect()
    }

    /// What a track can be had in is known now, and was not when it got its section or was offered. Answers the section
    /// that it is bound to, if any. Where we offer, and its receiver has to be told, the next offer does so.
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

    /// The track is no longer to be sent: its section falls silent at the next negotiation and is free for
    /// another. True if there was one.
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

    /// An announcement arrived for which no section is parked: whether its section was there and could not be taken.
    pub fn match_refused(&mut self, track: &AddTrack) -> bool {
        let keeps_ids = self.keeps_ids;
        let place = self.refused.iter().position(|section| section.is_of(track, keeps_ids));
        place.map(|place| self.refused.remove(place)).is_some()
    }

    /// The published track is not taken any longer, whatever the client goes on sending: the section waits
    /// for another announcement of its track id. Answers the section's mid.
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

    /// The client offered: what was asked for is there, or will not come.
    pub(super) fn offer_arrived(&mut self) {
        self.requested = None;
        self.offers = self.offers.wrapping_add(1);
    }

    /// The other side's end of the transport, and whether ICE restarts.
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

    /// Id and version of the next description of ours (RFC 8829 section 5.2.1: 62 bits, version counts up).
    pub(super) fn next_origin(&mut self, rng: &mut impl Rng) -> (u64, u64) {
        let (id, version) = self.origin.unwrap_or_else(|| (rng.random::<u64>() >> 2, 0));
        let next = (id, version.wrapping_add(1));
        self.origin = Some(next);
        next
    }
}

/// What is sent in sections.
pub(super) fn bound_in(slots: &[Slot]) -> impl Iterator<Item = &BoundSection> {
    slots.iter().filter_map(|slot| match &slot.usage {
        Usage::Bound(bound) => Some(&**bound),
        _ => None,
    })
}

pub(super) fn mid_to_track(slots: &[Slot]) -> BTreeMap<String, TrackSid> {
    bound_in(slots).map(|bound| (bound.mid.clone(), bound.track.clone())).collect()
}

/// An SSRC that is none of `used`, which it joins.
pub(super) fn draw_ssrc(used: &mut BTreeSet<u32>, rng: &mut impl Rng) -> Ssrc {
    loop {
        let ssrc = rng.random::<u32>();
        if ssrc != 0 && used.insert(ssrc) {
            return Ssrc(ssrc);
        }
    }
}

/// SSRCs of what we send.
pub(super) fn own_ssrcs(slots: &[Slot]) -> BTreeSet<u32> {
    let ssrcs = bound_in(slots).flat_map(|bound| [Some(bound.ssrc), bound.rtx_ssrc]);
    ssrcs.flatten().map(|ssrc| ssrc.0).collect()
}
