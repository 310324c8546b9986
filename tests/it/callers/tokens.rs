//! JWT bearer tokens: which are good, and that none else is.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;

use super::*;

#[tokio::test]
async fn tokens_of_every_algorithm_for_public_keys_are_good() {
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    let rsa = [("rs256", RS256), ("rs384", RS384), ("rs512", RS512), ("ps256", PS256), ("ps384", PS384), ("ps512", PS512)];
    let mut keys: Vec<SigningKey> = rsa.into_iter().map(|(kid, algorithm)| SigningKey::rsa(kid, algorithm)).collect();
    keys.extend([SigningKey::es256("es256"), SigningKey::es384("es384"), SigningKey::ed25519("ed")]);
    let idp = Idp::serving(&keys.iter().collect::<Vec<_>>()).await;
    let nexus = idp.guarding(before_a_tool(), "").start().await;
    for key in &keys {
        let client = bearing(&nexus, &key.token(&claims("ada", json!({}))));
        assert_eq!(status(&client).await, 200, "{}", key.kid);
        assert_eq!(status(&client).await, 200, "{}, once more", key.kid);
    }
}

#[tokio::test]
async fn a_token_must_be_of_the_issuer_for_us_and_of_this_time() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let nexus = idp.guarding(before_a_tool(), "").start().await;
    let (soon, late) = (now() + 3600, now() - 3600);
    for (changes, expected) in [
        (json!({}), 200),
        (json!({"aud": ["https://other.test", AUDIENCE]}), 200),
        (json!({"exp": now() as f64 + 60.5}), 200),
        // Clocks differ.
        (json!({"exp": now() - 10}), 200),
        (json!({"nbf": now() + 10}), 200),
        (json!({"aud": "https://other.test"}), 401),
        (json!({"aud": ["https://other.test"]}), 401),
        (json!({"aud": {AUDIENCE: true}}), 401),
        (json!({"aud": null}), 401),
        (json!({"iss": "https://idp.test/"}), 401),
        (json!({"iss": [ISSUER]}), 401),
        (json!({"iss": null}), 401),
        (json!({"exp": late}), 401),
        (json!({"exp": soon.to_string()}), 401),
        (json!({"exp": null}), 401),
        (json!({"nbf": soon}), 401),
        (json!({"nbf": "now"}), 401),
        (json!({"sub": ""}), 401),
    ] {
        let token = key.token(&claims("ada", changes.clone()));
        assert_eq!(status(&bearing(&nexus, &token)).await.as_u16(), expected, "{changes}");
    }
}

