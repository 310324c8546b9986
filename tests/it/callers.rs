//! Who may call, and as whom.

#![allow(clippy::unwrap_used)] // Helpers of tests.

mod api_keys;
mod browsers;
mod certificates;
mod challenges;
mod identity_headers;
mod key_sets;
mod one_connection;
mod sessions;
mod streams;
mod tokens;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    client::{Client, Response},
    fake::modern,
    idp::{AUDIENCE, ISSUER, Idp, SigningKey, claims, now, unsigned},
    nexus::{GatewaySpec, Nexus, gateway},
};

/// A gateway before one tool, `x`.
fn before_a_tool() -> GatewaySpec {
    gateway().upstream("a", modern().tool("x"))
}

/// Somebody with this bearer token.
fn bearing(nexus: &Nexus, token: &str) -> Client {
    nexus.modern().header("authorization", &format!("Bearer {token}"))
}

/// What a call is answered with.
async fn called(client: &Client) -> (StatusCode, HeaderMap, Value) {
    let response = client.open("tools/call", json!({"name": "a__x", "arguments": {}})).await;
    let (status, headers) = (response.status, response.headers.clone());
    (status, headers, response.answer().await)
}

async fn status(client: &Client) -> StatusCode {
    called(client).await.0
}

fn challenge(response: &Response) -> &str {
    header(&response.headers, "www-authenticate")
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}
