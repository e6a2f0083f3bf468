//! RTP: packets, header extensions, retransmission format, RTCP, payload descriptors.

pub mod codec;
