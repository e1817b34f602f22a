//! What can be wrong with a token; the texts are Envoy's.

/// Why a request has no valid token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// There is no token.
    Missed,
    /// `nbf`
    NotYetValid,
    /// `exp`
    Expired,
    /// It has not three parts.
    BadFormat,
    /// The header's base64.
    HeaderBadBase64,
    /// The header's JSON.
    HeaderBadJson,
    /// The header's `alg`.
    HeaderBadAlg,
    /// An `alg` that is not known.
    HeaderNotImplementedAlg,
    /// The header's `kid`.
    HeaderBadKid,
    /// The payload's base64.
    PayloadBadBase64,
    /// The payload's JSON.
    PayloadBadJson,
    /// `iss`
    IssuerNotString,
    /// `sub`
    SubjectNotString,
    /// `iat`
    IatNotInteger,
    /// `iat`
    IatOutOfRange,
    /// `nbf`
    NbfNotInteger,
    /// `nbf`
    NbfOutOfRange,
    /// `exp`
    ExpNotInteger,
    /// `exp`
    ExpOutOfRange,
    /// `jti`
    JtiNotString,
    /// `aud`
    AudNotString,
    /// The signature's base64.
    SignatureBadBase64,
    /// Nobody is configured for its issuer.
    UnknownIssuer,
    /// None of its audiences is allowed.
    AudienceNotAllowed,
    /// The signature, or a claim, is not as it must be.
    VerificationFail,
    /// The keys are no JSON.
    JwksParseError,
    /// There is no `keys`.
    JwksNoKeys,
    /// `keys` is no list.
    JwksBadKeys,
    /// No key can be used.
    JwksNoValidKeys,
    /// No key fits.
    JwksKidAlgMismatch,
    /// The keys cannot be had.
    JwksFetchFail,
}

impl Status {
    /// What the client is told.
    pub fn text(self) -> &'static str {
        match self {
            Status::Missed => "Jwt is missing",
            Status::NotYetValid => "Jwt not yet valid",
            Status::Expired => "Jwt is expired",
            Status::BadFormat => {
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            }
            Status::HeaderBadBase64 => "Jwt header is an invalid Base64url encoded",
            Status::HeaderBadJson => "Jwt header is an invalid JSON",
            Status::HeaderBadAlg => "Jwt header [alg] field is required and must be a string",
            Status::HeaderNotImplementedAlg => "Jwt header [alg] is not supported",
            Status::HeaderBadKid => "Jwt header [kid] field is not a string",
            Status::PayloadBadBase64 => "Jwt payload is an invalid Base64url encoded",
            Status::PayloadBadJson => "Jwt payload is an invalid JSON",
            Status::IssuerNotString => "Jwt payload [iss] field is not a string",
            Status::SubjectNotString => "Jwt payload [sub] field is not a string",
            Status::IatNotInteger => "Jwt payload [iat] field is not an integer",
            Status::IatOutOfRange => "Jwt payload [iat] field is not a positive 64 bit integer",
            Status::NbfNotInteger => "Jwt payload [nbf] field is not an integer",
            Status::NbfOutOfRange => "Jwt payload [nbf] field is not a positive 64 bit integer",
            Status::ExpNotInteger => "Jwt payload [exp] field is not an integer",
            Status::ExpOutOfRange => "Jwt payload [exp] field is not a positive 64 bit integer",
            Status::JtiNotString => "Jwt payload [jti] field is not a string",
            Status::AudNotString => "Jwt payload [aud] field is not a string or string list",
            Status::SignatureBadBase64 => "Jwt signature is an invalid Base64url encoded",
            Status::UnknownIssuer => "Jwt issuer is not configured",
            Status::AudienceNotAllowed => "Audiences in Jwt are not allowed",
            Status::VerificationFail => "Jwt verification fails",
            Status::JwksParseError => "Jwks is an invalid JSON",
            Status::JwksNoKeys => "Jwks does not have [keys] field",
            Status::JwksBadKeys => "[keys] in Jwks is not an array",
            Status::JwksNoValidKeys => "Jwks doesn't have any valid public key",
            Status::JwksKidAlgMismatch => "Jwks doesn't have key to match kid or alg from Jwt",
            Status::JwksFetchFail => "Jwks remote fetch is failed",
        }
    }
}
