//! Parsing of one media section of a remote description.

use rtc_sdp::description::common::Attribute;
use rtc_sdp::description::media::MediaDescription;

use super::SdpError;
use super::description::{
    CodecParameters, Direction, ExtensionMapping, GroupSemantics, Msid, Rid, Section, SectionKind,
    SsrcDescription, SsrcGroup, is_token, value_of,
};
use crate::limits::Limits;
use crate::rtp::codec::format::parameter;
use crate::units::{PayloadType, Ssrc};

/// Parses one section. `index` identifies the section in the error if its mid is missing or invalid.
pub(super) fn parse_section(
    media: &MediaDescription,
    index: usize,
    limits: &Limits,
) -> Result<Section, SdpError> {
    let attributes = &media.attributes;
    let name = &media.media_name;
    let mid = value_of(attributes, "mid")
        .ok_or_else(|| SdpError::new("a=mid", format!("is missing in media section {index}")))?;
    if !is_token(mid, MAX_MID_BYTES) {
        let reason = format!("in media section {index} is not a token of at most {MAX_MID_BYTES} characters");
        return Err(SdpError::new("a=mid", reason));
    }
    let context = Context { attributes, mid };
    let protocol = name.protos.join("/");
    if !name.protos.iter().all(|part| is_token(part, 32)) || name.formats.len() > MAX_FORMATS {
        return Err(context.error("m", "is malformed"));
    }
    if let Some(format) = name.formats.iter().find(|format| !is_token(format, 32)) {
        return Err(context.error("m", format!("format {format:?} is not a token")));
    }
    let rejected = name.port.value == 0 && value_of(attributes, "bundle-only").is_none();
    let kind = context.kind(&name.media, &protocol)?;
    let is_media = matches!(kind, SectionKind::Audio | SectionKind::Video);
    if is_media && !rejected && value_of(attributes, "rtcp-mux").is_none() {
        return Err(context.error("a=rtcp-mux", "is required"));
    }
    let ssrcs = context.ssrcs(limits)?;
    let (simulcast_send, paused) = context.simulcast()?;
    Ok(Section {
        mid: mid.to_owned(),
        kind,
        media: name.media.clone(),
        protocol,
        formats: name.formats.clone(),
        rejected,
        direction: context.direction(),
        msid: context.msid(&ssrcs)?,
        codecs: if is_media { context.codecs(&name.formats)? } else { Vec::new() },
        extensions: context.extensions()?,
        rtcp_rsize: value_of(attributes, "rtcp-rsize").is_some(),
        extmap_allow_mixed: value_of(attributes, "extmap-allow-mixed").is_some(),
        rids: context.rids(&paused)?,
        simulcast_send,
        ssrc_groups: context.ssrc_groups(limits)?,
        ssrcs,
    })
}

struct Context<'a> {
    attributes: &'a [Attribute],
    mid: &'a str,
}

impl<'a> Context<'a> {
    fn error(&self, field: &str, reason: impl Into<String>) -> SdpError {
        SdpError::new(format!("{field} (mid {})", self.mid), reason)
    }

