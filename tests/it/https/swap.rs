//! New certificates while the gateway serves.

use std::time::Duration;

use http_body_util::BodyExt as _;
use nexus::downstream::Swapped;
use tokio::time::advance;

use super::*;
use crate::support::{
    StillTime,
    pki::{Authority, Leaf},
    soon,
};

pub(super) fn call() -> http::Request<crate::support::wire::Body> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "up__work", "arguments": {}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    let client = Client::modern("127.0.0.1:1".parse().unwrap()).header("mcp-method", "tools/call").header("mcp-name", "up__work");
    client.request(Method::POST, full(body.to_string()))
}

#[tokio::test]
async fn a_new_certificate_is_served_at_once_and_an_open_answer_goes_on() {
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let pki = Pki::new();
        let (spec, mut streams) = modern().tool("work").streamed("tools/call");
        let nexus = pki.serve(gateway().upstream("up", spec), "").start().await;
        let client = pki.client().alpn(protocols);
        let mut idle = client.connect(nexus.address).await.unwrap();
        idle.get("/health").await.unwrap();
        let mut old = client.connect(nexus.address).await.unwrap();
        let (answer, stream) = tokio::join!(old.send(call()), async {
            let (call, stream) = streams.recv().await.unwrap();
            assert!(stream.event(call.progress(1)).await);
            (call, stream)
        });
        let (call, stream) = stream;
        let answer = answer.unwrap();

        let renewed = pki.server();
        let swapped = nexus.tls().reload(&pki.files(&renewed), NOW).unwrap();
        assert!(matches!(&swapped, Swapped::Changed(warnings) if warnings.is_empty()), "{swapped:?}");

        let new = client.connect(nexus.address).await.unwrap();
        assert_eq!(new.served.as_ref(), renewed.certificates.first());
        assert_ne!(old.served, new.served);
        idle.ends().await;
        assert!(stream.event(call.response(r#""content":[{"type":"text","text":"late"}],"resultType":"complete""#)).await);
        drop(stream);
        let body = soon("the rest", answer.into_body().collect()).await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("late"), "{protocols:?}");
        old.ends().await;
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_loses_its_connection_when_the_drain_is_over() {
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let pki = Pki::new();
        let (spec, mut streams) = modern().tool("work").toml("call_timeout = \"1h\"").streamed("tools/call");
        let nexus = pki.serve(gateway().server("request_timeout = \"1h\"").upstream("up", spec), "").start().await;
        let mut old = pki.client().alpn(protocols).connect(nexus.address).await.unwrap();
        let (answer, stream) = tokio::join!(old.send(call()), async {
            let (call, stream) = streams.recv().await.unwrap();
            assert!(stream.event(call.progress(1)).await);
            stream
        });
        let (answer, _stream) = (answer.unwrap(), stream);
        nexus.tls().reload(&pki.files(&pki.server()), NOW).unwrap();
        // A new connection was accepted and answered after the swap, so the old one knows of it.
        pki.client().get(nexus.address, "/health").await.unwrap();
        let still = StillTime::begin();
        advance(Duration::from_secs(601)).await;
        drop(still);
        tokio::time::resume();
        assert!(soon("the end", answer.into_body().collect()).await.is_err(), "{protocols:?}");
    }
}

#[tokio::test]
async fn files_that_are_not_good_change_nothing() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway(), ", client_ca = \"/tls/clients.pem\", client_auth = \"optional\"").start_at_once().await;
    let before = pki.client().connect(nexus.address).await.unwrap().served.clone();
    let good = pki.server();
    let files = || pki.files(&good);
    let other_key = pki.server().key_pem();
    let expired = pki.servers.sign(Leaf::server(&["localhost"]).expired());
    let early = pki.servers.sign(Leaf::server(&["localhost"]).not_yet_valid());
    for (files, key, words) in [
        (files().with_file("/tls/server.pem", ""), "certificate", "it is empty"),
        (files().with_file("/tls/server.pem", other_key.clone()), "certificate", "it holds no certificate, but PRIVATE KEY"),
        (files().with_file("/tls/key.pem", "nothing"), "key", "it holds no private key"),
        (files().with_file("/tls/key.pem", good.pem()), "key", "it holds no private key, but CERTIFICATE"),
        (files().with_file("/tls/key.pem", other_key), "key", "does not belong to the first certificate"),
        (pki.files(&expired), "certificate", "expired"),
        (pki.files(&early), "certificate", "is valid only from"),
        (files().with_file("/tls/clients.pem", "no PEM"), "client_ca", "it holds no certificate"),
        (files().with_file("/tls/clients.pem", [0x30, 0x82, 1, 2].to_vec()), "client_ca", "no DER certificate"),
        (nexus::sources::MemorySources::default(), "certificate", "/tls/server.pem"),
    ] {
        let problem = nexus.tls().reload(&files, NOW).unwrap_err();
        assert_eq!(problem.key, format!("server.tls.{key}"), "{problem}");
        assert!(problem.what.contains(words), "{words:?} is not in\n{problem}");
        assert!(!problem.why.is_empty() && !problem.remedy.is_empty() && problem.at.is_some(), "{problem}");
        assert!(!problem.remedy.contains("client_key_path"), "{problem}");
    }
    assert_eq!(pki.client().connect(nexus.address).await.unwrap().served, before);
    assert!(matches!(nexus.tls().reload(&files(), NOW), Ok(Swapped::Changed(_))), "and good ones still do");
    assert_eq!(pki.client().connect(nexus.address).await.unwrap().served.as_ref(), good.certificates.first());
}

