//! Writes queued packets into the send buffer: header, payload and encryption, in runs of equal size.

use std::time::{Duration, Instant};

use sfu_protocol::{Layer, MediaKind};

use super::Egress;
use super::pacer::Queued;
use super::track::{Reporting, Subscription};
use crate::rtp::codec::{Codec, red, vp8, vp9};
use crate::rtp::extension::{ExtensionMap, OutgoingHeader, write_header};
use crate::rtp::rtx;
use crate::stats::{Drop, Stats};
use crate::transport::Transport;
use crate::units::{ExtendedSequence, Ssrc};

/// Maximum number of datagrams in one run: what the kernel accepts in one GSO send.
const RUN_SEGMENTS: usize = 64;

/// Maximum number of bytes in one run: the payload of a UDP send must fit an IP datagram.
const RUN_BYTES: usize = 65_000;

/// Maximum padding, in bytes. Packets of one video frame differ in size by a byte or two. Padding the shorter ones (RFC
/// 3550 section 5.1) keeps them in one run; for a larger difference a separate run is cheaper.
const PADDING: usize = 16;

/// Size of the original sequence number before a retransmission's payload (RFC 4588 section 4).
const RTX_HEADER: usize = 2;

/// A packet older than this comes from the packet memory, not straight from its publisher.
const REPLAYED: Duration = Duration::from_millis(250);

/// Datagrams of equal size, of which the last may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Total number of bytes written.
    pub size: usize,
    /// Size of each datagram but the last, in bytes.
    pub segment: usize,
    /// Number of datagrams.
    pub segments: usize,
}

/// A packet before encryption.
pub(super) struct Plain {
    pub(super) header_len: usize,
    pub(super) len: usize,
    pub(super) ssrc: Ssrc,
    pub(super) sequence: ExtendedSequence,
    /// Per-packet report that will cover this packet, if any.
    pub(super) counted: Option<Reporting>,
}

impl Egress {
    /// Writes and encrypts the next run in `buffer`. `None` if nothing may leave now.
    pub fn poll_run(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        buffer: &mut [u8],
        stats: &mut Stats,
    ) -> Option<Run> {
        stats.drop_many(Drop::Withdrawn, self.pacer.take_forgotten());
        let overhead = transport.srtp_overhead();
        let limit = buffer.len().min(RUN_BYTES);
        let mut run = Run { size: 0, segment: 0, segments: 0 };
        while run.segments < RUN_SEGMENTS {
            let Some(next) = self.pacer.front() else { break };
            if let Some(bandwidth) = &mut self.bandwidth
                && self.pacer.is_video_next()
                && !bandwidth.may_send(now)
            {
                break;
            }
            let Some(subscription) = self.subscriptions.get_mut(next.slot) else {
                stats.drop(Drop::Withdrawn);
                self.pacer.pop();
                continue;
            };
            let Some(space) = buffer.get_mut(run.size..limit) else { break };
            let target = (run.segment > 0).then(|| run.segment.saturating_sub(overhead));
            let number = self.transport_sequence;
            let plain = match subscription.write(next, space, &self.extensions, number, target, overhead) {
                Written::Fits(plain) => plain,
                Written::OtherSize => break,
                Written::Impossible => {
                    stats.drop(Drop::UnknownPayloadType);
                    self.pacer.pop();
                    continue;
                }
            };
            let sealed = transport.protect_rtp(plain.sequence, space, plain.header_len, plain.len);
            let Some(total) = sealed else {
                stats.drop(Drop::NoKeys);
                self.pacer.pop();
                continue;
            };
            subscription.count(next, total, stats);
            // Retransmissions and replayed packets do not count towards the forwarding delay.
            let delay = now.saturating_duration_since(next.packet.arrival);
            if !next.is_repair() && delay < REPLAYED {
                stats.forwarding_delay.add(delay, 1);
            }
            if plain.counted == Some(Reporting::TransportWide) {
                let sequence = next.rewritten.sequence.wire();
                self.losses.on_sent(self.transport_sequence, next.slot, sequence, next.attempt);
            }
            self.pacer.pop();
            self.count_sent(now, &plain, total);
            if let Some(bandwidth) = &mut self.bandwidth {
                bandwidth.spend(total);
            }
            run.size += total;
            run.segments += 1;
            if run.segment == 0 {
                run.segment = total;
            } else if total < run.segment {
                break;
            }
        }
        if run.segments == 0 {
            return self.poll_padding(now, transport, buffer, stats);
        }
        Some(run)
    }

    /// Counts a packet that leaves, `bytes` long, in congestion control.
    fn count_sent(&mut self, now: Instant, plain: &Plain, bytes: usize) {
        let number = self.transport_sequence;
        if plain.counted.is_some() {
            self.transport_sequence = number.plus(1);
        }
        let Some(bandwidth) = &mut self.bandwidth else { return };
        match plain.counted {
            Some(reporting) => {
                bandwidth.on_sent(now, number, bytes);
                if reporting == Reporting::ByStream {
                    bandwidth.on_sent_stream(plain.ssrc, plain.sequence.wire(), number);
                }
            }
            None => bandwidth.on_sent_unreported(now, bytes),
        }
    }

