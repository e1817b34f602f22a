//! The part of rustls' verifiers that is the same towards clients and towards hosts: the signature of a handshake is
//! checked with the algorithms of `self.schemes`, and noted.

/// The methods of `ClientCertVerifier` and of `ServerCertVerifier` that check a handshake's signature.
macro_rules! checks_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            $crate::tls::verify::Seen::note(|s| s.scheme = Some(dss.scheme));
            rustls::crypto::verify_tls12_signature(message, cert, dss, &self.schemes)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            $crate::tls::verify::Seen::note(|s| s.scheme = Some(dss.scheme));
            rustls::crypto::verify_tls13_signature(message, cert, dss, &self.schemes)
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.schemes.supported_schemes()
        }
    };
}

pub(super) use checks_signatures;
