//! Answering a client's offer (RFC 8829 section 5.3).

use std::collections::BTreeSet;

use rand::Rng;
use sfu_protocol::{AddTrack, MediaKind, Permissions, TrackSid};

use super::SdpError;
use super::codecs::{self, NegotiatedCodec};
use super::description::{Description, Direction, Section, SectionKind, Setup};
use super::extensions;
use super::matching::Patience;
use super::negotiation::{
    BoundSection, DataSection, DtlsRole, LocalParameters, Negotiation, Outcome, RefusedSection, Role, Slot,
    SlotKind, UnmatchedSection, UnpublishedSection, Usage, WantedTrack, bound_in, draw_ssrc, own_ssrcs,
};
use super::publish::{self, PublishedSlot};
use super::text::{SectionText, Source, session};
use crate::rtp::codec::format::Format;

impl Negotiation {
    /// Applies a client's offer, parsed by [`read`](Self::read), and writes the answer. `pending` are announced
    /// tracks without a section; those matched to a section are returned in [`Outcome::published`]. `wanted` are
    /// subscribed tracks without a section, in order; those assigned a section are returned in [`Outcome::bound`]. On
    /// an error nothing has changed.
    pub fn apply_offer(
        &mut self,
        offer: &Description,
        local: &LocalParameters,
        pending: &[AddTrack],
        wanted: &[WantedTrack],
        permissions: Permissions,
        rng: &mut impl Rng,
    ) -> Result<Outcome, SdpError> {
        if self.role == Role::Subscriber {
            return Err(SdpError::new("offer", "this connection is offered by the server"));
        }
        let mut next = self.clone();
        let outcome = next.take_offer(offer, local, pending, wanted, permissions, rng)?;
        *self = next;
        Ok(outcome)
    }

    /// Whether this offer restarts ICE. If so, the caller passes new credentials of ours to
    /// [`apply_offer`](Self::apply_offer) (RFC 8445 section 9).
    pub fn restarts_ice(&self, offer: &Description) -> bool {
        self.remote.as_ref().is_some_and(|remote| offer.ice != remote.ice)
    }

    fn take_offer(
        &mut self,
        offer: &Description,
        local: &LocalParameters,
        pending: &[AddTrack],
        wanted: &[WantedTrack],
        permissions: Permissions,
        rng: &mut impl Rng,
    ) -> Result<Outcome, SdpError> {
        let (remote, ice_restart) = self.transport_of(offer, Setup::ActPass)?;
        let mut outcome = Outcome::new(remote.clone(), ice_restart);
        self.remote = Some(remote);
        self.offer_arrived();
        self.align(offer, &mut outcome)?;
        let mut lost = self.take_published(offer, permissions, &mut outcome);
        self.match_published(pending, &mut outcome);
        self.match_all_refused(pending, &mut outcome);
        self.check_published(offer)?;
        lost.extend(self.take_received(offer, &mut outcome));
        outcome.unbound = lost.iter().map(|track| track.track.clone()).collect();
        let wanted: Vec<WantedTrack> = lost.into_iter().chain(wanted.iter().cloned()).collect();
        let mut used = own_ssrcs(&self.slots);
        used.extend(offer.sections.iter().flat_map(|section| &section.ssrcs).map(|source| source.ssrc.0));
        if self.role == Role::Single {
            self.bind(offer, &wanted, &mut used, &mut outcome, rng);
            self.place_placeholders();
        }
        outcome.mid_to_track = self.mid_to_track();
        outcome.answer_sdp = self.write_answer(offer, local, rng);
        self.slots.iter_mut().for_each(Slot::described);
        Ok(outcome)
    }

    /// Matches slots to the offer's sections. The number of sections never shrinks, and mids and kinds stay the same,
    /// except where a stopped section is reused (RFC 8829 section 5.2.2).
    fn align(&mut self, offer: &Description, outcome: &mut Outcome) -> Result<(), SdpError> {
        if offer.sections.len() < self.slots.len() {
            let reason = format!("fewer sections than before ({})", self.slots.len());
            return Err(SdpError::new("m=", reason));
        }
        for (index, section) in offer.sections.iter().enumerate() {
            let kind = SlotKind::of(section);
            let fresh = || Slot::new(section.mid.clone(), kind, Usage::Inactive);
            let Some(slot) = self.slots.get_mut(index) else {
                self.slots.push(fresh());
                continue;
            };
            if slot.mid == section.mid && slot.kind == kind {
                continue;
            }
            if !matches!(slot.usage, Usage::Rejected) {
                let field = format!("m= (mid {})", section.mid);
                return Err(SdpError::new(field, format!("stands where mid {} stood", slot.mid)));
            }
            *slot = fresh();
        }
        outcome.data = offer.sections.iter().find_map(|section| match section.kind {
            SectionKind::Data { sctp_port, max_message_size } if !section.rejected => {
                Some(DataSection { mid: section.mid.clone(), sctp_port, max_message_size })
            }
            _ => None,
        });
        Ok(())
    }

