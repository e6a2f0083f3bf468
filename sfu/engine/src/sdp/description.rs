//! A remote description as typed data (RFC 8866, RFC 8829).
//!
//! `rtc-sdp` splits the text; this module bounds it first and gives meaning to what it yields. What it does
//! not know it ignores. Everything that is ever written back into an answer is checked here, once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use rtc_sdp::description::common::Attribute;
use rtc_sdp::description::session::SessionDescription;

use super::SdpError;
use super::section::parse_section;
use crate::limits::Limits;
use crate::units::{PayloadType, Ssrc};

/// An offer or an answer of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Credentials of the one transport (all media share it by BUNDLE).
    pub ice: IceCredentials,
    /// `a=ice-lite`.
    pub ice_lite: bool,
    /// The certificate that its DTLS handshake will show.
    pub fingerprint: Fingerprint,
    /// Who opens the DTLS handshake; `None` if the description does not say.
    pub setup: Option<Setup>,
    /// `a=extmap-allow-mixed` at session level.
    pub extmap_allow_mixed: bool,
    /// Mids of the BUNDLE group (RFC 9143).
    pub bundle: Vec<String>,
    /// The media sections, in order.
    pub sections: Vec<Section>,
}

/// User fragment and password (RFC 8839 section 5.4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IceCredentials {
    /// 4 to 256 characters.
    pub ufrag: String,
    /// 22 to 256 characters.
    pub pwd: String,
}

/// A certificate's hash (RFC 8122).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// `sha-256`, `sha-384` or `sha-512`.
    pub algorithm: String,
    /// The hash.
    pub value: Vec<u8>,
}

/// `a=setup` (RFC 8842).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Either.
    ActPass,
    /// Sends the ClientHello.
    Active,
    /// Waits for it.
    Passive,
}

/// Direction of a section, seen from who describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// It sends.
    SendOnly,
    /// It receives.
    RecvOnly,
    /// Neither.
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

    /// As it stands in a description.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The opposite of [`as_str`](Self::as_str).
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

/// One media section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its identification tag (RFC 5888).
    pub mid: String,
    /// Sound, pictures or data.
    pub kind: SectionKind,
    /// Media type of the m-line, echoed in the answer.
    pub media: String,
    /// Transport protocol of the m-line, echoed in the answer.
    pub protocol: String,
    /// Formats of the m-line, echoed when the section is refused.
    pub formats: Vec<String>,
    /// Port 0 without `a=bundle-only`: stopped or refused.
    pub rejected: bool,
    /// Who sends.
    pub direction: Direction,
    /// Stream and track id (`a=msid`, or the `msid` of the first described SSRC).
    pub msid: Option<Msid>,
    /// Payload types, in the order of the m-line. Retransmission formats stand with what they repair.
    pub codecs: Vec<CodecParameters>,
    /// Header extensions (RFC 8285).
    pub extensions: Vec<ExtensionMapping>,
    /// Reduced-size RTCP is understood (RFC 5506).
    pub rtcp_rsize: bool,
    /// `a=extmap-allow-mixed` at media level.
    pub extmap_allow_mixed: bool,
    /// `a=rid` lines (RFC 8851).
    pub rids: Vec<Rid>,
    /// What `a=simulcast` sends, in its order, the first alternative of each (RFC 8853).
    pub simulcast_send: Vec<String>,
    /// Described SSRCs (RFC 5576).
    pub ssrcs: Vec<SsrcDescription>,
    /// Groups of them.
    pub ssrc_groups: Vec<SsrcGroup>,
}

/// What a section carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// Data channels (RFC 8841).
    Data {
        /// `a=sctp-port`.
        sctp_port: u16,
        /// `a=max-message-size` in bytes; 64 KiB if absent, 0 any.
        max_message_size: u64,
    },
    /// Something else; always refused.
    Other,
}

/// `a=msid` (RFC 8830).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Msid {
    /// The first token; `-` stands for none.
    pub stream: String,
    /// The second token, empty if absent.
    pub track: String,
}

/// One payload type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecParameters {
    /// Its number.
    pub payload_type: PayloadType,
    /// Encoding name as offered.
    pub name: String,
    /// In Hz.
    pub clock_rate: u32,
    /// 1 if not told.
    pub channels: u8,
    /// Format parameters, empty if none.
    pub fmtp: String,
    /// `a=rtcp-fb` values such as `nack pli`.
    pub feedback: Vec<String>,
    /// The payload type that retransmits this one (RFC 4588 `apt`).
    pub rtx: Option<PayloadType>,
}

/// One `a=extmap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionMapping {
    /// 1 to 255.
    pub id: u8,
    /// In which direction the describing side uses it.
    pub direction: Direction,
    /// What it is.
    pub uri: String,
}

/// One `a=rid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rid {
    /// Its name, ASCII letters and digits.
    pub id: String,
    /// True: the describing side sends it.
    pub send: bool,
    /// Marked `~` in `a=simulcast`.
    pub paused: bool,
}

/// What `a=ssrc` lines say of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SsrcDescription {
    /// The source.
    pub ssrc: Ssrc,
    /// Its canonical name.
    pub cname: Option<String>,
    /// Its stream and track id (older stacks).
    pub msid: Option<Msid>,
}

/// One `a=ssrc-group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SsrcGroup {
    /// What the group means.
    pub semantics: GroupSemantics,
    /// Its members.
    pub ssrcs: Vec<Ssrc>,
}

/// Meaning of a group of SSRCs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupSemantics {
    /// A source and its retransmission.
    Fid,
    /// Simulcast layers.
    Sim,
}

impl Description {
    /// Reads a connection's first description. Errors name the line, attribute or section at fault.
    pub fn parse(sdp: &str, limits: &Limits) -> Result<Self, SdpError> {
        Self::parse_within(sdp, limits, limits.sdp_bytes)
    }

    /// Reads a description of at most that many bytes.
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
        // RFC 9143 section 7.1.2: the first bundled section that is not rejected speaks for the transport.
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

/// The value of the first attribute of that name; empty for a flag.
pub(super) fn value_of<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a str> {
    attributes
        .iter()
        .find(|attribute| attribute.key == key)
        .map(|attribute| attribute.value.as_deref().unwrap_or(""))
}

/// An RFC 8866 `token`: what may be written back into a line without changing its meaning.
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

/// An id has one meaning on a transport (RFC 9143 section 9.1): later mappings that disagree are not used.
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
        // RFC 8839 ice-char; libwebrtc's older stacks also use '-', '_' and '='.
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
