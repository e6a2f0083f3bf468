//! RTP: packets, header extensions, retransmission format, RTCP, payload descriptors. Everything here reads bytes
//! that somebody else wrote: nothing panics on them, and what is malformed is a typed error.

pub mod codec;
pub mod extension;
pub mod packet;
mod reader;
pub mod rtcp;
pub mod rtx;

#[cfg(test)]
mod hostile;
