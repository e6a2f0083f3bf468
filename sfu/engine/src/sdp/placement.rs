//! Decides which sections subscribed tracks go into: how many sections the client must be asked for, and which tracks
//! cannot get one.
//!
//! This module also works around a misattribution in Firefox. If an answer has a single section of a kind in which we
//! send, Firefox treats that section's payload types as unique to the section. Until the section has received its
//! first packet, all packets with these payload types are attributed to it, whatever their mid. Packets of a section
//! that the next answer adds are then played in the first section, so one person's media appears as another's; if the
//! first section carries a muted microphone, this never ends. A *placeholder* prevents this: it is a second section
//! of the same kind that the answer marks as sending. It has no stream, and clients ignore it.

use std::collections::BTreeSet;

use sfu_protocol::{MediaKind, TrackSid};

use super::negotiation::{Negotiation, Role, Slot, SlotKind, Usage, WantedTrack, bound_in};

/// Number of additional receive-only sections that the client is asked to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SectionsNeeded {
    /// Sections for audio.
    pub audios: u32,
    /// Sections for video.
    pub videos: u32,
}

/// Which wanted tracks can get a section.
#[derive(Debug, Default)]
struct Placement {
    /// Additional audio and video sections that are needed and within the limit.
    audios: u32,
    videos: u32,
    /// At least one track can use an existing section.
    free: bool,
    /// Tracks that can have no section.
    crowded: Vec<TrackSid>,
}

impl Negotiation {
    /// The additional receive-only sections that the client must be asked for, beyond free sections and those already
    /// requested. `Some` with zeros means that the client only has to make a new offer, because a free section exists
    /// or a released one must become inactive. `None` means that nothing is needed, or that a request is pending.
    pub fn sections_needed(&mut self, wanted: &[WantedTrack]) -> Option<SectionsNeeded> {
        if self.role != Role::Single {
            return None;
        }
        let needed = self.place(wanted);
        let stale = self.slots.iter().any(|slot| slot.stale);
        if !stale && needed.audios == 0 && needed.videos == 0 && !needed.free {
            return None;
        }
        let asked = self.requested.unwrap_or_default();
        let more = SectionsNeeded {
            audios: needed.audios.saturating_sub(asked.audios),
            videos: needed.videos.saturating_sub(asked.videos),
        };
        if self.requested.is_some() && more == SectionsNeeded::default() {
            return None;
        }
        self.requested =
            Some(SectionsNeeded { audios: asked.audios + more.audios, videos: asked.videos + more.videos });
        Some(more)
    }

    /// Wanted tracks for which no section is free and no further one is allowed.
    pub fn crowded_out(&self, wanted: &[WantedTrack]) -> Vec<TrackSid> {
        self.place(wanted).crowded
    }

    /// Works out which wanted tracks can get a section. Audio comes first, because it matters more and costs less.
    fn place(&self, wanted: &[WantedTrack]) -> Placement {
        let slots = self.outstanding.as_ref().map_or(&self.slots, |outstanding| &outstanding.slots);
        let bound: BTreeSet<&TrackSid> = bound_in(slots).map(|bound| &bound.track).collect();
        let counts = |slot: &&Slot| !matches!(slot.usage, Usage::Published(_)) && !is_reusable(slot);
        // Our first offer starts with the data section, which counts towards the limit.
        let data = usize::from(slots.is_empty() && self.role == Role::Subscriber);
        let mut room = self.limits.media_sections.saturating_sub(slots.iter().filter(counts).count() + data);
        let mut placement = Placement::default();
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let of_kind = slots.iter().filter(|slot| slot.kind == SlotKind::Media(kind));
            let mut free = of_kind.filter(|slot| self.is_idle(slot)).count();
            let count = match kind {
                MediaKind::Audio => &mut placement.audios,
                MediaKind::Video => &mut placement.videos,
            };
            let tracks = wanted.iter().filter(|track| track.kind == kind && !bound.contains(&track.track));
            for track in tracks {
                if free > 0 {
                    free -= 1;
                    placement.free = true;
                } else if room > 0 {
                    room -= 1;
                    *count += 1;
                } else {
                    placement.crowded.push(track.track.clone());
                }
            }
        }
        placement
    }

    /// Whether a track can be bound to the section in its current state.
    fn is_idle(&self, slot: &Slot) -> bool {
        match slot.usage {
            Usage::Free => true,
            Usage::Inactive => self.role == Role::Subscriber,
            _ => false,
        }
    }

    /// Sets and clears placeholders (Firefox only). A former placeholder can carry a track only after an answer that
    /// marks it inactive, because a client reports a new track only when its section changes to sending.
    pub(super) fn place_placeholders(&mut self) {
        if !self.client.firefox || self.role != Role::Single {
            return;
        }
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let of_kind = |slot: &&mut Slot| slot.kind == SlotKind::Media(kind);
            let bound = self.slots.iter().filter(|slot| slot.kind == SlotKind::Media(kind));
            let bound = bound.filter(|slot| matches!(slot.usage, Usage::Bound(_))).count();
            let mut lacks = bound == 1;
            for slot in self.slots.iter_mut().filter(of_kind) {
                match slot.usage {
                    Usage::Placeholder if lacks => lacks = false,
                    Usage::Placeholder => slot.usage = Usage::Free,
                    _ => {}
                }
            }
            let mut free = self.slots.iter_mut().rev().filter(of_kind);
            if lacks
                && let Some(slot) = free.find(|slot| matches!(slot.usage, Usage::Free) && !slot.unsilenced)
            {
                slot.usage = Usage::Placeholder;
            }
        }
    }
}

/// Whether the section was stopped and can be reused under a new mid.
fn is_reusable(slot: &Slot) -> bool {
    matches!((&slot.usage, slot.kind), (Usage::Rejected, SlotKind::Media(_)))
}
