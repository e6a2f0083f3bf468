use std::io::Write;

use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use flate2::Compression;
use flate2::write::GzEncoder;
use livekit_protocol::{
    AddTrackRequest, ClientInfo, ConnectionSettings, SessionDescription, SyncState, client_info,
};

use super::*;

fn request() -> JoinRequest {
    JoinRequest {
        client_info: Some(ClientInfo {
            sdk: client_info::Sdk::Js as i32,
            protocol: 17,
            ..ClientInfo::default()
        }),
        connection_settings: Some(ConnectionSettings {
            auto_subscribe: true,
            adaptive_stream: true,
            ..ConnectionSettings::default()
        }),
        metadata: "m".into(),
        participant_attributes: [("k".to_owned(), "v".to_owned())].into(),
        add_track_requests: vec![AddTrackRequest { cid: "c".into(), ..AddTrackRequest::default() }],
        publisher_offer: Some(SessionDescription {
            r#type: "offer".into(),
            sdp: "v=0\r\n".repeat(100),
            ..SessionDescription::default()
        }),
        reconnect: true,
        reconnect_reason: 1,
        participant_sid: "PA_x".into(),
        sync_state: Some(SyncState::default()),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn wrap(compression: i32, join_request: Vec<u8>) -> Vec<u8> {
    WrappedJoinRequest { compression, join_request }.encode_to_vec()
}

fn plain(request: &JoinRequest) -> String {
    URL_SAFE.encode(wrap(0, request.encode_to_vec()))
}

/// Generator of pseudorandom numbers that are the same in every run.
fn numbers(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    }
}

#[test]
fn both_compressions_and_both_paddings_are_understood() {
    let bytes = request().encode_to_vec();
    let expected = decode(&plain(&request())).unwrap();
    assert_eq!(
        (expected.mode, expected.auto_subscribe, expected.adaptive_stream),
        (SignalMode::Single, true, true)
    );
    assert_eq!((expected.metadata.as_str(), expected.attributes["k"].as_str()), ("m", "v"));
    assert_eq!(expected.client_info.protocol, 17);
    let reason = ReconnectReason::RrSignalDisconnected;
    assert_eq!(expected.resume, Some(Resume { participant_sid: "PA_x".into(), reason }));
    assert!(expected.publisher_offer.is_some() && expected.sync_state.is_some());
    for wrapped in [wrap(0, bytes.clone()), wrap(1, gzip(&bytes))] {
        assert_eq!(decode(&URL_SAFE.encode(&wrapped)).unwrap(), expected);
        assert_eq!(decode(&URL_SAFE_NO_PAD.encode(&wrapped)).unwrap(), expected);
    }
}

#[test]
fn an_empty_request_asks_for_nothing() {
    let join = decode(&plain(&JoinRequest::default())).unwrap();
    assert!(!join.auto_subscribe && !join.adaptive_stream && !join.auto_subscribe_data_track);
    assert_eq!((join.resume, join.publisher_offer), (None, None));
}

#[test]
fn bombs_are_refused() {
    let zeros = gzip(&vec![0; 50 * 1024 * 1024]);
    assert!(zeros.len() < MAX_COMPRESSED, "{}", zeros.len());
    let error = decode(&URL_SAFE.encode(wrap(1, zeros))).unwrap_err();
    assert_eq!(error, JoinError::TooLarge { field: "join_request inflated", limit: MAX_INFLATED });

    let mut members = Vec::new();
    while members.len() < 60 * 1024 {
        members.extend(gzip(&[0; 10_000]));
    }
    let error = decode(&URL_SAFE.encode(wrap(1, members))).unwrap_err();
    assert!(matches!(error, JoinError::TooLarge { .. }), "many members: {error}");

    let error = decode(&URL_SAFE.encode(wrap(0, vec![0; MAX_COMPRESSED + 1]))).unwrap_err();
    assert_eq!(error, JoinError::TooLarge { field: "join_request", limit: MAX_COMPRESSED });
    assert!(matches!(decode(&"A".repeat(1 << 20)), Err(JoinError::TooLarge { .. })));
}

#[test]
fn the_largest_request_that_fits_is_taken() {
    let metadata = "x".repeat(MAX_INFLATED - 100);
    let request = JoinRequest { metadata, ..JoinRequest::default() };
    let wrapped = wrap(1, gzip(&request.encode_to_vec()));
    assert_eq!(decode(&URL_SAFE.encode(wrapped)).unwrap().metadata.len(), MAX_INFLATED - 100);
}

#[test]
fn each_mistake_has_its_own_name() {
    let good = request().encode_to_vec();
    let mut damaged = gzip(&good);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let cut_short = gzip(&good)[..20].to_vec();
    let encoded = |compression, bytes| URL_SAFE.encode(wrap(compression, bytes));
    assert!(matches!(decode("?"), Err(JoinError::Base64(_))));
    assert!(matches!(decode("a+/b"), Err(JoinError::Base64(_))));
    assert_eq!(decode(&encoded(7, good.clone())), Err(JoinError::Compression(7)));
    assert!(matches!(decode(&encoded(1, damaged)), Err(JoinError::Gzip(_))));
    assert!(matches!(decode(&encoded(1, cut_short)), Err(JoinError::Gzip(_))));
    assert!(matches!(decode(&encoded(1, good)), Err(JoinError::Gzip(_))));
    let inner = JoinError::Protobuf { field: "JoinRequest", reason: String::new() };
    assert_eq!(decode(&encoded(0, vec![0xff; 5])).unwrap_err().code(), inner.code());
    assert!(decode(&encoded(0, vec![0xff; 5])).unwrap_err().to_string().contains("`JoinRequest`"));
    assert!(decode(&URL_SAFE.encode([0xff; 5])).unwrap_err().to_string().contains("`WrappedJoinRequest`"));
}

#[test]
fn fields_that_make_no_sense_are_named() {
    let mut no_offer = request();
    no_offer.publisher_offer.as_mut().unwrap().r#type = "answer".into();
    let mut empty = request();
    empty.publisher_offer.as_mut().unwrap().sdp.clear();
    let many =
        JoinRequest { add_track_requests: vec![AddTrackRequest::default(); 21], ..JoinRequest::default() };
    for (request, name) in
        [(no_offer, "publisher_offer.type"), (empty, "publisher_offer.sdp"), (many, "add_track_requests")]
    {
        let error = decode(&plain(&request)).unwrap_err();
        assert!(matches!(error, JoinError::Field { field, .. } if field == name), "{error}");
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let bytes = request().encode_to_vec();
    for wrapped in [wrap(0, bytes.clone()), wrap(1, gzip(&bytes))] {
        for length in 0..wrapped.len() {
            let _any = decode(&URL_SAFE.encode(&wrapped[..length]));
        }
        let text = URL_SAFE.encode(&wrapped);
        for length in 0..text.len() {
            let _any = decode(&text[..length]);
        }
        let mut next = numbers(42);
        for _ in 0..5000 {
            let mut changed = wrapped.clone();
            for _ in 0..1 + next() % 4 {
                let at = next() as usize % changed.len();
                changed[at] = next() as u8;
            }
            let _any = decode(&URL_SAFE.encode(&changed));
        }
    }
    let mut next = numbers(7);
    for length in 0..1500 {
        let noise: Vec<u8> = (0..length).map(|_| next() as u8).collect();
        for bytes in [noise.clone(), wrap(0, noise.clone()), wrap(1, noise)] {
            let _any = decode(&URL_SAFE.encode(bytes));
        }
    }
}

#[test]
fn a_gzip_cut_anywhere_is_refused() {
    let compressed = gzip(&request().encode_to_vec());
    for length in 1..compressed.len() {
        let wrapped = wrap(1, compressed[..length].to_vec());
        assert!(decode(&URL_SAFE.encode(wrapped)).is_err(), "cut to {length}");
    }
}
