//! A remote description as typed data (RFC 8866, RFC 8829).
//!
//! `rtc-sdp` splits the text into lines and attributes. This module limits the text first, and interprets the
//! attributes. Unknown attributes are ignored. Everything that is later echoed in an answer is validated here, once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use rtc_sdp::description::common::Attribute;
use rtc_sdp::description::session::SessionDescription;

use super::SdpError;
use super::section::parse_section;
use crate::limits::Limits;
use crate::units::{PayloadType, Ssrc};

/// A parsed offer or answer of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// ICE credentials. All media share one transport (BUNDLE), so there is one pair.
    pub ice: IceCredentials,
    /// Whether `a=ice-lite` is present.
    pub ice_lite: bool,
    /// Hash of the certificate that the other side presents in the DTLS handshake.
    pub fingerprint: Fingerprint,
    /// DTLS role from `a=setup`; `None` if absent.
    pub setup: Option<Setup>,
    /// Whether `a=extmap-allow-mixed` is present at session level.
    pub extmap_allow_mixed: bool,
    /// Mids of the BUNDLE group (RFC 9143).
    pub bundle: Vec<String>,
    /// The media sections, in order.
    pub sections: Vec<Section>,
}

/// ICE user fragment and password (RFC 8839 section 5.4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IceCredentials {
    /// User fragment: 4 to 256 characters.
    pub ufrag: String,
    /// Password: 22 to 256 characters.
    pub pwd: String,
}

/// Hash of a certificate (RFC 8122).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Hash function: `sha-256`, `sha-384` or `sha-512`.
    pub algorithm: String,
    /// Hash value: 32, 48 or 64 bytes.
    pub value: Vec<u8>,
}

/// Value of `a=setup`: role in the DTLS handshake (RFC 8842).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Takes either role; the answerer chooses.
    ActPass,
    /// Sends the ClientHello.
    Active,
    /// Waits for the ClientHello.
    Passive,
}

/// Direction of media in a section, from the point of view of the side that describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Sends and receives.
    SendRecv,
    /// Sends only.
    SendOnly,
    /// Receives only.
    RecvOnly,
    /// Neither sends nor receives.
    Inactive,
}

impl Direction {
    /// Whether the describing side sends.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the describing side receives.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// Parses an SDP attribute name; `None` if it is not a direction.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "sendrecv" => Some(Self::SendRecv),
            "sendonly" => Some(Self::SendOnly),
            "recvonly" => Some(Self::RecvOnly),
            "inactive" => Some(Self::Inactive),
            _ => None,
        }
    }
}

/// A parsed media section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Identification tag, unique within the description (RFC 5888).
    pub mid: String,
    /// Type of media in the section.
    pub kind: SectionKind,
    /// Media type of the m-line, echoed in the answer.
    pub media: String,
    /// Transport protocol of the m-line, echoed in the answer.
    pub protocol: String,
    /// Formats of the m-line, echoed when the section is rejected.
    pub formats: Vec<String>,
    /// Port 0 without `a=bundle-only`: the section is stopped or rejected.
    pub rejected: bool,
    /// Direction of media; `SendRecv` if absent.
    pub direction: Direction,
    /// Stream and track id, from `a=msid` or else from the first SSRC with an `msid`.
    pub msid: Option<Msid>,
    /// Payload types, in the order of the m-line. RTX payload types are attached to the codec that they repair.
    pub codecs: Vec<CodecParameters>,
    /// Header extensions (RFC 8285).
    pub extensions: Vec<ExtensionMapping>,
    /// Whether reduced-size RTCP is supported (RFC 5506).
    pub rtcp_rsize: bool,
    /// Whether `a=extmap-allow-mixed` is present at media level.
    pub extmap_allow_mixed: bool,
    /// `a=rid` lines (RFC 8851).
    pub rids: Vec<Rid>,
    /// RIDs in the send list of `a=simulcast`, in order; of alternatives only the first (RFC 8853).
    pub simulcast_send: Vec<String>,
    /// SSRCs described by `a=ssrc` (RFC 5576).
    pub ssrcs: Vec<SsrcDescription>,
    /// Groups of SSRCs (`a=ssrc-group`).
    pub ssrc_groups: Vec<SsrcGroup>,
}

/// Type of media in a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// Audio over RTP.
    Audio,
    /// Video over RTP.
    Video,
    /// Data channels (RFC 8841).
    Data {
        /// Value of `a=sctp-port`; 5000 if absent.
        sctp_port: u16,
        /// Value of `a=max-message-size` in bytes; 64 KiB if absent, 0 means no limit.
        max_message_size: u64,
    },
    /// Any other type; always rejected.
    Other,
}

/// Stream and track id from `a=msid` (RFC 8830).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Msid {
    /// Stream id; `-` means no stream.
    pub stream: String,
    /// Track id; empty if absent.
    pub track: String,
}