    /// Updates the sections in which the client sends, has started to send or has stopped sending. Returns tracks of
    /// ours that lost their section because the client now sends in it.
    fn take_published(
        &mut self,
        offer: &Description,
        permissions: Permissions,
        outcome: &mut Outcome,
    ) -> Vec<WantedTrack> {
        let mut lost = Vec::new();
        self.refused.clear();
        let (client, offers) = (self.client, self.offers);
        for (slot, section) in self.slots.iter_mut().zip(&offer.sections) {
            let sends = !section.rejected && section.direction.sends() && permissions.publish;
            let sends = sends && matches!(slot.kind, SlotKind::Media(_));
            let before = match &slot.usage {
                Usage::Published(published) => Some(published.clone()),
                _ => None,
            };
            let track_id = section.msid.as_ref().map_or("", |msid| msid.track.as_str());
            let same = before.as_ref().filter(|before| sends && before.section.sdp_cid == track_id);
            let now = match same {
                Some(before) => before.offered_again(section, client),
                None if sends => PublishedSlot::new(section, client, offers),
                None => None,
            };
            let is_announced = same.is_some_and(|before| before.track().is_some());
            if let (true, false, None, SlotKind::Media(kind)) = (sends, is_announced, &now, slot.kind) {
                self.refused.push(RefusedSection { kind, sdp_cid: track_id.to_owned() });
            }
            if let Some(before) = &before {
                match &now {
                    Some(now) if same.is_some() => {
                        if now.track().is_some() && now.section != before.section {
                            outcome.republished.push(now.section.clone());
                        }
                    }
                    _ => outcome.unpublished.push(UnpublishedSection {
                        mid: section.mid.clone(),
                        track: before.track().cloned(),
                    }),
                }
            }
            match now {
                Some(now) => {
                    if let Usage::Bound(bound) = &slot.usage {
                        lost.push(wanted_again(bound));
                    }
                    slot.usage = Usage::Published(Box::new(now));
                    slot.left = None;
                }
                None => {
                    if let Some(before) = before {
                        slot.usage = Usage::Inactive;
                        slot.left = Some(before.section.sdp_cid);
                    }
                }
            }
        }
        lost
    }

    fn check_published(&self, offer: &Description) -> Result<(), SdpError> {
        let (mut matched, mut parked) = (0, 0);
        for (slot, section) in self.slots.iter().zip(&offer.sections) {
            let Usage::Published(published) = &slot.usage else { continue };
            let (count, limit) = match published.track() {
                Some(_) => (&mut matched, self.limits.published_tracks),
                None => (&mut parked, self.limits.pending_tracks),
            };
            *count += 1;
            if *count > limit {
                let field = format!("m= (mid {})", section.mid);
                return Err(SdpError::new(field, format!("more than {limit} tracks")));
            }
        }
        Ok(())
    }

    fn match_published(&mut self, pending: &[AddTrack], outcome: &mut Outcome) {
        let client = self.client;
        for published in self.meet(pending, Patience::Fresh) {
            published.prefer(client);
            outcome.published.push(published.section.clone());
        }
        let parked = self.published().filter(|published| published.track().is_none());
        let parked = parked.map(|published| UnmatchedSection {
            mid: published.section.mid.clone(),
            kind: published.section.kind,
            sdp_cid: published.section.sdp_cid.clone(),
        });
        outcome.unmatched = parked.collect();
    }

    /// Reports announced tracks whose sections cannot be accepted. Tracks are matched to the refused sections by
    /// track id; then, if the client's stack renames ids, the remaining tracks take the first section of their kind.
    fn match_all_refused(&mut self, pending: &[AddTrack], outcome: &mut Outcome) {
        let Outcome { published, refused, .. } = outcome;
        let is_published =
            |track: &AddTrack| published.iter().any(|section| section.track.as_ref() == Some(&track.track));
        for keeps_ids in [true, self.keeps_ids] {
            for track in pending.iter().filter(|track| !is_published(track)) {
                let place = self.refused.iter().position(|section| section.is_of(track, keeps_ids));
                if let Some(place) = place.filter(|_| !refused.contains(&track.track)) {
                    self.refused.remove(place);
                    refused.push(track.track.clone());
                }
            }
        }
    }

