//! Reads the sources, and fails on a dependency between modules that is not allowed, or on a crate named where it may
//! not be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules of the engine, each with the modules that it may name: `units ◄ rtp ◄ {transport, bwe, sdp, media_packet} ◄
/// {ingress, egress} ◄ peer ◄ shard`, `{units, media_packet} ◄ {room, record, relay} ◄ shard` and `media_packet ◄
/// packet_memory ◄ {ingress, egress, room}`. Every module may name the leaves.
const DRAWN: [(&str, &[&str]); 14] = [
    ("rtp", &[]),
    ("media_packet", &["rtp"]),
    ("packet_memory", &["rtp", "media_packet"]),
    ("transport", &["rtp"]),
    ("bwe", &["rtp"]),
    ("sdp", &["rtp"]),
    ("ingress", &["rtp", "media_packet", "packet_memory", "transport", "bwe", "sdp"]),
    ("egress", &["rtp", "media_packet", "packet_memory", "transport", "bwe", "sdp"]),
    ("peer", &["rtp", "media_packet", "packet_memory", "transport", "bwe", "sdp", "ingress", "egress"]),
    ("room", &["rtp", "media_packet", "packet_memory"]),
    ("record", &["rtp", "media_packet"]),
    ("relay", &["rtp", "media_packet"]),
    (
        "shard",
        &[
            "rtp",
            "media_packet",
            "packet_memory",
            "transport",
            "bwe",
            "sdp",
            "ingress",
            "egress",
            "peer",
            "room",
            "record",
            "relay",
        ],
    ),
    ("limits", &[]),
];
/// Modules that every module may name.
const LEAVES: [&str; 5] = ["units", "stats", "limits", "handles", "transmit"];
/// Modules that may name webrtc-rs.
const NAMES_WEBRTC: [&str; 4] = ["transport", "sdp", "rtp", "bwe"];

#[test]
fn the_engines_modules_name_only_what_is_drawn() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in sources(&root) {
        let Some(place) = Place::of(&root, &file) else { continue };
        if place.module == "lib" {
            continue;
        }
        let text = production_lines(&fs::read_to_string(&file).expect("readable"));
        wrong.extend(undrawn(&place, &text).into_iter().map(|edge| format!("{}: {edge}", file.display())));
        if !NAMES_WEBRTC.contains(&place.module.as_str()) && text.contains("rtc_") && names_webrtc(&text) {
            wrong.push(format!("{}: names a webrtc-rs crate", file.display()));
        }
    }
    assert!(wrong.is_empty(), "edges that are not drawn:\n{}", wrong.join("\n"));
}

#[test]
fn crates_are_named_only_where_they_may_be() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut wrong = Vec::new();
    for (folder, name, allowed) in [
        ("sfu/src", "quinn_udp", "udp.rs"),
        ("sfu/src", "quinn::", "relay_quic.rs"),
        ("signaling/src", "sfu::", "main.rs"),
    ] {
        for file in sources(&workspace.join(folder)) {
            let text = production_lines(&fs::read_to_string(&file).expect("readable"));
            if !file.ends_with(allowed) && names_crate(&text, name) {
                wrong.push(format!("{}: names {name}, which only {allowed} may", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_sees_every_way_to_name_a_module() {
    let place = Place { module: "ingress".to_owned(), depth: 2 };
    let text = "use crate::egress::Pacer;\nuse crate::{\n    room::{self, Room},\n    rtp::Packet,\n};\n\
                fn f() -> crate::peer::Peer {}\nuse super::super::shard::Shard;\nuse super::stream::Stream;\n";
    let found = undrawn(&place, &production_lines(text));
    let found: Vec<_> = found.iter().map(|edge| edge.rsplit(' ').next().unwrap_or_default()).collect();
    assert_eq!(found, ["egress", "peer", "room", "shard"]);
    let comments = "// crate::egress\n//! crate::peer\n#[cfg(test)]\nmod tests { use crate::egress; }";
    assert!(undrawn(&place, &production_lines(comments)).is_empty());
    assert!(names_webrtc("use rtc_rtp::header::Header;") && !names_webrtc("let rtc_time = 1;"));
    assert!(names_crate("let n = sfu::Node::start();", "sfu::") && !names_crate("my_sfu::x", "sfu::"));
}

/// Position of a source file in its crate.
struct Place {
    /// First path segment below the crate root.
    module: String,
    /// Number of `super::` that lead to the root.
    depth: usize,
}

impl Place {
    /// Returns `None` for a file of tests.
    fn of(root: &Path, file: &Path) -> Option<Self> {
        let path = file.strip_prefix(root).ok()?.with_extension("");
        let mut parts: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if parts.last().is_some_and(|last| last == "tests") || parts.iter().any(|part| part == "tests") {
            return None;
        }
        if parts.last().is_some_and(|last| last == "mod") {
            parts.pop();
        }
        Some(Self { module: parts.first()?.clone(), depth: parts.len() })
    }
}

/// Dependencies in a text that are not allowed, sorted.
fn undrawn(place: &Place, text: &str) -> Vec<String> {
    let drawn = DRAWN.iter().find(|(module, _)| *module == place.module).map_or(&[][..], |(_, drawn)| drawn);
    let mut named = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        named.extend(first_names(&text[at + "crate::".len()..]));
    }
    let up = "super::".repeat(place.depth);
    for (at, _) in text.match_indices(&up) {
        named.extend(first_names(&text[at + up.len()..]));
    }
    let known = |name: &str| LEAVES.contains(&name) || DRAWN.iter().any(|(module, _)| *module == name);
    named
        .into_iter()
        .filter(|name| known(name) && *name != place.module)
        .filter(|name| !LEAVES.contains(&name.as_str()) && !drawn.contains(&name.as_str()))
        .map(|name| format!("{} names {name}", place.module))
        .collect()
}

/// First path segments after `crate::`: one, or one for each item of a group in braces.
fn first_names(rest: &str) -> Vec<String> {
    let ident = |text: &str| -> String {
        text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let Some(group) = rest.strip_prefix('{') else { return vec![ident(rest)] };
    let mut names = Vec::new();
    let (mut depth, mut item) = (0_usize, String::new());
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(ident(std::mem::take(&mut item).trim_start())),
            _ => {}
        }
        if depth == 0 && letter != ',' {
            item.push(letter);
        }
    }
    names.push(ident(item.trim_start()));
    names
}

/// Removes comments, and everything from `#[cfg(test)]` on.
fn production_lines(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines
        .map(|line| line.split("//").next().unwrap_or_default())
        .fold(String::new(), |text, line| text + line + "\n")
}

fn names_webrtc(text: &str) -> bool {
    let crates = ["rtc::", "rtc_"];
    crates.iter().any(|name| {
        names_crate(text, name)
            && text.match_indices(name).any(|(at, _)| {
                let tail =
                    text[at..].trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == '_');
                tail.starts_with("::")
            })
    })
}

/// Whether the text names the crate, and not a longer identifier or path that ends in its name.
fn names_crate(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':')
    })
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
