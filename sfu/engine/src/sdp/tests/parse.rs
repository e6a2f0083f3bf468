//! Reading descriptions.

use super::super::description::{GroupSemantics, SectionKind};
use super::*;

fn parse(sdp: &str) -> Result<Description, SdpError> {
    Description::parse(sdp, &Limits::default())
}

#[test]
fn offers_of_real_clients_are_read() {
    // Sections; rejected sections; audio sections; first payload type of the first video section, if any.
    let expected = [
        (LIVEKIT_CLIENT, 7, 0, 3, Some(96)),
        (CHROMIUM_PUBLISH, 9, 0, 4, Some(96)),
        (CHROMIUM_DUAL, 3, 0, 1, Some(96)),
        (FIREFOX_PUBLISH, 9, 0, 4, Some(120)),
        (RTC_NODE, 7, 0, 3, Some(96)),
    ];
    for (sdp, sections, rejected, audios, first) in expected {
        let description = parse(sdp).unwrap();
        assert_eq!(description.sections.len(), sections);
        assert_eq!(description.bundle.len(), sections);
        assert_eq!(description.setup, Some(Setup::ActPass));
        assert_eq!(description.fingerprint.value.len(), 32);
        assert_eq!(description.sections.iter().filter(|section| section.rejected).count(), rejected);
        let kinds = |kind| description.sections.iter().filter(move |section| section.kind == kind);
        assert_eq!(kinds(SectionKind::Audio).count(), audios);
        let video = kinds(SectionKind::Video).next().and_then(|section| section.codecs.first());
        assert_eq!(video.map(|codec| codec.payload_type.0), first);
    }
}

