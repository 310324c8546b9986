//! Receivers that fail, hang, or come back after a restart.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderValue, Response, StatusCode, header};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::support::{
    fake::legacy,
    nexus::gateway,
    pki::{Authority, Leaf},
    tls_peer::server_config,
};
use crate::tls_policy::way::proxy;

/// A gateway with something to tell.
async fn with_a_certificate_near_its_end() -> Nexus {
    let ca = Authority::root("Company CA");
    let config = server_config(&ca.sign(Leaf::server(&["localhost"]).ends_in(5)));
    gateway().file("/ca.pem", ca.pem()).upstream("crm", legacy().tool("x").https(config).toml(TRUSTING)).start().await
}

/// Refuses so many requests before it takes one.
pub(super) async fn refusing(times: usize, status: StatusCode) -> Peer {
    let left = Arc::new(AtomicUsize::new(times));
    Peer::plain_answering(move || {
        let refuse = left.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        let mut response = Response::new(bytes::Bytes::new());
        *response.status_mut() = if refuse { status } else { StatusCode::ACCEPTED };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("300"));
        }
        response
    })
    .await
}

#[tokio::test]
async fn a_receiver_that_fails_is_asked_again_while_a_hanging_one_keeps_no_other_waiting() {
    let hanging = Peer::start(|mut stream, _| async move {
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    })
    .await;
    let failing = refusing(2, StatusCode::INTERNAL_SERVER_ERROR).await;
    let fine = Peer::plain().await;
    let nexus = with_a_certificate_near_its_end().await;
    let watched = watch(&nexus, &format!("{}{}{}", webhook(&hanging), webhook(&failing), webhook(&fine)));
    hears(&fine, 1).await;
    watched.checks("crm", 3).await;
    let tries = hears(&failing, 3).await;
    assert!(tries.iter().all(|alert| alert == &tries[0]), "the same alert each time: {tries:?}");
    let channels = watched.board.channels();
    until("two alerts to be counted", || channels[1].sent() + channels[2].sent() == 2).await;
    let counts: Vec<_> = channels.iter().map(|c| (c.name.as_str(), c.sent(), c.failed(), c.waiting())).collect();
    assert_eq!(counts, [("webhook 1", 0, 0, 1), ("webhook 2", 1, 2, 0), ("webhook 3", 1, 0, 0)]);
}

#[tokio::test]
async fn a_receiver_that_refuses_for_good_is_not_asked_again() {
    let gone = refusing(1, StatusCode::GONE).await;
    let nexus = with_a_certificate_near_its_end().await;
    let watched = watch(&nexus, &webhook(&gone));
    let channels = watched.board.channels();
    until("the alert to be given up", || channels[0].dropped() == 1).await;
    watched.checks("crm", 3).await;
    assert_eq!((told(&gone).len(), channels[0].waiting()), (1, 0));
}

#[tokio::test]
async fn what_was_told_survives_a_restart_and_so_does_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let state = format!("[state]\ndirectory = {:?}\n", folder.path());
    let failing = refusing(1, StatusCode::BAD_GATEWAY).await;
    let fine = Peer::plain().await;
    let nexus = with_a_certificate_near_its_end().await;
    let channels = format!("{state}{}{}", webhook(&fine), webhook(&failing));

    let watched = watch(&nexus, &channels);
    first_is_told(&watched).await;
    hears(&failing, 1).await;
    watched.watch.end().await;

    let watched = watch(&nexus, &channels);
    assert_eq!(watched.board.alerts().len(), 1, "known before anything was looked at");
    let tries = hears(&failing, 2).await;
    assert_eq!(tries[0], tries[1], "what could not be sent is sent");
    watched.checks("crm", 3).await;
    assert_eq!(told(&fine).len(), 1, "what was told is not told again");
    watched.watch.end().await;

    // Without the file everything starts afresh.
    std::fs::write(folder.path().join("alerts.json"), "not JSON").unwrap();
    let watched = watch(&nexus, &channels);
    hears(&fine, 2).await;
    watched.watch.end().await;
    assert_eq!(std::fs::read_to_string(folder.path().join("alerts.json.unusable")).unwrap(), "not JSON");
}

/// The first channel's receiver has said that it has the alert; before that it may get it again.
async fn first_is_told(watched: &Watched) {
    let channels = watched.board.channels();
    until("the receiver's answer", || channels[0].sent() == 1).await;
}

/// Words that hold for one receiver after the restart or reload in which its channel moved.
async fn moved(change: impl AsyncFnOnce(Watched, &Nexus, &str) -> Watched) {
    let folder = tempfile::tempdir().unwrap();
    let state = format!("[state]\ndirectory = {:?}\n", folder.path());
    let failing = refusing(1, StatusCode::BAD_GATEWAY).await;
    let (fine, new) = (Peer::plain().await, Peer::plain().await);
    let nexus = with_a_certificate_near_its_end().await;
    let watched = watch(&nexus, &format!("{state}{}{}", webhook(&fine), webhook(&failing)));
    first_is_told(&watched).await;
    hears(&failing, 1).await;
    let watched = change(watched, &nexus, &format!("{state}{}{}{}", webhook(&new), webhook(&failing), webhook(&fine))).await;
    let tries = hears(&failing, 2).await;
    assert_eq!(tries[0], tries[1], "what waited finds its receiver");
    watched.checks("crm", 3).await;
    assert_eq!((told(&fine).len(), told(&failing).len(), told(&new).len()), (1, 2, 0), "nothing is told twice, or to somebody else");
    let text = std::fs::read_to_string(folder.path().join("alerts.json")).unwrap();
    assert!(!text.contains(&failing.address.to_string()), "a URL may be a secret: {text}");
}

