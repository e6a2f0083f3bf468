//! The floor: the minimum cost of a forwarded packet, which is to copy and encrypt it for each receiver and to send in
//! GSO runs. Packet sizes, burst lengths, pace and receivers are those of the forwarding scenario, so the two costs are
//! comparable.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::error::{Context, LoadError};
use crate::server::thread_cpu_time;
use crate::socket::{ReceiveBuffers, Socket};

/// Traffic pattern to send.
#[derive(Debug, Clone, Copy)]
pub struct Pattern {
    /// Receivers, each of which gets every packet.
    pub receivers: usize,
    /// Packets per frame.
    pub burst: usize,
    /// Frames per second.
    pub fps: u32,
    /// Bytes of UDP payload per packet.
    pub packet_bytes: usize,
    /// Number of streams that every receiver gets.
    pub streams: usize,
}

/// Packets of a measurement and the CPU time spent on them.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Packets that reached their receivers.
    pub packets: u64,
    /// Packets sent; in the forwarding scenario, packets that should have arrived.
    pub sent: u64,
    /// CPU time of the sending thread, or of the whole server process, including kernel work on its behalf.
    pub cpu: Duration,
}

impl Cost {
    /// CPU time per received packet, in microseconds.
    pub fn per_packet_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.packets.max(1) as f64
    }
}

/// Sends `pattern` for `duration` over loopback and counts the packets that the receivers get.
///
/// # Errors
/// A socket or the cipher fails.
pub fn measure(pattern: Pattern, duration: Duration) -> Result<Cost, LoadError> {
    let receivers: Vec<Socket> = (0..pattern.receivers).map(|_| Socket::bind()).collect::<Result<_, _>>()?;
    let addresses: Vec<_> = receivers.iter().map(Socket::local).collect();
    let done = AtomicBool::new(false);
    let received = AtomicU64::new(0);
    thread::scope(|scope| {
        let counting = scope.spawn(|| count(&receivers, &done, &received));
        let sending = scope.spawn(|| {
            let mut sender = Sender::new(pattern, addresses)?;
            sender.frame()?; // Warms caches and keys before the measurement starts.
            sender.run(duration)
        });
        let sent = sending.join().unwrap_or(Err(LoadError::Cipher("run")));
        done.store(true, Ordering::Relaxed);
        counting.join().unwrap_or(Err(LoadError::Cipher("count")))?;
        let (packets, cpu) = sent?;
        let warm_up = (pattern.receivers * pattern.burst * pattern.streams) as u64;
        let got = received.load(Ordering::Relaxed).saturating_sub(warm_up);
        Ok(Cost { packets: got, sent: packets, cpu })
    })
}

struct Sender {
    pattern: Pattern,
    socket: Socket,
    legs: Vec<Leg>,
    payload: Vec<u8>,
    buffer: Vec<u8>,
    sequence: u64,
}

struct Leg {
    address: std::net::SocketAddr,
    key: LessSafeKey,
}

impl Sender {
    fn new(pattern: Pattern, addresses: Vec<std::net::SocketAddr>) -> Result<Self, LoadError> {
        let legs = addresses.into_iter().enumerate().map(|(number, address)| {
            let mut secret = [7; 16];
            secret[..8].copy_from_slice(&(number as u64).to_be_bytes());
            let key = UnboundKey::new(&AES_128_GCM, &secret).map_err(|_| LoadError::Cipher("take a key"))?;
            Ok(Leg { address, key: LessSafeKey::new(key) })
        });
        let payload_bytes = pattern.packet_bytes.saturating_sub(HEADER + TAG);
        Ok(Self {
            pattern,
            socket: Socket::bind()?,
            legs: legs.collect::<Result<_, LoadError>>()?,
            payload: vec![0x5a; payload_bytes],
            buffer: vec![0; pattern.packet_bytes * pattern.burst],
            sequence: 0,
        })
    }