#[test]
fn a_published_section_tells_its_track_layers_and_repairs() {
    let description = parse(CHROMIUM_PUBLISH).unwrap();
    let video = description.sections.iter().find(|section| section.mid == "14").unwrap();
    assert_eq!(video.msid.as_ref().unwrap().track, "e513cf29-2c8a-479f-84e2-95dbb42b0241");
    assert_eq!(video.simulcast_send, ["q", "h", "f"]);
    assert!(video.rids.iter().all(|rid| rid.send && !rid.paused));
    let vp8 = &video.codecs[0];
    assert_eq!((vp8.name.as_str(), vp8.clock_rate, vp8.rtx.map(|rtx| rtx.0)), ("VP8", 90_000, Some(97)));
    assert_eq!(vp8.feedback, ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"]);
    assert!(video.codecs.iter().all(|codec| codec.name != "rtx"));
    let dual = parse(CHROMIUM_DUAL).unwrap();
    let video = dual.sections.iter().find(|section| section.kind == SectionKind::Video).unwrap();
    assert_eq!(video.ssrc_groups[0].semantics, GroupSemantics::Fid);
    assert_eq!(video.ssrc_groups[0].ssrcs, video.ssrcs.iter().map(|source| source.ssrc).collect::<Vec<_>>());
}

#[test]
fn bundle_only_sections_are_not_rejected() {
    let firefox = parse(FIREFOX_PUBLISH).unwrap();
    let video = firefox.sections.iter().find(|section| section.mid == "7").unwrap();
    assert!(FIREFOX_PUBLISH.contains("m=video 0 ") && !video.rejected);
    let rid = video.extensions.iter().find(|extension| extension.uri == extensions::RID).unwrap();
    assert_eq!((rid.id, rid.direction), (9, Direction::SendOnly));
}

#[test]
fn paused_and_alternative_streams_and_the_draft_form_of_simulcast_are_read() {
    let forms = [
        ("send q;~h;f,x", &["q", "h", "f"][..], &["h"][..]),
        ("recv a send ~2;1;0", &["2", "1", "0"], &["2"]),
        ("send rid=q;h", &["q", "h"], &[]),
    ];
    for (value, sent, paused) in forms {
        let rids: String = sent.iter().map(|rid| format!("a=rid:{rid} send\r\n")).collect();
        let sdp = CHROMIUM_PUBLISH
            .replace("a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\n", &rids)
            .replace("a=simulcast:send q;h;f", &format!("a=simulcast:{value}"));
        let description = parse(&sdp).unwrap();
        let video = description.sections.iter().find(|section| section.mid == "14").unwrap();
        assert_eq!(video.simulcast_send, sent, "{value}");
        let named: Vec<&str> =
            video.rids.iter().filter(|rid| rid.paused).map(|rid| rid.id.as_str()).collect();
        assert_eq!(named, paused, "{value}");
    }
}

#[test]
fn credentials_may_stand_at_session_level() {
    let (head, sections) = split(RTC_NODE);
    let at_transport = |line: &&str| {
        ["a=ice-ufrag", "a=ice-pwd", "a=fingerprint", "a=setup"].iter().any(|key| line.starts_with(key))
    };
    let moved: String = sections[0].lines().filter(at_transport).map(|line| format!("{line}\r\n")).collect();
    let bare: String = sections
        .iter()
        .flat_map(|section| section.lines().filter(|line| !at_transport(line)))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let (there, here) = (parse(RTC_NODE).unwrap(), parse(&format!("{head}{moved}{bare}")).unwrap());
    assert_eq!((there.ice, there.fingerprint, there.setup), (here.ice, here.fingerprint, here.setup));
}

#[test]
fn errors_name_what_is_at_fault() {
    let long = "x".repeat(9000);
    let many = "a=rid:q send\r\n".to_owned()
        + &(0..9).map(|number| format!("a=rid:r{number} send\r\n")).collect::<String>();
    let cases: &[(&str, &str, &str)] = &[
        ("a=mid:14\r\n", "", "a=mid"),
        ("a=mid:14\r\n", "a=mid:bad mid\r\n", "a=mid"),
        ("a=mid:14\r\n", "a=mid:13\r\n", "a=mid:13"),
        ("a=group:BUNDLE 7 ", "a=group:BUNDLE ", "a=group:BUNDLE (mid 7)"),
        ("a=mid:14\r\n", "a=mid:14\r\na=rid:f send\r\n", "a=rid (mid 14)"),
        ("a=rid:q send\r\n", "a=rid:q up\r\n", "a=rid (mid 14)"),
        ("a=rid:q send\r\n", &many, "a=rid (mid 14)"),
        ("a=simulcast:send q;h;f", "a=simulcast:send q;h;f;", "a=simulcast (mid 14)"),
        ("a=fmtp:97 apt=96\r\n", "a=fmtp:x apt=96\r\n", "a=fmtp (mid 10)"),
        ("a=rtpmap:96 VP8/90000", "a=rtpmap:96 VP8", "a=rtpmap (mid 10)"),
        ("a=rtpmap:96 VP8/90000", "a=rtpmap:96", "a=rtpmap (mid 10)"),
        ("SAVPF 96 97 ", "SAVPF 96 96 ", "m= (mid 10)"),
        ("SAVPF 96 97 ", "SAVPF 96 300 ", "m= (mid 10)"),
        ("a=extmap:14 ", "a=extmap:0 ", "a=extmap (mid 10)"),
        ("a=extmap:14 ", "a=extmap:13 ", "a=extmap (mid 10)"),
        ("a=sctp-port:5000", "a=sctp-port:99999", "a=sctp-port (mid 15)"),
        ("a=ssrc:3641903553 cname", "a=ssrc:-1 cname", "a=ssrc (mid 13)"),
        ("s=-\r\n", "s=-\r\nnonsense\r\n", "line 4"),
        ("s=-\r\n", &format!("s={long}\r\n"), "line 3"),
        ("s=-\r\n", "s=a\u{0}b\r\n", "line 3"),
        ("t=0 0\r\n", "", "session description"),
    ];
    for (from, to, field) in cases {
        assert!(CHROMIUM_PUBLISH.contains(from), "{from}");
        let error = parse(&CHROMIUM_PUBLISH.replacen(from, to, 1)).expect_err(from);
        assert_eq!(error.field, *field, "{error}");
        let told = sfu_protocol::NegotiationError::from(error.clone());
        assert_eq!((told.field, told.reason), (error.field, error.reason));
    }
    // Attributes that are repeated in every section.
    for (key, field) in
        [("ice-ufrag", "a=ice-ufrag"), ("ice-pwd", "a=ice-pwd"), ("fingerprint", "a=fingerprint")]
    {
        assert_eq!(parse(&CHROMIUM_PUBLISH.replace(&format!("a={key}:"), "a=x:")).unwrap_err().field, field);
    }
    let values = [
        ("a=ice-ufrag:ccC6", "a=ice-ufrag:cc", "a=ice-ufrag"),
        ("a=ice-ufrag:ccC6", "a=ice-ufrag:c C6", "a=ice-ufrag"),
        ("a=fingerprint:sha-256", "a=fingerprint:sha-1", "a=fingerprint"),
        ("a=fingerprint:sha-256 F4:", "a=fingerprint:sha-256 ", "a=fingerprint"),
        ("a=fingerprint:sha-256 F4:", "a=fingerprint:sha-256 +4:", "a=fingerprint"),
        ("a=setup:actpass", "a=setup:holdconn", "a=setup"),
        ("a=rtcp-mux", "a=rtcp-nomux", "a=rtcp-mux (mid 7)"),
    ];
    for (from, to, field) in values {
        assert_eq!(parse(&CHROMIUM_PUBLISH.replace(from, to)).unwrap_err().field, field, "{to}");
    }
}

#[test]
fn size_and_number_of_sections_are_bounded() {
    let limits = Limits { sdp_bytes: 1000, media_sections: 8, ..Limits::default() };
    let error = Description::parse(RTC_NODE, &limits).unwrap_err();
    assert_eq!(error.field, "session description");
    let limits = Limits { media_sections: 8, published_tracks: 0, ..Limits::default() };
    assert_eq!(Description::parse(CHROMIUM_PUBLISH, &limits).unwrap_err().field, "m=");
    assert!(Description::parse(RTC_NODE, &limits).is_ok());
    assert_eq!(parse("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n").unwrap_err().field, "m=");
}

#[test]
fn an_extension_id_with_two_meanings_keeps_the_first() {
    let clash = "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
    let sdp = CHROMIUM_PUBLISH.replace("a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", clash);
    let description = parse(&sdp).unwrap();
    for section in &description.sections {
        let one = section.extensions.iter().find(|extension| extension.id == 1);
        assert!(one.is_none_or(|extension| extension.uri == extensions::AUDIO_LEVEL));
    }
}