#[tokio::test]
async fn what_waits_finds_its_receiver_wherever_it_stands_in_the_file_after_a_restart() {
    moved(async |watched, nexus, toml| {
        watched.watch.end().await;
        watch(nexus, toml)
    })
    .await;
}

#[tokio::test]
async fn channels_are_reloaded_without_repeating_or_losing_an_alert() {
    moved(async |watched, _, toml| {
        watched.set_up(toml);
        watched
    })
    .await;
}

#[tokio::test]
async fn a_mended_channel_is_tried_at_once_and_a_removed_one_never_again() {
    let nexus = with_a_certificate_near_its_end().await;
    let (mended, removed) =
        (refusing(1, StatusCode::SERVICE_UNAVAILABLE).await, refusing(usize::MAX, StatusCode::SERVICE_UNAVAILABLE).await);
    let watched = watch(&nexus, &format!("{}{}", webhook(&mended), webhook(&removed)));
    hears(&mended, 1).await;
    hears(&removed, 1).await;
    watched.set_up(&webhook(&mended));
    hears(&mended, 2).await;
    let channels = watched.board.channels();
    until("nothing waits", || channels[0].waiting() == 0).await;
    assert_eq!((channels.len(), told(&removed).len()), (1, 1));
}

#[tokio::test]
async fn other_spans_and_limits_take_effect_at_the_next_look() {
    let nexus = with_a_certificate_near_its_end().await;
    let receiver = Peer::plain().await;
    let watched = watch(&nexus, &webhook(&receiver));
    assert_eq!(hears(&receiver, 1).await[0]["status"], "firing");
    watched.set_up(&format!("[certificates]\nwarn_before = [\"1d\"]\n{}", webhook(&receiver)));
    assert_eq!(hears(&receiver, 2).await[1]["status"], "resolved");
    assert!(watched.board.alerts().is_empty());
}

#[tokio::test]
async fn a_refused_credential_is_tried_again_since_another_may_come() {
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        let receiver = refusing(1, status).await;
        let nexus = with_a_certificate_near_its_end().await;
        let watched = watch(&nexus, &webhook(&receiver));
        assert_eq!(hears(&receiver, 2).await.len(), 2);
        let channels = watched.board.channels();
        until("the alert to be sent", || channels[0].sent() == 1).await;
    }
}

#[tokio::test]
async fn a_channel_has_a_way_of_its_own() {
    let receiver = Peer::plain().await;
    let (proxy, mut heads) = proxy("HTTP/1.1 200 Connection established\r\n\r\n").await;
    let nexus = with_a_certificate_near_its_end().await;
    let _watched = watch(&nexus, &format!("{}proxy = \"http://{proxy}\"\n", webhook(&receiver)));
    hears(&receiver, 1).await;
    assert!(heads.recv().await.unwrap().starts_with(&format!("CONNECT {} ", receiver.address)));
}

#[tokio::test]
async fn what_is_not_in_the_file_any_more_is_over_with_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let state = format!("[state]\ndirectory = {:?}\n", folder.path());
    let nexus = with_a_certificate_near_its_end().await;
    let watched = watch(&nexus, &state);
    until("an alert", || watched.board.alerts().len() == 1).await;
    watched.watch.end().await;
    let receiver = Peer::plain().await;
    let empty = gateway().start().await;
    let watched = watch(&empty, &format!("{state}{}", webhook(&receiver)));
    assert_eq!(hears(&receiver, 1).await[0]["status"], "resolved");
    assert!(watched.board.alerts().is_empty());
}

#[tokio::test]
async fn a_receiver_is_verified_under_the_channels_own_policy() {
    let ca = Authority::root("Receivers CA");
    let receiver = Peer::tls(server_config(&ca.sign(Leaf::server(&["localhost"])))).await;
    let stranger = Peer::tls(server_config(&Authority::root("Other CA").sign(Leaf::server(&["localhost"])))).await;
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca_file.path(), ca.pem()).unwrap();
    let config = server_config(&ca.sign(Leaf::server(&["localhost"]).ends_in(5)));
    let path = ca_file.path().to_str().unwrap();
    let nexus = gateway()
        .file("/ca.pem", ca.pem())
        .file(path, ca.pem())
        .upstream("crm", legacy().tool("x").https(config).toml(TRUSTING))
        .start()
        .await;
    let channel = |peer: &Peer| {
        format!(
            "[[certificates.alerts]]\ntype = \"webhook\"\nurl = \"https://localhost:{}/\"\ntls = {{ root_ca_cert_path = {path:?} }}\n",
            peer.address.port()
        )
    };
    let watched = watch(&nexus, &format!("{}{}", channel(&stranger), channel(&receiver)));
    hears(&receiver, 1).await;
    let channels = watched.board.channels();
    until("a refusal", || channels[0].failed() >= 1).await;
    assert_eq!(told(&stranger).len(), 0, "a stranger hears nothing");
}
