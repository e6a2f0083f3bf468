//! ICE-lite (RFC 8445 section 2.5) with consent (RFC 7675): answers checks, keeps the addresses they proved,
//! lets the client choose among them. Sends nothing of its own.

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

/// The first half of a check's user name: whom it is meant for. Reads only as far as needed, proves nothing.
pub fn peek_local_ufrag(datagram: &[u8]) -> Option<&str> {
    stun::username(datagram)?.split_once(':').map(|(local, _)| local)
}

/// The operating system's random generator failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no random bytes")]
pub struct NoRandomness;

/// The two ends of a path: the peer's address, and ours where the host has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The peer's address, as seen from here.
    pub remote: SocketAddr,
    /// The address it was received at, if known.
    pub local: Option<IpAddr>,
}

/// What an authentic check led to.
pub(super) struct Checked {
    /// To be sent back on the path it came from.
    pub(super) response: Response,
    /// The client chose this path, by name or by checking no other, and another one was chosen before or none.
    pub(super) selected: Option<Path>,
}

/// The ICE agent of one peer.
pub(super) struct Agent {
    current: Session,
    /// Until a check with the new credentials succeeds, those before a restart are good too.
    previous: Option<Session>,
    /// Set by [`restart`](Self::restart): local credentials that wait for the remote ones.
    restarted: bool,
    /// In the order in which they were proved; the last used last.
    pairs: SmallVec<[Pair; 4]>,
    selected: Option<Path>,
    last_check: Option<Instant>,
}

struct Session {
    local: IceCredentials,
    local_key: hmac::Key,
    /// Nothing until the remote description is there.
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

    /// The credentials to be named in the local description.
    pub(super) fn local(&self) -> &IceCredentials {
        &self.current.local
    }

    /// New local credentials, as an answer to new remote ones (RFC 8445 section 9).
    pub(super) fn restart(&mut self, local: IceCredentials) {
        let before = std::mem::replace(&mut self.current, Session::new(local));
        if before.remote.is_some() {
            self.previous = Some(before);
        }
        self.restarted = true;
    }

    /// What the remote description says. The same as before changes nothing.
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

    /// The path that the client chose.
    pub(super) fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Whether that address answers to the client, as its checks proved.
    pub(super) fn is_validated(&self, remote: SocketAddr) -> bool {
        self.selected.is_some_and(|path| path.remote == remote)
            || self.pairs.iter().any(|pair| pair.path.remote == remote)
    }

    /// When the last authentic check arrived from that address.
    pub(super) fn last_check_from(&self, remote: SocketAddr) -> Option<Instant> {
        self.pairs.iter().filter(|pair| pair.path.remote == remote).map(|pair| pair.last_check).max()
    }

    /// When the last authentic check arrived, of whichever path.
    pub(super) fn last_check(&self) -> Option<Instant> {
        self.last_check
    }

    /// A datagram that looks like STUN. Without the right password nothing happens and nothing is sent, so
    /// that nobody learns from here who is there (RFC 8445 section 7.3 would send errors).
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

    /// Whether the path that the client chose is checked no longer. A client that names its choice only once does not
    /// know that its NAT has given it another port: its checks simply come from there.
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

/// Paths remembered. A client has a few addresses, and each may show with several ports.
const MAX_PAIRS: usize = 16;
/// A path that was chosen and not checked for that long has been left, if another is checked. Clients that go on naming
/// their choice check it every 2.5 s; those that do not check nothing else.
const LEFT: Duration = Duration::from_secs(4);

#[cfg(test)]
pub(super) mod tests;
