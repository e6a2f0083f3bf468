use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use mio::{Events, Poll};

use super::*;

const SETTINGS: UdpSettings =
    UdpSettings { receive_buffer_bytes: 1 << 20, send_buffer_bytes: 1 << 20, send_train: 64 };

struct Side {
    udp: Udp,
    poll: Poll,
}

impl Side {
    fn new(settings: UdpSettings) -> Self {
        let any =
            [(IpAddr::from(Ipv4Addr::LOCALHOST), 0).into(), (IpAddr::from(Ipv6Addr::LOCALHOST), 0).into()];
        let mut udp = Udp::bind(&any, settings).expect("loopback");
        let poll = Poll::new().expect("poll");
        udp.register(poll.registry()).expect("register");
        Self { udp, poll }
    }

    fn address(&self, v4: bool) -> Option<SocketAddr> {
        self.udp.local_addresses().find(|address| address.is_ipv4() == v4)
    }

    /// Waits for the sockets, at most a second.
    fn wait(&mut self) {
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, Some(Duration::from_secs(1))).expect("poll");
        for event in &events {
            self.udp.note(event.token(), event.is_readable(), event.is_writable());
        }
    }

    /// Receives until `count` datagrams have arrived or a second passes without any.
    fn collect(&mut self, count: usize) -> Vec<(SocketAddr, Option<IpAddr>, Vec<u8>)> {
        let mut got = Vec::new();
        while got.len() < count {
            let before = got.len();
            self.udp.receive(512, |datagram| {
                got.push((datagram.source, datagram.local, datagram.data.to_vec()));
            });
            if got.len() == before {
                self.wait();
                if !self.udp.readable() {
                    break;
                }
            }
        }
        got
    }

    fn send(&mut self, destination: SocketAddr, contents: &[u8], segment: Option<usize>) -> Sent {
        let transmit = Transmit { destination, source: None, size: contents.len(), segment_size: segment };
        self.udp.send(&transmit, contents)
    }
}

/// Concatenated datagrams of `size` bytes, each filled with its index.
fn numbered(count: u8, size: usize) -> Vec<u8> {
    (0..count).flat_map(|number| vec![number; size]).collect()
}

#[test]
fn a_run_arrives_as_the_datagrams_it_was_made_of_over_both_families() {
    let (mut a, mut b) = (Side::new(SETTINGS), Side::new(SETTINGS));
    for v4 in [true, false] {
        let (Some(from), Some(to)) = (a.address(v4), b.address(v4)) else { continue };
        let mut run = numbered(9, 1200);
        run.truncate(8 * 1200 + 700);
        assert_eq!(a.send(to, &run, Some(1200)), Sent { sent: 9, ..Sent::default() });
        let got = b.collect(9);
        assert_eq!(got.len(), 9);
        for (number, (source, local, data)) in got.iter().enumerate() {
            assert_eq!(*source, from);
            assert_eq!(*local, Some(to.ip()), "answers leave from the address that was asked");
            assert_eq!(data.len(), if number == 8 { 700 } else { 1200 });
            assert!(data.iter().all(|byte| usize::from(*byte) == number));
        }
    }
}

