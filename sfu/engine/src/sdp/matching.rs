//! Matches announcements of tracks to the media sections in which the tracks are sent. Either may arrive first.
//!
//! A section identifies its track by the track id in `a=msid`, an announcement by its `cids`. These ids do not always
//! agree: some stacks rename all ids, and a browser renames a track's id if the track is sent again while an earlier
//! sender of it still exists. An announcement and a section without a matching id are therefore matched by their
//! kind, but not while a counterpart with the right id may still arrive.

use std::collections::BTreeSet;

use sfu_protocol::{AddTrack, MediaKind};

use super::negotiation::{Negotiation, Slot, Usage};
use super::publish::{PublishedSection, PublishedSlot};

impl Negotiation {
    /// Assigns sections to announcements after a new announcement, where the match is certain. Returns the newly
    /// matched sections.
    pub fn match_parked(&mut self, pending: &[AddTrack]) -> Vec<PublishedSection> {
        self.meet(pending, Patience::Fresh).into_iter().map(|slot| slot.section.clone()).collect()
    }

    /// Assigns the remaining sections by kind. Call when the waiting time for the matches that
    /// [`has_leftovers`](Self::has_leftovers) reported is over, so that no match by id is expected any more.
    pub fn match_leftovers(&mut self, pending: &[AddTrack]) -> Vec<PublishedSection> {
        self.meet(pending, Patience::Waited).into_iter().map(|slot| slot.section.clone()).collect()
    }

    /// Whether an announcement and a section of the same kind may belong together although no id matches.
    pub fn has_leftovers(&self, pending: &[AddTrack]) -> bool {
        let ids = Ids::of(&self.slots);
        let waits = |kind| self.published().any(|slot| slot.is_unnamed() && slot.section.kind == kind);
        pending.iter().any(|track| !ids.names_live(track) && waits(track.kind))
    }

    /// Assigns announcements to sections without a track, and returns these sections.
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

/// Whether a counterpart with a matching id may still arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// It may still arrive: match by kind only where that is certain.
    Fresh,
    /// It would have arrived by now: match by kind.
    Waited,
}

/// Track ids in the client's descriptions.
struct Ids {
    /// Track ids of sections in which the client sends.
    live: BTreeSet<String>,
    /// Track ids of sections in which the client has stopped sending. Their senders still exist, so a browser gives
    /// these ids to no other sender.
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

    /// Whether the announcement lists the id of a section in which the client sends. Such an announcement is matched
    /// by id only, even if that section carries another track now.
    fn names_live(&self, track: &AddTrack) -> bool {
        track.cids.iter().any(|cid| self.live.contains(cid))
    }

    /// Whether the announcement's section must have a different id, because the browser still uses the announced ids
    /// for stopped senders.
    fn is_taken(&self, track: &AddTrack) -> bool {
        !track.cids.is_empty() && track.cids.iter().all(|cid| self.left.contains(cid))
    }
}

/// Keeps only the `count` newest sections once the waiting time is over. Older sections that still wait are those whose
/// announcement was refused.
fn newest(
    mut sections: Vec<&mut PublishedSlot>,
    count: usize,
    patience: Patience,
) -> Vec<&mut PublishedSlot> {
    if patience == Patience::Waited {
        // The sort is stable: sections of the same offer keep their order.
        sections.sort_by_key(|slot| slot.began);
        sections.drain(..sections.len().saturating_sub(count));
    }
    sections
}

/// Announces to each section the track that `choose` returns, and moves the section to `matched`. Returns the
/// sections without a track.
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
