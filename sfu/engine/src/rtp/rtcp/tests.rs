use rtc_rtcp::goodbye::Goodbye;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::source_description::SourceDescription;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc_shared::marshal::Unmarshal;
use smallvec::smallvec;

use super::*;

fn block(ssrc: u32) -> ReportBlock {
    ReportBlock {
        ssrc: Ssrc(ssrc),
        fraction_lost: 64,
        lost: -5,
        highest_sequence: 0x0001_fffe,
        jitter: 99,
        last_sr: 0x1122_3344,
        delay_since_last_sr: 65_536,
    }
}

fn blocks(count: u32) -> Vec<ReportBlock> {
    (0..count).map(block).collect()
}

const INFO: SenderInfo =
    SenderInfo { ntp: 0x0123_4567_89ab_cdef, rtp_timestamp: 0xffff_fff0, packets: 10, octets: 12_000 };

#[test]
fn a_compound_is_read_part_by_part_as_it_was_written() {
    let mut out = Vec::new();
    write_sender_report(&mut out, Ssrc(1), &INFO, &[block(2)]);
    write_sdes_cname(&mut out, Ssrc(1), "anytime");
    write_receiver_report(&mut out, Ssrc(3), &[]);
    write_nack(&mut out, Ssrc(3), Ssrc(4), &[65_535, 0, 3, 15, 16, 200]);
    write_pli(&mut out, Ssrc(3), Ssrc(5));
    write_bye(&mut out, &[Ssrc(6), Ssrc(7)]);
    let expected = [
        Rtcp::SenderReport {
            ssrc: Ssrc(1),
            ntp: INFO.ntp,
            rtp_timestamp: INFO.rtp_timestamp,
            packets: 10,
            octets: 12_000,
            reports: smallvec![block(2)],
        },
        Rtcp::SourceDescription,
        Rtcp::ReceiverReport { ssrc: Ssrc(3), reports: smallvec![] },
        Rtcp::Nack { sender: Ssrc(3), media: Ssrc(4), lost: vec![65_535, 0, 3, 15, 16, 200] },
        Rtcp::Pli { sender: Ssrc(3), media: Ssrc(5) },
        Rtcp::Goodbye { ssrcs: smallvec![Ssrc(6), Ssrc(7)] },
    ];
    assert_eq!(parse(&out).unwrap(), expected);
    // 15 is 16 after 65535 and shares its entry; 16 begins another entry and 200 a third.
    let nack_len = 4 + 8 + 3 * 4;
    let whole = 28 + 24 + 20 + 8 + nack_len + 12 + 12;
    assert_eq!(out.len(), whole);
}

#[test]
fn what_is_written_is_read_by_the_other_stack() {
    let mut out = Vec::new();
    write_sender_report(&mut out, Ssrc(1), &INFO, &[block(2), block(3)]);
    let report = SenderReport::unmarshal(&mut &out[..]).unwrap();
    assert_eq!((report.ssrc, report.ntp_time, report.rtp_time), (1, INFO.ntp, INFO.rtp_timestamp));
    assert_eq!((report.packet_count, report.octet_count, report.reports.len()), (10, 12_000, 2));
    let read = &report.reports[1];
    assert_eq!((read.ssrc, read.fraction_lost, read.total_lost), (3, 64, 0xff_fffb));
    assert_eq!((read.last_sequence_number, read.jitter, read.delay), (0x0001_fffe, 99, 65_536));

    out.clear();
    write_receiver_report(&mut out, Ssrc(9), &[block(2)]);
    let report = ReceiverReport::unmarshal(&mut &out[..]).unwrap();
    assert_eq!((report.ssrc, report.reports[0].last_sender_report), (9, 0x1122_3344));

    for name in ["", "a", "ab", "abc", "abcd", "anytime"] {
        out.clear();
        write_sdes_cname(&mut out, Ssrc(4), name);
        let description = SourceDescription::unmarshal(&mut &out[..]).unwrap();
        assert_eq!(description.chunks[0].source, 4);
        assert_eq!(&description.chunks[0].items[0].text[..], name.as_bytes());
    }

    out.clear();
    write_nack(&mut out, Ssrc(1), Ssrc(2), &[10, 26, 27]);
    let nack = TransportLayerNack::unmarshal(&mut &out[..]).unwrap();
    let pairs: Vec<_> = nack.nacks.iter().map(|pair| (pair.packet_id, pair.lost_packets)).collect();
    assert_eq!(pairs, [(10, 0x8000), (27, 0)]);

    out.clear();
    write_pli(&mut out, Ssrc(1), Ssrc(2));
    let pli = PictureLossIndication::unmarshal(&mut &out[..]).unwrap();
    assert_eq!((pli.sender_ssrc, pli.media_ssrc), (1, 2));

    out.clear();
    write_bye(&mut out, &[Ssrc(1), Ssrc(2)]);
    assert_eq!(Goodbye::unmarshal(&mut &out[..]).unwrap().sources, [1, 2]);
}

