//! Verifies the signatures of handshake messages before rtc-dtls sees these. In rtc-dtls a forged signature would end
//! the handshake.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::read::Reader;

/// The first certificate of a Certificate message (RFC 5246 section 7.4.2).
pub(super) fn leaf(message: &[u8]) -> Option<&[u8]> {
    Reader(Reader(message).field(3)?).field(3)
}

/// Whether `signed` (algorithm, length and signature) is a valid signature over `content` by the certificate's key.
pub(super) fn is_signed(certificate: &[u8], signed: &[u8], content: &[u8]) -> bool {
    let mut signed = Reader(signed);
    let parts = (|| Some((signed.number(2)?, signed.field(2)?)))();
    let (Some((scheme, signature)), Some(key)) = (parts, public_key(certificate)) else { return false };
    algorithms(scheme)
        .iter()
        .any(|algorithm| UnparsedPublicKey::new(*algorithm, key).verify(content, signature).is_ok())
}

/// The algorithms that a TLS 1.2 signature scheme may mean. For ECDSA it names the hash but not the curve (RFC 5246
/// section 7.4.1.4.1). Each algorithm refuses a key on another curve.
fn algorithms(scheme: u32) -> &'static [&'static dyn VerificationAlgorithm] {
    match scheme {
        0x0403 => &[&signature::ECDSA_P256_SHA256_ASN1, &signature::ECDSA_P384_SHA256_ASN1],
        0x0503 => &[&signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P256_SHA384_ASN1],
        0x0603 => &[&signature::ECDSA_P384_SHA512_ASN1, &signature::ECDSA_P256_SHA512_ASN1],
        0x0401 => &[&signature::RSA_PKCS1_2048_8192_SHA256],
        0x0501 => &[&signature::RSA_PKCS1_2048_8192_SHA384],
        0x0601 => &[&signature::RSA_PKCS1_2048_8192_SHA512],
        0x0807 => &[&signature::ED25519],
        _ => &[],
    }
}

/// The SubjectPublicKeyInfo in an X.509 certificate (RFC 5280 section 4.1).
fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let mut outer = Der(certificate);
    let mut certificate = Der(outer.element(SEQUENCE)?.content);
    let mut fields = Der(certificate.element(SEQUENCE)?.content);
    if fields.0.first() == Some(&VERSION) {
        fields.element(VERSION)?;
    }
    // Serial number, signature algorithm, issuer, validity, subject.
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        fields.element(tag)?;
    }
    fields.element(SEQUENCE).map(|key| key.whole)
}

struct Der<'a>(&'a [u8]);

struct Element<'a> {
    whole: &'a [u8],
    content: &'a [u8],
}

impl<'a> Der<'a> {
    fn element(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut reader = Reader(self.0);
        if reader.number(1)? != u32::from(tag) {
            return None;
        }
        let content = match reader.number(1)? {
            len @ 0..=0x7f => reader.take(len as usize)?,
            len @ 0x81..=0x83 => reader.field((len & 0x7f) as usize)?,
            _ => return None,
        };
        let whole = self.0.get(..self.0.len() - reader.0.len())?;
        self.0 = reader.0;
        Some(Element { whole, content })
    }
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
