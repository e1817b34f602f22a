//! A JSON Web Token (RFC 7519) in its compact form, as Envoy's library reads it.

use super::status::Status;
use nuncio_core::base64;
use serde_json::{Map, Value};

/// A token that was read; nothing of it is verified.
pub struct Token {
    /// Header and payload as they were signed.
    pub signed: Vec<u8>,
    /// The payload as it was sent.
    pub payload_text: String,
    /// `header`
    pub header: Map<String, Value>,
    /// `payload`
    pub payload: Map<String, Value>,
    /// The signature.
    pub signature: Vec<u8>,
    /// `alg`
    pub alg: String,
    /// `kid`; may be empty.
    pub kid: String,
    /// `iss`; may be empty.
    pub issuer: String,
    /// `sub`; may be empty.
    pub subject: String,
    /// `aud`
    pub audiences: Vec<String>,
    not_before: u64,
    /// `exp` in seconds since 1970; 0 when there is none.
    pub expires: u64,
}

/// What we can verify.
const ALGORITHMS: &[&str] = &[
    "EdDSA", "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256",
    "PS384", "PS512",
];

impl Token {
    /// Reads a token.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Token, Status> {
        if text.bytes().filter(|b| *b == b'.').count() != 2 {
            return Err(Status::BadFormat);
        }
        let mut parts = text.split('.').filter(|p| !p.is_empty());
        let (Some(head), Some(body), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Status::BadFormat);
        };
        let header = decode(head).ok_or(Status::HeaderBadBase64)?;
        let header = object(&header).ok_or(Status::HeaderBadJson)?;
        let alg = header.get("alg").and_then(Value::as_str).ok_or(Status::HeaderBadAlg)?.to_owned();
        if !ALGORITHMS.contains(&&*alg) {
            return Err(Status::HeaderNotImplementedAlg);
        }
        let kid = text_of(&header, "kid").ok_or(Status::HeaderBadKid)?;
        let payload = decode(body).ok_or(Status::PayloadBadBase64)?;
        let payload = object(&payload).ok_or(Status::PayloadBadJson)?;
        let issuer = text_of(&payload, "iss").ok_or(Status::IssuerNotString)?;
        let subject = text_of(&payload, "sub").ok_or(Status::SubjectNotString)?;
        number_of(&payload, "iat", Status::IatNotInteger, Status::IatOutOfRange)?;
        let not_before = number_of(&payload, "nbf", Status::NbfNotInteger, Status::NbfOutOfRange)?;
        let expires = number_of(&payload, "exp", Status::ExpNotInteger, Status::ExpOutOfRange)?;
        text_of(&payload, "jti").ok_or(Status::JtiNotString)?;
        let strings = |v: &Value| v.as_str().map(str::to_owned);
        let audiences = match payload.get("aud") {
            None => vec![],
            Some(Value::String(s)) => vec![s.clone()],
            Some(Value::Array(a)) => {
                a.iter().map(strings).collect::<Option<_>>().ok_or(Status::AudNotString)?
            }
            Some(_) => return Err(Status::AudNotString),
        };
        Ok(Token {
            signed: format!("{head}.{body}").into_bytes(),
            payload_text: body.to_owned(),
            signature: decode(signature).ok_or(Status::SignatureBadBase64)?,
            header,
            payload,
            alg,
            kid,
            issuer,
            subject,
            audiences,
            not_before,
            expires,
        })
    }
    /// Whether it holds at `now`, give or take `skew`, in seconds.
    ///
    /// # Errors
    /// It does not hold yet, or no more.
    pub fn holds(&self, now: u64, skew: u64) -> Result<(), Status> {
        if self.not_before > now.saturating_add(skew) {
            return Err(Status::NotYetValid);
        }
        if self.expires != 0 && now > self.expires.saturating_add(skew) {
            return Err(Status::Expired);
        }
        Ok(())
    }
    /// A claim, where dots lead into objects.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        let (mut at, mut rest) = (&self.payload, name);
        while let Some((first, more)) = rest.split_once('.') {
            at = at.get(first)?.as_object()?;
            rest = more;
        }
        at.get(rest)
    }
}

/// Base64url without padding (RFC 4648 §5).
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let plain = text.bytes().map(|b| match b {
        b'-' => Some(b'+'),
        b'_' => Some(b'/'),
        b'+' | b'/' => None,
        b => Some(b),
    });
    base64::decode(&plain.collect::<Option<Vec<u8>>>()?)
}

fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(m)) => Some(m),
        _ => None,
    }
}

/// A text that may be absent; `None` if it is no text.
fn text_of(m: &Map<String, Value>, name: &str) -> Option<String> {
    match m.get(name) {
        None => Some(String::new()),
        Some(Value::String(s)) => Some(s.clone()),
        Some(_) => None,
    }
}

fn number_of(m: &Map<String, Value>, name: &str, kind: Status, range: Status) -> Result<u64, Status> {
    match m.get(name) {
        None => Ok(0),
        Some(Value::Number(n)) => match (n.as_u64(), n.as_f64()) {
            (Some(n), _) => Ok(n),
            (None, Some(f)) if f >= 0.0 && f < u64::MAX as f64 => Ok(f as u64),
            _ => Err(range),
        },
        Some(_) => Err(kind),
    }
}
