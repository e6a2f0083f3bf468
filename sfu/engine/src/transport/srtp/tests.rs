use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

use super::*;

const PROFILES: [Profile; 2] = [Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn master(profile: Profile, seed: u8) -> MasterKey {
    let mut rng = SmallRng::seed_from_u64(u64::from(seed));
    let mut key = [0; 16];
    rng.fill_bytes(&mut key);
    MasterKey { key, salt: (0..profile.salt_len()).map(|_| rng.random()).collect() }
}

/// An independent SRTP implementation (rtc-srtp) with the same keys.
fn oracle(profile: Profile, master: &MasterKey) -> Context {
    let profile = match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let provider = rtc_srtp::crypto::default_provider().unwrap();
    Context::new(&master.key, &master.salt, profile, None, None, provider.crypto()).unwrap()
}

/// A random packet, sometimes with CSRCs and extensions. Returns the packet and its header's length.
fn rtp(rng: &mut SmallRng, ssrc: u32, sequence: u16) -> (Vec<u8>, usize) {
    let csrcs = if rng.random() { rng.random_range(0..=15_u8) } else { 0 };
    let extended: bool = rng.random();
    let mut packet = vec![0x80 | u8::from(extended) << 4 | csrcs, rng.random()];
    packet.extend(sequence.to_be_bytes());
    packet.extend(rng.random::<u32>().to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..4 * usize::from(csrcs)).map(|_| rng.random::<u8>()));
    if extended {
        // Two elements of the one-byte form, then padding to a whole word.
        packet.extend([
            0xbe,
            0xde,
            0,
            2,
            0x10,
            rng.random(),
            0x32,
            rng.random(),
            rng.random(),
            rng.random(),
            0,
            0,
        ]);
    }
    let header_len = packet.len();
    packet.extend((0..rng.random_range(0..1200)).map(|_| rng.random::<u8>()));
    (packet, header_len)
}

fn seal(sealer: &Sealer, sequence: ExtendedSequence, packet: &[u8], header_len: usize) -> Vec<u8> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + sealer.profile().rtp_overhead(), 0xaa);
    let len = sealer.seal_rtp(sequence, &mut buffer, header_len, packet.len()).unwrap();
    assert_eq!(len, buffer.len());
    buffer
}

fn open(opener: &mut Opener, sealed: &[u8], header_len: usize) -> Result<(Vec<u8>, ExtendedSequence), Drop> {
    let mut packet = sealed.to_vec();
    let ssrc = Ssrc(read_u32(&packet, 8).unwrap());
    let sequence = u16::from_be_bytes([packet[2], packet[3]]);
    let (len, extended) = opener.open_rtp(&mut packet, ssrc, sequence, header_len, |_| true)?;
    packet.truncate(len);
    Ok((packet, extended))
}

