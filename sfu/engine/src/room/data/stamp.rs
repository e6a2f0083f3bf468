//! Writes the true sender into a `livekit.DataPacket`. Works field by field on the encoded bytes, so that fields
//! unknown to this server's schema pass unchanged, in the packet and in the user packet inside it.

use bytes::{Bytes, BytesMut};
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};
use sfu_protocol::DataKind;

use super::{DataError, Destinations, Sender};

/// A message to deliver.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamped {
    /// The encoded packet with its sender stamped.
    pub packet: Bytes,
    /// Recipients of the message.
    pub destinations: Destinations,
    /// Number among the sender's reliable messages; 0 if the message has none.
    pub sequence: u32,
}

/// Reads a participant's message, replaces its sender fields by the true sender, and returns it with its recipients.
///
/// # Errors
/// If the bytes are not a data packet, or the packet is of a kind that only servers send.
pub fn stamp(bytes: &Bytes, sender: Sender<'_>, kind: DataKind) -> Result<Stamped, DataError> {
    let outer = Outer::read(bytes)?;
    let (identity, sid) =
        if sender.hidden { ("", "") } else { (sender.identity, sender.participant.as_str()) };
    let in_user = outer.user.iter().map(|body| User::read(body)).collect::<Result<Vec<_>, _>>()?;
    let mut identities = outer.identities;
    if identities.is_empty() {
        identities = in_user.iter().flat_map(|user| user.identities.iter().copied()).collect();
    }
    let sids: Vec<&str> = in_user.iter().flat_map(|user| user.sids.iter().copied()).collect();
    let added = identity.len() + sid.len() + identities.iter().map(|name| name.len() + 6).sum::<usize>();
    let mut packet = BytesMut::with_capacity(bytes.len() + 2 * (added + 32));
    for field in &outer.kept {
        match field {
            Kept::AsItIs(whole) => packet.extend_from_slice(whole),
            Kept::User => {
                // Repeated user packets merge into one message, in which the last value of each field wins.
                let mut user = BytesMut::with_capacity(bytes.len() + added + 32);
                in_user.iter().flat_map(|user| &user.kept).for_each(|whole| user.extend_from_slice(whole));
                string(USER_SID, sid, &mut user);
                string(USER_IDENTITY, identity, &mut user);
                identities
                    .iter()
                    .for_each(|name| repeated_string(USER_DESTINATION_IDENTITIES, name, &mut user));
                encode_key(USER, WireType::LengthDelimited, &mut packet);
                encode_varint(user.len() as u64, &mut packet);
                packet.extend_from_slice(&user);
            }
        }
    }
    if kind == DataKind::Lossy {
        encode_key(KIND, WireType::Varint, &mut packet);
        encode_varint(1, &mut packet);
    }
    string(IDENTITY, identity, &mut packet);
    string(SID, sid, &mut packet);
    identities.iter().for_each(|name| repeated_string(DESTINATION_IDENTITIES, name, &mut packet));
    let destinations = Destinations::of(&identities, &sids);
    Ok(Stamped { packet: packet.freeze(), destinations, sequence: outer.sequence })
}

/// A part of the stamped packet, in the order of the original.
enum Kept<'a> {
    /// A field copied with its key.
    AsItIs(&'a [u8]),
    /// The user packet, at the position of its last piece.
    User,
}

#[derive(Default)]
struct Outer<'a> {
    kept: Vec<Kept<'a>>,
    /// Pieces of the user packet, which merge into one.
    user: Vec<&'a [u8]>,
    identities: Vec<&'a str>,
    sequence: u32,
}

