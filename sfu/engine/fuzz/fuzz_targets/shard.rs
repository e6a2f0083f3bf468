//! An entire shard in a call. Inputs are commands in any order, datagrams of strangers, packets of hostile participants
//! who have keys, messages of another shard, and time. Nothing may panic, even where the shard would contain the panic.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sfu_engine::media_packet::{Arrangement, LayerInfo, MediaPacket, TrackId};
use sfu_engine::room::TrackFacts;
use sfu_engine::room::rendition::Rendition;
use sfu_engine::rtp::codec::format::Profile;
use sfu_engine::rtp::codec::{Codec, facts};
use sfu_engine::rtp::extension::EndToEndExtensions;
use sfu_engine::shard::{FabricMessage, RoomMessage, ShardId};
use sfu_engine::units::{ExtendedSequence, ExtendedTimestamp};
use sfu_engine_fuzz::{Call, REMOTE_TRACKS, Script, TRACKS, room};
use sfu_protocol::{
    BackupPolicy, Command, Layer, LayerQuality, LeaveReason, MediaKind, ParticipantSid, Permissions,
    TrackDemand, TrackSid,
};

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let mut call = Call::new();
    let mut sender = Sender::default();
    while !script.is_over() {
        let choice = script.byte();
        let who = usize::from(choice >> 7);
        match choice & 15 {
            0..=3 => sender.send(&mut call, &mut script),
            4 => call.rtp(who, script.bytes()),
            5 => call.rtcp(who, script.bytes()),
            6 | 7 => feedback(&mut call, &mut script, who),
            8 => stranger(&mut call, &mut script),
            9 | 10 => command(&mut call, &mut script, who),
            11 => fabric(&mut call, &mut script),
            12 => call.message(who, usize::from(script.byte() & 1), script.bytes()),
            13 => edited_offer(&mut call, &mut script, who),
            _ => {
                let milliseconds = u64::from(script.byte());
                let with_checks = script.byte() != 0;
                call.wait(
                    Duration::from_millis(milliseconds * if with_checks { 4 } else { 100 }),
                    with_checks,
                );
            }
        }
    }
    assert_eq!(call.panics(), 0);
});

/// State of Ana's RTP streams.
#[derive(Default)]
struct Sender {
    sequence: [u16; 8],
    timestamp: [u32; 8],
}

