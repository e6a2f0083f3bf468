//! Contents of our answers, section by section.

use super::*;

fn text_of(outcome: &Outcome) -> (String, Vec<String>) {
    split(&outcome.answer_sdp)
}

#[test]
fn answers_keep_count_order_and_mids_of_every_client() {
    for sdp in OFFERS {
        let mids = |sdp: &str| {
            let mids = sdp.lines().filter(|line| line.starts_with("a=mid:")).map(str::to_owned);
            mids.collect::<Vec<_>>()
        };
        let outcome = Connection::new(Role::Single).offer(sdp, &[], &[]);
        assert_eq!(mids(&outcome.answer_sdp), mids(sdp));
        let (head, sections) = text_of(&outcome);
        let group = |sdp: &str| sdp.lines().find(|line| line.starts_with("a=group:")).map(str::to_owned);
        assert_eq!(group(&head), group(sdp));
        assert!(head.contains("a=ice-lite\r\n"));
        assert_eq!(outcome.remote.dtls_role, DtlsRole::Server);
        for (index, section) in sections.iter().enumerate() {
            for line in ["a=ice-ufrag:serv", "a=ice-pwd:0123456789abcdefghijkl", "a=setup:passive"] {
                assert!(section.contains(line), "{line}");
            }
            assert!(section.contains("a=fingerprint:sha-256 00:01:02:"));
            assert_eq!(section.contains("a=rtcp-mux\r\n"), !section.starts_with("m=application"));
            assert_eq!(section.contains("a=candidate:1 1 udp "), index == 0);
            assert_eq!(section.contains("a=end-of-candidates"), index == 0);
        }
    }
}

#[test]
fn what_is_not_implemented_is_not_echoed() {
    // Attributes and options that newer native clients add.
    let newer = RTC_NODE
        .replace("a=ice-options:trickle", "a=ice-options:trickle renomination goog-sped-v1")
        .replace("a=sctp-port:5000", "a=sctp-port:5000\r\na=sctp-init:AQAAGg==");
    let answer = Connection::new(Role::Single).offer(&newer, &[], &[]).answer_sdp;
    for word in ["sped", "sctp-init", "goog", "G722", "telephone-event", "ulpfec", "flexfec", "renomination"]
    {
        assert!(!answer.contains(word), "{word}");
    }
}

#[test]
fn tracks_wanted_before_the_first_offer_are_in_its_answer() {
    let mut connection = Connection::new(Role::Single);
    let tracks = [
        wanted("TR_VC1", MediaKind::Video),
        wanted("TR_AM1", MediaKind::Audio),
        wanted("TR_VC2", MediaKind::Video),
    ];
    let outcome = connection.offer(LIVEKIT_CLIENT, &[], &tracks);
    let named: Vec<(&str, &str)> =
        outcome.mid_to_track.iter().map(|(mid, track)| (mid.as_str(), track.as_str())).collect();
    assert_eq!(named, [("0", "TR_AM1"), ("3", "TR_VC1"), ("4", "TR_VC2")]);
    assert_eq!(outcome.bound.len(), 3);
    let (_, sections) = text_of(&outcome);
    let video = lines(&sections, "3");
    assert!(video.contains(&"a=sendonly") && video.contains(&"a=msid:PA_other|TR_VC1 TR_VC1"));
    let bound = &outcome.bound[0];
    let rtx = bound.rtx_ssrc.unwrap();
    assert!(video.contains(&format!("a=ssrc-group:FID {} {}", bound.ssrc.0, rtx.0).as_str()));
    assert!(video.contains(&format!("a=ssrc:{} cname:PA_other", bound.ssrc.0).as_str()));
    assert!(video.contains(&format!("a=ssrc:{} cname:PA_other", rtx.0).as_str()));
    assert!(video.contains(&"a=rtcp-fb:96 transport-cc") && video.contains(&"a=rtcp-fb:96 nack"));
    let audio = lines(&sections, "0");
    assert!(audio.iter().all(|line| !line.starts_with("a=ssrc-group")));
    assert!(lines(&sections, "1").contains(&"a=inactive") && lines(&sections, "5").contains(&"a=inactive"));
    assert_eq!(outcome.data.as_ref().map(|data| data.mid.as_str()), Some("6"));
    let data = lines(&sections, "6");
    assert_eq!(data[0], "m=application 9 UDP/DTLS/SCTP webrtc-datachannel");
    assert!(data.contains(&"a=sctp-port:5000") && data.contains(&"a=max-message-size:65536"));
}