    fn values(&self, key: &'static str) -> impl Iterator<Item = &'a str> {
        self.attributes
            .iter()
            .filter(move |attribute| attribute.key == key)
            .map(|attribute| attribute.value.as_deref().unwrap_or(""))
    }

    fn kind(&self, media: &str, protocol: &str) -> Result<SectionKind, SdpError> {
        let rtp = protocol.ends_with("RTP/SAVPF");
        match media {
            "audio" if rtp => Ok(SectionKind::Audio),
            "video" if rtp => Ok(SectionKind::Video),
            "application" if protocol.ends_with("DTLS/SCTP") => Ok(SectionKind::Data {
                sctp_port: self.number("sctp-port", DEFAULT_SCTP_PORT)?,
                max_message_size: self.number("max-message-size", DEFAULT_MAX_MESSAGE_SIZE)?,
            }),
            _ => Ok(SectionKind::Other),
        }
    }

    fn number<T: std::str::FromStr>(&self, key: &'static str, default: T) -> Result<T, SdpError> {
        match self.values(key).next() {
            None => Ok(default),
            Some(value) => {
                value.trim().parse().map_err(|_| self.error(&format!("a={key}"), "is not a number in range"))
            }
        }
    }

    fn direction(&self) -> Direction {
        // RFC 8866 section 6.7: sendrecv if nothing is said.
        self.attributes
            .iter()
            .filter(|attribute| attribute.value.is_none())
            .find_map(|attribute| Direction::parse(&attribute.key))
            .unwrap_or(Direction::SendRecv)
    }

    fn msid(&self, ssrcs: &[SsrcDescription]) -> Result<Option<Msid>, SdpError> {
        match self.values("msid").next() {
            Some(value) => self.parse_msid("a=msid", value).map(Some),
            None => Ok(ssrcs.iter().find_map(|described| described.msid.clone())),
        }
    }

    fn parse_msid(&self, field: &str, value: &str) -> Result<Msid, SdpError> {
        let mut tokens = value.split_ascii_whitespace();
        let stream = tokens.next().unwrap_or("").to_owned();
        let track = tokens.next().unwrap_or("").to_owned();
        if stream.is_empty() || stream.len() > MAX_ID_BYTES || track.len() > MAX_ID_BYTES {
            return Err(self.error(field, format!("ids must have 1 to {MAX_ID_BYTES} bytes")));
        }
        Ok(Msid { stream, track })
    }

    fn codecs(&self, formats: &[String]) -> Result<Vec<CodecParameters>, SdpError> {
        let mut codecs: Vec<CodecParameters> = Vec::with_capacity(formats.len());
        for format in formats {
            let number = format.parse::<u8>().ok().filter(|number| *number < 128);
            let number = number
                .ok_or_else(|| self.error("m=", format!("payload type {format:?} is not in 0..=127")))?;
            if codecs.iter().any(|codec| codec.payload_type.0 == number) {
                return Err(self.error("m=", format!("payload type {number} is listed twice")));
            }
            if let Some(codec) = static_codec(number) {
                codecs.push(codec);
            } else {
                codecs.push(blank_codec(number));
            }
        }
        for value in self.values("rtpmap") {
            self.apply_rtpmap(&mut codecs, value)?;
        }
        for value in self.values("fmtp") {
            let (codec, parameters) = self.addressed("a=fmtp", &mut codecs, value)?;
            if let Some(codec) = codec {
                codec.fmtp = parameters.to_owned();
            }
        }
        for value in self.values("rtcp-fb") {
            self.apply_feedback(&mut codecs, value)?;
        }
        codecs.retain(|codec| !codec.name.is_empty());
        Ok(attach_rtx(codecs))
    }

    /// Splits `<payload type> <rest>`. The codec is `None` if the m-line does not list the payload type; the caller
    /// then ignores the line.
    fn addressed<'c, 'v>(
        &self,
        field: &str,
        codecs: &'c mut [CodecParameters],
        value: &'v str,
    ) -> Result<(Option<&'c mut CodecParameters>, &'v str), SdpError> {
        let (number, rest) =
            value.split_once(' ').ok_or_else(|| self.error(field, "names no payload type"))?;
        let number: u8 =
            number.parse().map_err(|_| self.error(field, "does not begin with a payload type"))?;
        Ok((codecs.iter_mut().find(|codec| codec.payload_type.0 == number), rest.trim()))
    }

    fn apply_rtpmap(&self, codecs: &mut [CodecParameters], value: &str) -> Result<(), SdpError> {
        let (codec, encoding) = self.addressed("a=rtpmap", codecs, value)?;
        let Some(codec) = codec else { return Ok(()) };
        let mut parts = encoding.split('/');
        let name = parts.next().unwrap_or("");
        if !is_token(name, 64) {
            return Err(self.error("a=rtpmap", "has no encoding name"));
        }
        let clock_rate = parts.next().and_then(|rate| rate.parse().ok()).filter(|rate| *rate > 0);
        codec.clock_rate = clock_rate.ok_or_else(|| self.error("a=rtpmap", "has no clock rate"))?;
        codec.channels = match parts.next() {
            None => 1,
            Some(channels) => channels
                .parse()
                .map_err(|_| self.error("a=rtpmap", "number of channels is not in 0..=255"))?,
        };
        codec.name = name.to_owned();
        Ok(())
    }

    fn apply_feedback(&self, codecs: &mut [CodecParameters], value: &str) -> Result<(), SdpError> {
        if let Some(feedback) = value.strip_prefix("* ") {
            for codec in codecs.iter_mut().filter(|codec| codec.feedback.len() < MAX_FEEDBACK) {
                codec.feedback.push(feedback.trim().to_owned());
            }
            return Ok(());
        }
        let (codec, feedback) = self.addressed("a=rtcp-fb", codecs, value)?;
        if let Some(codec) = codec.filter(|codec| codec.feedback.len() < MAX_FEEDBACK) {
            codec.feedback.push(feedback.to_owned());
        }
        Ok(())
    }

    fn extensions(&self) -> Result<Vec<ExtensionMapping>, SdpError> {
        let mut extensions: Vec<ExtensionMapping> = Vec::new();
        for value in self.values("extmap") {
            let mut tokens = value.split_ascii_whitespace();
            let id = tokens.next().unwrap_or("");
            let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
            let number = id.parse::<u16>().ok().filter(|id| (1..=4351).contains(id));
            let number =
                number.ok_or_else(|| self.error("a=extmap", format!("id {id:?} is out of range")))?;
            let uri = tokens.next().ok_or_else(|| self.error("a=extmap", "has no URI"))?;
            let direction = Direction::parse(direction)
                .ok_or_else(|| self.error("a=extmap", "has an unknown direction"))?;
            // Ids above 255 are placeholders that an answerer replaces (RFC 8285 section 7). We ignore them.
            let Ok(id) = u8::try_from(number) else { continue };
            if extensions.iter().any(|extension| extension.id == id) {
                return Err(self.error("a=extmap", format!("id {id} is used twice")));
            }
            extensions.push(ExtensionMapping { id, direction, uri: uri.to_owned() });
        }
        Ok(extensions)
    }

    fn rids(&self, paused: &[String]) -> Result<Vec<Rid>, SdpError> {
        let mut rids: Vec<Rid> = Vec::new();
        for value in self.values("rid") {
            let mut tokens = value.split_ascii_whitespace();
            let id = tokens.next().unwrap_or("");
            let send = match tokens.next() {
                Some("send") => true,
                Some("recv") => false,
                _ => return Err(self.error("a=rid", "has no direction (send or recv)")),
            };
            self.check_rid("a=rid", id)?;
            if rids.iter().any(|rid| rid.id == id) {
                return Err(self.error("a=rid", format!("{id} is described twice")));
            }
            if rids.len() == MAX_RIDS {
                return Err(self.error("a=rid", format!("more than {MAX_RIDS}")));
            }
            let paused = paused.iter().any(|name| name == id);
            rids.push(Rid { id: id.to_owned(), send, paused });
        }
        Ok(rids)
    }

    fn check_rid(&self, field: &str, id: &str) -> Result<(), SdpError> {
        // RFC 8851 section 10; 16 bytes is the limit of a one-byte header extension.
        let name = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if id.is_empty() || id.len() > 16 || !name {
            return Err(self.error(field, format!("{id:?} is not a name of at most 16 letters and digits")));
        }
        Ok(())
    }

    /// RIDs in the send list of `a=simulcast`, and those of them that are paused.
    fn simulcast(&self) -> Result<(Vec<String>, Vec<String>), SdpError> {
        let (mut sent, mut paused) = (Vec::new(), Vec::new());
        let Some(value) = self.values("simulcast").next() else { return Ok((sent, paused)) };
        let mut tokens = value.split_ascii_whitespace();
        while let (Some(direction), Some(list)) = (tokens.next(), tokens.next()) {
            if direction != "send" {
                continue;
            }
            // Drafts before RFC 8853 used the form `send rid=q;h;f`.
            let list = list.strip_prefix("rid=").unwrap_or(list);
            for stream in list.split(';') {
                let first = stream.split(',').next().unwrap_or("");
                let id = first.strip_prefix('~').unwrap_or(first);
                self.check_rid("a=simulcast", id)?;
                if sent.len() == MAX_RIDS {
                    return Err(self.error("a=simulcast", format!("more than {MAX_RIDS} streams")));
                }
                if first.starts_with('~') {
                    paused.push(id.to_owned());
                }
                sent.push(id.to_owned());
            }
        }
        Ok((sent, paused))
    }

    fn ssrcs(&self, limits: &Limits) -> Result<Vec<SsrcDescription>, SdpError> {
        let mut ssrcs: Vec<SsrcDescription> = Vec::new();
        for value in self.values("ssrc") {
            let (number, attribute) =
                value.split_once(' ').ok_or_else(|| self.error("a=ssrc", "has no attribute"))?;
            let ssrc = self.parse_ssrc("a=ssrc", number)?;
            let position = ssrcs.iter().position(|described| described.ssrc == ssrc);
            if position.is_none() {
                if ssrcs.len() == limits.ssrcs {
                    return Err(self.error("a=ssrc", format!("more than {} sources", limits.ssrcs)));
                }
                ssrcs.push(SsrcDescription { ssrc, cname: None, msid: None });
            }
            let at = position.unwrap_or(ssrcs.len().saturating_sub(1));
            let Some(described) = ssrcs.get_mut(at) else { continue };
            match attribute.split_once(':') {
                Some(("cname", cname)) if cname.len() <= MAX_ID_BYTES => {
                    described.cname = Some(cname.to_owned());
                }
                Some(("msid", msid)) => described.msid = Some(self.parse_msid("a=ssrc", msid)?),
                _ => {}
            }
        }
        Ok(ssrcs)
    }

    fn ssrc_groups(&self, limits: &Limits) -> Result<Vec<SsrcGroup>, SdpError> {
        let mut groups = Vec::new();
        for value in self.values("ssrc-group") {
            let mut tokens = value.split_ascii_whitespace();
            let semantics = match tokens.next() {
                Some("FID") => GroupSemantics::Fid,
                Some("SIM") => GroupSemantics::Sim,
                _ => continue,
            };
            let ssrcs: Result<Vec<Ssrc>, SdpError> =
                tokens.map(|token| self.parse_ssrc("a=ssrc-group", token)).collect();
            let ssrcs = ssrcs?;
            if ssrcs.len() > limits.ssrcs || groups.len() >= limits.ssrcs {
                return Err(self.error("a=ssrc-group", format!("more than {} sources", limits.ssrcs)));
            }
            groups.push(SsrcGroup { semantics, ssrcs });
        }
        Ok(groups)
    }

    fn parse_ssrc(&self, field: &str, text: &str) -> Result<Ssrc, SdpError> {
        text.parse().map(Ssrc).map_err(|_| self.error(field, format!("{text:?} is not an SSRC")))
    }
}

fn blank_codec(number: u8) -> CodecParameters {
    CodecParameters {
        payload_type: PayloadType(number),
        name: String::new(),
        clock_rate: 0,
        channels: 1,
        fmtp: String::new(),
        feedback: Vec::new(),
        rtx: None,
    }
}

/// Payload types that need no `a=rtpmap` (RFC 3551 section 6), limited to those that we relay.
fn static_codec(number: u8) -> Option<CodecParameters> {
    let name = match number {
        0 => "PCMU",
        8 => "PCMA",
        _ => return None,
    };
    Some(CodecParameters { name: name.to_owned(), clock_rate: 8000, ..blank_codec(number) })
}

/// Attaches RTX payload types to the codecs that they repair. RTX for payload types that are not offered is dropped.
fn attach_rtx(mut codecs: Vec<CodecParameters>) -> Vec<CodecParameters> {
    let is_rtx = |codec: &CodecParameters| codec.name.eq_ignore_ascii_case("rtx");
    let repairs: Vec<(PayloadType, Option<u8>)> = codecs
        .iter()
        .filter(|codec| is_rtx(codec))
        .map(|codec| (codec.payload_type, parameter(&codec.fmtp, "apt").and_then(|apt| apt.parse().ok())))
        .collect();
    codecs.retain(|codec| !is_rtx(codec));
    for (rtx, apt) in repairs {
        let repaired = codecs.iter_mut().find(|codec| Some(codec.payload_type.0) == apt);
        if let Some(codec) = repaired.filter(|codec| codec.rtx.is_none()) {
            codec.rtx = Some(rtx);
        }
    }
    codecs
}

/// Longer mids do not fit a one-byte header extension (RFC 9143 section 15).
const MAX_MID_BYTES: usize = 16;
const MAX_FORMATS: usize = 128;
const MAX_FEEDBACK: usize = 16;
const MAX_ID_BYTES: usize = 256;
const MAX_RIDS: usize = 8;
const DEFAULT_SCTP_PORT: u16 = 5000;
/// RFC 8841 section 6.1.
const DEFAULT_MAX_MESSAGE_SIZE: u64 = 65_536;
