//! Sections in which the client sends.

use sfu_protocol::{AddTrack, ClientTraits, MediaKind, TrackSid};

use super::codecs::{self, NegotiatedCodec};
use super::description::{GroupSemantics, Section};
use super::extensions;
use crate::rtp::codec::format::Profile;
use crate::units::Ssrc;

/// Negotiated parameters of a section in which the client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedSection {
    /// Mid of the section.
    pub mid: String,
    /// The announced track; `None` while no announcement is matched.
    pub track: Option<TrackSid>,
    /// Track id from the section's `a=msid` in the offer; empty if absent.
    pub sdp_cid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Negotiated payload types, in the order of the answer; the client is expected to send the first.
    pub codecs: Vec<NegotiatedCodec>,
    /// MIME type of the first codec that is not RED, in lower case.
    pub mime_type: String,
    /// RIDs of the simulcast streams, lowest layer first; empty without RIDs.
    pub rids: Vec<String>,
    /// SSRCs of the layers, lowest first; empty if the section uses RIDs or describes no SSRC.
    pub ssrcs: Vec<StreamSsrcs>,
    /// Negotiated header extensions as (id, URI).
    pub extensions: Vec<(u8, &'static str)>,
    /// Lost packets may be requested: the first codec that is not RED has `nack`.
    pub nack: bool,
    /// The client expects transport-wide feedback.
    pub transport_cc: bool,
    /// RED was negotiated.
    pub red: bool,
    /// Profile of the codec that `mime_type` names.
    pub profile: Profile,
    /// The audio is stereo, by the description or the announcement.
    pub stereo: bool,
}

/// SSRCs of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSsrcs {
    /// SSRC of the media packets.
    pub media: Ssrc,
    /// SSRC of the retransmissions; `None` without RTX.
    pub rtx: Option<Ssrc>,
}

/// State of a section in which the client sends.
#[derive(Debug, Clone)]
pub(super) struct PublishedSlot {
    pub section: PublishedSection,
    /// The section as offered, kept to recompute `section` when the announcement arrives.
    offered: Section,
    announced: Option<AddTrack>,
    /// The track was withdrawn. Only an announcement with exactly this section's track id makes it published again.
    withdrawn: bool,
    /// Number of the client's offer in which the section started to send.
    pub began: u32,
}

impl PublishedSlot {
    pub fn new(section: &Section, client: ClientTraits, began: u32) -> Option<Self> {
        Some(Self {
            section: describe(section, client, None)?,
            offered: section.clone(),
            announced: None,
            withdrawn: false,
            began,
        })
    }

    pub fn track(&self) -> Option<&TrackSid> {
        self.section.track.as_ref()
    }

    /// Removes the announced track; the section stays.
    pub fn withdraw(&mut self) {
        self.announced = None;
        self.withdrawn = true;
        self.section.track = None;
    }

    /// The state after a new offer of the same section; `None` if nothing in the section can be accepted any more.
    pub fn offered_again(&self, section: &Section, client: ClientTraits) -> Option<Self> {
        Some(Self {
            section: describe(section, client, self.announced.as_ref())?,
            offered: section.clone(),
            announced: self.announced.clone(),
            withdrawn: self.withdrawn,
            began: self.began,
        })
    }

    /// Applies the announcement's codec preferences. Only possible while the answer is not written yet.
    pub fn prefer(&mut self, client: ClientTraits) {
        if let Some(section) = describe(&self.offered, client, self.announced.as_ref()) {
            self.section = section;
        }
    }

    /// Sets the announced track of the section.
    pub fn announce(&mut self, track: &AddTrack) {
        self.section.track = Some(track.track.clone());
        if self.section.rids.is_empty() {
            self.section.ssrcs = sources(&self.offered, Some(track));
        }
        self.section.stereo |= track.stereo;
        self.announced = Some(track.clone());
        self.withdrawn = false;
    }

    /// Whether the announcement lists this section's track id.
    pub fn named_by(&self, track: &AddTrack) -> bool {
        let cid = &self.section.sdp_cid;
        !cid.is_empty() && track.kind == self.section.kind && track.cids.contains(cid)
    }

    /// Whether the section can take an announcement with a different track id: it has no track, and none was
    /// withdrawn.
    pub fn is_unnamed(&self) -> bool {
        self.section.track.is_none() && !self.withdrawn
    }

