//! RTP: packets, header extensions, the retransmission format, RTCP, and codec payload descriptors. The input comes
//! from the network and is untrusted: nothing here panics on it, and malformed input is a typed error.

pub mod codec;
pub mod extension;
pub mod packet;
mod reader;
pub mod rtcp;
pub mod rtx;

#[cfg(test)]
mod hostile;
