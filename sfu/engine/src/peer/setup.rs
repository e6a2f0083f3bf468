//! Construction of a peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rand::Rng;
use sfu_protocol::ClientTraits;

use crate::egress::Egress;
use crate::ingress::Ingress;
use crate::limits::Limits;
use crate::sdp::{self, LocalParameters, Negotiation, RemoteTransport, Role};
use crate::transport::dtls::{Certificate, DtlsRole, Fingerprint, SrtpOffer};
use crate::transport::ice::{IceCredentials, NoRandomness};
use crate::transport::{RemoteParameters, Transport, TransportConfig};
use crate::units::Ssrc;

/// Parts of a new peer.
pub struct Parts {
    /// ICE, DTLS, SRTP and SCTP.
    pub transport: Transport,
    /// State of the SDP negotiation.
    pub negotiation: Negotiation,
    /// Tracks that the peer publishes.
    pub ingress: Ingress,
    /// Tracks that the peer receives.
    pub egress: Egress,
    /// Local ICE user fragment.
    pub ufrag: String,
}

/// Makes the parts of a new peer.
///
/// # Errors
/// If the system provides no random bytes for the ICE credentials.
pub fn parts(
    role: Role,
    client: ClientTraits,
    certificate: &Arc<Certificate>,
    limits: &Limits,
    rng: &mut impl Rng,
    now: Instant,
) -> Result<Parts, NoRandomness> {
    let local = IceCredentials::generate()?;
    let ufrag = local.ufrag.clone();
    let config = TransportConfig {
        local,
        certificate: Arc::clone(certificate),
        srtp: if client.aead_srtp { SrtpOffer::AeadOnly } else { SrtpOffer::AesCm80Too },
        limits: limits.clone(),
    };
    Ok(Parts {
        transport: Transport::new(config, now),
        negotiation: Negotiation::new(role, client, limits.clone()),
        ingress: Ingress::new(Ssrc(rng.random_range(1..u32::MAX)), limits.clone()),
        egress: Egress::new(limits),
        ufrag,
    })
}

/// Converts the client's transport parameters from its description.
pub fn remote(remote: &RemoteTransport) -> RemoteParameters {
    RemoteParameters {
        ice: IceCredentials { ufrag: remote.ice.ufrag.clone(), pwd: remote.ice.pwd.clone() },
        fingerprint: Fingerprint {
            algorithm: remote.fingerprint.algorithm.clone(),
            value: remote.fingerprint.value.clone(),
        },
        dtls_role: match remote.dtls_role {
            sdp::DtlsRole::Client => DtlsRole::Client,
            sdp::DtlsRole::Server => DtlsRole::Server,
        },
    }
}

/// Transport parameters for the server's descriptions.
pub fn local(transport: &Transport, certificate: &Certificate, candidates: &[SocketAddr]) -> LocalParameters {
    let ice = transport.local_ice();
    let fingerprint = certificate.fingerprint();
    LocalParameters {
        ice: sdp::IceCredentials { ufrag: ice.ufrag.clone(), pwd: ice.pwd.clone() },
        fingerprint: sdp::Fingerprint {
            algorithm: fingerprint.algorithm.clone(),
            value: fingerprint.value.clone(),
        },
        candidates: candidates.to_vec(),
    }
}
