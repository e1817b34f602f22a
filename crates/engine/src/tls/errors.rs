//! What went wrong in a handshake, in the words of Envoy's TLS library: `|number:library:function:REASON`.

use super::verify::Failure;
use rustls::{AlertDescription, Error};
use std::io;

/// The number of a reason of the SSL library.
const SSL: u32 = 16 << 24;

/// `TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:…:TLS_error_end`; empty when the peer
/// or the network ended it. `failed`: what the verifier said.
pub fn text(e: &io::Error, failed: Option<&Failure>) -> String {
    let Some(tls) = of(e) else {
        // What was no TLS at all was put into words already.
        return if e.kind() == io::ErrorKind::InvalidData { e.to_string() } else { String::new() };
    };
    let (reason, name, more) = reason(tls, failed);
    format!("TLS_error:|{}:SSL routines:OPENSSL_internal:{name}{more}:TLS_error_end", SSL + reason)
}

/// The TLS library's error in an I/O error.
pub fn of(e: &io::Error) -> Option<&Error> {
    e.get_ref()?.downcast_ref()
}

fn reason(e: &Error, failed: Option<&Failure>) -> (u32, String, String) {
    use rustls::{InvalidMessage as M, PeerIncompatible as P};
    let plain = |number, name: &str| (number, name.to_owned(), String::new());
    match e {
        Error::InvalidCertificate(_) => {
            let details = failed.map_or_else(|| e.to_string(), |f| f.text.clone());
            (125, "CERTIFICATE_VERIFY_FAILED".into(), format!(":verify cert failed: {details}"))
        }
        Error::NoCertificatesPresented => plain(192, "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        Error::AlertReceived(a) => (1000 + u32::from(u8::from(*a)), alert(*a), String::new()),
        Error::InvalidMessage(M::UnknownProtocolVersion | M::InvalidContentType) => {
            plain(247, "WRONG_VERSION_NUMBER")
        }
        Error::PeerIncompatible(P::ServerDoesNotSupportTls12Or13 | P::Tls12NotOfferedOrEnabled) => {
            plain(240, "UNSUPPORTED_PROTOCOL")
        }
        Error::PeerIncompatible(_) => plain(184, "NO_SHARED_CIPHER"),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            plain(223, "UNEXPECTED_MESSAGE")
        }
        Error::DecryptError => plain(139, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"),
        Error::NoApplicationProtocol => plain(307, "NO_APPLICATION_PROTOCOL"),
        other => (137, "DECODE_ERROR".into(), format!(":{other}")),
    }
}

/// BoringSSL's name of an alert that came in.
fn alert(a: AlertDescription) -> String {
    use AlertDescription as A;
    let name = match a {
        A::CloseNotify => "SSLV3_ALERT_CLOSE_NOTIFY",
        A::UnexpectedMessage => "SSLV3_ALERT_UNEXPECTED_MESSAGE",
        A::BadRecordMac => "SSLV3_ALERT_BAD_RECORD_MAC",
        A::HandshakeFailure => "SSLV3_ALERT_HANDSHAKE_FAILURE",
        A::BadCertificate => "SSLV3_ALERT_BAD_CERTIFICATE",
        A::UnsupportedCertificate => "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        A::CertificateRevoked => "SSLV3_ALERT_CERTIFICATE_REVOKED",
        A::CertificateExpired => "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        A::CertificateUnknown => "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        A::IllegalParameter => "SSLV3_ALERT_ILLEGAL_PARAMETER",
        A::UnknownCA => "TLSV1_ALERT_UNKNOWN_CA",
        A::AccessDenied => "TLSV1_ALERT_ACCESS_DENIED",
        A::DecodeError => "TLSV1_ALERT_DECODE_ERROR",
        A::DecryptError => "TLSV1_ALERT_DECRYPT_ERROR",
        A::ProtocolVersion => "TLSV1_ALERT_PROTOCOL_VERSION",
        A::InsufficientSecurity => "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        A::InternalError => "TLSV1_ALERT_INTERNAL_ERROR",
        A::InappropriateFallback => "TLSV1_ALERT_INAPPROPRIATE_FALLBACK",
        A::UserCanceled => "TLSV1_ALERT_USER_CANCELLED",
        A::UnsupportedExtension => "TLSV1_ALERT_UNSUPPORTED_EXTENSION",
        A::UnrecognisedName => "TLSV1_ALERT_UNRECOGNIZED_NAME",
        A::UnknownPSKIdentity => "TLSV1_ALERT_UNKNOWN_PSK_IDENTITY",
        A::CertificateRequired => "TLSV1_ALERT_CERTIFICATE_REQUIRED",
        A::NoApplicationProtocol => "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        other => return format!("TLSV1_ALERT_{}", u8::from(other)),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_boringssls_numbers_and_names() {
        let text = |e: Error, f: Option<&Failure>| text(&io::Error::new(io::ErrorKind::InvalidData, e), f);
        assert_eq!(
            text(Error::AlertReceived(AlertDescription::HandshakeFailure), None),
            "TLS_error:|268436496:SSL routines:OPENSSL_internal:SSLV3_ALERT_HANDSHAKE_FAILURE:TLS_error_end"
        );
        let f = Failure { kind: super::super::verify::Kind::Pins, text: "cert hash and spki".into() };
        assert_eq!(
            text(f.clone().into(), Some(&f)),
            "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: cert \
             hash and spki:TLS_error_end"
        );
        assert_eq!(super::text(&io::ErrorKind::UnexpectedEof.into(), None), "");
    }
}
