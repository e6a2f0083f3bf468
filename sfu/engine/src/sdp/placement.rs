//! Which sections wanted tracks will be in: how many the client has to be asked for, and who finds no room.
//!
//! It also keeps Firefox from showing one person's media as another's. An answer with a single section of a kind that
//! we send in tells Firefox that the payload types of that section are unique to it. Until the section has had a packet
//! of its own, all packets with these payload types then are its own, whatever mid they carry: those of a section that
//! the next answer adds are played in the first, and with a microphone that is muted, for good. A *placeholder* is a second
//! section of the kind that such an answer says we send in. It has no stream, which clients pass over.

use std::collections::BTreeSet;

use sfu_protocol::{MediaKind, TrackSid};

use super::negotiation::{Negotiation, Role, Slot, SlotKind, Usage, WantedTrack, bound_in};

/// Additional receive-only sections that the client is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SectionsNeeded {
    /// For sound.
    pub audios: u32,
    /// For pictures.
    pub videos: u32,
}

/// Where wanted tracks will find sections.
#[derive(Debug, Default)]
struct Placement {
    /// Sections that are lacking, and that there is room for.
    audios: u32,
    videos: u32,
    /// Some find a section that is there.
    free: bool,
    /// Those that find none.
    crowded: Vec<TrackSid>,
}

impl Negotiation {
    /// How many additional receive-only sections the client must be asked for, beyond the free ones and those
    /// asked for already. `Some` with zeros: nothing but a new offer is needed (a free section is there, or a
    /// released one is to fall silent). `None`: nothing is needed, or a request is in flight.
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

    /// Wanted tracks for which no section is free, nor room for another.
    pub fn crowded_out(&self, wanted: &[WantedTrack]) -> Vec<TrackSid> {
        self.place(wanted).crowded
    }

    /// Where wanted tracks will find sections: sound first, for it matters more and takes less.
    fn place(&self, wanted: &[WantedTrack]) -> Placement {
        let slots = self.outstanding.as_ref().map_or(&self.slots, |outstanding| &outstanding.slots);
        let bound: BTreeSet<&TrackSid> = bound_in(slots).map(|bound| &bound.track).collect();
        let counts = |slot: &&Slot| !matches!(slot.usage, Usage::Published(_)) && !is_reusable(slot);
        // Our first offer begins with the data section.
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

    /// Whether a track can be bound to the section as it is.
    fn is_idle(&self, slot: &Slot) -> bool {
        match slot.usage {
            Usage::Free => true,
            Usage::Inactive => self.role == Role::Subscriber,
            _ => false,
        }
    }

    /// Sets and clears placeholders. A section that was one is free for a track only after an answer in which it was
    /// none: clients hear of a track when its section begins to be sent in.
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

/// Whether the section was stopped, and comes back under a new mid for whatever is sent next.
fn is_reusable(slot: &Slot) -> bool {
    matches!((&slot.usage, slot.kind), (Usage::Rejected, SlotKind::Media(_)))
}
