//! An identity provider: keys, a key set over HTTPS with a private CA, and tokens of which every byte is the test's.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "a provider that cannot sign has failed its test")]

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Response;
use jsonwebtoken::{Algorithm, EncodingKey, crypto, jwk::Jwk};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    nexus::GatewaySpec,
    pki::{Authority, Leaf},
    tls_peer::{Peer, server_config},
};

pub(crate) const ISSUER: &str = "https://idp.test";
pub(crate) const AUDIENCE: &str = "https://mcp.test";

/// One of the provider's keys.
pub(crate) struct SigningKey {
    pub(crate) kid: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl SigningKey {
    pub(crate) fn es256(kid: &'static str) -> Self {
        let der = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
        Self { kid, algorithm: Algorithm::ES256, key: EncodingKey::from_ec_der(der.as_ref()) }
    }

    pub(crate) fn es384(kid: &'static str) -> Self {
        let der = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
        Self { kid, algorithm: Algorithm::ES384, key: EncodingKey::from_ec_der(der.as_ref()) }
    }

    pub(crate) fn ed25519(kid: &'static str) -> Self {
        let der = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
        Self { kid, algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_der(der.as_ref()) }
    }

    pub(crate) fn rsa(kid: &'static str, algorithm: Algorithm) -> Self {
        let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let info = pkcs8::PrivateKeyInfoRef::try_from(der.as_ref()).unwrap();
        Self { kid, algorithm, key: EncodingKey::from_rsa_der(info.private_key.as_bytes()) }
    }

    /// The public part, as a key set has it.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = self.kid.into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_as(&json!({"alg": format!("{:?}", self.algorithm), "kid": self.kid, "typ": "at+jwt"}), claims)
    }

    /// A token with this header, signed with this key in whatever way the key can.
    pub(crate) fn token_as(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let signature = crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// Header and claims.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a good token for `subject`, with some of them changed.
pub(crate) fn claims(subject: &str, changes: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": now() + 3600, "iat": now()});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// A provider on loopback; ends with its owner.
pub(crate) struct Idp {
    peer: Peer,
    ca: String,
    answer: Arc<Mutex<(u16, Bytes)>>,
}

impl Idp {
    /// Serves the public parts of these keys.
    pub(crate) async fn serving(keys: &[&SigningKey]) -> Self {
        let ca = Authority::root("IdP CA");
        let answer = Arc::new(Mutex::new((200, Bytes::new())));
        let current = Arc::clone(&answer);
        let respond = move || {
            let (status, body) = current.lock().clone();
            Response::builder().status(status).header("content-type", "application/jwk-set+json").body(body).unwrap()
        };
        let peer = Peer::tls_answering(server_config(&ca.sign(Leaf::server(&["127.0.0.1"]))), respond).await;
        let idp = Self { peer, ca: ca.pem(), answer };
        idp.serves(keys);
        idp
    }

    /// Serves other keys from now on.
    pub(crate) fn serves(&self, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.says(200, json!({"keys": keys}).to_string());
    }

    pub(crate) fn says(&self, status: u16, body: impl Into<Bytes>) {
        *self.answer.lock() = (status, body.into());
    }

    pub(crate) fn ca(&self) -> &str {
        &self.ca
    }

    /// How often its key set was asked for.
    pub(crate) fn asked(&self) -> usize {
        self.peer.arrived().len()
    }

    /// A gateway that validates its tokens; `lines` go into `[server.oauth]`.
    pub(crate) fn guarding(&self, spec: GatewaySpec, lines: &str) -> GatewaySpec {
        spec.file("/idp/ca.pem", self.ca.clone()).tables(&format!(
            "[server.oauth]\nurl = \"https://{}/jwks\"\nexpected_issuer = \"{ISSUER}\"\nexpected_audience = \"{AUDIENCE}\"\n{lines}\n\
             [server.oauth.tls]\nroot_ca_cert_path = \"/idp/ca.pem\"\n\
             [server.oauth.protected_resource]\nresource = \"{AUDIENCE}\"\nauthorization_servers = [\"{ISSUER}\"]",
            self.peer.address
        ))
    }
}
