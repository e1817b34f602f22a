//! Session resumption of a server context: `session_ticket_keys`, `session_timeout`, and what disables it.
//!
//! Tickets are made as RFC 5077 section 4 recommends. What is sealed begins with the time, so that `session_timeout` holds
//! for each ticket, and the context is part of what is authenticated: keys that several listeners share do not let a
//! client carry a session from a listener that asked for less to one that asks for more.

use super::material;
use super::secrets::{self, Find};
use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use nuncio_api::envoy::extensions::transport_sockets::tls::v3 as pb;
use nuncio_core::clock;
use nuncio_core::error::{BuildError, BuildResult};
use pb::downstream_tls_context::SessionTicketKeysType as K;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// `SSL_DEFAULT_SESSION_TIMEOUT` of BoringSSL, in seconds.
const DEFAULT_TIMEOUT: u32 = 2 * 60 * 60;

/// Sets how sessions of `config` are resumed; `context` tells this context from others.
///
/// # Errors
/// A key is missing or has the wrong size, in Envoy's words.
pub fn configure(
    config: &mut ServerConfig,
    c: &pb::DownstreamTlsContext,
    context: &[u8],
    find: Find<'_>,
) -> BuildResult<()> {
    if c.disable_stateful_session_resumption {
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    let keys = match &c.session_ticket_keys_type {
        Some(K::DisableStatelessSessionResumption(true)) => {
            // Of TLS 1.3 all resumption is by tickets.
            config.send_tls13_tickets = 0;
            return Ok(());
        }
        Some(K::SessionTicketKeys(k)) => Keys::new(k)?,
        Some(K::SessionTicketKeysSdsSecretConfig(s)) => match secrets::secret(s, find).as_deref() {
            Some(pb::Secret { r#type: Some(pb::secret::Type::SessionTicketKeys(k)), .. }) => Keys::new(k)?,
            _ => return Err(BuildError(format!("Unknown tls session ticket keys: {}", s.name))),
        },
        Some(K::DisableStatelessSessionResumption(false)) | None => Keys::random()?,
    };
    let timeout = c.session_timeout.as_ref().map(|d| d.seconds.clamp(0, u32::MAX.into()) as u32);
    let context = super::cert::sha256(context);
    config.ticketer = Arc::new(Tickets { keys, context, timeout: timeout.unwrap_or(DEFAULT_TIMEOUT) });
    Ok(())
}

/// The secret that holds the keys, when the configuration names one.
pub fn secret(c: &pb::DownstreamTlsContext) -> Option<&pb::SdsSecretConfig> {
    match &c.session_ticket_keys_type {
        Some(K::SessionTicketKeysSdsSecretConfig(s)) => Some(s),
        _ => None,
    }
}

struct Tickets {
    keys: Keys,
    context: [u8; 32],
    /// In seconds.
    timeout: u32,
}

enum Keys {
    /// `session_ticket_keys`: the first one seals.
    Fixed(Vec<Key>),
    /// Made here, and changed every six hours.
    Rotating(Arc<dyn ProducesTickets>),
}

struct Key {
    name: [u8; 16],
    mac: hmac::Key,
    seal: PaddedBlockEncryptingKey,
    open: PaddedBlockDecryptingKey,
}

impl Keys {
    fn new(k: &pb::TlsSessionTicketKeys) -> BuildResult<Keys> {
        let one = |d| Key::new(&material::read(d)?.0);
        Ok(Keys::Fixed(k.keys.iter().map(one).collect::<BuildResult<_>>()?))
    }
    fn random() -> BuildResult<Keys> {
        let rotating = rustls::crypto::aws_lc_rs::Ticketer::new();
        Ok(Keys::Rotating(rotating.map_err(|e| BuildError(e.to_string()))?))
    }
}

impl Key {
    /// The size of a key's name, of its authentication and of its encryption key: Envoy's file format.
    const PARTS: [usize; 3] = [16, 32, 32];

    fn new(bytes: &[u8]) -> BuildResult<Key> {
        let size: usize = Key::PARTS.iter().sum();
        if bytes.len() != size {
            return Err(BuildError(format!(
                "Incorrect TLS session ticket key length. Length {}, expected length {size}.",
                bytes.len()
            )));
        }
        let (name, rest) = bytes.split_at(Key::PARTS[0]);
        let (mac, aes) = rest.split_at(Key::PARTS[1]);
        let failed = |e: aws_lc_rs::error::Unspecified| BuildError(format!("TLS session ticket key: {e}"));
        let unbound = || UnboundCipherKey::new(&AES_256, aes);
        let mut key = Key {
            name: [0; 16],
            mac: hmac::Key::new(hmac::HMAC_SHA256, mac),
            seal: unbound().and_then(PaddedBlockEncryptingKey::cbc_pkcs7).map_err(failed)?,
            open: unbound().and_then(PaddedBlockDecryptingKey::cbc_pkcs7).map_err(failed)?,
        };
        key.name.copy_from_slice(name);
        Ok(key)
    }
    /// Name, initialization vector, what is sealed, and the authentication of all of it.
    fn seal(&self, plain: &[u8], context: &[u8; 32]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let cx = self.seal.encrypt(&mut sealed).ok()?;
        let iv: &[u8] = (&cx).try_into().ok()?;
        let mut out = Vec::with_capacity(16 + iv.len() + sealed.len() + 32);
        out.extend_from_slice(&self.name);
        out.extend_from_slice(iv);
        out.extend_from_slice(&sealed);
        let tag = hmac::sign(&self.mac, &[context, &out[..]].concat());
        out.extend_from_slice(tag.as_ref());
        Some(out)
    }
    fn open(&self, ticket: &[u8], context: &[u8; 32]) -> Option<Vec<u8>> {
        let (signed, tag) = ticket.split_at_checked(ticket.len().checked_sub(32)?)?;
        let (name, rest) = signed.split_first_chunk::<16>()?;
        let (iv, sealed) = rest.split_first_chunk::<16>()?;
        if *name != self.name {
            return None;
        }
        hmac::verify(&self.mac, &[context, signed].concat(), tag).ok()?;
        let mut sealed = sealed.to_vec();
        let cx = DecryptionContext::Iv128(FixedLength::from(iv));
        self.open.decrypt(&mut sealed, cx).ok().map(|plain| plain.to_vec())
    }
}

impl Tickets {
    fn now() -> u64 {
        clock::wall().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }
    fn lifetime(&self) -> u32 {
        self.timeout
    }
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let dated = [&Tickets::now().to_be_bytes()[..], plain].concat();
        match &self.keys {
            Keys::Fixed(keys) => keys.first()?.seal(&dated, &self.context),
            Keys::Rotating(keys) => keys.encrypt(&dated),
        }
    }
    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let dated = match &self.keys {
            Keys::Fixed(keys) => keys.iter().find_map(|k| k.open(ticket, &self.context))?,
            Keys::Rotating(keys) => keys.decrypt(ticket)?,
        };
        let (made, plain) = dated.split_first_chunk::<8>()?;
        let age = Tickets::now().saturating_sub(u64::from_be_bytes(*made));
        (age < self.timeout.into()).then(|| plain.to_vec())
    }
}

impl fmt::Debug for Tickets {
    /// Keys are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_core::clock::sim::Sim;
    use std::time::Duration;

    fn tickets(keys: &[u8], context: u8) -> Tickets {
        let keys = keys.iter().map(|b| Key::new(&[*b; 80]).expect("80 bytes")).collect();
        Tickets { keys: Keys::Fixed(keys), context: [context; 32], timeout: 60 }
    }

    #[test]
    fn any_key_opens_and_the_first_seals() {
        let _sim = Sim::new();
        let ticket = tickets(&[1], 0).encrypt(b"session").expect("a ticket");
        assert!(ticket.starts_with(&[1; 16]) && !ticket.windows(7).any(|w| w == b"session"));
        assert_eq!(tickets(&[2, 1], 0).decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(tickets(&[2], 0).decrypt(&ticket), None);
        // Another context, or another byte.
        assert_eq!(tickets(&[1], 9).decrypt(&ticket), None);
        for i in 0..ticket.len() {
            let mut other = ticket.clone();
            other[i] ^= 1;
            assert_eq!(tickets(&[1], 0).decrypt(&other), None, "byte {i}");
        }
        assert_eq!(tickets(&[1], 0).decrypt(&ticket[..ticket.len() / 2]), None);
        assert_eq!(tickets(&[1], 0).decrypt(b""), None);
    }

    #[test]
    fn tickets_end_with_the_timeout() {
        let sim = Sim::new();
        for keys in [Keys::Fixed(vec![Key::new(&[7; 80]).expect("80 bytes")]), Keys::random().expect("keys")]
        {
            let t = Tickets { keys, context: [0; 32], timeout: 60 };
            let ticket = t.encrypt(b"s").expect("a ticket");
            sim.advance(Duration::from_secs(59));
            assert!(t.decrypt(&ticket).is_some());
            sim.advance(Duration::from_secs(1));
            assert!(t.decrypt(&ticket).is_none());
        }
    }

    #[test]
    fn keys_have_80_bytes() {
        let e = Key::new(&[0; 79]).err().expect("one is missing");
        assert_eq!(e.0, "Incorrect TLS session ticket key length. Length 79, expected length 80.");
    }
}
