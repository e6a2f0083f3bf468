use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use rtc_stun::attributes::{
    ATTR_ERROR_CODE, ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_NETWORK_COST, ATTR_PRIORITY, ATTR_REALM,
    ATTR_UNKNOWN_ATTRIBUTES, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, Setter, TransactionId,
};
use rtc_stun::xoraddr::XorMappedAddress;

use super::*;

/// A connectivity check, written by another implementation (rtc-stun).
pub(in crate::transport) struct Check {
    pub(in crate::transport) username: String,
    pub(in crate::transport) password: String,
    pub(in crate::transport) attributes: Vec<(AttrType, Vec<u8>)>,
    pub(in crate::transport) fingerprint: bool,
}

impl Check {
    /// A check that the holder of `remote` sends to the holder of `local`.
    pub(in crate::transport) fn new(local: &IceCredentials, remote: &IceCredentials) -> Self {
        Self {
            username: format!("{}:{}", local.ufrag, remote.ufrag),
            password: local.pwd.clone(),
            attributes: vec![
                (ATTR_PRIORITY, vec![0x6e, 0, 1, 0xff]),
                (ATTR_ICE_CONTROLLING, vec![7; 8]),
                (ATTR_NETWORK_COST, vec![0, 1, 0, 10]),
            ],
            fingerprint: true,
        }
    }

    pub(in crate::transport) fn with(mut self, kind: AttrType, value: &[u8]) -> Self {
        self.attributes.push((kind, value.to_vec()));
        self
    }

    pub(in crate::transport) fn nominating(self) -> Self {
        self.with(ATTR_USE_CANDIDATE, &[])
    }

    pub(in crate::transport) fn bytes(&self) -> Vec<u8> {
        let mut message = Message::new();
        message.transaction_id = TransactionId([9; 12]);
        message.set_type(BINDING_REQUEST);
        message.write_header();
        message.add(ATTR_USERNAME, self.username.as_bytes());
        for (kind, value) in &self.attributes {
            message.add(*kind, value);
        }
        let provider = rtc_stun::crypto::default_provider().unwrap();
        let password = self.password.clone();
        MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto())
            .add_to(&mut message)
            .unwrap();
        if self.fingerprint {
            FINGERPRINT.add_to(&mut message).unwrap();
        }
        message.raw
    }
}

/// Reads a response with another implementation (rtc-stun), which checks integrity and fingerprint.
pub(in crate::transport) fn read_response(response: &[u8], password: &str) -> Message {
    let mut message = Message::new();
    message.unmarshal_binary(response).unwrap();
    let provider = rtc_stun::crypto::default_provider().unwrap();
    FINGERPRINT.check(&message).unwrap();
    MessageIntegrity::check(&mut message, password.as_bytes(), provider.crypto()).unwrap();
    assert_eq!(message.transaction_id, TransactionId([9; 12]));
    message
}

struct Ends {
    agent: Agent,
    local: IceCredentials,
    remote: IceCredentials,
    now: Instant,
}

#[expect(clippy::disallowed_methods, reason = "virtual time needs an origin")]
fn ends() -> Ends {
    let (local, remote) = (IceCredentials::generate().unwrap(), IceCredentials::generate().unwrap());
    let mut agent = Agent::new(local.clone());
    agent.set_remote(remote.clone());
    Ends { agent, local, remote, now: Instant::now() }
}

fn path(port: u16) -> Path {
    Path { remote: (Ipv4Addr::new(192, 0, 2, 1), port).into(), local: None }
}

#[test]
fn credentials_are_long_enough_and_of_ice_chars() {
    let (one, other) = (IceCredentials::generate().unwrap(), IceCredentials::generate().unwrap());
    assert!(one.ufrag.len() >= 8 && one.pwd.len() >= 24);
    for text in [&one.ufrag, &one.pwd] {
        assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '/'), "{text}");
    }
    assert_ne!(one, other);
    assert!(!format!("{one:?}").contains(&one.pwd));
}

#[test]
fn a_check_is_answered_with_the_address_it_came_from() {
    let mut ends = ends();
    for remote in [
        SocketAddr::from((Ipv4Addr::new(203, 0, 113, 77), 4711)),
        SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6), 65_535)),
    ] {
        let path = Path { remote, local: None };
        let check = Check::new(&ends.local, &ends.remote).bytes();
        let checked = ends.agent.handle(ends.now, path, &check).unwrap();
        let response = read_response(&checked.response, &ends.local.pwd);
        assert_eq!(response.typ, BINDING_SUCCESS);
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&response).unwrap();
        assert_eq!(SocketAddr::new(mapped.ip, mapped.port), remote);
        assert!(ends.agent.is_validated(remote));
        assert_eq!(checked.selected, None);
    }
    assert_eq!(ends.agent.selected(), None);
}

#[test]
fn a_v4_address_seen_through_a_v6_socket_is_told_as_v4() {
    let mut ends = ends();
    let remote = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 77).to_ipv6_mapped(), 1));
    let check = Check::new(&ends.local, &ends.remote).bytes();
    let checked = ends.agent.handle(ends.now, Path { remote, local: None }, &check).unwrap();
    let mut mapped = XorMappedAddress::default();
    mapped.get_from(&read_response(&checked.response, &ends.local.pwd)).unwrap();
    assert_eq!(mapped.ip, IpAddr::from(Ipv4Addr::new(203, 0, 113, 77)));
}

