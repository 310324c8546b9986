//! Why an upstream does not work, as its callers are told: a code to act on, and no address, path or certificate.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use serde_json::Value;
use tokio::{io::AsyncReadExt as _, net::TcpSocket};

use crate::support::{
    fake::{Answer, legacy, modern},
    nexus::{GatewaySpec, gateway},
    pki::{Authority, Leaf},
    soon,
    tls_peer::{Peer, mtls_config, server_config},
};

const TRUSTING: &str = "[.tls]\nroot_ca_cert_path = \"/etc/nexus/canary-ca.pem\"";

/// The answer that a caller of each era gets.
async fn told(spec: GatewaySpec) -> Vec<Value> {
    let nexus = spec.upstream("other", modern().tool("y")).start().await;
    let mut answers = Vec::new();
    for client in [nexus.legacy().await, nexus.modern()] {
        answers.push(client.call("up__x").await);
        assert!(client.call("other__y").await["result"].is_object(), "everybody else is well");
    }
    answers
}

fn check(what: &str, answers: &[Value], reason: &str) {
    for answer in answers {
        let error = &answer["error"];
        assert_eq!((error["code"].as_i64(), error["data"]["reason"].as_str()), (Some(-32603), Some(reason)), "{what}: {answer}");
        assert_eq!(error["data"]["upstream"], "up");
        let id = error["data"]["request_id"].as_str().unwrap();
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("up") && message.contains(reason) && message.contains(id), "{message}");
        for hidden in ["canary", "localhost", "127.0.0.1", "/etc", ".pem", "CN=", "Company", "http:", "https:", "a server"] {
            assert!(!answer.to_string().contains(hidden), "{what} gives {hidden} away: {answer}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_refused_is_told_by_its_reason() {
    let (trusted, foreign) = (Authority::root("Company CA"), Authority::root("canary CA"));
    let leaf = || Leaf::server(&["localhost"]);
    for (what, config, reason) in [
        ("expired", server_config(&trusted.sign(leaf().expired())), "tls_expired"),
        ("not yet valid", server_config(&trusted.sign(leaf().not_yet_valid())), "tls_not_yet_valid"),
        ("another authority", server_config(&foreign.sign(leaf())), "tls_unknown_ca"),
        ("another name", server_config(&trusted.sign(Leaf::server(&["canary.internal"]))), "tls_hostname_mismatch"),
        ("a demand for a certificate", mtls_config(&trusted.sign(leaf()), &trusted, rustls::ALL_VERSIONS), "tls_client_cert_required"),
        ("the same up to TLS 1.2", mtls_config(&trusted.sign(leaf()), &trusted, &[&rustls::version::TLS12]), "tls_client_cert_required"),
    ] {
        let spec =
            gateway().file("/etc/nexus/canary-ca.pem", trusted.pem()).upstream("up", legacy().tool("x").https(config).toml(TRUSTING));
        check(what, &told(spec).await, reason);
    }
    let fine = server_config(&trusted.sign(leaf()));
    let spec = gateway().file("/etc/nexus/canary-ca.pem", trusted.pem()).upstream("up", legacy().tool("x").https(fine).toml(TRUSTING));
    assert!(told(spec).await.iter().all(|answer| answer["result"].is_object()), "and one that is not refused serves");
}

#[tokio::test]
async fn what_is_wrong_with_the_connection_is_told_by_its_reason() {
    let trusted = Authority::root("Company CA");
    let https = |port: u16| {
        let lines = format!("url = \"https://localhost:{port}/canary\"\nconnect_timeout = \"500ms\"\n{TRUSTING}");
        gateway().file("/etc/nexus/canary-ca.pem", trusted.pem()).upstream("up", lines)
    };
    let http = |port: u16| gateway().upstream("up", format!("url = \"http://localhost:{port}/canary\"\nlist_timeout = \"500ms\""));
    let plain = Peer::plain().await;
    check("plain HTTP", &told(https(plain.address.port())).await, "tls_not_tls");
    check("a web page", &told(http(plain.address.port())).await, "not_mcp");

    // Bound, so that nobody else gets the port, but not listening.
    let unheard = TcpSocket::new_v4().unwrap();
    unheard.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = unheard.local_addr().unwrap().port();
    check("a closed port", &told(https(closed)).await, "refused");
    check("a closed port without TLS", &told(http(closed)).await, "refused");

    let resetting = Peer::start(|mut stream, _| async move {
        // Closing with unread bytes resets the connection.
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    check("a reset", &told(https(resetting.address.port())).await, "tls_reset");

    let silent = Peer::start(|stream, _| async move {
        let _kept = stream;
        std::future::pending::<()>().await;
    })
    .await;
    check("silence in the handshake", &told(https(silent.address.port())).await, "tls_timeout");
    check("silence afterwards", &told(http(silent.address.port())).await, "list_timeout");
}

#[tokio::test]
async fn what_is_wrong_with_a_process_or_a_file_is_told_by_its_reason() {
    for (lines, reason) in [
        ("cmd = [\"/canary/no-such-program\"]", "spawn_failed"),
        ("cmd = [\"sh\", \"-c\", \"echo canary >&2; exit 3\"]", "exited"),
        ("cmd = [\"sh\", \"-c\", \"exec sleep 1000\"]\nstartup_timeout = \"1s\"", "spawn_failed"),
        (&*format!("url = \"https://localhost:1/mcp\"\n{TRUSTING}"), "local_missing"),
    ] {
        check(lines, &told(gateway().upstream("up", lines)).await, reason);
    }
}

#[tokio::test]
async fn a_refused_credential_is_the_gateways_trouble_and_not_the_clients() {
    for (status, kind) in [(401, "text/plain"), (401, "application/json"), (403, "text/html")] {
        let refuse = move |_: &_| Answer::new(status, kind, "{}").header("www-authenticate", "Bearer realm=\"canary\"");
        let spec = modern().on("server/discover", refuse).toml("[.auth]\ntoken = \"{{ env.TOKEN }}\"");
        check("a refused token", &told(gateway().env("TOKEN", "canary-token").upstream("up", spec)).await, "auth_required");
    }
}

#[tokio::test]
async fn an_upstream_that_is_mended_comes_up_by_itself() {
    let nexus = gateway().upstream("up", legacy().tool("x")).upstream("other", modern()).start().await;
    let client = nexus.legacy().await;
    nexus.fake("up").go_down();
    let failed = client.call("up__x").await;
    assert_eq!(failed["error"]["code"], -32603);
    nexus.fake("up").come_back();
    let back = async {
        while client.call("up__x").await["result"].is_null() {
            tokio::task::yield_now().await;
        }
    };
    soon("the return", back).await;
}
