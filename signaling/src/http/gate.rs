//! Counts connections and refuses those beyond the limits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Reason why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The limit of all connections is reached.
    Full,
    /// The limit of connections from this address is reached.
    Address,
}

impl Refusal {
    /// Short fixed word for the label of a counter.
    pub fn code(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Address => "address",
        }
    }
}

/// Counter of open connections, with limits.
#[derive(Debug)]
pub struct Gate {
    total: usize,
    per_address: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Place of one connection in the counts. Dropping it frees the place.
#[derive(Debug)]
pub struct Ticket {
    gate: Arc<Gate>,
    address: IpAddr,
    is_session: AtomicBool,
}

impl Gate {
    /// Makes a gate for at most `total` connections, at most `per_address` of them from one address (0: unlimited).
    pub fn new(total: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { total, per_address, inside: Mutex::default() })
    }

    /// Admits a connection from `address`.
    ///
    /// # Errors
    /// A limit is reached.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Ticket, Refusal> {
        let address = neighbourhood(address);
        let mut inside = self.inside();
        if inside.total >= self.total {
            return Err(Refusal::Full);
        }
        let count = inside.by_address.entry(address).or_default();
        if self.per_address != 0 && *count >= self.per_address {
            return Err(Refusal::Address);
        }
        *count = count.saturating_add(1);
        inside.total = inside.total.saturating_add(1);
        Ok(Ticket { gate: Arc::clone(self), address, is_session: AtomicBool::new(false) })
    }

    /// Number of open connections.
    pub fn open(&self) -> usize {
        self.inside().total
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // The counting code cannot panic half-way, so the state is consistent even behind a poisoned lock.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Records that the connection has become a session. Its client has presented a token, so it no longer counts
    /// towards the limit of its address: all clients of an office may share one address.
    pub fn became_session(&self) {
        if !self.is_session.swap(true, Ordering::Relaxed) {
            self.gate.inside().leave_address(self.address);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inside = self.gate.inside();
        inside.total = inside.total.saturating_sub(1);
        if !self.is_session.load(Ordering::Relaxed) {
            inside.leave_address(self.address);
        }
    }
}

impl Inside {
    fn leave_address(&mut self, address: IpAddr) {
        if let Some(count) = self.by_address.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// Network that providers usually assign to one customer: an IPv4 address, or an IPv6 /64.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_limits_hold_and_places_come_back() {
        let gate = Gate::new(3, 2);
        let first = gate.enter(ip("192.0.2.1")).unwrap();
        let second = gate.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(gate.enter(ip("192.0.2.1")).unwrap_err(), Refusal::Address);
        let _third = gate.enter(ip("192.0.2.2")).unwrap();
        assert_eq!(gate.enter(ip("192.0.2.3")).unwrap_err(), Refusal::Full);
        drop(first);
        let _fourth = gate.enter(ip("192.0.2.1")).unwrap();
        drop(second);
        assert_eq!(gate.open(), 2);
    }

    #[test]
    fn a_session_no_longer_counts_against_its_address() {
        let gate = Gate::new(10, 1);
        let ticket = gate.enter(ip("192.0.2.1")).unwrap();
        ticket.became_session();
        ticket.became_session();
        let other = gate.enter(ip("192.0.2.1")).unwrap();
        drop(ticket);
        assert_eq!(gate.enter(ip("192.0.2.1")).unwrap_err(), Refusal::Address);
        drop(other);
        assert_eq!(gate.open(), 0);
        assert!(gate.inside().by_address.is_empty());
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let gate = Gate::new(10, 1);
        let _ticket = gate.enter(ip("2001:db8::1")).unwrap();
        assert_eq!(gate.enter(ip("2001:db8::ffff:1")).unwrap_err(), Refusal::Address);
        assert!(gate.enter(ip("2001:db8:0:1::1")).is_ok());
        drop(gate.enter(ip("2001:db8:0:2::1")));
    }
}