    /// Updates the sections in which the client receives, and the unusable ones. Returns tracks of ours that lost
    /// their section.
    fn take_received(&mut self, offer: &Description, outcome: &mut Outcome) -> Vec<WantedTrack> {
        let mut lost = Vec::new();
        let data = outcome.data.as_ref().map(|data| data.mid.as_str());
        for (slot, section) in self.slots.iter_mut().zip(&offer.sections) {
            if matches!(slot.usage, Usage::Published(_)) {
                continue;
            }
            let (before, was_placeholder) = match std::mem::replace(&mut slot.usage, Usage::Rejected) {
                Usage::Bound(bound) => (Some(bound), false),
                Usage::Placeholder => (None, true),
                _ => (None, false),
            };
            let SlotKind::Media(kind) = slot.kind else {
                if data == Some(section.mid.as_str()) {
                    slot.usage = Usage::Data;
                }
                continue;
            };
            let available = before.as_ref().map_or(&[][..], |bound| &bound.available);
            let codecs = codecs::accept_sent(section, self.client, available);
            let usable = !section.rejected && !codecs.is_empty();
            let receives = usable && section.direction == Direction::RecvOnly;
            match before {
                Some(bound) if receives && can_carry(&codecs, &bound.available) => {
                    let extensions = extensions::accept_sent(section, kind);
                    let now = BoundSection { codecs, extensions, ..(*bound).clone() };
                    if now != *bound {
                        outcome.bound.push(now.clone());
                    }
                    slot.usage = Usage::Bound(Box::new(now));
                    continue;
                }
                Some(bound) => lost.push(wanted_again(&bound)),
                None => {}
            }
            slot.usage = match (receives, usable) {
                (true, _) if was_placeholder => Usage::Placeholder,
                (true, _) => Usage::Free,
                (false, true) => Usage::Inactive,
                (false, false) => Usage::Rejected,
            };
        }
        self.retire();
        lost
    }

    /// Stops (rejects) sections in which the client has sent before and sends no longer. Some clients use a new
    /// section for each track they publish and never stop the earlier ones. Rejecting a section in our answer stops
    /// it, and the client can then reuse it (RFC 8829 section 5.2.2). The first `IDLE_SECTIONS` stay unrejected, for
    /// clients that reuse idle sections themselves: such a client cannot use a rejected section again.
    fn retire(&mut self) {
        let dead =
            self.slots.iter_mut().filter(|slot| matches!(slot.usage, Usage::Inactive | Usage::Rejected));
        let mut kept = 0;
        for slot in dead {
            if slot.left.is_none() {
                continue;
            }
            match slot.usage {
                Usage::Inactive if kept < IDLE_SECTIONS => kept += 1,
                // Stopping the section removes the client's sender, so its track id no longer matters.
                _ => {
                    slot.usage = Usage::Rejected;
                    slot.left = None;
                }
            }
        }
    }

    /// Assigns free sections to wanted tracks, in order. A section that our last description marks as sending must
    /// first be inactive in one answer, because a client reports a new track only when its section changes to
    /// sending.
    fn bind(
        &mut self,
        offer: &Description,
        wanted: &[WantedTrack],
        used: &mut BTreeSet<u32>,
        outcome: &mut Outcome,
        rng: &mut impl Rng,
    ) {
        let client = self.client;
        let mut bound: BTreeSet<TrackSid> = bound_in(&self.slots).map(|bound| bound.track.clone()).collect();
        let is_free = |slot: &&mut Slot| matches!(slot.usage, Usage::Free) && !slot.unsilenced;
        let free = self.slots.iter_mut().zip(&offer.sections).filter(|(slot, _)| is_free(slot));
        let (audio, video): (Vec<_>, Vec<_>) =
            free.partition(|(slot, _)| slot.kind == SlotKind::Media(MediaKind::Audio));
        let (mut audio, mut video) = (audio.into_iter().peekable(), video.into_iter().peekable());
        for track in wanted {
            if bound.contains(&track.track) {
                continue;
            }
            let free = match track.kind {
                MediaKind::Audio => &mut audio,
                MediaKind::Video => &mut video,
            };
            let Some((_, section)) = free.peek() else { continue };
            let codecs = codecs::accept_sent(section, client, &track.available);
            if !can_carry(&codecs, &track.available) {
                outcome.unsupported.push(track.track.clone());
                continue;
            }
            let Some((slot, section)) = free.next() else { continue };
            let rtx = codecs.iter().any(|codec| codec.rtx.is_some());
            bound.insert(track.track.clone());
            let bound = BoundSection {
                mid: slot.mid.clone(),
                track: track.track.clone(),
                publisher: track.publisher.clone(),
                kind: track.kind,
                available: track.available.clone(),
                ssrc: draw_ssrc(used, rng),
                rtx_ssrc: rtx.then(|| draw_ssrc(used, rng)),
                extensions: extensions::accept_sent(section, track.kind),
                codecs,
            };
            outcome.bound.push(bound.clone());
            slot.usage = Usage::Bound(Box::new(bound));
        }
    }