/// A payload type and its codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecParameters {
    /// RTP payload type number, 0 to 127.
    pub payload_type: PayloadType,
    /// Encoding name as offered.
    pub name: String,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Number of audio channels; 1 if absent.
    pub channels: u8,
    /// Format parameters (`a=fmtp`); empty if absent.
    pub fmtp: String,
    /// `a=rtcp-fb` values such as `nack pli`.
    pub feedback: Vec<String>,
    /// Payload type of the retransmissions (RFC 4588 `apt`); `None` without RTX.
    pub rtx: Option<PayloadType>,
}

/// Header extension from an `a=extmap` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionMapping {
    /// Extension id, 1 to 255.
    pub id: u8,
    /// Direction in which the describing side uses the extension.
    pub direction: Direction,
    /// URI that identifies the extension.
    pub uri: String,
}

/// RTP stream from an `a=rid` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rid {
    /// Name of the stream: 1 to 16 ASCII letters, digits, `-` and `_`.
    pub id: String,
    /// Whether the describing side sends the stream (it receives it otherwise).
    pub send: bool,
    /// Whether `a=simulcast` marks the stream as paused (`~`).
    pub paused: bool,
}

/// What the `a=ssrc` lines state about one SSRC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SsrcDescription {
    /// The described SSRC.
    pub ssrc: Ssrc,
    /// Canonical name; `None` if absent.
    pub cname: Option<String>,
    /// Stream and track id, stated by older stacks; `None` if absent.
    pub msid: Option<Msid>,
}

/// Group from an `a=ssrc-group` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SsrcGroup {
    /// Relation between the SSRCs.
    pub semantics: GroupSemantics,
    /// SSRCs in the group, in order.
    pub ssrcs: Vec<Ssrc>,
}

/// Relation between the SSRCs of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupSemantics {
    /// Flow identification: a media SSRC and the SSRC of its retransmissions.
    Fid,
    /// Simulcast layers.
    Sim,
}

impl Description {
    /// Parses the first description of a connection.
    #[cfg(test)]
    pub fn parse(sdp: &str, limits: &Limits) -> Result<Self, SdpError> {
        Self::parse_within(sdp, limits, limits.sdp_bytes)
    }

    /// Parses a description of at most `longest` bytes. Errors name the line, attribute or section at fault.
    pub fn parse_within(sdp: &str, limits: &Limits, longest: usize) -> Result<Self, SdpError> {
        check_text(sdp, limits, longest)?;
        let session = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()))
            .map_err(|error| SdpError::new("session description", error.to_string()))?;
        let mut sections = Vec::with_capacity(session.media_descriptions.len());
        for media in &session.media_descriptions {
            sections.push(parse_section(media, sections.len(), limits)?);
        }
        check_mids(&sections)?;
        let bundle = parse_bundle(&session.attributes, &sections)?;
        keep_extensions_consistent(&mut sections);
        // RFC 9143 section 7.1.2: the first bundled section that is not rejected states the transport parameters.
        let position =
            |mid: &String| sections.iter().position(|section| section.mid == *mid && !section.rejected);
        let tagged = bundle.iter().find_map(position);
        let media = tagged.and_then(|index| session.media_descriptions.get(index));
        let media = media.map_or(&[][..], |media| &media.attributes[..]);
        let levels = [media, &session.attributes[..]];
        Ok(Self {
            ice: parse_ice(&levels)?,
            ice_lite: value_of(&session.attributes, "ice-lite").is_some(),
            fingerprint: parse_fingerprint(&levels)?,
            setup: parse_setup(&levels)?,
            extmap_allow_mixed: value_of(&session.attributes, "extmap-allow-mixed").is_some(),
            bundle,
            sections,
        })
    }
}

/// Value of the first attribute named `key`; empty if the attribute has no value.
pub(super) fn value_of<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a str> {
    attributes
        .iter()
        .find(|attribute| attribute.key == key)
        .map(|attribute| attribute.value.as_deref().unwrap_or(""))
}

/// Whether `text` is an RFC 8866 `token`, which can be echoed in a line without changing the line's meaning.
pub(super) fn is_token(text: &str, longest: usize) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&byte))
}

fn check_text(sdp: &str, limits: &Limits, longest: usize) -> Result<(), SdpError> {
    if sdp.len() > longest {
        return Err(SdpError::new("session description", format!("longer than {longest} bytes")));
    }
    let mut sections = 0;
    for (number, line) in sdp.lines().enumerate() {
        let field = || format!("line {}", number + 1);
        if line.is_empty() {
            continue;
        }
        if line.len() > MAX_LINE_BYTES {
            return Err(SdpError::new(field(), format!("longer than {MAX_LINE_BYTES} bytes")));
        }
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(SdpError::new(field(), "contains a control character"));
        }
        let mut bytes = line.bytes();
        if !bytes.next().is_some_and(|kind| kind.is_ascii_lowercase()) || bytes.next() != Some(b'=') {
            return Err(SdpError::new(field(), "is not of the form <letter>=<value>"));
        }
        sections += usize::from(line.starts_with("m="));
    }
    if sections > limits.described_sections() {
        let reason = format!("more than {} media sections", limits.described_sections());
        return Err(SdpError::new("m=", reason));
    }
    if sections == 0 {
        return Err(SdpError::new("m=", "no media section"));
    }
    Ok(())
}