#[test]
fn key_derivation_as_in_rfc_3711_appendix_b3() {
    let master = MasterKey {
        key: hex("E1F97A0D3E018BE0D64FA32C06DE4139").try_into().unwrap(),
        salt: hex("0EC675AD498AFEEBB6960B3AABE6").into_iter().collect(),
    };
    let key: [u8; 16] = derive(&master, Label::RtpEncryption).unwrap();
    assert_eq!(key.as_slice(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    let salt: [u8; 14] = derive(&master, Label::RtpSalt).unwrap();
    assert_eq!(salt.as_slice(), hex("30CBBC08863D8C85D49DB34A9AE1"));
    let auth: [u8; 20] = derive(&master, Label::RtpAuthentication).unwrap();
    assert_eq!(auth.as_slice(), hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
}

/// Session key and salt of RFC 7714 sections 16.1 and 17.1.
fn vector_cipher() -> Cipher {
    let key =
        || LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &hex("000102030405060708090a0b0c0d0e0f")).unwrap());
    let salt: [u8; 12] = hex("517569642070726f2071756f").try_into().unwrap();
    Cipher::Gcm(Gcm { rtp: key(), rtp_salt: salt, rtcp: key(), rtcp_salt: salt })
}

#[test]
fn rtp_as_in_rfc_7714_section_16_1() {
    let plain = hex("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
         69736120 696e2070 61727465 73207472 6573");
    let sealed = hex("8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5
         0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce");
    let sealer = Sealer { cipher: vector_cipher(), profile: Profile::AeadAes128Gcm, rtcp_index: 0 };
    assert_eq!(seal(&sealer, ExtendedSequence::first(0xf17b), &plain, 12), sealed);
    let mut opener = vector_opener();
    assert_eq!(open(&mut opener, &sealed, 12), Ok((plain, ExtendedSequence::first(0xf17b))));
}

fn vector_opener() -> Opener {
    let keys = master(Profile::AeadAes128Gcm, 1);
    let opener = Opener::new(Profile::AeadAes128Gcm, &keys, 1).unwrap();
    Opener { cipher: vector_cipher(), ..opener }
}

#[test]
fn rtcp_as_in_rfc_7714_section_17_1() {
    let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
         deadbeef deadbeef deadbeef deadbeef deadbeef");
    let sealed = hex("81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d
         c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4");
    let mut sealer = Sealer { cipher: vector_cipher(), profile: Profile::AeadAes128Gcm, rtcp_index: 0x5d3 };
    let mut buffer = plain.clone();
    buffer.resize(plain.len() + 20, 0);
    assert_eq!(sealer.seal_rtcp(&mut buffer, plain.len()), Some(sealed.len()));
    assert_eq!(buffer, sealed);
    let mut opener = vector_opener();
    let len = opener.open_rtcp(&mut buffer).unwrap();
    assert_eq!(buffer[..len], plain);
}

#[test]
fn what_we_seal_another_implementation_opens_and_the_other_way_round() {
    for profile in PROFILES {
        let mut rng = SmallRng::seed_from_u64(7);
        let keys = master(profile, 1);
        let sealer = Sealer::new(profile, &keys).unwrap();
        let mut opener = Opener::new(profile, &keys, 4).unwrap();
        let (mut their_sender, mut their_receiver) = (oracle(profile, &keys), oracle(profile, &keys));
        // The sequence number wraps at least twice.
        let mut sequence = ExtendedSequence::first(65_000);
        for _ in 0..1500 {
            let (packet, header_len) = rtp(&mut rng, 0x1234_5678, sequence.wire());
            let ours = seal(&sealer, sequence, &packet, header_len);
            let theirs = their_sender.encrypt_rtp(&packet).unwrap();
            assert_eq!(ours, theirs, "{profile:?} at {sequence:?}");
            assert_eq!(their_receiver.decrypt_rtp(&ours).unwrap(), packet);
            assert_eq!(open(&mut opener, &theirs, header_len), Ok((packet, sequence)));
            sequence = sequence.plus(100);
        }
        assert!(sequence.rollover() >= 2);
    }
}

#[test]
fn rtcp_is_understood_by_another_implementation_and_the_other_way_round() {
    for profile in PROFILES {
        let keys = master(profile, 2);
        let mut sealer = Sealer::new(profile, &keys).unwrap();
        let mut opener = Opener::new(profile, &keys, 4).unwrap();
        let (mut their_sender, mut their_receiver) = (oracle(profile, &keys), oracle(profile, &keys));
        for words in 1..60_u16 {
            let mut plain = vec![0x80, 201];
            plain.extend(words.to_be_bytes());
            plain.extend(0xabcd_ef01_u32.to_be_bytes());
            plain.extend((1..words).flat_map(|word| u32::from(word).to_be_bytes()));
            let mut buffer = plain.clone();
            buffer.resize(plain.len() + profile.rtcp_overhead(), 0);
            let len = sealer.seal_rtcp(&mut buffer, plain.len()).unwrap();
            assert_eq!(their_receiver.decrypt_rtcp(&buffer[..len]).unwrap(), plain);
            let mut theirs = their_sender.encrypt_rtcp(&plain).unwrap();
            let len = opener.open_rtcp(&mut theirs).unwrap();
            assert_eq!(theirs[..len], plain);
        }
    }
}

#[test]
fn a_packet_is_taken_once_and_reordering_within_the_window_is_fine() {
    for profile in PROFILES {
        let mut rng = SmallRng::seed_from_u64(3);
        let keys = master(profile, 3);
        let sealer = Sealer::new(profile, &keys).unwrap();
        let mut opener = Opener::new(profile, &keys, 4).unwrap();
        let first = ExtendedSequence::first(65_500);
        let packets: Vec<_> = (0..200)
            .map(|n| {
                let sequence = first.plus(n);
                let (packet, header_len) = rtp(&mut rng, 9, sequence.wire());
                (seal(&sealer, sequence, &packet, header_len), header_len, sequence)
            })
            .collect();
        // Blocks of twenty packets, each in reverse, so that the wrap is crossed out of order.
        for block in packets.chunks(20) {
            for (sealed, header_len, sequence) in block.iter().rev() {
                let (_, extended) = open(&mut opener, sealed, *header_len).unwrap();
                assert_eq!(extended, *sequence);
                assert_eq!(open(&mut opener, sealed, *header_len), Err(Drop::Replayed));
            }
        }
        let (oldest, header_len, _) = &packets[0];
        assert_eq!(open(&mut opener, oldest, *header_len), Err(Drop::Replayed));
    }
}

/// All packets can be opened, whatever the first sequence number, the number of packets lost at the beginning, and the
/// order of the rest.
#[test]
fn a_stream_is_read_from_whichever_packet_comes_first() {
    for seed in 0..400 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let profile = PROFILES[rng.random_range(0..2)];
        let keys = master(profile, 10);
        let sealer = Sealer::new(profile, &keys).unwrap();
        let mut opener = Opener::new(profile, &keys, 1).unwrap();
        let begins = if seed % 2 == 0 { rng.random() } else { rng.random_range(65_400..=u16::MAX) };
        let first = ExtendedSequence::first(begins).plus(rng.random_range(0..3000));
        let mut numbers: Vec<u64> = (0..150).collect();
        // Each packet is up to forty places early or late, within the replay window.
        numbers.sort_by_cached_key(|number| number + rng.random_range(0..40));
        for number in numbers {
            let sequence = first.plus(number);
            let (packet, header_len) = rtp(&mut rng, 9, sequence.wire());
            let sealed = seal(&sealer, sequence, &packet, header_len);
            let opened = open(&mut opener, &sealed, header_len);
            assert_eq!(opened, Ok((packet, sequence)), "seed {seed}, {profile:?}, {begins}, {number}");
        }
    }
}

#[test]
fn replayed_rtcp_is_refused() {
    for profile in PROFILES {
        let keys = master(profile, 4);
        let mut sealer = Sealer::new(profile, &keys).unwrap();
        let mut opener = Opener::new(profile, &keys, 4).unwrap();
        let mut buffer = vec![0x80, 201, 0, 1, 0, 0, 0, 5];
        buffer.resize(8 + profile.rtcp_overhead(), 0);
        sealer.seal_rtcp(&mut buffer, 8).unwrap();
        assert_eq!(opener.open_rtcp(&mut buffer.clone()), Ok(8));
        assert_eq!(opener.open_rtcp(&mut buffer), Err(Drop::Replayed));
    }
}

#[test]
fn a_change_of_any_byte_is_noticed_and_leaves_no_trace() {
    for profile in PROFILES {
        let keys = master(profile, 5);
        let sealer = Sealer::new(profile, &keys).unwrap();
        let mut opener = Opener::new(profile, &keys, 4).unwrap();
        let mut packet = vec![0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
        packet.extend([5; 40]);
        let sealed = seal(&sealer, ExtendedSequence::first(1), &packet, 12);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x10;
            assert_eq!(open(&mut opener, &changed, 12), Err(Drop::BadAuthentication), "byte {at}");
        }
        assert_eq!(opener.sources(), 0);
        assert!(open(&mut opener, &sealed, 12).is_ok());
        assert_eq!(opener.sources(), 1);
    }
}

#[test]
fn only_authentic_streams_are_remembered_and_not_more_than_the_limit() {
    let profile = Profile::AeadAes128Gcm;
    let keys = master(profile, 6);
    let sealer = Sealer::new(profile, &keys).unwrap();
    let stranger = Sealer::new(profile, &master(profile, 7)).unwrap();
    let mut opener = Opener::new(profile, &keys, 2).unwrap();
    let mut rng = SmallRng::seed_from_u64(1);
    for ssrc in 0..1000 {
        let (packet, header_len) = rtp(&mut rng, ssrc, 1);
        let forged = seal(&stranger, ExtendedSequence::first(1), &packet, header_len);
        assert_eq!(open(&mut opener, &forged, header_len), Err(Drop::BadAuthentication));
    }
    for (ssrc, expected) in [(1, true), (2, true), (3, false), (1, true)] {
        let sequence = ExtendedSequence::first(10 + rng.random_range(0..100));
        let (packet, header_len) = rtp(&mut rng, ssrc, sequence.wire());
        let sealed = seal(&sealer, sequence, &packet, header_len);
        let opened = open(&mut opener, &sealed, header_len);
        assert_eq!(opened.is_ok(), expected, "{ssrc}: {opened:?}");
        if !expected {
            assert_eq!(opened, Err(Drop::TooManyStreams));
        }
    }
}

#[test]
fn nothing_is_kept_of_a_source_that_is_not_expected() {
    let profile = Profile::AeadAes128Gcm;
    let keys = master(profile, 6);
    let sealer = Sealer::new(profile, &keys).unwrap();
    let mut opener = Opener::new(profile, &keys, 2).unwrap();
    let (packet, header_len) = rtp(&mut SmallRng::seed_from_u64(1), 5, 1);
    let mut sealed = seal(&sealer, ExtendedSequence::first(1), &packet, header_len);
    let opened = opener.open_rtp(&mut sealed, Ssrc(5), 1, header_len, |_| false);
    assert_eq!((opened, opener.sources()), (Err(Drop::UnknownStream), 0));
    assert!(open(&mut opener, &sealed, header_len).is_ok(), "the packet was not touched");
}

#[test]
fn sources_that_have_ended_make_room_and_the_last_of_them_are_known_for_a_while() {
    let profile = Profile::AeadAes128Gcm;
    let keys = master(profile, 6);
    let sealer = Sealer::new(profile, &keys).unwrap();
    let mut opener = Opener::new(profile, &keys, 1000).unwrap();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut sent = Vec::new();
    for ssrc in 0..1000 {
        let (packet, header_len) = rtp(&mut rng, ssrc, 1);
        let sealed = seal(&sealer, ExtendedSequence::first(1), &packet, header_len);
        assert!(open(&mut opener, &sealed, header_len).is_ok());
        sent.push((sealed, header_len));
        // Every stream except the first ends when the next begins.
        opener.forget(|other| other.0 == 0 || other.0 == ssrc);
        assert!(opener.sources() <= 2 + ENDED_SOURCES);
    }
    for (sealed, header_len) in sent.iter().rev().take(ENDED_SOURCES).chain(&sent[..1]) {
        assert_eq!(open(&mut opener, sealed, *header_len), Err(Drop::Replayed));
    }
}

#[test]
fn of_many_senders_of_rtcp_the_silent_ones_are_forgotten() {
    let profile = Profile::AeadAes128Gcm;
    let keys = master(profile, 4);
    let mut sealer = Sealer::new(profile, &keys).unwrap();
    let mut opener = Opener::new(profile, &keys, 4).unwrap();
    let mut send = |ssrc: u32| {
        let mut buffer = vec![0x80, 201, 0, 1];
        buffer.extend(ssrc.to_be_bytes());
        buffer.resize(8 + profile.rtcp_overhead(), 0);
        sealer.seal_rtcp(&mut buffer, 8).unwrap();
        assert_eq!(opener.open_rtcp(&mut buffer.clone()), Ok(8));
        assert!(opener.reporters.len() <= MAX_REPORTERS);
        buffer
    };
    let mut of_first = Vec::new();
    for ssrc in 1..1000 {
        of_first.push(send(0));
        send(ssrc);
    }
    for mut replayed in of_first {
        assert_eq!(opener.open_rtcp(&mut replayed), Err(Drop::Replayed), "it was never silent for long");
    }
}

#[test]
fn packets_of_every_length_are_refused_without_a_panic() {
    for profile in PROFILES {
        let keys = master(profile, 8);
        let mut opener = Opener::new(profile, &keys, 4).unwrap();
        let mut sealer = Sealer::new(profile, &keys).unwrap();
        let mut rng = SmallRng::seed_from_u64(2);
        for len in 0..1500 {
            let mut packet = vec![0; len];
            rng.fill_bytes(&mut packet);
            for header_len in [0, 12, len / 2, len, len + 1] {
                let opened = opener.open_rtp(&mut packet.clone(), Ssrc(1), 1, header_len, |_| true);
                assert!(opened.is_err());
                // Lengths that do not fit are refused for sealing as well.
                assert_eq!(sealer.seal_rtp(ExtendedSequence::first(0), &mut packet, header_len, len), None);
            }
            assert!(opener.open_rtcp(&mut packet).is_err());
            assert_eq!(sealer.seal_rtcp(&mut packet, len), None);
        }
        assert_eq!(opener.sources(), 0);
    }
}

#[test]
fn a_salt_of_the_wrong_length_is_an_error() {
    let mut keys = master(Profile::AeadAes128Gcm, 9);
    keys.salt.push(0);
    assert_eq!(Sealer::new(Profile::AeadAes128Gcm, &keys).err(), Some(SrtpError::SaltLength(13)));
}