    /// Whether the section has as many encodings as the announcement lists.
    pub fn looks_like(&self, track: &AddTrack) -> bool {
        self.section.rids.len().max(1) == track.layers.len().max(1)
    }
}

fn describe(
    section: &Section,
    client: ClientTraits,
    announced: Option<&AddTrack>,
) -> Option<PublishedSection> {
    let kind = match super::negotiation::SlotKind::of(section) {
        super::negotiation::SlotKind::Media(kind) => kind,
        _ => return None,
    };
    let codecs = codecs::accept_published(section, client, announced);
    let first = codecs.first()?;
    let extensions = extensions::accept_published(section);
    let rids = layers_lowest_first(section);
    let main = codecs.iter().find(|codec| codec.codec != crate::rtp::codec::Codec::Red).unwrap_or(first);
    let feedback = extensions.iter().any(|(_, uri)| *uri == extensions::TRANSPORT_CC);
    Some(PublishedSection {
        mid: section.mid.clone(),
        track: announced.map(|track| track.track.clone()),
        sdp_cid: section.msid.as_ref().map(|msid| msid.track.clone()).unwrap_or_default(),
        kind,
        mime_type: codecs::mime_type(main.codec).to_owned(),
        ssrcs: if rids.is_empty() { sources(section, announced) } else { Vec::new() },
        rids,
        // For audio wrapped in RED, `nack` is negotiated on the inner codec.
        nack: main.nack(),
        transport_cc: feedback && codecs.iter().any(NegotiatedCodec::transport_cc),
        profile: main.profile(),
        stereo: codecs::is_stereo(section, announced),
        red: codecs.iter().any(|codec| codec.codec == crate::rtp::codec::Codec::Red),
        extensions,
        codecs,
    })
}

/// RIDs that the client sends: those in `a=simulcast`, or all with direction `send` if `a=simulcast` is absent.
pub(super) fn sent_rids(section: &Section) -> Vec<String> {
    let described: Vec<&str> =
        section.rids.iter().filter(|rid| rid.send).map(|rid| rid.id.as_str()).collect();
    let mut sent: Vec<String> = Vec::new();
    if section.simulcast_send.is_empty() {
        sent.extend(described.iter().map(|rid| (*rid).to_owned()));
    }
    for rid in &section.simulcast_send {
        if described.contains(&rid.as_str()) && !sent.contains(rid) {
            sent.push(rid.clone());
        }
    }
    sent
}

/// RIDs of the section, lowest layer first. Well-known names (`q`, `h`, `f`; `2`, `1`, `0`) determine the order;
/// other names stay as listed, which is low to high by convention.
fn layers_lowest_first(section: &Section) -> Vec<String> {
    let mut rids = sent_rids(section);
    let rank = |rid: &str| match rid {
        "q" | "2" => Some(0),
        "h" | "1" => Some(1),
        "f" | "0" => Some(2),
        _ => None,
    };
    if rids.iter().all(|rid| rank(rid).is_some()) {
        rids.sort_by_key(|rid| rank(rid));
    }
    rids
}

fn sources(section: &Section, announced: Option<&AddTrack>) -> Vec<StreamSsrcs> {
    let groups = |semantics| {
        section
            .ssrc_groups
            .iter()
            .filter(move |group| group.semantics == semantics)
            .map(|group| &group.ssrcs[..])
    };
    let rtx_of = |media: Ssrc| {
        groups(GroupSemantics::Fid).find_map(|group| match group {
            [first, second] if *first == media => Some(*second),
            _ => None,
        })
    };
    let described = announced.map_or(&[][..], |track| &track.layers);
    let described: Vec<StreamSsrcs> = described
        .iter()
        .filter(|layer| layer.ssrc != 0)
        .map(|layer| {
            let repair = Some(Ssrc(layer.repair_ssrc)).filter(|ssrc| ssrc.0 != 0);
            let media = Ssrc(layer.ssrc);
            StreamSsrcs { media, rtx: repair.or_else(|| rtx_of(media)) }
        })
        .collect();
    if !described.is_empty() {
        return described;
    }
    let simulcast = groups(GroupSemantics::Sim).next().unwrap_or(&[]);
    let first = section.ssrcs.first().map(|described| described.ssrc);
    let media = if simulcast.is_empty() { first.as_slice() } else { simulcast };
    media.iter().map(|media| StreamSsrcs { media: *media, rtx: rtx_of(*media) }).collect()
}
