//! Session descriptions of real clients with fewer payload types. Most of a browser's description is repetition, and
//! parsing it would take most of the time.

use std::sync::LazyLock;

const CLIENTS: [&str; 6] = [
    include_str!("../../src/sdp/tests/fixtures/livekit-client-initial.sdp"),
    include_str!("../../src/sdp/tests/fixtures/chromium-single-publish.sdp"),
    include_str!("../../src/sdp/tests/fixtures/chromium-dual-publisher.sdp"),
    include_str!("../../src/sdp/tests/fixtures/firefox-single-publish.sdp"),
    include_str!("../../src/sdp/tests/fixtures/rtc-node-initial.sdp"),
    include_str!("../../src/sdp/tests/fixtures/chromium-subscriber-answer.sdp"),
];
const KEPT: [&str; 7] = ["111", "63", "0", "96", "97", "98", "99"];

/// Five offers and an answer.
pub fn offers() -> &'static [String; 6] {
    static OFFERS: LazyLock<[String; 6]> = LazyLock::new(|| CLIENTS.map(shortened));
    &OFFERS
}

fn shortened(sdp: &str) -> String {
    let lines = sdp.lines().filter(|line| {
        let of = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().find_map(|start| line.strip_prefix(start));
        of.and_then(|rest| rest.split(' ').next()).is_none_or(|payload_type| KEPT.contains(&payload_type))
    });
    lines.map(|line| format!("{line}\r\n")).collect()
}
