//! Public keys (RFC 7517), and the check of a token's signature with them (RFC 7518).

use super::status::Status;
use super::token::{Token, decode};
use aws_lc_rs::signature::{self, UnparsedPublicKey};
use aws_lc_rs::{hmac, rsa};
use serde_json::{Map, Value};

/// A set of keys.
pub struct Jwks(Vec<Jwk>);

struct Jwk {
    alg: String,
    kid: String,
    key: Key,
}

enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { curve: Curve, point: Vec<u8> },
    Secret(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Jwks {
    /// Reads a set; keys that cannot be used are passed over.
    ///
    /// # Errors
    /// It is no such set, or no key can be used.
    pub fn read(json: &[u8]) -> Result<Jwks, Status> {
        let all: Value = serde_json::from_slice(json).map_err(|_| Status::JwksParseError)?;
        let keys = match all.get("keys") {
            None => return Err(Status::JwksNoKeys),
            Some(Value::Array(keys)) => keys,
            Some(_) => return Err(Status::JwksBadKeys),
        };
        let keys: Vec<Jwk> = keys.iter().filter_map(|k| Jwk::read(k.as_object()?)).collect();
        if keys.is_empty() { Err(Status::JwksNoValidKeys) } else { Ok(Jwks(keys)) }
    }
    /// Checks a token's signature: with the key it names, or with any that might fit.
    ///
    /// # Errors
    /// No key fits, or none has signed it.
    pub fn verify(&self, t: &Token) -> Result<(), Status> {
        let mut fits = false;
        for k in &self.0 {
            let other_kid = !t.kid.is_empty() && !k.kid.is_empty() && k.kid != t.kid;
            if other_kid || (!k.alg.is_empty() && k.alg != t.alg) {
                continue;
            }
            fits = true;
            if k.key.has_signed(t) {
                return Ok(());
            }
        }
        Err(if fits { Status::VerificationFail } else { Status::JwksKidAlgMismatch })
    }
}

impl Jwk {
    fn read(m: &Map<String, Value>) -> Option<Jwk> {
        let text = |name: &str| m.get(name).and_then(Value::as_str);
        let bytes = |name: &str| text(name).and_then(decode);
        let key = match text("kty")? {
            "RSA" => Key::Rsa { n: bytes("n")?, e: bytes("e")? },
            "EC" => {
                let (curve, size) = match text("crv").unwrap_or("P-256") {
                    "P-256" => (Curve::P256, 32_usize),
                    "P-384" => (Curve::P384, 48),
                    "P-521" => (Curve::P521, 66),
                    _ => return None,
                };
                // An uncompressed point (SEC 1 §2.3.3); each coordinate as long as the curve's field.
                let mut point = vec![4];
                for c in [bytes("x")?, bytes("y")?] {
                    point.resize(point.len() + size.checked_sub(c.len())?, 0);
                    point.extend_from_slice(&c);
                }
                Key::Ec { curve, point }
            }
            "oct" => Key::Secret(bytes("k").filter(|k| !k.is_empty())?),
            "OKP" if text("crv") == Some("Ed25519") => Key::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let own = |name: &str| text(name).unwrap_or_default().to_owned();
        Some(Jwk { alg: own("alg"), kid: own("kid"), key })
    }
}

impl Key {
    fn has_signed(&self, t: &Token) -> bool {
        let with = |alg: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(alg, key).verify(&t.signed, &t.signature).is_ok()
        };
        let rsa = |params: &'static signature::RsaParameters, n: &[u8], e: &[u8]| {
            rsa::PublicKeyComponents { n, e }.verify(params, &t.signed, &t.signature).is_ok()
        };
        let secret = |alg: hmac::Algorithm, key: &[u8]| {
            hmac::verify(&hmac::Key::new(alg, key), &t.signed, &t.signature).is_ok()
        };
        match (self, &*t.alg) {
            (Key::Rsa { n, e }, "RS256") => rsa(&signature::RSA_PKCS1_2048_8192_SHA256, n, e),
            (Key::Rsa { n, e }, "RS384") => rsa(&signature::RSA_PKCS1_2048_8192_SHA384, n, e),
            (Key::Rsa { n, e }, "RS512") => rsa(&signature::RSA_PKCS1_2048_8192_SHA512, n, e),
            (Key::Rsa { n, e }, "PS256") => rsa(&signature::RSA_PSS_2048_8192_SHA256, n, e),
            (Key::Rsa { n, e }, "PS384") => rsa(&signature::RSA_PSS_2048_8192_SHA384, n, e),
            (Key::Rsa { n, e }, "PS512") => rsa(&signature::RSA_PSS_2048_8192_SHA512, n, e),
            (Key::Ec { curve: Curve::P256, point }, "ES256") => {
                with(&signature::ECDSA_P256_SHA256_FIXED, point)
            }
            (Key::Ec { curve: Curve::P384, point }, "ES384") => {
                with(&signature::ECDSA_P384_SHA384_FIXED, point)
            }
            (Key::Ec { curve: Curve::P521, point }, "ES512") => {
                with(&signature::ECDSA_P521_SHA512_FIXED, point)
            }
            (Key::Secret(k), "HS256") => secret(hmac::HMAC_SHA256, k),
            (Key::Secret(k), "HS384") => secret(hmac::HMAC_SHA384, k),
            (Key::Secret(k), "HS512") => secret(hmac::HMAC_SHA512, k),
            (Key::Ed25519(x), "EdDSA") => with(&signature::ED25519, x),
            _ => false,
        }
    }
}
