//! Padding packets, which fill up a probe when there is less media than its rate needs.

use super::Egress;
use super::track::{Reporting, Subscription};
use super::write::Plain;
use crate::media_packet::EndToEndExtensions;
use crate::rtp::extension::{ExtensionMap, OutgoingHeader, write_header};
use crate::units::{ExtendedSequence, PayloadType, Ssrc};

/// Maximum padding of one packet (RFC 3550 section 5.1).
const PADDING: usize = 255;

impl Egress {
    /// Writes one packet of padding into `space`. It is sent on a retransmission SSRC, where receivers expect packets
    /// without content. `None` if no subscription has such an SSRC.
    pub(super) fn write_padding(&mut self, space: &mut [u8], overhead: usize) -> Option<Plain> {
        let number = self.transport_sequence;
        let extensions = &self.extensions;
        let mut subscriptions = self.subscriptions.iter_mut();
        subscriptions
            .find_map(|(_, subscription)| subscription.write_padding(number, space, extensions, overhead))
    }
}

impl Subscription {
    fn padding_source(&self) -> Option<(Ssrc, PayloadType)> {
        let payload_type = self.payload_types.first()?.repair?;
        self.repair.filter(|_| self.reporting.is_per_packet()).map(|ssrc| (ssrc, payload_type))
    }

    fn write_padding(
        &mut self,
        number: ExtendedSequence,
        space: &mut [u8],
        extensions: &ExtensionMap,
        overhead: usize,
    ) -> Option<Plain> {
        let (ssrc, payload_type) = self.padding_source()?;
        let sequence = self.repair_sequence.plus(1);
        let header = OutgoingHeader {
            marker: false,
            payload_type,
            sequence: sequence.wire(),
            timestamp: self.rewrite.last_timestamp(),
            ssrc,
            mid: self.section_name.on_repair(),
            transport_sequence: (self.reporting == Reporting::TransportWide).then_some(number.wire()),
            extensions: &EndToEndExtensions::default(),
            playout_delay: None,
            frame_number: None,
        };
        let header_len = write_header(space, &header, extensions)?;
        let len = header_len + PADDING;
        let whole = space.get_mut(..len + overhead)?;
        whole[header_len..len].fill(0);
        whole[len - 1] = PADDING as u8;
        whole[0] |= 0x20;
        self.repair_sequence = sequence;
        Some(Plain { header_len, len, ssrc, sequence, counted: Some(self.reporting) })
    }
}
