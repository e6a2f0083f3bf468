//! Codec properties, besides the codec itself, that a receiver must know to decode a track.

use super::Codec;

/// Codec and profile in which a track is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Codec that a decoder must support.
    pub codec: Codec,
    /// Profile that a decoder must support.
    pub profile: Profile,
    /// The audio is stereo. An Opus receiver decodes to mono unless signaling says otherwise.
    pub stereo: bool,
}

/// Profile of a codec, for codecs of which several profiles are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The only forwarded profile of its codec, or a codec without profiles.
    Only,
    /// VP9 `profile-id`, 0 to 2 (RFC 9628 section 6).
    Vp9(u8),
    /// H.264 `profile-level-id` and `packetization-mode` (RFC 6184 section 8.1).
    H264 {
        /// Main profile; false is (constrained) baseline.
        main: bool,
        /// Packetization mode: 0 is single NAL unit mode, 1 is non-interleaved mode.
        mode: u8,
    },
}

impl Profile {
    /// The profile stated by the format parameters of a payload type (`a=fmtp`). `None` if the codec is not forwarded
    /// with these parameters.
    pub fn of(codec: Codec, fmtp: &str) -> Option<Self> {
        match codec {
            Codec::Vp9 => {
                let profile = parameter(fmtp, "profile-id").map_or(Some(0), |profile| profile.parse().ok());
                profile.filter(|profile| *profile <= 2).map(Self::Vp9)
            }
            Codec::H264 => {
                let mode = parameter(fmtp, "packetization-mode").map_or(Some(0), |mode| mode.parse().ok())?;
                // If absent: baseline, level 1.
                let id = parameter(fmtp, "profile-level-id").unwrap_or("42000a");
                // High profile is not forwarded: most subscribers offer only constrained baseline in hardware.
                let main = match u32::from_str_radix(id, 16).ok().filter(|_| id.len() == 6)? >> 16 {
                    0x42 => false,
                    0x4d => true,
                    _ => return None,
                };
                (mode <= 1).then_some(Self::H264 { main, mode })
            }
            Codec::Av1 => {
                parameter(fmtp, "profile").is_none_or(|profile| profile == "0").then_some(Self::Only)
            }
            _ => Some(Self::Only),
        }
    }

    /// Whether a decoder for `self` can decode media published as `published`. The H.264 packetization mode does not
    /// matter for decoding.
    pub fn decodes(self, published: Self) -> bool {
        match (self, published) {
            // What browsers encode as baseline is constrained baseline, a subset of main.
            (Self::H264 { main, .. }, Self::H264 { main: needed, .. }) => main || !needed,
            (own, published) => own == published,
        }
    }

    /// Whether a payload type negotiated as `self` may carry media published as `published`. Single NAL unit mode is
    /// a subset of non-interleaved mode.
    pub fn carries(self, published: Self) -> bool {
        let packed = match (self, published) {
            (Self::H264 { mode, .. }, Self::H264 { mode: needed, .. }) => mode >= needed,
            _ => true,
        };
        packed && self.decodes(published)
    }
}

impl From<Codec> for Format {
    /// The format in which browsers publish a codec by default, for use when nothing else is known.
    fn from(codec: Codec) -> Self {
        let profile = match codec {
            Codec::Vp9 => Profile::Vp9(0),
            Codec::H264 => Profile::H264 { main: false, mode: 1 },
            _ => Profile::Only,
        };
        Self { codec, profile, stereo: false }
    }
}

/// Value of one parameter of an `a=fmtp` line (`name=value;…`). Names are compared ignoring case.
pub fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publishers_profile_decides_who_decodes_it_and_which_payload_type_carries_it() {
        let h264 = |mode, profile| {
            let fmtp = format!("packetization-mode={mode};profile-level-id={profile}");
            Profile::of(Codec::H264, &fmtp).unwrap()
        };
        let vp9 = |fmtp| Profile::of(Codec::Vp9, fmtp).unwrap();
        // Receiver, publisher, whether the receiver decodes it, whether the payload type may carry it.
        let cases = [
            (h264(1, "42e01f"), h264(1, "42e01f"), true, true),
            (h264(1, "42001f"), h264(1, "42e01f"), true, true),
            (h264(1, "42e01f"), h264(0, "42e01f"), true, true),
            (h264(0, "42e01f"), h264(1, "42e01f"), true, false),
            (h264(1, "4d001f"), h264(1, "42e01f"), true, true),
            (h264(1, "42e01f"), h264(1, "4d001f"), false, false),
            (vp9("profile-id=0"), vp9(""), true, true),
            (vp9("profile-id=2"), vp9("profile-id=0"), false, false),
            (Profile::Only, vp9(""), false, false),
            (Profile::Only, Profile::Only, true, true),
        ];
        for (receiver, publisher, decodes, carries) in cases {
            assert_eq!(receiver.decodes(publisher), decodes, "{receiver:?} <- {publisher:?}");
            assert_eq!(receiver.carries(publisher), carries, "{receiver:?} <- {publisher:?}");
        }
    }

    #[test]
    fn what_is_not_relayed_has_no_profile() {
        for (codec, fmtp) in [
            (Codec::H264, "profile-level-id=640c1f"),
            (Codec::H264, "packetization-mode=2"),
            (Codec::H264, "packetization-mode=x"),
            (Codec::H264, "profile-level-id=42"),
            (Codec::Vp9, "profile-id=3"),
            (Codec::Vp9, "profile-id=-1"),
            (Codec::Av1, "profile=1"),
        ] {
            assert_eq!(Profile::of(codec, fmtp), None, "{fmtp}");
        }
    }
}
