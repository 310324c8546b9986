//! Requests that come over one connection, as a balancer sends those of many: each is its own token's.

use http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{tokens::Hands, *};
use crate::support::{
    StillTime, pass, soon, while_time_passes,
    wire::{Body, full},
};

/// One connection to the gateway.
struct Connection {
    nexus: Nexus,
    sender: SendRequest<Body>,
}

impl Connection {
    async fn to(nexus: Nexus) -> Self {
        let stream = TcpStream::connect(nexus.address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        // It ends with the sender.
        tokio::spawn(connection);
        Self { nexus, sender }
    }

    async fn status(&mut self, request: Request<Body>) -> u16 {
        let (status, _) = self.answered(request).await;
        status
    }

    async fn answered(&mut self, mut request: Request<Body>) -> (u16, HeaderMap) {
        request.headers_mut().insert("host", self.nexus.address.to_string().parse().unwrap());
        soon("the connection is free", self.sender.ready()).await.unwrap();
        let response = soon("an answer", self.sender.send_request(request)).await.unwrap();
        let (parts, body) = response.into_parts();
        soon("all of it", body.collect()).await.unwrap();
        (parts.status.as_u16(), parts.headers)
    }

    /// Begins a session with these credentials.
    async fn begin(&mut self, credentials: &[&str]) -> (u16, String) {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}});
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
        let request = self.request(credentials, "", &message);
        let (status, headers) = self.answered(request).await;
        (status, header(&headers, "mcp-session-id").to_owned())
    }

    /// What a ping in a session is answered with.
    async fn ping(&mut self, credentials: &[&str], session: &str) -> u16 {
        let request = self.request(credentials, session, &json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}));
        self.status(request).await
    }

    fn request(&self, credentials: &[&str], session: &str, message: &Value) -> Request<Body> {
        let mut client = Client::stranger(self.nexus.address);
        if !session.is_empty() {
            client = client.header("mcp-session-id", session).header("mcp-protocol-version", "2025-11-25");
        }
        let mut request = client.request(Method::POST, full(message.to_string()));
        for credential in credentials {
            request.headers_mut().append("authorization", credential.parse().unwrap());
        }
        request
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn each_request_of_a_connection_is_its_own_tokens() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let mut connection = Connection::to(idp.guarding(before_a_tool(), "").start().await).await;
    let ada = bearer(&key.token(&claims("ada", json!({}))));
    let bob = bearer(&key.token(&claims("bob", json!({}))));
    let (status, session) = connection.begin(&[&ada]).await;
    assert_eq!(status, 200);
    let shorter = &ada[..ada.len() - 1];
    let changed = format!("{shorter}{}", if ada.ends_with('A') { 'B' } else { 'A' });
    let cases: [(&str, &[&str], u16); 11] = [
        ("once more", &[&ada], 200),
        ("another's token", &[&bob], 404),
        ("another's once more", &[&bob], 404),
        ("the first again", &[&ada], 200),
        ("a token cut short", &[shorter], 401),
        ("a token with another end", &[&changed], 401),
        ("none", &[], 401),
        ("the same twice", &[&ada, &ada], 400),
        ("two", &[&ada, &bob], 400),
        ("another scheme", &[&ada.replace("Bearer", "Basic")], 401),
        ("the first at last", &[&ada], 200),
    ];
    for (what, credentials, expected) in cases {
        assert_eq!(connection.ping(credentials, &session).await, expected, "{what}");
    }
}

#[tokio::test]
async fn a_token_ends_on_a_connection_that_goes_on() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let start = now();
    let clock = Hands::at(start);
    let mut connection = Connection::to(idp.guarding(before_a_tool().clock(clock.clone()), "").start().await).await;
    let ada = bearer(&key.token(&claims("ada", json!({"exp": start + 100}))));
    let (_, session) = connection.begin(&[&ada]).await;
    clock.set(start + 129);
    assert_eq!(connection.ping(&[&ada], &session).await, 200, "clocks differ");
    clock.set(start + 131);
    assert_eq!(connection.ping(&[&ada], &session).await, 401);
}

#[tokio::test]
async fn a_token_ends_with_its_key_on_a_connection_that_goes_on() {
    let _still = StillTime::begin();
    let (old, new) = (SigningKey::es256("old"), SigningKey::es256("new"));
    let idp = Idp::serving(&[&old]).await;
    let spec = idp.guarding(before_a_tool(), "poll_interval = \"30s\"");
    let nexus = while_time_passes("the start", Box::pin(spec.start())).await;
    let mut connection = Connection::to(nexus).await;
    let ada = bearer(&old.token(&claims("ada", json!({}))));
    let (_, session) = while_time_passes("a session", connection.begin(&[&ada])).await;
    assert_eq!(while_time_passes("an answer", connection.ping(&[&ada], &session)).await, 200);
    idp.serves(&[&new]);
    let mut last = 0;
    // In steps, because a connection without requests is closed.
    for _ in 0..4 {
        pass(std::time::Duration::from_secs(8)).await;
        last = while_time_passes("an answer", connection.ping(&[&ada], &session)).await;
    }
    assert_eq!(last, 401);
}