impl<'a> Outer<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, DataError> {
        // In the oneof `value` the last member wins: the consecutive fields of one member from this index on.
        let (mut counts_from, mut last) = (0, None);
        for (place, field) in fields(bytes).enumerate() {
            let tag = field?.tag;
            if MEMBERS.contains(&tag) && last.replace(tag) != Some(tag) {
                counts_from = place;
            }
        }
        let mut outer = Self::default();
        let mut user_at = 0;
        for (place, field) in fields(bytes).enumerate() {
            let field = field?;
            match field.tag {
                KIND | IDENTITY | SID => {}
                SPEAKER => return Err(DataError::NotForParticipants),
                DESTINATION_IDENTITIES => outer.identities.push(field.text()?),
                USER if place >= counts_from => {
                    outer.user.push(field.body()?);
                    user_at = outer.kept.len();
                }
                tag if MEMBERS.contains(&tag) => {
                    field.body()?;
                    if place >= counts_from {
                        outer.kept.push(Kept::AsItIs(field.whole));
                    }
                }
                tag => {
                    if tag == SEQUENCE {
                        outer.sequence = field.number()? as u32;
                    }
                    outer.kept.push(Kept::AsItIs(field.whole));
                }
            }
        }
        if !outer.user.is_empty() {
            outer.kept.insert(user_at, Kept::User);
        }
        Ok(outer)
    }
}

#[derive(Default)]
struct User<'a> {
    kept: Vec<&'a [u8]>,
    identities: Vec<&'a str>,
    sids: Vec<&'a str>,
}

impl<'a> User<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, DataError> {
        let mut user = Self::default();
        for field in fields(bytes) {
            let field = field?;
            match field.tag {
                USER_SID | USER_IDENTITY => continue,
                USER_DESTINATION_IDENTITIES => {
                    user.identities.push(field.text()?);
                    continue;
                }
                USER_DESTINATION_SIDS => user.sids.push(field.text()?),
                _ => {}
            }
            user.kept.push(field.whole);
        }
        Ok(user)
    }
}

/// One field of an encoded message.
#[derive(Clone, Copy)]
struct Field<'a> {
    tag: u32,
    wire: WireType,
    /// Bytes of the field with its key.
    whole: &'a [u8],
    /// Bytes of the field without its key.
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// Contents of a length-delimited field.
    fn body(self) -> Result<&'a [u8], DataError> {
        let mut value = self.value;
        if self.wire != WireType::LengthDelimited || decode_varint(&mut value).is_err() {
            return Err(DataError::Malformed);
        }
        Ok(value)
    }

    fn text(self) -> Result<&'a str, DataError> {
        std::str::from_utf8(self.body()?).map_err(|_| DataError::Malformed)
    }

    fn number(self) -> Result<u64, DataError> {
        match self.wire {
            WireType::Varint => decode_varint(&mut &*self.value).map_err(|_| DataError::Malformed),
            _ => Err(DataError::Malformed),
        }
    }
}

/// Fields of an encoded message. Ends after the first malformed field.
fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<Field<'_>, DataError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        (!rest.is_empty()).then(|| {
            let field = split(&mut rest).ok_or(DataError::Malformed);
            if field.is_err() {
                rest = &[];
            }
            field
        })
    })
}

fn split<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let from = *rest;
    let (tag, wire) = decode_key(rest).ok()?;
    let behind_key = *rest;
    skip_field(wire, tag, rest, DecodeContext::default()).ok()?;
    let whole = from.get(..from.len().checked_sub(rest.len())?)?;
    let value = behind_key.get(..behind_key.len().checked_sub(rest.len())?)?;
    Some(Field { tag, wire, whole, value })
}

/// Writes a string field, unless it is empty.
fn string(tag: u32, text: &str, into: &mut BytesMut) {
    if !text.is_empty() {
        repeated_string(tag, text, into);
    }
}

fn repeated_string(tag: u32, text: &str, into: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, into);
    encode_varint(text.len() as u64, into);
    into.extend_from_slice(text.as_bytes());
}

// Fields of `livekit.DataPacket`.
const KIND: u32 = 1;
const USER: u32 = 2;
const SPEAKER: u32 = 3;
const IDENTITY: u32 = 4;
const DESTINATION_IDENTITIES: u32 = 5;
const SEQUENCE: u32 = 16;
const SID: u32 = 17;
/// Members of the oneof `value` in `livekit.DataPacket`.
const MEMBERS: [u32; 13] = [USER, SPEAKER, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 18];
// Fields of `livekit.UserPacket`.
const USER_SID: u32 = 1;
const USER_DESTINATION_SIDS: u32 = 3;
const USER_IDENTITY: u32 = 5;
const USER_DESTINATION_IDENTITIES: u32 = 6;

#[cfg(test)]
#[expect(deprecated, reason = "the deprecated places are what some of these tests are about")]
mod tests;