#[test]
fn extensions_once_left_out_would_be_gone_for_good_so_every_section_keeps_them() {
    let mut connection = Connection::new(Role::Single);
    let outcome = connection.offer(LIVEKIT_CLIENT, &[], &[wanted("TR_VC1", MediaKind::Video)]);
    let (_, sections) = text_of(&outcome);
    for mid in ["3", "4"] {
        for uri in [extensions::MID, extensions::RID, extensions::REPAIRED_RID, extensions::TRANSPORT_CC] {
            assert!(lines(&sections, mid).iter().any(|line| line.ends_with(uri)), "{uri} in mid {mid}");
        }
    }
    assert!(!outcome.answer_sdp.contains("abs-send-time") && !outcome.answer_sdp.contains("toffset"));
    // On packets that we send, we write only the extensions accepted in that section, and never RID or repaired RID.
    let written: Vec<&str> = outcome.bound[0].extensions.iter().map(|(_, uri)| *uri).collect();
    assert_eq!(
        written,
        [
            extensions::TRANSPORT_CC,
            extensions::MID,
            extensions::PLAYOUT_DELAY,
            extensions::DEPENDENCY_DESCRIPTOR,
            extensions::VIDEO_ORIENTATION
        ]
    );
}

#[test]
fn firefox_directions_of_extensions_are_mirrored() {
    let video = "{668951a9-7e61-4569-a363-5bf01d0b2bd2}";
    let mut connection = Connection::of(Role::Single, ClientTraits { aead_srtp: true, firefox: true });
    let announcement =
        AddTrack { codecs: vec!["vp8".into()], ..announced("TR_VC1", video, MediaKind::Video) };
    let outcome = connection.offer(FIREFOX_PUBLISH, &[announcement], &[wanted("TR_VC2", MediaKind::Video)]);
    let (_, sections) = text_of(&outcome);
    let section = lines(&sections, "7");
    assert!(section.contains(&"a=extmap:9/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"));
    assert!(section.iter().any(|line| line.starts_with("a=extmap:6/sendonly ")));
    let published = &outcome.published[0];
    assert!(published.extensions.contains(&(9, extensions::RID)));
    assert!(published.extensions.iter().all(|(_, uri)| *uri != extensions::PLAYOUT_DELAY));
    let written = [(3, extensions::MID), (6, extensions::PLAYOUT_DELAY), (7, extensions::TRANSPORT_CC)];
    assert_eq!(outcome.bound[0].extensions, written);
    // Firefox sends the first codec that it knows, so only the preferred one and its RTX are accepted.
    assert_eq!(section[0], "m=video 9 UDP/TLS/RTP/SAVPF 120 124");
    assert_eq!(published.rids, ["q", "h", "f"]);
}

#[test]
fn a_published_camera_is_taken_with_its_layers_and_its_codec_first() {
    let cid = "e513cf29-2c8a-479f-84e2-95dbb42b0241";
    // Announced codecs, first payload types of the answer, MIME type.
    let cases: [(&[&str], &str, &str); 4] = [
        (&[], "96 97 102 103", "video/vp8"),
        (&["h264"], "102 103 104 107", "video/h264"),
        (&["vp9", "vp8"], "98 99 100 101 96 97", "video/vp9"),
        (&["av1"], "45 46 96 97", "video/av1"),
    ];
    for (codecs, lead, mime) in cases {
        let mut connection = Connection::new(Role::Single);
        let codecs = codecs.iter().map(|codec| (*codec).to_owned()).collect();
        let announcement = AddTrack { codecs, ..announced("TR_VC1", cid, MediaKind::Video) };
        let outcome = connection.offer(CHROMIUM_PUBLISH, &[announcement], &[]);
        let published = &outcome.published[0];
        assert_eq!((published.mid.as_str(), published.mime_type.as_str()), ("14", mime));
        assert_eq!(published.rids, ["q", "h", "f"]);
        assert!(published.ssrcs.is_empty() && published.nack && published.transport_cc);
        let (_, sections) = text_of(&outcome);
        let section = lines(&sections, "14");
        assert!(section[0].starts_with(&format!("m=video 9 UDP/TLS/RTP/SAVPF {lead}")), "{}", section[0]);
        for line in ["a=recvonly", "a=rid:q recv", "a=rid:h recv", "a=rid:f recv", "a=simulcast:recv q;h;f"] {
            assert!(section.contains(&line), "{line}");
        }
        assert!(section.contains(&"a=rtcp-fb:96 transport-cc"));
    }
}