#[tokio::test]
async fn the_same_files_again_end_no_connection() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway(), "").start_at_once().await;
    let chain = pki.server();
    let mut connection = {
        nexus.tls().reload(&pki.files(&chain), NOW).unwrap();
        pki.client().connect(nexus.address).await.unwrap()
    };
    assert!(matches!(nexus.tls().reload(&pki.files(&chain), NOW), Ok(Swapped::Unchanged)));
    assert!(connection.get("/health").await.unwrap().status.is_success());
}

#[tokio::test]
async fn a_certificate_that_does_not_cover_public_url_is_warned_about_at_every_load() {
    let pki = Pki::new();
    let spec = gateway().server("public_url = \"https://mcp.contoso.com\"");
    let nexus = pki.serve(spec, "").start_at_once().await;
    let said = |warnings: Vec<nexus::problem::Problem>| warnings.iter().map(ToString::to_string).collect::<String>();
    let warning = said(nexus.tls().warnings());
    for part in ["server.tls.certificate", "is for localhost, 127.0.0.1, and not for \"mcp.contoso.com\"", "subject alternative name"] {
        assert!(warning.contains(part), "{warning}");
    }
    let covering = pki.servers.sign(Leaf::server(&["mcp.contoso.com"]));
    match nexus.tls().reload(&pki.files(&covering), NOW).unwrap() {
        Swapped::Changed(warnings) => assert_eq!(said(warnings), ""),
        Swapped::Unchanged => panic!("it is another certificate"),
    }
    let wildcard = pki.servers.sign(Leaf::server(&["*.contoso.com"]));
    nexus.tls().reload(&pki.files(&wildcard), NOW).unwrap();
    assert_eq!(said(nexus.tls().warnings()), "");
}

#[tokio::test]
async fn a_chain_that_is_odd_is_served_and_said() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway(), "").start_at_once().await;
    let said = |files: &nexus::sources::MemorySources| {
        nexus.tls().reload(files, NOW).unwrap();
        nexus.tls().warnings().iter().map(ToString::to_string).collect::<String>()
    };
    let mut disordered = pki.servers.intermediate("Server CA 2").intermediate("Server CA 3").sign(Leaf::server(&["localhost"]));
    disordered.certificates.swap(1, 2);
    assert!(said(&pki.files(&disordered)).contains("the chain is not in order"));
    assert!(said(&pki.files(&pki.servers.sign(Leaf::client("a client")))).contains("is not for servers"));
    assert!(said(&pki.files(&pki.servers.sign(Leaf::server(&[])))).contains("has no subject alternative name"));
    let both = pki.server();
    let one_file = pki.files(&both).with_file("/tls/server.pem", both.pem() + &both.key_pem());
    assert!(said(&one_file).contains("holds a private key as well"));
    let old = Pki { servers: pki.servers, clients: Authority::expired_root("Old CA") };
    assert_eq!(said(&old.files(&both)), "", "a file that no key names is not read");
}