#[test]
fn the_first_check_may_nominate_and_later_ones_move_the_path() {
    let mut ends = ends();
    let nominating = Check::new(&ends.local, &ends.remote).nominating().bytes();
    let plain = Check::new(&ends.local, &ends.remote).bytes();
    let selected = |ends: &mut Ends, port, check: &[u8]| {
        ends.agent.handle(ends.now, path(port), check).unwrap().selected
    };
    assert_eq!(selected(&mut ends, 1, &nominating), Some(path(1)));
    assert_eq!(selected(&mut ends, 1, &nominating), None, "not a change");
    assert_eq!(selected(&mut ends, 2, &plain), None);
    assert_eq!(ends.agent.selected(), Some(path(1)));
    assert_eq!(selected(&mut ends, 2, &nominating), Some(path(2)));
    assert_eq!(selected(&mut ends, 1, &nominating), Some(path(1)), "and back");
}

#[test]
fn whoever_lacks_the_password_gets_no_answer_and_changes_nothing() {
    let mut ends = ends();
    let good = || Check::new(&ends.local, &ends.remote).nominating();
    let mut wrong_password = good();
    wrong_password.password = "x".repeat(32);
    let mut wrong_local = good();
    wrong_local.username = format!("nobody:{}", ends.remote.ufrag);
    let mut wrong_remote = good();
    wrong_remote.username = format!("{}:nobody", ends.local.ufrag);
    let mut no_colon = good();
    no_colon.username = ends.local.ufrag.clone();
    let controlled = {
        let mut check = good().with(ATTR_ICE_CONTROLLED, &[1; 8]);
        check.password = "y".repeat(32);
        check
    };
    let mut bad_fingerprint = good().bytes();
    *bad_fingerprint.last_mut().unwrap() ^= 1;
    let cases = [
        (wrong_password.bytes(), Drop::BadStun),
        (wrong_local.bytes(), Drop::UnknownUfrag),
        (wrong_remote.bytes(), Drop::UnknownUfrag),
        (no_colon.bytes(), Drop::BadStun),
        (controlled.bytes(), Drop::BadStun),
        (bad_fingerprint, Drop::BadStun),
    ];
    for (at, (check, reason)) in cases.into_iter().enumerate() {
        let refused = ends.agent.handle(ends.now, path(1), &check).err();
        assert_eq!(refused, Some(reason), "case {at}");
    }
    assert_eq!(ends.agent.selected(), None);
    assert!(!ends.agent.is_validated(path(1).remote));
    assert_eq!(ends.agent.last_check(), None);
}

#[test]
fn a_change_of_any_byte_is_refused() {
    let mut ends = ends();
    let check = Check::new(&ends.local, &ends.remote).nominating().bytes();
    // The header of the FINGERPRINT attribute is not protected. A changed one is ignored as an unknown attribute.
    let fingerprint = check.len() - 8;
    for at in (0..fingerprint).chain(fingerprint + 4..check.len()) {
        let mut changed = check.clone();
        changed[at] ^= 4;
        assert!(ends.agent.handle(ends.now, path(1), &changed).is_err(), "byte {at}");
    }
    assert!(ends.agent.handle(ends.now, path(1), &check).is_ok());
}

#[test]
fn a_check_without_fingerprint_is_taken() {
    let mut ends = ends();
    let mut check = Check::new(&ends.local, &ends.remote);
    check.fingerprint = false;
    assert!(ends.agent.handle(ends.now, path(1), &check.bytes()).is_ok());
}

#[test]
fn what_must_be_understood_and_is_not_is_named() {
    let mut ends = ends();
    let check =
        Check::new(&ends.local, &ends.remote).with(AttrType(0x7001), &[1, 2, 3]).with(ATTR_REALM, b"r");
    let checked = ends.agent.handle(ends.now, path(1), &check.nominating().bytes()).unwrap();
    let response = read_response(&checked.response, &ends.local.pwd);
    assert_eq!(response.typ, BINDING_ERROR);
    assert_eq!(response.get(ATTR_ERROR_CODE).unwrap(), [0, 0, 4, 20]);
    assert_eq!(response.get(ATTR_UNKNOWN_ATTRIBUTES).unwrap(), [0x70, 1, 0, 0x14]);
    assert_eq!(ends.agent.selected(), None);
    assert!(!ends.agent.is_validated(path(1).remote));
}

#[test]
fn a_peer_that_takes_itself_for_controlled_is_told_to_switch() {
    let mut ends = ends();
    let check = Check::new(&ends.local, &ends.remote).with(ATTR_ICE_CONTROLLED, &[1; 8]).bytes();
    let checked = ends.agent.handle(ends.now, path(1), &check).unwrap();
    let response = read_response(&checked.response, &ends.local.pwd);
    assert_eq!(response.typ, BINDING_ERROR);
    assert_eq!(response.get(ATTR_ERROR_CODE).unwrap(), [0, 0, 4, 87]);
}

