//! Sections in which the client sends.

use sfu_protocol::{AddTrack, ClientTraits, MediaKind, TrackSid};

use super::codecs::{self, NegotiatedCodec};
use super::description::{GroupSemantics, Section};
use super::extensions;
use crate::rtp::codec::format::Profile;
use crate::units::Ssrc;

/// What was agreed on for one section in which the client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedSection {
    /// Its mid.
    pub mid: String,
    /// The announced track, if it is known.
    pub track: Option<TrackSid>,
    /// The track id in the offer.
    pub sdp_cid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Agreed payload types, in the order of the answer: the first is what will be sent.
    pub codecs: Vec<NegotiatedCodec>,
    /// MIME type of the first one that is not RED, lower case.
    pub mime_type: String,
    /// Simulcast streams, lowest layer first; empty without RIDs.
    pub rids: Vec<String>,
    /// Described sources, lowest layer first; empty when RIDs or only the mid tell packets apart.
    pub ssrcs: Vec<StreamSsrcs>,
    /// Agreed header extensions, by id.
    pub extensions: Vec<(u8, &'static str)>,
    /// Lost packets may be asked for (the first codec has `nack`).
    pub nack: bool,
    /// Transport-wide feedback is expected.
    pub transport_cc: bool,
    /// RED was agreed.
    pub red: bool,
    /// Of the codec that `mime_type` names.
    pub profile: Profile,
    /// The sound has two channels, as the description or the announcement says.
    pub stereo: bool,
}

/// The sources of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSsrcs {
    /// Of its media.
    pub media: Ssrc,
    /// Of its retransmissions.
    pub rtx: Option<Ssrc>,
}

/// A published section as the negotiation keeps it.
#[derive(Debug, Clone)]
pub(super) struct PublishedSlot {
    pub section: PublishedSection,
    /// What the offer said, to describe the section anew when its announcement comes.
    offered: Section,
    announced: Option<AddTrack>,
    /// Only an announcement of this very track id revives it.
    withdrawn: bool,
    /// By which of the client's offers it began.
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

    /// The announced track.
    pub fn track(&self) -> Option<&TrackSid> {
        self.section.track.as_ref()
    }

    /// The announcement goes, the section stays.
    pub fn withdraw(&mut self) {
        self.announced = None;
        self.withdrawn = true;
        self.section.track = None;
    }

    /// The section as a new offer has it; `None` if nothing of it can be taken any longer.
    pub fn offered_again(&self, section: &Section, client: ClientTraits) -> Option<Self> {
        Some(Self {
            section: describe(section, client, self.announced.as_ref())?,
            offered: section.clone(),
            announced: self.announced.clone(),
            withdrawn: self.withdrawn,
            began: self.began,
        })
    }

    /// Describes the section by its announcement: while the answer is not written yet.
    pub fn prefer(&mut self, client: ClientTraits) {
        if let Some(section) = describe(&self.offered, client, self.announced.as_ref()) {
            self.section = section;
        }
    }

    /// Its announcement has come.
    pub fn announce(&mut self, track: &AddTrack) {
        self.section.track = Some(track.track.clone());
        if self.section.rids.is_empty() {
            self.section.ssrcs = sources(&self.offered, Some(track));
        }
        self.section.stereo |= track.stereo;
        self.announced = Some(track.clone());
        self.withdrawn = false;
    }

    /// Whether the announcement names its track id.
    pub fn named_by(&self, track: &AddTrack) -> bool {
        let cid = &self.section.sdp_cid;
        !cid.is_empty() && track.kind == self.section.kind && track.cids.contains(cid)
    }

    /// Whether it waits for an announcement, of whatever id.
    pub fn is_unnamed(&self) -> bool {
        self.section.track.is_none() && !self.withdrawn
    }

    /// Whether it comes in as many encodings as the announcement tells of.
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
        // Of sound with redundancy around it, what is asked for again is agreed with the codec inside.
        nack: main.nack(),
        transport_cc: feedback && codecs.iter().any(NegotiatedCodec::transport_cc),
        profile: main.profile(),
        stereo: codecs::is_stereo(section, announced),
        red: codecs.iter().any(|codec| codec.codec == crate::rtp::codec::Codec::Red),
        extensions,
        codecs,
    })
}

/// RIDs that are sent: as `a=simulcast` lists them, or all if it is absent.
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

/// The ecosystem's names tell the order; other names stand as listed, which is low to high by custom.
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
