//! Helpers that the fuzz targets share: reading an input as decisions, virtual time, and packets that pass checks which
//! random bytes cannot pass.

mod call;
mod offers;
mod packets;
mod script;

pub use call::{Call, Line, REMOTE_TRACKS, TRACKS, room};
pub use offers::offers;
pub use packets::{check, crc32c, with_checksum};
pub use script::Script;

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use sfu_engine::transport::dtls::Certificate;
use sfu_engine::transport::ice::IceCredentials;

/// A fixed moment, the same for the entire process.
pub fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}

/// One of two certificates. They are generated once, since generation costs more than everything else.
pub fn certificate(which: usize) -> Arc<Certificate> {
    static CERTIFICATES: LazyLock<[Arc<Certificate>; 2]> = LazyLock::new(|| {
        [(); 2].map(|()| Arc::new(Certificate::generate().expect("the system has random bytes")))
    });
    Arc::clone(&CERTIFICATES[which % 2])
}

/// ICE credentials that are the same in every run.
pub fn credentials(name: &str) -> IceCredentials {
    IceCredentials { ufrag: format!("{name}fragment"), pwd: format!("{name}0123456789abcdefghijklmn") }
}
