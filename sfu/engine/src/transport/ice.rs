//! ICE-lite (RFC 8445 section 2.5) with consent (RFC 7675). The agent answers connectivity checks, stores the addresses
//! that they validate, and lets the client select among these. It sends no checks of its own.

mod stun;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use smallvec::SmallVec;
use thiserror::Error;

pub use self::credentials::IceCredentials;
use self::stun::{Request, Response};
use crate::stats::Drop;

mod credentials;

/// The local ufrag in the user name of a connectivity check, which names the peer. It is not authenticated. `None` if
/// the datagram is not a check.
pub fn peek_local_ufrag(datagram: &[u8]) -> Option<&str> {
    stun::username(datagram)?.split_once(':').map(|(local, _)| local)
}

/// The operating system's random generator failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no random bytes")]
pub struct NoRandomness;

/// The two ends of a path: the peer's address and the local address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// Peer's address as it arrives at this host, after any NAT.
    pub remote: SocketAddr,
    /// Local address at which the peer's datagrams arrive, if known.
    pub local: Option<IpAddr>,
}

/// Result of an authentic check.
pub(super) struct Checked {
    /// Response, to be sent on the path on which the check arrived.
    pub(super) response: Response,
    /// Newly selected path, if the selection changed: the client nominated it, or no longer checks the one selected
    /// before.
    pub(super) selected: Option<Path>,
}

/// The ICE agent of one peer.
pub(super) struct Agent {
    current: Session,
    /// Credentials from before an ICE restart, valid until a check with the new ones succeeds.
    previous: Option<Session>,
    /// Whether [`restart`](Self::restart) has set local credentials for which the remote ones have not arrived yet.
    restarted: bool,
    /// Validated paths, at most [`MAX_PAIRS`], in no particular order.
    pairs: SmallVec<[Pair; 4]>,
    selected: Option<Path>,
    last_check: Option<Instant>,
}

struct Session {
    local: IceCredentials,
    local_key: hmac::Key,
    /// Remote credentials; `None` until the remote description is set.
    remote: Option<IceCredentials>,
}

impl Session {
    fn new(local: IceCredentials) -> Self {
        let local_key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, local.pwd.as_bytes());
        Self { local, local_key, remote: None }
    }

    fn is_meant(&self, (local, remote): (&str, &str)) -> bool {
        local == self.local.ufrag && self.remote.as_ref().is_some_and(|known| known.ufrag == remote)
    }
}

struct Pair {
    path: Path,
    last_check: Instant,
}

impl Agent {
    pub(super) fn new(local: IceCredentials) -> Self {
        Self {
            current: Session::new(local),
            previous: None,
            restarted: false,
            pairs: SmallVec::new(),
            selected: None,
            last_check: None,
        }
    }

    /// The current local credentials.
    pub(super) fn local(&self) -> &IceCredentials {
        &self.current.local
    }

    /// Sets new local credentials for an ICE restart by the client (RFC 8445 section 9).
    pub(super) fn restart(&mut self, local: IceCredentials) {
        let before = std::mem::replace(&mut self.current, Session::new(local));
        if before.remote.is_some() {
            self.previous = Some(before);
        }
        self.restarted = true;
    }

    /// Sets the remote credentials. Unchanged credentials have no effect.
    pub(super) fn set_remote(&mut self, remote: IceCredentials) {
        if self.current.remote.as_ref() == Some(&remote) {
            return;
        }
        if let Some(before) = self.current.remote.replace(remote).filter(|_| !self.restarted) {
            let mut previous = Session::new(self.current.local.clone());
            previous.remote = Some(before);
            self.previous = Some(previous);
        }
        self.restarted = false;
    }

    /// The path that the client selected.
    pub(super) fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Whether an authentic check has arrived from an address.
    pub(super) fn is_validated(&self, remote: SocketAddr) -> bool {
        self.selected.is_some_and(|path| path.remote == remote)
            || self.pairs.iter().any(|pair| pair.path.remote == remote)
    }

    /// Time of the last authentic check from an address.
    pub(super) fn last_check_from(&self, remote: SocketAddr) -> Option<Instant> {
        self.pairs.iter().filter(|pair| pair.path.remote == remote).map(|pair| pair.last_check).max()
    }

    /// Time of the last authentic check on any path.
    pub(super) fn last_check(&self) -> Option<Instant> {
        self.last_check
    }

    /// Handles a datagram that looks like STUN. Without the right password it has no effect and gets no response, so
    /// that strangers cannot find out which peers exist (RFC 8445 section 7.3 would send errors).
    pub(super) fn handle(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<Checked, Drop> {
        let request = Request::parse(datagram).ok_or(Drop::BadStun)?;
        let (is_current, session) = if self.current.is_meant(request.username) {
            (true, &self.current)
        } else {
            let session = self.previous.as_ref().filter(|session| session.is_meant(request.username));
            (false, session.ok_or(Drop::UnknownUfrag)?)
        };
        let key = &session.local_key;
        if !request.is_authentic(key) {
            return Err(Drop::BadStun);
        }
        if !request.unknown.is_empty() {
            return Ok(Checked { response: request.unknown_attributes(key), selected: None });
        }
        if request.controlled {
            return Ok(Checked { response: request.role_conflict(key), selected: None });
        }
        let response = request.success(key, path.remote);
        let use_candidate = request.use_candidate;
        if is_current {
            self.previous = None;
        }
        let chooses = use_candidate || self.has_left(now);
        self.last_check = Some(now);
        self.remember(now, path);
        let selected = (chooses && self.selected != Some(path)).then_some(path);
        self.selected = selected.or(self.selected);
        Ok(Checked { response, selected })
    }

    /// Whether the client no longer checks the selected path. A client that nominates only once does not know that its
    /// NAT has given it another port. Its checks then simply come from that port.
    fn has_left(&self, now: Instant) -> bool {
        let Some(selected) = self.selected else { return false };
        let pair = self.pairs.iter().find(|pair| pair.path == selected);
        pair.is_none_or(|pair| now.saturating_duration_since(pair.last_check) >= LEFT)
    }

    fn remember(&mut self, now: Instant, path: Path) {
        if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.path == path) {
            pair.last_check = now;
            return;
        }
        if self.pairs.len() >= MAX_PAIRS {
            let oldest = (self.pairs.iter().enumerate())
                .filter(|(_, pair)| Some(pair.path) != self.selected)
                .min_by_key(|(_, pair)| pair.last_check)
                .map(|(at, _)| at);
            if let Some(at) = oldest {
                self.pairs.swap_remove(at);
            }
        }
        self.pairs.push(Pair { path, last_check: now });
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remote)
    }
}

/// Maximum number of stored paths. A client has a few addresses, and each may appear with several ports.
const MAX_PAIRS: usize = 16;
/// Time without checks after which a selected path counts as abandoned, if another path is checked. Clients that repeat
/// their nomination check the selected path every 2.5 s. Clients that do not repeat it check no other path.
const LEFT: Duration = Duration::from_secs(4);

#[cfg(test)]
pub(super) mod tests;
