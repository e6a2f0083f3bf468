//! Offering on the subscriber connection, and applying the client's answer (RFC 8829 section 5.2).

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use sfu_protocol::{MediaKind, TrackSid};

use super::SdpError;
use super::answer::can_carry;
use super::description::{Description, Section, SectionKind, Setup};
use super::negotiation::{
    BoundSection, DataSection, LocalParameters, Negotiation, Outcome, Role, Slot, SlotKind, Usage,
    WantedTrack, bound_in, draw_ssrc, mid_to_track, own_ssrcs,
};
use super::text::{SectionText, Source, session};
use super::{codecs, extensions};

/// An offer to send to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingOffer {
    /// Number of the offer; the client's answer repeats it.
    pub id: u32,
    /// SDP text of the offer.
    pub sdp: String,
    /// All sections in which we send, by mid.
    pub mid_to_track: BTreeMap<String, TrackSid>,
}

/// Offer number in answers of clients that do not number them.
const UNNUMBERED: u32 = 0;

#[derive(Debug, Clone)]
pub(super) struct Outstanding {
    pub id: u32,
    /// The slots that become current once the offer is answered.
    pub slots: Vec<Slot>,
}

impl Negotiation {
    /// Creates an offer that assigns sections to `wanted`, makes released sections inactive and, if the credentials
    /// in `local` are new, restarts ICE. Returns `None` while an offer is outstanding, when nothing has changed, or
    /// when the client is the offering side.
    pub fn create_offer(
        &mut self,
        local: &LocalParameters,
        wanted: &[WantedTrack],
        rng: &mut impl Rng,
    ) -> Option<OutgoingOffer> {
        if self.role != Role::Subscriber || self.outstanding.is_some() {
            return None;
        }
        let mut slots = self.slots.clone();
        if slots.is_empty() {
            slots.push(Slot::new(self.fresh_mid(), SlotKind::Data, Usage::Data));
        }
        let added = self.propose(&mut slots, wanted, rng);
        let stale = slots.iter().any(|slot| slot.stale);
        if self.offered_ice.as_ref() == Some(&local.ice) && !added && !stale {
            return None;
        }
        slots.iter_mut().for_each(Slot::described);
        let id = self.next_offer;
        self.next_offer = self.next_offer.wrapping_add(1).max(1);
        let origin = self.next_origin(rng);
        let sdp = self.write_offer(&slots, local, origin);
        self.offered_ice = Some(local.ice.clone());
        let offer = OutgoingOffer { id, sdp, mid_to_track: mid_to_track(&slots) };
        self.outstanding = Some(Box::new(Outstanding { id, slots }));
        Some(offer)
    }

    /// Applies the client's answer to the outstanding offer. Returns `Ok(None)` if no offer is outstanding, or if
    /// `id` says that the answer belongs to an earlier offer. Many clients always send 0, and others use numbers of
    /// their own. Any other number is therefore only a hint; the answer must match the offer's sections. On an error
    /// nothing has changed, and the offer is still outstanding.
    pub fn apply_answer(&mut self, id: u32, sdp: &str) -> Result<Option<Outcome>, SdpError> {
        let is_earlier = |offer: u32| id != UNNUMBERED && id < offer;
        let Some(outstanding) = self.outstanding.as_ref().filter(|offer| !is_earlier(offer.id)) else {
            return Ok(None);
        };
        // Even the first answer may be as long as a later description, because there may be many tracks before this
        // connection is first offered.
        let answer = Description::parse_within(sdp, &self.limits, self.limits.later_sdp_bytes)?;
        let mut slots = outstanding.slots.clone();
        if answer.sections.len() != slots.len() {
            let reason = format!("{} sections answer {}", answer.sections.len(), slots.len());
            return Err(SdpError::new("m=", reason));
        }
        if answer.setup == Some(Setup::ActPass) {
            return Err(SdpError::new("a=setup", "an answer must be active or passive"));
        }
        let (remote, ice_restart) = self.transport_of(&answer, Setup::Active)?;
        let mut outcome = Outcome::new(remote.clone(), ice_restart);
        for (index, (slot, section)) in slots.iter_mut().zip(&answer.sections).enumerate() {
            if slot.mid != section.mid {
                let field = format!("a=mid:{}", section.mid);
                return Err(SdpError::new(field, format!("answers mid {}", slot.mid)));
            }
            let before = self.slots.get(index).map(|before| &before.usage);
            take_section(slot, section, before, &mut outcome);
        }
        outcome.mid_to_track = mid_to_track(&slots);
        self.slots = slots;
        self.remote = Some(remote);
        self.outstanding = None;
        Ok(Some(outcome))
    }