#[test]
fn addresses_are_bounded_and_the_selected_one_stays() {
    let mut ends = ends();
    let nominating = Check::new(&ends.local, &ends.remote).nominating().bytes();
    let plain = Check::new(&ends.local, &ends.remote).bytes();
    ends.agent.handle(ends.now, path(1), &nominating).unwrap();
    for port in 2..200 {
        ends.now += Duration::from_millis(1);
        ends.agent.handle(ends.now, path(port), &plain).unwrap();
    }
    assert_eq!(ends.agent.pairs.len(), MAX_PAIRS);
    assert!(ends.agent.is_validated(path(1).remote));
    assert!(ends.agent.is_validated(path(199).remote));
    assert!(!ends.agent.is_validated(path(2).remote));
}

#[test]
fn after_a_restart_old_checks_count_until_a_new_one_arrives() {
    let mut ends = ends();
    let old = Check::new(&ends.local, &ends.remote).nominating().bytes();
    ends.agent.handle(ends.now, path(1), &old).unwrap();
    let (local, remote) = (IceCredentials::generate().unwrap(), IceCredentials::generate().unwrap());
    ends.agent.restart(local.clone());
    ends.agent.set_remote(remote.clone());
    assert_eq!(ends.agent.local(), &local);
    assert!(ends.agent.handle(ends.now, path(1), &old).is_ok());
    let new = Check::new(&local, &remote).nominating().bytes();
    let checked = ends.agent.handle(ends.now, path(2), &new).unwrap();
    read_response(&checked.response, &local.pwd);
    assert_eq!(ends.agent.selected(), Some(path(2)));
    assert_eq!(ends.agent.handle(ends.now, path(1), &old).err(), Some(Drop::UnknownUfrag));
}

#[test]
fn a_check_before_the_remote_description_is_not_taken() {
    let mut ends = ends();
    let check = Check::new(&ends.local, &ends.remote).bytes();
    let mut early = Agent::new(ends.local.clone());
    assert_eq!(early.handle(ends.now, path(1), &check).err(), Some(Drop::UnknownUfrag));
    assert!(ends.agent.handle(ends.now, path(1), &check).is_ok());
}

#[test]
fn the_local_fragment_is_found_without_knowing_anything() {
    let ends = ends();
    let check = Check::new(&ends.local, &ends.remote).bytes();
    assert_eq!(peek_local_ufrag(&check), Some(ends.local.ufrag.as_str()));
    assert_eq!(peek_local_ufrag(&[]), None);
    assert_eq!(peek_local_ufrag(&[0; 40]), None);
}

#[test]
fn datagrams_of_every_length_are_refused_without_a_panic() {
    let mut ends = ends();
    let check = Check::new(&ends.local, &ends.remote).bytes();
    let mut rng = SmallRng::seed_from_u64(1);
    for len in 0..1500 {
        let mut noise = vec![0; len];
        rng.fill_bytes(&mut noise);
        let mut framed = noise.clone();
        if let Some(header) = framed.get_mut(..20) {
            header[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
            header[2..4].copy_from_slice(&((len - 20) as u16).to_be_bytes());
        }
        // An attribute that claims to be longer than the datagram.
        let mut overlong = framed.clone();
        if let Some(attribute) = overlong.get_mut(20..24) {
            attribute.copy_from_slice(&[0, 6, 0xff, 0xff]);
        }
        let cut: Vec<u8> = check.iter().copied().cycle().take(len).collect();
        for datagram in [noise, framed, overlong, cut] {
            let _ = peek_local_ufrag(&datagram);
            if datagram != check {
                assert!(ends.agent.handle(ends.now, path(1), &datagram).is_err());
            }
        }
    }
    assert!(ends.agent.pairs.is_empty());
}

#[test]
fn a_path_that_is_checked_no_longer_is_left_for_one_that_is() {
    let mut ends = ends();
    let nominating = Check::new(&ends.local, &ends.remote).nominating().bytes();
    let plain = Check::new(&ends.local, &ends.remote).bytes();
    let check = |ends: &mut Ends, port: u16, check: &[u8]| {
        ends.agent.handle(ends.now, path(port), check).unwrap();
        ends.agent.selected()
    };
    assert_eq!(check(&mut ends, 1, &nominating), Some(path(1)));
    for _ in 0..10 {
        // Several paths are checked. The selected one stays.
        ends.now += Duration::from_millis(1250);
        assert_eq!(check(&mut ends, 2, &plain), Some(path(1)));
        ends.now += Duration::from_millis(1250);
        assert_eq!(check(&mut ends, 1, &plain), Some(path(1)));
    }
    ends.now += Duration::from_secs(2);
    assert_eq!(check(&mut ends, 3, &plain), Some(path(1)), "two seconds are nothing");
    ends.now += Duration::from_secs(2);
    assert_eq!(check(&mut ends, 3, &plain), Some(path(3)));
    assert_eq!(check(&mut ends, 1, &nominating), Some(path(1)), "a choice counts at once");
}