#[test]
fn the_announcement_shapes_the_sound() {
    let cid = "066b2f98-408a-4868-8452-d09bad3a6157";
    type Change = fn(&mut AddTrack);
    let cases: [(Change, bool, &str, bool); 5] = [
        (|_| {}, false, "minptime=10;useinbandfec=1;usedtx=1", true),
        (|track| track.disable_dtx = true, false, "minptime=10;useinbandfec=1", true),
        (
            |track| track.stereo = true,
            false,
            "minptime=10;useinbandfec=1;usedtx=1;stereo=1;maxaveragebitrate=510000",
            true,
        ),
        (|track| track.disable_red = true, false, "minptime=10;useinbandfec=1;usedtx=1", false),
        (|_| {}, true, "minptime=10;useinbandfec=1;usedtx=1", false),
    ];
    for (change, firefox, fmtp, red) in cases {
        let mut connection = Connection::of(Role::Single, ClientTraits { aead_srtp: true, firefox });
        let mut announcement = announced("TR_AM1", cid, MediaKind::Audio);
        change(&mut announcement);
        let outcome = connection.offer(CHROMIUM_PUBLISH, &[announcement], &[]);
        let published = &outcome.published[0];
        // RED comes first where it is negotiated, followed by Opus.
        assert_eq!(published.codecs[0].codec, if red { Codec::Red } else { Codec::Opus });
        assert_eq!(published.codecs[usize::from(red)].codec, Codec::Opus);
        assert_eq!(published.codecs[usize::from(red)].fmtp, fmtp);
        assert_eq!(published.red, red);
        assert_eq!(published.mime_type, "audio/opus");
        let (_, sections) = text_of(&outcome);
        assert!(lines(&sections, "13").contains(&format!("a=fmtp:111 {fmtp}").as_str()));
    }
}

#[test]
fn asking_for_red_by_name_puts_it_first_but_the_track_is_opus() {
    let announcement = AddTrack {
        codecs: vec!["red".into()],
        ..announced("TR_AM1", "066b2f98-408a-4868-8452-d09bad3a6157", MediaKind::Audio)
    };
    let outcome = Connection::new(Role::Single).offer(CHROMIUM_PUBLISH, &[announcement], &[]);
    assert_eq!(outcome.published[0].codecs[0].codec, Codec::Red);
    assert_eq!(outcome.published[0].mime_type, "audio/opus");
}

#[test]
fn profiles_that_not_every_receiver_has_are_left_out() {
    let answer = Connection::new(Role::Single).offer(CHROMIUM_PUBLISH, &[], &[]).answer_sdp;
    assert!(CHROMIUM_PUBLISH.contains("profile-level-id=f4001f"));
    assert!(!answer.contains("profile-level-id=f4001f") && !answer.contains("profile-id=3"));
    assert!(!answer.contains("level-idx=5;profile=1"));
    let high = CHROMIUM_PUBLISH.replace("profile-level-id=42e01f", "profile-level-id=640c1f");
    assert!(!Connection::new(Role::Single).offer(&high, &[], &[]).answer_sdp.contains("640c1f"));
    for profile in ["42001f", "42e01f", "4d001f"] {
        assert!(answer.contains(&format!("profile-level-id={profile}")));
    }
}

