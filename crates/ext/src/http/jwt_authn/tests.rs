use super::jwks::Jwks;
use super::status::Status;
use super::token::{Token, decode};
use crate::testing::filters;
use aws_lc_rs::hmac;
use nuncio_core::base64;
use nuncio_testkit::FilterTest;
use nuncio_testkit::filter_test::Seen;

const SECRET: &[u8] = b"secret-secret-secret-secret";

fn url(bytes: &[u8]) -> String {
    base64::encode(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}
/// A token that the key of the example has signed.
fn token(header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", url(header.as_bytes()), url(payload.as_bytes()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", url(tag.as_ref()))
}
fn claims(payload: &str) -> String {
    token(r#"{"alg":"HS256","kid":"k1"}"#, payload)
}
fn good() -> String {
    claims(
        r#"{"iss":"https://issuer.example","aud":["x","https://api/"],"sub":"me","n":{"d":[1,2]},"s":"a b"}"#,
    )
}
fn send(t: &FilterTest, line: &str, token: &str) -> Seen {
    t.request(line).header("authorization", &format!("Bearer {token}")).send()
}

#[test]
fn a_good_token_passes_and_is_not_passed_on() {
    let t = filters(include_str!("example.yaml"));
    let seen = send(&t, "GET /p", &good());
    assert_eq!(seen.status, 200, "{}", seen.details);
    assert_eq!(seen.upstream().header("x-sub").as_deref(), Some("me"));
    assert_eq!(seen.upstream().header("authorization"), None);
    // What only we may say is taken away, also where no token is needed for it to be missed.
    let seen = t.request("GET /open").header("x-sub", "them").send();
    assert_eq!(seen.status, 200);
    assert_eq!((t.stat("http.test.jwt_authn.allowed"), t.stat("http.test.jwt_authn.denied")), (2, 0));
}

#[test]
fn refusals_in_envoys_words() {
    let t = filters(include_str!("example.yaml"));
    let iss = r#""iss":"https://issuer.example","aud":"api""#;
    for (token, status, text) in [
        (claims(&format!("{{{iss},\"exp\":1}}")), 401, "Jwt is expired"),
        (claims(&format!("{{{iss},\"nbf\":99999999999}}")), 401, "Jwt not yet valid"),
        (claims(&format!("{{{iss},\"exp\":\"x\"}}")), 401, "Jwt payload [exp] field is not an integer"),
        (
            claims(r#"{"iss":"https://issuer.example","aud":"other"}"#),
            403,
            "Audiences in Jwt are not allowed",
        ),
        (claims(r#"{"iss":"someone","aud":"api"}"#), 401, "Jwt issuer is not configured"),
        (claims(r#"{"iss":7}"#), 401, "Jwt payload [iss] field is not a string"),
        (
            token(r#"{"alg":"HS256","kid":"k2"}"#, &format!("{{{iss}}}")),
            401,
            "Jwks doesn't have key to match kid or alg from Jwt",
        ),
        (token(r#"{"alg":"none"}"#, &format!("{{{iss}}}")), 401, "Jwt header [alg] is not supported"),
        (token("{}", "{}"), 401, "Jwt header [alg] field is required and must be a string"),
        (good().replace("eyJpc3M", "eyJpc3m"), 401, "Jwt payload is an invalid JSON"),
        (format!("{}AAAA", good()), 401, "Jwt verification fails"),
        (
            "a.b".into(),
            401,
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
    ] {
        let seen = send(&t, "GET /p", &token);
        let bad = matches!(text, "Jwt payload is an invalid JSON");
        assert!(bad || seen.body == text, "{text}: {}", seen.body);
        assert_eq!(seen.status, status, "{text}");
        let details = format!("jwt_authn_access_denied{{{}}}", seen.body.replace(' ', "_"));
        assert_eq!(seen.details, details);
        let challenge = "Bearer realm=\"http://test.example/p\", error=\"invalid_token\"";
        assert_eq!(seen.header("www-authenticate").as_deref(), Some(challenge), "{text}");
    }
    let seen = t.request("GET /p").send();
    assert_eq!((seen.status, &*seen.body), (401, "Jwt is missing"));
    assert_eq!(seen.header("www-authenticate").as_deref(), Some("Bearer realm=\"http://test.example/p\""));
}

#[test]
fn requirements() {
    let two = include_str!("example.yaml").replace(
        "requires: {provider_name: ours}",
        "requires: {requires_any: {requirements: [{provider_name: ours}, {allow_missing: {}}]}}",
    );
    let t = filters(&two);
    let bad = claims(r#"{"iss":"https://issuer.example"}"#);
    assert_eq!(t.request("GET /p").send().status, 200);
    assert_eq!(send(&t, "GET /p", &bad).status, 403);
    let t = filters(&two.replace("allow_missing", "allow_missing_or_failed"));
    assert_eq!(send(&t, "GET /p", &bad).status, 200);
    let t = filters(&include_str!("example.yaml").replace(
        "requires: {provider_name: ours}",
        "requires: {provider_and_audiences: {provider_name: ours, audiences: [x]}}",
    ));
    assert_eq!(send(&t, "GET /p", &good()).status, 200);
    assert_eq!(send(&t, "GET /p", &claims(r#"{"iss":"https://issuer.example","aud":"api"}"#)).status, 403);
}

#[test]
fn tokens_elsewhere() {
    let t = filters(&include_str!("example.yaml").replace(
        "        payload_in_metadata: payload\n",
        "        from_params: [t]\n        from_cookies: [c]\n        forward_payload_header: x-payload\n",
    ));
    let seen = t.request(&format!("GET /p?a=1&t={}&b=2", good())).send();
    assert_eq!((seen.status, seen.upstream().header(":path").as_deref()), (200, Some("/p?a=1&b=2")));
    let payload = seen.upstream().header("x-payload").unwrap_or_default();
    assert_eq!(Some(payload.as_str()), good().split('.').nth(1));
    assert_eq!(t.request("GET /p").header("cookie", &format!("c={}", good())).send().status, 200);
    assert_eq!(send(&t, "GET /p", &good()).status, 401, "not where its tokens stand");
}

#[test]
fn claims_and_keys() {
    let t = Token::read(&good()).unwrap_or_else(|s| panic!("{s:?}"));
    assert_eq!(t.claim("n.d").map(ToString::to_string).as_deref(), Some("[1,2]"));
    assert!(t.claim("n.e").is_none() && t.claim("sub.x").is_none());
    assert_eq!(decode("_-8"), Some(vec![0xff, 0xef]));
    assert_eq!(decode("+w"), None);
    for (json, status) in [
        ("x", Status::JwksParseError),
        ("{}", Status::JwksNoKeys),
        (r#"{"keys":1}"#, Status::JwksBadKeys),
        (r#"{"keys":[{"kty":"RSA"},{"kty":"what"}]}"#, Status::JwksNoValidKeys),
    ] {
        assert_eq!(Jwks::read(json.as_bytes()).err(), Some(status), "{json}");
    }
}

/// The token and key of RFC 7515, appendix A.3 (ES256).
#[test]
fn an_elliptic_signature() {
    let jwks = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    let text = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let token = Token::read(text).unwrap_or_else(|s| panic!("{s:?}"));
    let keys = Jwks::read(jwks.as_bytes()).unwrap_or_else(|s| panic!("{s:?}"));
    assert_eq!(keys.verify(&token), Ok(()));
    let mut other = token;
    other.signature = vec![1; 64];
    assert_eq!(keys.verify(&other), Err(Status::VerificationFail));
}
