//! RTP header, header extensions, padding, and retransmission format. Values read from one header and written into
//! another read back unchanged.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sfu_engine::rtp::extension::{
    EndToEndExtensions, Extension, ExtensionMap, OutgoingHeader, read, write_header,
};
use sfu_engine::rtp::packet::{RtpHeader, payload};
use sfu_engine::rtp::rtx;
use sfu_engine_fuzz::Script;

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let map = map_of(&mut script);
    let packet = script.0;
    let _ = rtx::original_sequence(packet);
    let Ok(header) = RtpHeader::parse(packet) else { return };
    assert!(header.header_len <= packet.len());
    if let Ok(body) = payload(packet, &header) {
        assert!(header.header_len + body.len() <= packet.len());
    }
    // A header parsed from one packet must be safe to use with another packet.
    let _ = read(&packet[..packet.len() / 2], &header, &map);
    let _ = payload(&packet[..packet.len() / 2], &header);
    let found = read(packet, &header, &map);
    let extensions = EndToEndExtensions {
        audio_level: found.audio_level,
        video_orientation: found.video_orientation,
        absolute_capture_time: found.absolute_capture_time.map(Bytes::copy_from_slice),
        playout_delay: found.playout_delay,
        dependency_descriptor: found.dependency_descriptor.map(Bytes::copy_from_slice),
    };
    let outgoing = OutgoingHeader {
        marker: header.marker,
        payload_type: header.payload_type,
        sequence: header.sequence,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
        mid: found.mid,
        transport_sequence: None,
        extensions: &extensions,
        playout_delay: None,
        frame_number: None,
    };
    let mut buffer = [0; 1500];
    let written = write_header(&mut buffer, &outgoing, &map).expect("values of one packet fit into a buffer");
    let again = RtpHeader::parse(&buffer[..written]).expect("what we write is a header");
    assert_eq!(
        (again.header_len, again.sequence, again.timestamp),
        (written, header.sequence, header.timestamp)
    );
    let reread = read(&buffer[..written], &again, &map);
    assert_eq!(
        (reread.audio_level, reread.video_orientation, reread.absolute_capture_time, reread.playout_delay),
        (found.audio_level, found.video_orientation, found.absolute_capture_time, found.playout_delay)
    );
    assert_eq!((reread.mid, reread.dependency_descriptor), (found.mid, found.dependency_descriptor));
});

fn map_of(script: &mut Script<'_>) -> ExtensionMap {
    let mut map = ExtensionMap::new();
    let chooser = script.byte();
    for (place, extension) in Extension::ALL.into_iter().enumerate() {
        let id = if chooser & 1 == 0 { place as u8 + 1 } else { script.byte() };
        map.insert(id, extension);
    }
    map
}