#[test]
fn single_encodings_and_older_simulcast_are_known_by_ssrc() {
    let dual = Connection::new(Role::Publisher).offer(CHROMIUM_DUAL, &[], &[]);
    assert_eq!(dual.unmatched.len(), 2);
    let mut connection = Connection::new(Role::Publisher);
    let pending =
        dual.unmatched.iter().map(|section| announced(&section.mid, &section.sdp_cid, section.kind));
    let outcome = connection.offer(CHROMIUM_DUAL, &pending.collect::<Vec<_>>(), &[]);
    let video = outcome.published.iter().find(|section| section.kind == MediaKind::Video).unwrap();
    assert_eq!((video.rids.len(), video.ssrcs.len()), (0, 1));
    assert!(video.ssrcs[0].rtx.is_some_and(|rtx| rtx != video.ssrcs[0].media));

    let groups = "a=ssrc-group:SIM 11 22 33\r\na=ssrc-group:FID 11 12\r\na=ssrc-group:FID 33 34\r\n";
    let at = CHROMIUM_DUAL.find("a=ssrc-group:FID").unwrap();
    let simulcast = format!("{}{groups}{}", &CHROMIUM_DUAL[..at], &CHROMIUM_DUAL[at..]);
    let cid = video.sdp_cid.clone();
    let mut layered = announced("TR_VC1", &cid, MediaKind::Video);
    let outcome = Connection::new(Role::Publisher).offer(&simulcast, &[layered.clone()], &[]);
    let pairs = |outcome: &Outcome| {
        let ssrcs = outcome.published[0].ssrcs.iter();
        ssrcs.map(|ssrcs| (ssrcs.media.0, ssrcs.rtx.map(|rtx| rtx.0))).collect::<Vec<_>>()
    };
    assert_eq!(pairs(&outcome), [(11, Some(12)), (22, None), (33, Some(34))]);

    // SSRCs in the announcement take precedence over those in the offer.
    layered.layers = [(33, 0), (11, 99)]
        .map(|(ssrc, repair_ssrc)| sfu_protocol::SimulcastLayer {
            quality: sfu_protocol::LayerQuality::Low,
            width: 0,
            height: 0,
            bitrate_bps: 0,
            ssrc,
            repair_ssrc,
            rid: String::new(),
        })
        .to_vec();
    let outcome = Connection::new(Role::Publisher).offer(&simulcast, &[layered], &[]);
    assert_eq!(pairs(&outcome), [(33, Some(34)), (11, Some(99))]);
}

#[test]
fn layers_stand_lowest_first_whatever_the_order_offered() {
    for (listed, lowest_first) in
        [("f;h;q", ["q", "h", "f"]), ("0;1;2", ["2", "1", "0"]), ("lo;mid;hi", ["lo", "mid", "hi"])]
    {
        let rids: String = listed.split(';').map(|rid| format!("a=rid:{rid} send\r\n")).collect();
        let sdp = CHROMIUM_PUBLISH
            .replace("a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\n", &rids)
            .replace("send q;h;f", &format!("send {listed}"));
        let cid = "e513cf29-2c8a-479f-84e2-95dbb42b0241";
        let mut connection = Connection::new(Role::Single);
        let outcome = connection.offer(&sdp, &[announced("TR_VC1", cid, MediaKind::Video)], &[]);
        assert_eq!(outcome.published[0].rids, lowest_first);
        assert!(outcome.answer_sdp.contains(&format!("a=simulcast:recv {listed}")));
    }
}

#[test]
fn without_permission_to_publish_sections_stay_inactive() {
    let mut connection = Connection::new(Role::Single);
    connection.permissions.publish = false;
    let cid = "e513cf29-2c8a-479f-84e2-95dbb42b0241";
    let outcome = connection.offer(CHROMIUM_PUBLISH, &[announced("TR_VC1", cid, MediaKind::Video)], &[]);
    assert!(outcome.published.is_empty() && outcome.unmatched.is_empty());
    let (_, sections) = text_of(&outcome);
    assert!(lines(&sections, "14").contains(&"a=inactive"));
    assert!(!outcome.answer_sdp.contains("recvonly"));
}