    /// Assigns idle, rejected or new slots to wanted tracks, except those that are crowded out. Returns whether any
    /// was assigned.
    fn propose(&mut self, slots: &mut Vec<Slot>, wanted: &[WantedTrack], rng: &mut impl Rng) -> bool {
        let mut used: BTreeSet<u32> = own_ssrcs(slots);
        let mut bound: BTreeSet<TrackSid> = bound_in(slots).map(|bound| bound.track.clone()).collect();
        let mut places = Places::of(slots);
        let mut added = false;
        let crowded: BTreeSet<TrackSid> = self.crowded_out(wanted).into_iter().collect();
        for track in wanted {
            if bound.contains(&track.track) || crowded.contains(&track.track) {
                continue;
            }
            let Some(index) = self.make_place(slots, &mut places, track.kind) else { continue };
            let Some(slot) = slots.get_mut(index) else { continue };
            slot.usage = Usage::Bound(Box::new(BoundSection {
                mid: slot.mid.clone(),
                track: track.track.clone(),
                publisher: track.publisher.clone(),
                kind: track.kind,
                available: track.available.clone(),
                ssrc: draw_ssrc(&mut used, rng),
                rtx_ssrc: (track.kind == MediaKind::Video).then(|| draw_ssrc(&mut used, rng)),
                codecs: codecs::offered(track.kind, self.client, &track.available),
                extensions: extensions::offered(track.kind).to_vec(),
            }));
            bound.insert(track.track.clone());
            added = true;
        }
        added
    }

    /// Returns the index of a slot for a track of this kind: an idle slot, a rejected one under a new mid (RFC 8829
    /// section 5.2.2), or a new one. `None` at the limit of sections.
    fn make_place(&mut self, slots: &mut Vec<Slot>, places: &mut Places, kind: MediaKind) -> Option<usize> {
        if let Some(idle) = places.idle(kind).pop() {
            return Some(idle);
        }
        let fresh = |mid| Slot::new(mid, SlotKind::Media(kind), Usage::Inactive);
        if let Some(rejected) = places.rejected.pop() {
            let mid = self.fresh_mid();
            *slots.get_mut(rejected)? = fresh(mid);
            return Some(rejected);
        }
        if slots.len() >= self.limits.media_sections {
            return None;
        }
        slots.push(fresh(self.fresh_mid()));
        Some(slots.len() - 1)
    }

    fn fresh_mid(&mut self) -> String {
        let mid = self.next_mid;
        self.next_mid = self.next_mid.wrapping_add(1);
        mid.to_string()
    }

    fn write_offer(&self, slots: &[Slot], local: &LocalParameters, origin: (u64, u64)) -> String {
        let mut bundle = Vec::new();
        let mut sections = Vec::with_capacity(slots.len());
        for slot in slots {
            let (name, protocol) = match slot.kind {
                SlotKind::Media(MediaKind::Audio) => ("audio", "UDP/TLS/RTP/SAVPF"),
                SlotKind::Media(MediaKind::Video) => ("video", "UDP/TLS/RTP/SAVPF"),
                SlotKind::Data | SlotKind::Other => ("application", "UDP/DTLS/SCTP"),
            };
            let mut text = SectionText::new(name, protocol, &slot.mid);
            if matches!(slot.usage, Usage::Rejected) {
                text.reject();
                text.formats(&["0".to_owned()]);
                text.flag("inactive");
                sections.push(text.finish());
                continue;
            }
            text.transport(local, "actpass");
            if bundle.is_empty() {
                text.candidates(&local.candidates);
            }
            bundle.push(slot.mid.as_str());
            self.write_slot(&mut text, slot);
            sections.push(text.finish());
        }
        session(origin, &bundle, false, sections)
    }