#[tokio::test]
async fn a_token_chooses_neither_its_algorithm_nor_its_key() {
    let (key, other) = (SigningKey::es256("k"), SigningKey::es256("k"));
    let rsa = SigningKey::rsa("r", Algorithm::RS256);
    let idp = Idp::serving(&[&key, &rsa]).await;
    let nexus = idp.guarding(before_a_tool(), "").start().await;
    let good = claims("ada", json!({}));
    let hmac_with = |kid: &str, secret: &[u8]| {
        let message = unsigned(&json!({"alg": "HS256", "kid": kid, "typ": "JWT"}), &good);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let bytes_of = |jwk: &Value, part: &str| URL_SAFE_NO_PAD.decode(jwk[part].as_str().unwrap()).unwrap();
    let point = [vec![4], bytes_of(&key.jwk(), "x"), bytes_of(&key.jwk(), "y")].concat();
    let signed = key.token(&good);
    let tampered = {
        let (head, signature) = signed.rsplit_once('.').unwrap();
        let header = head.split_once('.').unwrap().0;
        let evil = unsigned(&json!({}), &claims("eve", json!({})));
        format!("{header}.{}.{signature}", evil.split_once('.').unwrap().1)
    };
    let cases = [
        ("alg none", format!("{}.", unsigned(&json!({"alg": "none"}), &good))),
        ("alg None with a signature", signed.replacen(signed.split('.').next().unwrap(), &URL_SAFE_NO_PAD.encode(r#"{"alg":"NoNe"}"#), 1)),
        ("HMAC with the public modulus", hmac_with("r", &bytes_of(&rsa.jwk(), "n"))),
        ("HMAC with the public point", hmac_with("k", &point)),
        ("HMAC with the key set's text", hmac_with("k", key.jwk().to_string().as_bytes())),
        ("the algorithm of another kind of key", key.token_as(&json!({"alg": "RS256", "kid": "k"}), &good)),
        ("an algorithm that the key is not for", key.token_as(&json!({"alg": "ES384", "kid": "k"}), &good)),
        ("a stranger's key of the same name", other.token(&good)),
        ("a key of its own in the header", other.token_as(&json!({"alg": "ES256", "kid": "k", "jwk": other.jwk()}), &good)),
        ("an extension that must be understood", key.token_as(&json!({"alg": "ES256", "kid": "k", "crit": ["b64"], "b64": false}), &good)),
        ("a token for another purpose", key.token_as(&json!({"alg": "ES256", "kid": "k", "typ": "logout+jwt"}), &good)),
        ("changed claims", tampered),
        ("no claims", key.token(&json!("claims"))),
        ("not base64", "a.b.c".to_owned()),
        ("empty parts", "..".to_owned()),
        ("no JWT", "opaque".to_owned()),
    ];
    for (what, token) in cases {
        let (status, headers, answer) = called(&bearing(&nexus, &token)).await;
        assert_eq!(status, 401, "{what}");
        // The same for all, so that nobody learns how close they were.
        assert_eq!(answer["error"]["message"], "The credential is not valid, or has expired", "{what}");
        assert!(header(&headers, "www-authenticate").contains("error=\"invalid_token\""), "{what}");
    }
    assert_eq!(status(&bearing(&nexus, &signed)).await, 200);
    assert!(nexus.fake("a").seen_of("tools/call").len() == 1, "nothing else went up");
}

#[tokio::test]
async fn a_token_that_ends_is_not_good_because_it_was() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let start = now();
    let clock = Hands::at(start);
    let nexus = idp.guarding(before_a_tool().clock(clock.clone()), "").start().await;
    let client = bearing(&nexus, &key.token(&claims("ada", json!({"exp": start + 100}))));
    assert_eq!(status(&client).await, 200);
    clock.set(start + 129);
    assert_eq!(status(&client).await, 200, "clocks differ");
    clock.set(start + 131);
    assert_eq!(status(&client).await, 401);
}

#[tokio::test]
async fn a_huge_token_is_refused_unread() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let nexus = idp.guarding(before_a_tool(), "").start().await;
    let padded = |bytes: usize| key.token(&claims("ada", json!({"padding": "x".repeat(bytes)})));
    assert_eq!(status(&bearing(&nexus, &padded(8 << 10))).await, 200);
    assert_eq!(status(&bearing(&nexus, &padded(30 << 10))).await, 401, "longer than any that is looked at");
    // The listener's bound on headers comes first, and is told while the rest is on its way.
    let token = padded(1 << 20);
    let head = format!("POST /mcp HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\ncontent-length: 2\r\n\r\n{{}}", nexus.address);
    let mut stream = tokio::net::TcpStream::connect(nexus.address).await.unwrap();
    let (mut reads, mut writes) = stream.split();
    let sends = async {
        // As much as is taken.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut writes, head.as_bytes()).await;
    };
    let hears = async {
        let mut begin = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut reads, &mut begin).await.map(|_| begin)
    };
    let (begin, ()) = crate::support::soon("the refusal", async { tokio::join!(hears, sends) }).await;
    assert_eq!(&begin.unwrap(), b"HTTP/1.1 431");
    nexus_serves(&nexus, &key).await;
}

async fn nexus_serves(nexus: &Nexus, key: &SigningKey) {
    assert_eq!(status(&bearing(nexus, &key.token(&claims("ada", json!({}))))).await, 200);
}

#[tokio::test]
async fn a_token_needs_every_required_scope_in_whatever_form_its_issuer_has_them() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let nexus = idp.guarding(before_a_tool(), "required_scopes = [\"mcp:read\", \"mcp:call\"]").start().await;
    for (changes, expected) in [
        (json!({"scope": "openid mcp:call mcp:read"}), 200),
        (json!({"scp": ["mcp:read", "mcp:call"]}), 200),
        (json!({"scp": "mcp:read mcp:call"}), 200),
        (json!({"scope": "mcp:read"}), 403),
        (json!({"scope": "mcp:readmcp:call"}), 403),
        (json!({"scope": ["mcp:read mcp:call"]}), 403),
        (json!({}), 403),
    ] {
        let (status, headers, _) = called(&bearing(&nexus, &key.token(&claims("ada", changes.clone())))).await;
        assert_eq!(status.as_u16(), expected, "{changes}");
        let told = header(&headers, "www-authenticate");
        assert_eq!(
            told.contains("error=\"insufficient_scope\"") && told.contains("scope=\"mcp:read mcp:call\""),
            expected == 403,
            "{told}"
        );
    }
}

/// A clock that the test sets.
#[derive(Clone, Debug)]
pub(super) struct Hands(std::sync::Arc<std::sync::atomic::AtomicU64>);

impl Hands {
    pub(super) fn at(seconds: u64) -> Self {
        Self(std::sync::Arc::new(seconds.into()))
    }

    pub(super) fn set(&self, seconds: u64) {
        self.0.store(seconds, std::sync::atomic::Ordering::SeqCst);
    }
}

impl nexus::clock::Clock for Hands {
    fn now(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}