    /// Writes a run of padding if any is due.
    fn poll_padding(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        buffer: &mut [u8],
        stats: &mut Stats,
    ) -> Option<Run> {
        let overhead = transport.srtp_overhead();
        let mut run = Run { size: 0, segment: 0, segments: 0 };
        while run.segments < RUN_SEGMENTS && self.bandwidth.as_ref()?.wants_padding(now) {
            let space = buffer.get_mut(run.size..)?;
            let Some(plain) = self.write_padding(space, overhead) else {
                if run.segments == 0 {
                    self.bandwidth.as_mut()?.cannot_pad(now);
                }
                break;
            };
            let total = transport.protect_rtp(plain.sequence, space, plain.header_len, plain.len)?;
            stats.sent.padding.add(total);
            self.count_sent(now, &plain, total);
            run = Run { size: run.size + total, segment: total, segments: run.segments + 1 };
        }
        if run.segments == 0 {
            return None;
        }
        self.bandwidth.as_mut()?.on_padded(now);
        Some(run)
    }
}

enum Written {
    Fits(Plain),
    OtherSize,
    Impossible,
}

impl Subscription {
    /// Writes one packet unencrypted. `target` is the length of the packets in the current run.
    // Without inlining, a packet costs 2 % more.
    #[inline]
    fn write(
        &mut self,
        queued: &Queued,
        space: &mut [u8],
        extensions: &ExtensionMap,
        transport: ExtendedSequence,
        target: Option<usize>,
        overhead: usize,
    ) -> Written {
        let packet = &*queued.packet;
        let Some(payload) = self.payload(packet.codec) else { return Written::Impossible };
        let rewritten = &queued.rewritten;
        let (payload_type, ssrc, sequence) = match (queued.is_repair(), payload.repair, self.repair) {
            (true, Some(repair_type), Some(repair)) => (repair_type, repair, self.repair_sequence.plus(1)),
            // Audio is retransmitted on its own SSRC: no retransmission format is negotiated for it.
            _ => (payload.payload_type, self.ssrc, rewritten.sequence),
        };
        let repaired = queued.is_repair() && ssrc != self.ssrc;
        // Without a separate SSRC for retransmissions, the same sequence numbers are sent twice. Then the bytes must be
        // the same too: an AES-GCM nonce must never protect two headers or two plaintexts.
        let once = self.repair.is_some() && payload.repair.is_some();
        let counted = Some(self.reporting).filter(|reporting| once && reporting.is_per_packet());
        let header = OutgoingHeader {
            marker: rewritten.marker,
            payload_type,
            sequence: sequence.wire(),
            timestamp: rewritten.timestamp,
            ssrc,
            transport_sequence: (counted == Some(Reporting::TransportWide)).then_some(transport.wire()),
            mid: if repaired {
                self.section_name.on_repair()
            } else {
                self.section_name.on_media(rewritten.sequence)
            },
            extensions: &packet.extensions,
            playout_delay: if once { self.playout_delay(packet) } else { None },
            frame_number: rewritten.ids.map(|ids| ids.frame_number),
        };
        let Some(header_len) = write_header(space, &header, extensions) else { return Written::OtherSize };
        let body = header_len + if repaired { RTX_HEADER } else { 0 };
        let end = body + packet.payload.len();
        let padding = match target {
            Some(target) if end > target => return Written::OtherSize,
            Some(target) if once && target - end <= PADDING => target - end,
            _ => 0,
        };
        let len = end + padding;
        let Some(whole) = space.get_mut(..len + overhead) else {
            // In an empty run there is a whole buffer, so only a packet that fits no datagram at all fails.
            return if target.is_none() { Written::Impossible } else { Written::OtherSize };
        };
        if repaired {
            rtx::write_original_sequence(&mut whole[header_len..], rewritten.sequence.wire());
        }
        whole[body..end].copy_from_slice(&packet.payload);
        if let Some(ids) = &rewritten.ids {
            if let Some(picture) = &packet.facts.vp8 {
                let (picture_id, tl0, key) = (ids.picture_id, ids.tl0_picture_index, ids.key_index);
                vp8::rewrite_descriptor(&mut whole[body..end], picture, picture_id, tl0, key);
            } else if let Some(picture) = &packet.facts.vp9 {
                vp9::rewrite_descriptor(
                    &mut whole[body..end],
                    picture,
                    ids.picture_id,
                    ids.tl0_picture_index,
                );
            }
        }
        // Only RED packets built here are changed. Others may be end-to-end encrypted and stay as they are.
        if packet.codec == Codec::Red
            && packet.layer != Layer(0)
            && let Some(opus) = self.payload(Codec::Opus)
        {
            red::set_payload_types(&mut whole[body..end], opus.payload_type);
        }
        if padding > 0 {
            whole[end..len].fill(0);
            whole[len - 1] = padding as u8;
            whole[0] |= 0x20;
        }
        if repaired {
            self.repair_sequence = sequence;
        }
        Written::Fits(Plain { header_len, len, ssrc, sequence, counted })
    }

    fn count(&mut self, queued: &Queued, bytes: usize, stats: &mut Stats) {
        if queued.is_repair() {
            stats.sent.retransmitted.add(bytes);
            return;
        }
        self.rewrite.on_left(&queued.rewritten);
        self.reports.on_sent(queued.packet.payload.len());
        match self.kind {
            MediaKind::Audio => stats.sent.audio.add(bytes),
            MediaKind::Video => stats.sent.video.add(bytes),
        }
    }
}