impl Sender {
    /// Sends a packet, which usually continues its stream.
    fn send(&mut self, call: &mut Call, script: &mut Script<'_>) {
        const STREAMS: [(u32, u8, &[u8], &[u8]); 8] = [
            (3_641_903_553, 111, b"13", b""),
            (0x1001, 96, b"14", b"q"),
            (0x1002, 96, b"14", b"h"),
            (0x1003, 96, b"14", b"f"),
            (0x2001, 97, b"14", b"q"),
            (0x2002, 97, b"14", b"h"),
            (0x2003, 97, b"14", b"f"),
            (3_641_903_553, 63, b"13", b""),
        ];
        let kind = script.byte();
        let place = usize::from(kind & 7);
        let (ssrc, payload_type, mid, rid) = STREAMS[place];
        let step = script.byte();
        self.sequence[place] = match step {
            0xff => script.short(),
            step => self.sequence[place].wrapping_add_signed(i16::from(step as i8 / 8 + 1)),
        };
        self.timestamp[place] = match script.byte() {
            0xff => script.word(),
            step => self.timestamp[place].wrapping_add(u32::from(step) * 100),
        };
        let payload_type = if kind & 0x40 == 0 { payload_type } else { script.byte() & 0x7f };
        let repair = (4..=6).contains(&place);
        let mut extensions = Vec::new();
        let named: [(u8, &[u8]); 3] =
            [(4, mid), (if repair { 11 } else { 10 }, rid), (3, &self.sequence[place].to_be_bytes())];
        for (id, value) in named {
            if !value.is_empty() {
                extensions.push(id << 4 | (value.len() as u8 - 1));
                extensions.extend_from_slice(value);
            }
        }
        if kind & 0x20 != 0 {
            extensions.extend_from_slice(&script.bytes()[..]);
        }
        extensions.resize(extensions.len().next_multiple_of(4), 0);
        let padding = u8::from(kind & 0x10 != 0) << 5;
        let marker = kind & 0x80;
        let mut packet = vec![0x90 | padding, marker | payload_type];
        packet.extend(self.sequence[place].to_be_bytes());
        packet.extend(self.timestamp[place].to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet.extend([0xbe, 0xde]);
        packet.extend(((extensions.len() / 4) as u16).to_be_bytes());
        packet.extend(extensions);
        packet.extend_from_slice(script.bytes());
        packet.truncate(1400);
        call.rtp(0, &packet);
    }
}

/// Sends NACK, PLI, FIR and receiver reports about media that the participant receives.
fn feedback(call: &mut Call, script: &mut Script<'_>, who: usize) {
    let sources = &call.people[who].sources;
    let source =
        if sources.is_empty() { script.word() } else { sources[usize::from(script.byte()) % sources.len()] };
    let (format, kind) =
        script.one_of(&[(1, 205), (1, 206), (4, 206), (1, 201), (15, 205), (15, 206), (0, 200)]);
    let mut packet = vec![0x80 | format, kind, 0, 0, 0, 0, 0, 9];
    packet.extend(source.to_be_bytes());
    packet.extend_from_slice(script.bytes());
    packet.resize(packet.len().next_multiple_of(4), 0);
    let words = (packet.len() / 4 - 1) as u16;
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    call.rtcp(who, &packet);
}

fn stranger(call: &mut Call, script: &mut Script<'_>) {
    let addresses = [call.people[0].address, call.people[1].address, SocketAddr::from(([10, 9, 9, 9], 666))];
    let address = script.one_of(&addresses);
    call.datagram(address, script.bytes());
}

fn command(call: &mut Call, script: &mut Script<'_>, who: usize) {
    let participant = call.people[who].sid.clone();
    let choice = script.byte();
    let which = usize::from(choice >> 7);
    let track = TrackSid::new(if choice & 0x40 == 0 { TRACKS[which] } else { REMOTE_TRACKS[which] });
    let demand = TrackDemand {
        enabled: choice & 0x20 == 0,
        quality: [LayerQuality::Low, LayerQuality::Medium, LayerQuality::High]
            [usize::from(script.byte() % 3)],
        width: u32::from(script.byte()) * 8,
        height: u32::from(script.byte()) * 8,
        fps: u32::from(script.byte() / 4),
        priority: 0,
    };
    match choice & 15 {
        0 => call.command(Command::Leave { participant, reason: LeaveReason::ClientInitiated }),
        1 => call.join(who),
        2 => call.announce(which),
        3 | 4 => call.offer(who),
        5 => call.command(Command::RemoveTrack { participant, track }),
        6 => call.command(Command::SetMuted { participant, track, muted: demand.enabled }),
        7 => call.command(Command::Unsubscribe { participant, track }),
        8..=10 => call.command(Command::SetDemand { participant, track, demand }),
        11 => {
            let permissions = Permissions { publish: choice & 0x20 == 0, ..Permissions::default() };
            call.command(Command::SetPermissions { participant, permissions });
        }
        12 => {
            let sdp = String::from_utf8_lossy(script.bytes()).into_owned();
            call.command(Command::Answer { participant, id: 1, sdp });
        }
        _ => {
            let (publisher, kind) = (call.people[0].sid.clone(), [MediaKind::Audio, MediaKind::Video][which]);
            call.command(Command::Subscribe { participant, track, publisher, kind, demand });
        }
    }
}

/// Sends the participant's own offer with some lines removed, duplicated or changed.
fn edited_offer(call: &mut Call, script: &mut Script<'_>, who: usize) {
    let description = call.people[who].description();
    let mut lines: Vec<&str> = description.lines().collect();
    let text = String::from_utf8_lossy(script.bytes()).into_owned();
    for _ in 0..=script.byte() & 3 {
        let at = usize::from(script.short()) % lines.len().max(1);
        match script.byte() & 3 {
            0 if at < lines.len() => drop(lines.remove(at)),
            1 if at < lines.len() => lines.insert(at, lines[at]),
            2 if at < lines.len() => lines[at] = &text,
            _ => lines.truncate(at),
        }
    }
    let sdp = lines.join("\r\n") + "\r\n";
    call.offer_text(who, sdp);
}

/// Inputs messages of another shard, which has a track in the room and wants Ana's tracks.
fn fabric(call: &mut Call, script: &mut Script<'_>) {
    let choice = script.byte();
    let which = usize::from(choice >> 7);
    let id = TrackId(1 << 48 | which as u64);
    let own = TrackId(u64::from(script.byte() & 3));
    let layer = Layer(script.byte() & 3);
    let message = match choice & 7 {
        0 => RoomMessage::Attach { from: ShardId(1) },
        1 => RoomMessage::Detach { from: ShardId(1) },
        2 => {
            let facts = TrackFacts {
                id,
                sid: TrackSid::new(REMOTE_TRACKS[which]),
                publisher: ParticipantSid::new("PA_far"),
                kind: [MediaKind::Audio, MediaKind::Video][which],
                mime_type: ["audio/opus", "video/vp8"][which],
                profile: Profile::Only,
                stereo: choice & 8 == 8,
                rendition: [Rendition::Main, Rendition::Promised, Rendition::Negotiated, Rendition::Backup]
                    [usize::from(choice >> 5 & 3)],
                policy: BackupPolicy::default(),
                layers: vec![LayerInfo { width: 320, height: 180, active: true }; usize::from(layer.0) + 1],
                arrangement: Arrangement::Encodings,
                muted: choice & 8 == 8,
                screen_share: choice & 16 == 16,
                encrypted: choice & 32 == 32,
            };
            RoomMessage::Track { facts, origin: ShardId(1) }
        }
        3 => RoomMessage::TrackGone { track: TrackSid::new(REMOTE_TRACKS[which]) },
        4 => return call.fabric(FabricMessage::KeyFrame { track: own, layer }),
        5 => {
            let highest = (choice & 8 == 0).then_some(layer);
            return call.fabric(FabricMessage::Demand { track: own, from: ShardId(1), highest });
        }
        _ => return media(call, script, id, layer),
    };
    call.fabric(FabricMessage::Room { room: room(), message });
}

fn media(call: &mut Call, script: &mut Script<'_>, track: TrackId, layer: Layer) {
    let codec = script.one_of(&[Codec::Vp8, Codec::Opus, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Red]);
    let (sequence, timestamp) = (script.short(), script.short());
    let payload = script.bytes();
    let packet = MediaPacket {
        track,
        layer,
        codec,
        sequence: ExtendedSequence::first(sequence),
        timestamp: ExtendedTimestamp::first(u32::from(timestamp) * 100),
        marker: script.coin(),
        facts: facts(codec, payload, None).unwrap_or_default(),
        extensions: EndToEndExtensions::default(),
        arrival: call.now,
        payload: Bytes::copy_from_slice(payload),
    };
    call.fabric(FabricMessage::Media(packet.into()));
}