#[test]
fn a_train_limit_cuts_runs_and_keeps_every_datagram() {
    let (mut a, mut b) = (Side::new(UdpSettings { send_train: 2, ..SETTINGS }), Side::new(SETTINGS));
    let Some(to) = b.address(true) else { return };
    assert_eq!(a.send(to, &numbered(7, 300), Some(300)).sent, 7);
    let numbers: Vec<u8> = b.collect(7).iter().filter_map(|(_, _, data)| data.first().copied()).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_run_larger_than_one_send_can_carry_is_cut() {
    let run = Run {
        destination: (Ipv4Addr::LOCALHOST, 9).into(),
        source: None,
        segment: 1400,
        contents: &[0; 64 * 1400],
    };
    let (head, rest) = run.split(64);
    assert_eq!((head.datagrams(), rest.datagrams()), (46, 18));
    assert!(head.contents.len() <= MAX_SEND);
}

#[test]
fn a_single_datagram_arrives() {
    let (mut a, mut b) = (Side::new(SETTINGS), Side::new(SETTINGS));
    let Some(to) = b.address(true) else { return };
    assert_eq!(a.send(to, b"hello", None).sent, 1);
    assert_eq!(b.collect(1).first().map(|got| got.2.clone()), Some(b"hello".to_vec()));
}

#[test]
fn what_the_kernel_refuses_is_reported_and_does_not_switch_segmentation_off() {
    let mut a = Side::new(SETTINGS);
    // A send to port 0 fails with EINVAL, with GSO or without.
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    assert_eq!(a.send(nowhere, &numbered(3, 100), Some(100)), Sent { refused: 3, ..Sent::default() });
    assert!(a.udp.ports.iter().all(|port| port.segmentation));
    // No socket of this IP version is bound.
    let mut only_v4 = Udp::bind(&[(Ipv4Addr::LOCALHOST, 0).into()], SETTINGS).expect("loopback");
    let v6 =
        Transmit { destination: (Ipv6Addr::LOCALHOST, 9).into(), source: None, size: 4, segment_size: None };
    assert_eq!(only_v4.send(&v6, &[0; 4]), Sent { refused: 1, ..Sent::default() });
}

#[test]
fn what_would_block_is_kept_in_order_and_bounded() {
    let (mut a, mut b) = (Side::new(SETTINGS), Side::new(SETTINGS));
    let Some(to) = b.address(true) else { return };
    let Some(port) = a.udp.ports.iter_mut().find(|port| port.local.is_ipv4()) else { return };
    // The state after a send that would have blocked. The first run is queued, so later runs must queue behind it.
    port.blocked = true;
    let first = numbered(3, 200);
    let kept = port.keep(Run { destination: to, source: None, segment: 200, contents: &first });
    assert_eq!(kept.pending, 3);
    assert_eq!(a.send(to, &[3; 200], None), Sent { pending: 1, ..Sent::default() });
    assert_eq!(a.udp.pending(), 4);
    assert_eq!(a.udp.flush(a.poll.registry()).expect("reregister"), Sent::default(), "still blocked");
    // The poll reports writability at once, because the socket is not really full.
    a.wait();
    assert_eq!(a.udp.flush(a.poll.registry()).expect("reregister").sent, 4);
    assert_eq!(a.udp.pending(), 0);
    let numbers: Vec<u8> = b.collect(4).iter().filter_map(|(_, _, data)| data.first().copied()).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);

    let Some(port) = a.udp.ports.iter_mut().find(|port| port.local.is_ipv4()) else { return };
    let big = vec![0; 64];
    let mut outcome = Sent::default();
    for _ in 0..MAX_PENDING / 64 + 2 {
        outcome += port.keep(Run { destination: to, source: None, segment: 1, contents: &big });
    }
    assert_eq!((outcome.pending, outcome.refused), (MAX_PENDING, 128));
}

#[test]
fn a_budget_leaves_the_rest_for_the_next_turn() {
    let (mut a, mut b) = (Side::new(SETTINGS), Side::new(SETTINGS));
    let Some(to) = b.address(true) else { return };
    for number in 0..40 {
        // The datagrams differ in size, so that GRO does not coalesce them.
        a.send(to, &vec![0; 40 + number], None);
    }
    let mut seen = 0;
    let first = b.udp.receive(10, |_| seen += 1);
    assert!((10..=10 + RECEIVE_BATCH).contains(&first), "{first}");
    assert!(b.udp.readable());
    assert_eq!(first + b.collect(40 - first).len(), 40);
}

#[test]
fn a_wrong_address_is_an_error_and_a_missing_family_is_not() {
    let wrong = SocketAddr::from(([192, 0, 2, 1], 0));
    assert!(matches!(Udp::bind(&[wrong], SETTINGS), Err(UdpError::Bind { .. })));
    assert!(matches!(Udp::bind(&[], SETTINGS), Err(UdpError::NoAddress)));
    let absent = io::Error::from_raw_os_error(nix::libc::EADDRNOTAVAIL);
    assert!(family_is_absent((Ipv6Addr::LOCALHOST, 0).into(), &absent));
    assert!(!family_is_absent(wrong, &absent));
}