#[test]
fn a_client_that_waits_for_our_handshake_gets_it() {
    let passive = RTC_NODE.replace("a=setup:actpass", "a=setup:passive");
    let mut connection = Connection::new(Role::Single);
    let outcome = connection.offer(&passive, &[], &[]);
    assert_eq!(outcome.remote.dtls_role, DtlsRole::Client);
    assert!(outcome.answer_sdp.contains("a=setup:active"));
    // A later actpass keeps the roles; the opposite role is rejected.
    assert_eq!(connection.offer(RTC_NODE, &[], &[]).remote.dtls_role, DtlsRole::Client);
    let active = RTC_NODE.replace("a=setup:actpass", "a=setup:active");
    assert_eq!(connection.try_offer(&active, &[], &[]).unwrap_err().field, "a=setup");
}

#[test]
fn unknown_kinds_of_media_and_sections_without_common_codecs_are_refused() {
    let sdp = RTC_NODE.replacen("VP8/90000", "XX8/90000", 1).replacen(
        "m=audio 9 UDP/TLS/RTP/SAVPF",
        "m=audio 9 RTP/AVP",
        1,
    );
    let (head, sections) = split(&sdp);
    let video: String = sections[3]
        .lines()
        .filter(|line| !["VP9", "H264", "AV1"].iter().any(|codec| line.contains(codec)))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let sdp = format!("{head}{}{}{video}{}", sections[0], sections[1], sections[6])
        .replace("BUNDLE 0 1 2 3 4 5 6", "BUNDLE 0 1 3 6");
    let tracks = [wanted("TR_VC1", MediaKind::Video), wanted("TR_AM1", MediaKind::Audio)];
    let outcome = Connection::new(Role::Single).offer(&sdp, &[], &tracks);
    let (head, answered) = text_of(&outcome);
    assert!(head.contains("a=group:BUNDLE 1 6\r\n"));
    assert!(answered[0].starts_with("m=audio 0 RTP/AVP 111 "), "{}", answered[0]);
    assert!(answered[2].starts_with("m=video 0 UDP/TLS/RTP/SAVPF 96 "));
    assert!(answered[1].contains("a=candidate:") && !answered[0].contains("a=candidate:"));
    assert_eq!(outcome.mid_to_track.len(), 1);
}

#[test]
fn sound_of_two_channels_is_taken_and_passed_on_as_such() {
    // Either the announcement or the publisher's description signals stereo.
    let stereo_offer =
        offer(&[Part::Speak("0", "cid")]).replace("useinbandfec=1", "useinbandfec=1;sprop-stereo=1");
    let announcement = AddTrack { stereo: true, ..announced("TR_A1", "cid", MediaKind::Audio) };
    for (sdp, pending, stereo) in [
        (offer(&[Part::Speak("0", "cid")]), vec![announcement], true),
        (stereo_offer.clone(), vec![announced("TR_A1", "cid", MediaKind::Audio)], true),
        (stereo_offer, vec![], true),
        (offer(&[Part::Speak("0", "cid")]), vec![announced("TR_A1", "cid", MediaKind::Audio)], false),
    ] {
        let mut connection = Connection::new(Role::Publisher);
        let outcome = connection.offer(&sdp, &pending, &[]);
        assert_eq!(outcome.answer_sdp.contains(";stereo=1;"), stereo);
        if let [published] = &outcome.published[..] {
            assert_eq!(published.stereo, stereo);
        }
    }
    let parked = offer(&[Part::Speak("0", "cid")]);
    let mut connection = Connection::new(Role::Publisher);
    connection.offer(&parked, &[], &[]);
    let late = AddTrack { stereo: true, ..announced("TR_A1", "cid", MediaKind::Audio) };
    assert!(connection.negotiation.match_parked(&[late])[0].stereo, "the announcement came after the answer");
    let track = WantedTrack {
        available: vec![Format { stereo: true, ..Codec::Opus.into() }],
        ..wanted("TR_A1", MediaKind::Audio)
    };
    let outcome =
        Connection::new(Role::Single).offer(&offer(&[Part::Hear("0"), Part::Hear("1")]), &[], &[track]);
    let (_, sections) = text_of(&outcome);
    let says = |mid| lines(&sections, mid).iter().any(|line| line.ends_with(";sprop-stereo=1"));
    assert!(says("0") && !says("1"));
}
