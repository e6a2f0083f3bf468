//! Errors of a load test. Every error ends the run.

use std::io;

/// Reason why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A socket, file or process operation failed.
    #[error("{what}: {source}")]
    Io {
        /// Operation that failed.
        what: &'static str,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The server did not start, ended, or gave an unusable answer.
    #[error("the server: {0}")]
    Server(String),
    /// Signaling of one client failed.
    #[error("signaling of {who}: {what}")]
    Signaling {
        /// Name of the client.
        who: String,
        /// Description of the failure.
        what: String,
    },
    /// ICE, DTLS, SRTP or SDP of one client failed.
    #[error("transport of {who}: {what}")]
    Transport {
        /// Name of the client.
        who: String,
        /// Description of the failure.
        what: String,
    },
    /// A condition was not met before its timeout.
    #[error("waited {seconds} s for {what}, {state}")]
    Timeout {
        /// Timeout in seconds.
        seconds: u64,
        /// Condition that was awaited.
        what: String,
        /// Progress at the timeout, such as "3 of 10".
        state: String,
    },
    /// The cipher failed; the text names the operation.
    #[error("AES-GCM refused to {0}")]
    Cipher(&'static str),
}

/// Adds the name of the failed operation to an I/O error.
pub trait Context<T> {
    /// Converts an I/O error to a [`LoadError`] that names the operation `what`.
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
