//! How announcements of tracks meet the media sections in which they are sent. Either may come first.
//!
//! A section names its track by the id in `a=msid`, an announcement by its `cids`. Some stacks rename all ids, and a
//! browser renames one whenever it sends a track again while an earlier sender of it is still there. So what no id
//! matches is matched by its kind, but never while its own counterpart may still be on its way.

use std::collections::BTreeSet;

use sfu_protocol::{AddTrack, MediaKind};

use super::negotiation::{Negotiation, Slot, Usage};
use super::publish::{PublishedSection, PublishedSlot};

impl Negotiation {
    /// An announcement arrived: gives those in `pending` their sections, as far as it is certain which these are.
    pub fn match_parked(&mut self, pending: &[AddTrack]) -> Vec<PublishedSection> {
        self.meet(pending, Patience::Fresh).into_iter().map(|slot| slot.section.clone()).collect()
    }

    /// What [`has_leftovers`](Self::has_leftovers) told of has waited long enough: no id will match it any more.
    pub fn match_leftovers(&mut self, pending: &[AddTrack]) -> Vec<PublishedSection> {
        self.meet(pending, Patience::Waited).into_iter().map(|slot| slot.section.clone()).collect()
    }

    /// Whether an announcement and a section of one kind are there that may belong together, though no id says so.
    pub fn has_leftovers(&self, pending: &[AddTrack]) -> bool {
        let ids = Ids::of(&self.slots);
        let waits = |kind| self.published().any(|slot| slot.is_unnamed() && slot.section.kind == kind);
        pending.iter().any(|track| !ids.names_live(track) && waits(track.kind))
    }

    /// Gives announcements to parked sections, and answers these.
    pub(super) fn meet(&mut self, pending: &[AddTrack], patience: Patience) -> Vec<&mut PublishedSlot> {
        let ids = Ids::of(&self.slots);
        let mut parked: Vec<&mut PublishedSlot> = Vec::new();
        for slot in &mut self.slots {
            if let Usage::Published(published) = &mut slot.usage
                && published.track().is_none()
            {
                parked.push(&mut **published);
            }
        }
        let mut matched = Vec::new();
        let mut open: Vec<&AddTrack> = pending.iter().collect();
        parked = give(parked, &mut matched, |slot| {
            let place = open.iter().position(|track| slot.named_by(track))?;
            Some(open.remove(place))
        });
        self.keeps_ids |= !matched.is_empty();
        open.retain(|track| !ids.names_live(track));
        parked.retain(|slot| slot.is_unnamed());
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let (sections, others): (Vec<_>, Vec<_>) =
                parked.into_iter().partition(|slot| slot.section.kind == kind);
            parked = others;
            let mut tracks: Vec<&AddTrack> =
                open.iter().copied().filter(|track| track.kind == kind).collect();
            let is_certain = match (patience, &tracks[..]) {
                (Patience::Waited, _) => true,
                (Patience::Fresh, [track]) if sections.len() == 1 && ids.is_taken(track) => true,
                (Patience::Fresh, _) => !self.keeps_ids,
            };
            if is_certain {
                let sections = newest(sections, tracks.len(), patience);
                give(sections, &mut matched, |slot| {
                    let fits = tracks.iter().position(|track| slot.looks_like(track));
                    let place = fits.filter(|_| patience == Patience::Waited).unwrap_or(0);
                    (place < tracks.len()).then(|| tracks.remove(place))
                });
            }
        }
        matched
    }
}

/// Whether what no id matches may still find its own counterpart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// It may.
    Fresh,
    /// That would have come by now.
    Waited,
}

/// Track ids in the client's descriptions.
struct Ids {
    /// Of sections in which it sends.
    live: BTreeSet<String>,
    /// Of sections in which it has ceased to send. Their senders are still there: a browser gives their ids to no other.
    left: BTreeSet<String>,
}

impl Ids {
    fn of(slots: &[Slot]) -> Self {
        let live = slots.iter().filter_map(|slot| match &slot.usage {
            Usage::Published(published) => Some(published.section.sdp_cid.clone()),
            _ => None,
        });
        let left = slots.iter().filter_map(|slot| slot.left.clone());
        Self { live: live.collect(), left: left.collect() }
    }

    /// The announcement names a section whose turn comes, or that carries another track.
    fn names_live(&self, track: &AddTrack) -> bool {
        track.cids.iter().any(|cid| self.live.contains(cid))
    }

    /// The announcement's own id cannot be that of its section.
    fn is_taken(&self, track: &AddTrack) -> bool {
        !track.cids.is_empty() && track.cids.iter().all(|cid| self.left.contains(cid))
    }
}

/// Sections that waited in vain, since their announcement was refused, are the older ones.
fn newest(
    mut sections: Vec<&mut PublishedSlot>,
    count: usize,
    patience: Patience,
) -> Vec<&mut PublishedSlot> {
    if patience == Patience::Waited {
        // Stable: those that one offer brought stay in order.
        sections.sort_by_key(|slot| slot.began);
        sections.drain(..sections.len().saturating_sub(count));
    }
    sections
}

/// Announces to each section what `choose` says, and moves it to `matched`. Answers the sections that got nothing.
fn give<'slot, 'track>(
    sections: Vec<&'slot mut PublishedSlot>,
    matched: &mut Vec<&'slot mut PublishedSlot>,
    mut choose: impl FnMut(&PublishedSlot) -> Option<&'track AddTrack>,
) -> Vec<&'slot mut PublishedSlot> {
    let mut rest = Vec::new();
    for slot in sections {
        match choose(slot) {
            Some(track) => {
                slot.announce(track);
                matched.push(slot);
            }
            None => rest.push(slot),
        }
    }
    rest
}
