//! Opus (RFC 6716, RFC 7587).

/// Duration of a packet's audio in samples at 48 kHz, from its first one or two bytes (RFC 6716 section 3.1). `None`
/// for a malformed packet: empty, or longer than the maximum of 120 ms.
pub fn samples(payload: &[u8]) -> Option<u32> {
    let toc = *payload.first()?;
    let config = toc >> 3;
    let frame = match (config, config & 3) {
        // SILK: 10, 20, 40 and 60 ms.
        (0..=11, 0) => 480,
        (0..=11, length) => 960 * u32::from(length),
        // Hybrid: 10 and 20 ms.
        (12..=15, length) => 480 << (length & 1),
        // CELT: 2.5, 5, 10 and 20 ms.
        (_, length) => 120 << length,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(payload.get(1)? & 0x3f),
    };
    Some(frame * frames).filter(|samples| (1..=LONGEST).contains(samples))
}

/// Longest packet: 120 ms at 48 kHz.
const LONGEST: u32 = 5760;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_follow_the_table_of_configurations() {
        let milliseconds = |config: u8| f64::from(samples(&[config << 3]).unwrap()) / 48.0;
        let expected: Vec<f64> = [[10.0, 20.0, 40.0, 60.0]; 3]
            .into_iter()
            .flatten()
            .chain([10.0, 20.0, 10.0, 20.0])
            .chain([[2.5, 5.0, 10.0, 20.0]; 4].into_iter().flatten())
            .collect();
        assert_eq!((0..32).map(milliseconds).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn frames_of_one_packet_add_up_to_at_most_120_ms() {
        let fullband_20_ms = 31 << 3;
        assert_eq!(samples(&[fullband_20_ms | 1]), Some(1920));
        assert_eq!(samples(&[fullband_20_ms | 2]), Some(1920));
        assert_eq!(samples(&[fullband_20_ms | 3, 6]), Some(5760));
        assert_eq!(samples(&[fullband_20_ms | 3, 7]), None);
        assert_eq!(samples(&[fullband_20_ms | 3, 0xc0]), None);
        assert_eq!(samples(&[fullband_20_ms | 3]), None);
        assert_eq!(samples(&[]), None);
    }
}
