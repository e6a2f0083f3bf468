//! What can go wrong in a load test. All of it ends the run.

use std::io;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A socket, file or process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The server did not start or went away.
    #[error("the server: {0}")]
    Server(String),
    /// Signaling failed.
    #[error("signaling of {who}: {what}")]
    Signaling {
        /// Which client.
        who: String,
        /// What happened.
        what: String,
    },
    /// ICE, DTLS, SRTP or SDP failed.
    #[error("transport of {who}: {what}")]
    Transport {
        /// Which client.
        who: String,
        /// What happened.
        what: String,
    },
    /// Something did not happen in time.
    #[error("waited {seconds} s for {what}, {state}")]
    Timeout {
        /// How long.
        seconds: u64,
        /// For what.
        what: String,
        /// How far it came.
        state: String,
    },
    /// The cipher refused.
    #[error("AES-GCM refused to {0}")]
    Cipher(&'static str),
}

/// Names what was tried when the system refused it.
pub trait Context<T> {
    /// The error with what was tried.
    ///
    /// # Errors
    /// [`LoadError::Io`].
    fn context(self, what: &'static str) -> Result<T, LoadError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: &'static str) -> Result<T, LoadError> {
        self.map_err(|source| LoadError::Io { what, source })
    }
}