    fn write_slot(&self, text: &mut SectionText, slot: &Slot) {
        match (&slot.usage, slot.kind) {
            (_, SlotKind::Media(kind)) => {
                let bound = match &slot.usage {
                    Usage::Bound(bound) => Some(bound),
                    _ => None,
                };
                text.flag(if bound.is_some() { "sendonly" } else { "inactive" });
                text.rtcp(true);
                text.extensions(extensions::offered(kind));
                // Always list all codecs, so that a payload type has the same meaning in every offer.
                let available = bound.map_or(&[][..], |bound| &bound.available);
                text.codecs(&codecs::offered(kind, self.client, available));
                if let Some(bound) = bound {
                    let BoundSection { track, publisher, ssrc, rtx_ssrc, .. } = &**bound;
                    text.source(&Source { track, publisher, ssrc: *ssrc, rtx: *rtx_ssrc });
                }
            }
            _ => text.data(),
        }
    }
}

/// Indices of slots that can be assigned to tracks, lowest index last. A slot that our last description marks as
/// sending must first be inactive in one offer, as in answers.
struct Places {
    audio: Vec<usize>,
    video: Vec<usize>,
    rejected: Vec<usize>,
}

impl Places {
    fn of(slots: &[Slot]) -> Self {
        let all = |wanted: &dyn Fn(&Slot) -> bool| -> Vec<usize> {
            let found = slots.iter().enumerate().rev().filter(|(_, slot)| wanted(slot));
            found.map(|(index, _)| index).collect()
        };
        let idle = |kind| {
            all(&|slot: &Slot| {
                let is_idle = matches!(slot.usage, Usage::Free | Usage::Inactive) && !slot.unsilenced;
                slot.kind == SlotKind::Media(kind) && is_idle
            })
        };
        Self {
            audio: idle(MediaKind::Audio),
            video: idle(MediaKind::Video),
            rejected: all(&|slot: &Slot| {
                matches!((&slot.usage, slot.kind), (Usage::Rejected, SlotKind::Media(_)))
            }),
        }
    }

    fn idle(&mut self, kind: MediaKind) -> &mut Vec<usize> {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }
}

fn take_section(slot: &mut Slot, section: &Section, before: Option<&Usage>, outcome: &mut Outcome) {
    if let SectionKind::Data { sctp_port, max_message_size } = section.kind
        && slot.kind == SlotKind::Data
        && !section.rejected
    {
        outcome.data = Some(DataSection { mid: section.mid.clone(), sctp_port, max_message_size });
    }
    let previously = match before {
        Some(Usage::Bound(bound)) => Some(bound),
        _ => None,
    };
    let Usage::Bound(bound) = &slot.usage else {
        if section.rejected {
            slot.usage = Usage::Rejected;
        }
        return;
    };
    let codecs = codecs::kept_by_answer(&bound.codecs, section);
    let now = BoundSection {
        extensions: extensions::kept_by_answer(section, bound.kind),
        rtx_ssrc: bound.rtx_ssrc.filter(|_| codecs.iter().any(|codec| codec.rtx.is_some())),
        codecs,
        ..(**bound).clone()
    };
    let usable = !section.rejected && section.direction.receives();
    if usable && can_carry(&now.codecs, &now.available) {
        if previously.is_none_or(|previously| **previously != now) {
            outcome.bound.push(now.clone());
        }
        slot.usage = Usage::Bound(Box::new(now));
        return;
    }
    match previously.filter(|previously| previously.track == now.track) {
        Some(_) => outcome.unbound.push(now.track.clone()),
        None => outcome.unsupported.push(now.track.clone()),
    }
    slot.stale = !section.rejected;
    slot.usage = if section.rejected { Usage::Rejected } else { Usage::Free };
}