fn check_mids(sections: &[Section]) -> Result<(), SdpError> {
    let mut seen = BTreeSet::new();
    match sections.iter().find(|section| !seen.insert(section.mid.as_str())) {
        Some(section) => {
            Err(SdpError::new(format!("a=mid:{}", section.mid), "names more than one media section"))
        }
        None => Ok(()),
    }
}

fn parse_bundle(attributes: &[Attribute], sections: &[Section]) -> Result<Vec<String>, SdpError> {
    let group = attributes
        .iter()
        .filter(|attribute| attribute.key == "group")
        .filter_map(|attribute| attribute.value.as_deref())
        .find_map(|value| value.strip_prefix("BUNDLE"))
        .unwrap_or("");
    let bundle: Vec<String> = group.split_ascii_whitespace().map(str::to_owned).collect();
    let bundled: BTreeSet<&str> = bundle.iter().map(String::as_str).collect();
    for section in sections.iter().filter(|section| !section.rejected) {
        if !bundled.contains(section.mid.as_str()) {
            let field = format!("a=group:BUNDLE (mid {})", section.mid);
            return Err(SdpError::new(field, "the section is not in the BUNDLE group, which is required"));
        }
    }
    Ok(bundle)
}

/// Drops extension mappings that contradict an earlier one: an id has one meaning on a transport (RFC 9143 section
/// 9.1).
fn keep_extensions_consistent(sections: &mut [Section]) {
    let mut meanings = BTreeMap::new();
    for section in sections.iter_mut().filter(|section| !section.rejected) {
        section.extensions.retain(|extension| {
            *meanings.entry(extension.id).or_insert_with(|| extension.uri.clone()) == extension.uri
        });
    }
}

fn first_of<'a>(levels: &[&'a [Attribute]; 2], key: &str) -> Option<&'a str> {
    levels.iter().find_map(|attributes| value_of(attributes, key))
}

fn parse_ice(levels: &[&[Attribute]; 2]) -> Result<IceCredentials, SdpError> {
    let credential = |key: &str, shortest: usize| {
        let field = format!("a={key}");
        let value = first_of(levels, key).ok_or_else(|| SdpError::new(&field, "is missing"))?;
        if !(shortest..=256).contains(&value.len()) {
            return Err(SdpError::new(field, format!("must have {shortest} to 256 characters")));
        }
        // RFC 8839 ice-char; older libwebrtc stacks also use '-', '_' and '='.
        if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte)) {
            return Err(SdpError::new(field, "contains a character that is not allowed"));
        }
        Ok(value.to_owned())
    };
    Ok(IceCredentials { ufrag: credential("ice-ufrag", 4)?, pwd: credential("ice-pwd", 22)? })
}

fn parse_fingerprint(levels: &[&[Attribute]; 2]) -> Result<Fingerprint, SdpError> {
    const FIELD: &str = "a=fingerprint";
    let level = levels
        .iter()
        .find(|attributes| value_of(attributes, "fingerprint").is_some())
        .ok_or_else(|| SdpError::new(FIELD, "is missing"))?;
    let mut unusable = SdpError::new(FIELD, "no supported hash (sha-256, sha-384, sha-512)");
    let values = level.iter().filter(|attribute| attribute.key == "fingerprint");
    for value in values.filter_map(|attribute| attribute.value.as_deref()) {
        let Some((algorithm, hash)) = value.split_once(' ') else {
            return Err(SdpError::new(FIELD, "is not of the form <hash> <value>"));
        };
        let algorithm = algorithm.to_ascii_lowercase();
        let length = match algorithm.as_str() {
            "sha-256" => 32,
            "sha-384" => 48,
            "sha-512" => 64,
            _ => continue,
        };
        match parse_hex(hash.trim()) {
            Some(value) if value.len() == length => return Ok(Fingerprint { algorithm, value }),
            Some(_) => unusable = SdpError::new(FIELD, format!("{algorithm} has {length} bytes")),
            None => unusable = SdpError::new(FIELD, "is not hexadecimal bytes joined by colons"),
        }
    }
    Err(unusable)
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &str| match pair.as_bytes() {
        [high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            u8::from_str_radix(pair, 16).ok()
        }
        _ => None,
    };
    text.split(':').map(byte).collect()
}

fn parse_setup(levels: &[&[Attribute]; 2]) -> Result<Option<Setup>, SdpError> {
    match first_of(levels, "setup") {
        None => Ok(None),
        Some("actpass") => Ok(Some(Setup::ActPass)),
        Some("active") => Ok(Some(Setup::Active)),
        Some("passive") => Ok(Some(Setup::Passive)),
        Some(_) => Err(SdpError::new("a=setup", "is none of actpass, active, passive")),
    }
}

const MAX_LINE_BYTES: usize = 8 * 1024;