    /// Sends one frame of every stream to every receiver. Returns the number of packets sent.
    fn frame(&mut self) -> Result<u64, LoadError> {
        let Self { pattern, socket, legs, payload, buffer, sequence } = self;
        let mut sent = 0;
        for _ in 0..pattern.streams {
            for leg in legs.iter() {
                let packets = buffer.chunks_exact_mut(HEADER + payload.len() + TAG).take(pattern.burst);
                for (place, packet) in packets.enumerate() {
                    seal(&leg.key, *sequence + place as u64, payload, packet)?;
                }
                // A full socket buffer loses the whole run; the receivers' count shows the loss.
                if socket.send(leg.address, buffer, pattern.packet_bytes)? {
                    sent += pattern.burst as u64;
                }
            }
            *sequence += pattern.burst as u64;
        }
        Ok(sent)
    }

    fn run(&mut self, duration: Duration) -> Result<(u64, Duration), LoadError> {
        let begin = Instant::now();
        let cpu = thread_cpu_time()?;
        let mut sent = 0;
        let mut frames = 0_u32;
        while begin.elapsed() < duration {
            sent += self.frame()?;
            frames += 1;
            let next = Duration::from_secs(1) * frames / self.pattern.fps.max(1);
            thread::sleep(next.saturating_sub(begin.elapsed()));
        }
        Ok((sent, thread_cpu_time()?.saturating_sub(cpu)))
    }
}

fn seal(key: &LessSafeKey, sequence: u64, payload: &[u8], packet: &mut [u8]) -> Result<(), LoadError> {
    let (header, rest) = packet.split_at_mut(HEADER);
    header[..8].copy_from_slice(&sequence.to_be_bytes());
    header[0] = 0x90;
    let (body, tag) = rest.split_at_mut(payload.len());
    body.copy_from_slice(payload);
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&sequence.to_be_bytes());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let sealed = key
        .seal_in_place_separate_tag(nonce, Aad::from(&*header), body)
        .map_err(|_| LoadError::Cipher("seal"))?;
    tag.copy_from_slice(sealed.as_ref());
    Ok(())
}

/// Receives until `done` is set and no more packets arrive.
fn count(sockets: &[Socket], done: &AtomicBool, received: &AtomicU64) -> Result<(), LoadError> {
    let mut poll = Poll::new().context("make a poll")?;
    for (index, socket) in sockets.iter().enumerate() {
        let fd: RawFd = socket.fd();
        poll.registry()
            .register(&mut SourceFd(&fd), Token(index), Interest::READABLE)
            .context("watch a socket")?;
    }
    let mut events = Events::with_capacity(1024);
    let mut buffers = ReceiveBuffers::default();
    loop {
        let last = done.load(Ordering::Relaxed);
        poll.poll(&mut events, Some(Duration::from_millis(50))).or_else(ignore_interrupts).context("wait")?;
        for event in &events {
            let Some(socket) = sockets.get(event.token().0) else { continue };
            let mut count = 0;
            socket.receive(&mut buffers, |_, _| count += 1)?;
            received.fetch_add(count, Ordering::Relaxed);
        }
        if last && events.is_empty() {
            return Ok(());
        }
    }
}

fn ignore_interrupts(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}

/// Bytes of an RTP header with one block of extensions, as in a forwarded video packet.
const HEADER: usize = 28;
/// Bytes of the AES-GCM tag.
const TAG: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_sent_is_counted_and_costs_time() {
        let pattern = Pattern { receivers: 3, burst: 4, fps: 100, packet_bytes: 1200, streams: 2 };
        let cost = measure(pattern, Duration::from_millis(60)).expect("loopback");
        assert!(cost.sent >= 24 && cost.sent.is_multiple_of(24), "{cost:?}");
        assert_eq!(cost.packets, cost.sent);
        assert!(cost.cpu > Duration::ZERO && cost.per_packet_us() > 0.0);
    }
}