    fn write_answer(&mut self, offer: &Description, local: &LocalParameters, rng: &mut impl Rng) -> String {
        let origin = self.next_origin(rng);
        let setup = match self.remote.as_ref().map(|remote| remote.dtls_role) {
            Some(DtlsRole::Client) => "active",
            _ => "passive",
        };
        let mut writer = AnswerWriter { negotiation: self, local, setup, bundle: Vec::new() };
        let mut sections = Vec::with_capacity(offer.sections.len());
        for (slot, section) in writer.negotiation.slots.iter().zip(&offer.sections) {
            sections.push(writer.section(slot, section).finish());
        }
        session(origin, &writer.bundle, offer.extmap_allow_mixed, sections)
    }
}

/// Whether a track that is available in these formats can be sent with these payload types.
pub(super) fn can_carry(codecs: &[NegotiatedCodec], available: &[Format]) -> bool {
    let has = |wanted: &Format| codecs.iter().any(|codec| codec.decodes(wanted));
    if available.is_empty() { !codecs.is_empty() } else { available.iter().any(has) }
}

fn wanted_again(bound: &BoundSection) -> WantedTrack {
    let BoundSection { track, publisher, kind, available, .. } = bound.clone();
    WantedTrack { track, publisher, kind, available }
}

struct AnswerWriter<'a> {
    negotiation: &'a Negotiation,
    local: &'a LocalParameters,
    setup: &'static str,
    bundle: Vec<&'a str>,
}

impl<'a> AnswerWriter<'a> {
    fn section(&mut self, slot: &'a Slot, offered: &Section) -> SectionText {
        let mut text = SectionText::new(&offered.media, &offered.protocol, &slot.mid);
        if matches!(slot.usage, Usage::Rejected) {
            text.reject();
            text.flag("inactive");
            // Receivers may ignore the rest of a rejected section. But some stacks need every format described, and
            // some treat what one section leaves out as refused in all sections.
            let idle = codecs::accept_sent(offered, self.negotiation.client, &[]);
            if idle.is_empty() {
                text.formats(&offered.formats);
            } else {
                media(&mut text, offered, &idle);
            }
            return text;
        }
        text.transport(self.local, self.setup);
        if self.bundle.is_empty() {
            text.candidates(&self.local.candidates);
        }
        self.bundle.push(&slot.mid);
        match &slot.usage {
            Usage::Data => text.data(),
            Usage::Published(published) => {
                let section = &published.section;
                text.flag("recvonly");
                media(&mut text, offered, &section.codecs);
                receive_rids(&mut text, offered);
            }
            Usage::Bound(bound) => {
                text.flag("sendonly");
                media(&mut text, offered, &bound.codecs);
                let BoundSection { track, publisher, ssrc, rtx_ssrc, .. } = &**bound;
                text.source(&Source { track, publisher, ssrc: *ssrc, rtx: *rtx_ssrc });
            }
            Usage::Inactive | Usage::Free | Usage::Placeholder | Usage::Rejected => {
                text.flag(if matches!(slot.usage, Usage::Placeholder) { "sendonly" } else { "inactive" });
                let idle = codecs::accept_sent(offered, self.negotiation.client, &[]);
                media(&mut text, offered, &idle);
            }
        }
        text
    }
}

fn media(text: &mut SectionText, offered: &Section, codecs: &[NegotiatedCodec]) {
    text.rtcp(offered.rtcp_rsize);
    if offered.extmap_allow_mixed {
        text.flag("extmap-allow-mixed");
    }
    for (id, uri, direction) in extensions::answered(offered) {
        // RFC 8285 section 7: the answer states the reverse of the offered direction.
        match direction {
            Direction::SendOnly => text.value("extmap", format!("{id}/recvonly {uri}")),
            Direction::RecvOnly => text.value("extmap", format!("{id}/sendonly {uri}")),
            _ => text.value("extmap", format!("{id} {uri}")),
        }
    }
    text.codecs(codecs);
}

/// Lists the simulcast streams that we accept, in the offer's order, none of them paused (RFC 8853 section 5.3).
fn receive_rids(text: &mut SectionText, offered: &Section) {
    let rids = publish::sent_rids(offered);
    for rid in &rids {
        text.value("rid", format!("{rid} recv"));
    }
    if !rids.is_empty() && !offered.simulcast_send.is_empty() {
        text.value("simulcast", format!("recv {}", rids.join(";")));
    }
}

/// Number of idle sections that are not rejected after the client has stopped sending in them.
const IDLE_SECTIONS: usize = 4;