#[test]
fn lists_that_one_part_cannot_hold_go_into_several() {
    let mut out = Vec::new();
    write_sender_report(&mut out, Ssrc(1), &INFO, &blocks(70));
    let counts: Vec<usize> = parse(&out)
        .unwrap()
        .iter()
        .map(|part| match part {
            Rtcp::SenderReport { reports, .. } | Rtcp::ReceiverReport { reports, .. } => reports.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [31, 31, 8]);

    out.clear();
    let lost: Vec<u16> = (0..300).map(|n| n * 100).collect();
    write_nack(&mut out, Ssrc(1), Ssrc(2), &lost);
    let mut read = Vec::new();
    for part in parse(&out).unwrap() {
        let Rtcp::Nack { lost, .. } = part else { panic!("{part:?}") };
        read.extend(lost);
    }
    assert_eq!(read, lost);

    out.clear();
    write_nack(&mut out, Ssrc(1), Ssrc(2), &[]);
    write_bye(&mut out, &[]);
    assert!(out.is_empty());
    write_bye(&mut out, &[Ssrc(1); 32]);
    assert_eq!(parse(&out).unwrap().len(), 2);
    out.clear();
    write_sdes_cname(&mut out, Ssrc(4), &"ü".repeat(200));
    let description = SourceDescription::unmarshal(&mut &out[..]).unwrap();
    assert_eq!(description.chunks[0].items[0].text.len(), 254);
}

#[test]
fn cumulative_loss_keeps_its_sign_and_is_clamped_to_24_bits() {
    for (lost, expected) in [(-1, -1), (i32::MIN, -0x80_0000), (i32::MAX, 0x7f_ffff), (0x12_3456, 0x12_3456)]
    {
        let mut out = Vec::new();
        write_receiver_report(&mut out, Ssrc(1), &[ReportBlock { lost, ..block(2) }]);
        let Rtcp::ReceiverReport { reports, .. } = &parse(&out).unwrap()[0] else { panic!() };
        assert_eq!(reports[0].lost, expected);
    }
}

#[test]
fn fir_and_remb_are_read() {
    let mut packet = vec![0x84, 206, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0];
    packet.extend([0, 0, 0, 5, 7, 0, 0, 0, 0, 0, 0, 6, 8, 0, 0, 0]);
    let entries =
        smallvec![FirEntry { ssrc: Ssrc(5), sequence: 7 }, FirEntry { ssrc: Ssrc(6), sequence: 8 },];
    assert_eq!(parse(&packet).unwrap(), [Rtcp::Fir { sender: Ssrc(1), entries }]);

    let remb = |exponent_and_mantissa: [u8; 3]| {
        let mut packet = vec![0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1];
        packet.extend(exponent_and_mantissa);
        packet.extend([0, 0, 0, 9]);
        match parse(&packet).unwrap().remove(0) {
            Rtcp::Remb { sender: Ssrc(1), bitrate, ssrcs } if ssrcs[..] == [Ssrc(9)] => bitrate.bps(),
            other => panic!("{other:?}"),
        }
    };
    // Exponent 3, mantissa 0x20001.
    assert_eq!(remb([0x0e, 0x00, 0x01]), 0x2_0001 << 3);
    assert_eq!(remb([0xff, 0xff, 0xff]), u64::MAX, "81 bits saturate");
}

#[test]
fn a_malformed_body_costs_its_part_only_and_a_malformed_length_the_rest() {
    let mut out = Vec::new();
    write_pli(&mut out, Ssrc(1), Ssrc(2));
    // A receiver report that announces a block but contains none.
    out.extend([0x81, 201, 0, 1, 0, 0, 0, 3]);
    out.extend([0x80, 207, 0, 0]);
    write_pli(&mut out, Ssrc(1), Ssrc(4));
    let pli = |media| Rtcp::Pli { sender: Ssrc(1), media: Ssrc(media) };
    let truncated = Rtcp::Malformed(RtcpError::Truncated("report blocks"));
    let other = Rtcp::Other { packet_type: 207 };
    assert_eq!(parse(&out).unwrap(), [pli(2), truncated.clone(), other.clone(), pli(4)]);
    out.pop();
    let length = Rtcp::Malformed(RtcpError::Length(206));
    assert_eq!(parse(&out).unwrap(), [pli(2), truncated, other, length]);
}

#[test]
fn a_packet_without_a_whole_first_part_is_an_error() {
    assert_eq!(parse(&[]), Err(RtcpError::Header(0)));
    assert_eq!(parse(&[0x80, 200, 0]), Err(RtcpError::Header(3)));
    assert_eq!(parse(&[0x40, 200, 0, 0]), Err(RtcpError::Version(1)));
    assert_eq!(parse(&[0x80, 200, 0, 1, 0, 0, 0]), Err(RtcpError::Length(200)));
}

#[test]
fn padding_is_removed_and_its_count_is_checked() {
    let mut packet = vec![0xa1, 206, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4];
    let pli = Rtcp::Pli { sender: Ssrc(1), media: Ssrc(2) };
    assert_eq!(parse(&packet).unwrap(), [pli]);
    for count in [0, 13] {
        packet[15] = count;
        assert_eq!(parse(&packet).unwrap(), [Rtcp::Malformed(RtcpError::Padding(count))]);
    }
    packet[15] = 12;
    assert_eq!(parse(&packet).unwrap(), [Rtcp::Malformed(RtcpError::Truncated("PLI sender SSRC"))]);
    assert_eq!(parse(&[0xa0, 201, 0, 0]).unwrap(), [Rtcp::Malformed(RtcpError::Padding(0))]);
}

#[test]
fn numbers_of_parts_and_entries_are_bounded() {
    let parts = parse(&[0x80, 207, 0, 0].repeat(1000)).unwrap();
    assert_eq!(parts.len(), MOST_PARTS + 1);
    assert_eq!(parts.last(), Some(&Rtcp::Malformed(RtcpError::TooMany("parts"))));
    for (entries, taken) in [(256, true), (257, false)] {
        let mut packet = vec![0x81, 205];
        packet.extend((2 + entries as u16).to_be_bytes());
        packet.resize(12 + 4 * entries, 0xff);
        let parts = parse(&packet).unwrap();
        match (&parts[..], taken) {
            ([Rtcp::Nack { lost, .. }], true) => assert_eq!(lost.len(), 256 * 17),
            ([Rtcp::Malformed(RtcpError::TooMany("NACK entries"))], false) => {}
            other => panic!("{other:?}"),
        }
    }
}
