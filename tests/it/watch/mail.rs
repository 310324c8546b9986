//! Mail to a server that takes notes.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::support::{
    fake::legacy,
    nexus::gateway,
    pki::{Authority, Leaf},
    tls_peer::server_config,
};

/// What a mail server was told, line by line, and whether that was under TLS.
type Lines = Arc<Mutex<Vec<(bool, String)>>>;

/// Speaks SMTP until STARTTLS or the end; `true`: TLS is wanted.
async fn converse(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), secure: bool, greets: bool, lines: &Lines, slips: bool) -> bool {
    let mut stream = BufReader::new(stream);
    if greets {
        let _ = stream.write_all(b"220 mail.test ESMTP\r\n").await;
    }
    let mut in_data = false;
    loop {
        let mut line = String::new();
        if !stream.read_line(&mut line).await.is_ok_and(|count| count > 0) {
            return false;
        }
        let line = line.trim_end().to_owned();
        lines.lock().push((secure, line.clone()));
        let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        let reply: &str = match (in_data, verb.as_str()) {
            (true, ".") => {
                in_data = false;
                "250 taken"
            }
            (true, _) => continue,
            (_, "EHLO") if secure => "250-mail.test\r\n250 AUTH PLAIN LOGIN",
            (_, "EHLO") => "250-mail.test\r\n250 STARTTLS",
            (_, "STARTTLS") if slips => "220 go ahead\r\n250 injected",
            (_, "STARTTLS") => "220 go ahead",
            (_, "AUTH") => "235 welcome",
            (_, "DATA") => {
                in_data = true;
                "354 go on"
            }
            (_, "QUIT") => "221 bye",
            _ => "250 ok",
        };
        if stream.write_all(format!("{reply}\r\n").as_bytes()).await.is_err() || verb == "QUIT" {
            return false;
        }
        if verb == "STARTTLS" {
            return true;
        }
    }
}

/// A mail server; `slips`: somebody slips a reply in before TLS begins.
async fn mail_server(config: ServerConfig, implicit: bool, slips: Arc<AtomicBool>) -> (Peer, Lines) {
    let lines = Lines::default();
    let (acceptor, noted) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&lines));
    let peer = Peer::start(move |mut stream, _| {
        let (acceptor, lines, slips) = (acceptor.clone(), Arc::clone(&noted), Arc::clone(&slips));
        async move {
            if !implicit && !converse(&mut stream, false, true, &lines, slips.load(Ordering::SeqCst)).await {
                return;
            }
            if let Ok(mut stream) = acceptor.accept(stream).await {
                converse(&mut stream, true, implicit, &lines, false).await;
            }
        }
    })
    .await;
    (peer, lines)
}

async fn send(implicit: bool, slips: bool) -> (Watched, Nexus, Lines, Peer, Arc<AtomicBool>) {
    let ca = Authority::root("Company CA");
    let leaf = || Leaf::server(&["localhost"]);
    let slips = Arc::new(AtomicBool::new(slips));
    let (peer, lines) = mail_server(server_config(&ca.sign(leaf())), implicit, Arc::clone(&slips)).await;
    let config = server_config(&ca.sign(leaf().ends_in(5)));
    let nexus = gateway().file("/ca.pem", ca.pem()).upstream("crm", legacy().tool("x").https(config).toml(TRUSTING)).start().await;
    let scheme = if implicit { "smtps" } else { "smtp" };
    let channel = format!(
        "[[certificates.alerts]]\ntype = \"email\"\nsmtp_url = \"{scheme}://nexus:s3cret@localhost:{}\"\n\
         from = \"Nexus <nexus@example.com>\"\nto = [\"ops@example.com\", \"boss@example.com\"]\ntls = {{ root_ca_cert_path = \"/ca.pem\" }}\n",
        peer.address.port()
    );
    let watched = watch(&nexus, &channel);
    (watched, nexus, lines, peer, slips)
}

fn said(lines: &Lines, secure: bool) -> Vec<String> {
    lines.lock().iter().filter(|(under_tls, _)| *under_tls == secure).map(|(_, line)| line.clone()).collect()
}

#[tokio::test]
async fn a_mail_goes_out_over_tls_with_its_login() {
    for implicit in [true, false] {
        let (watched, _nexus, lines, _peer, _) = send(implicit, false).await;
        let channels = watched.board.channels();
        until("the mail", || channels[0].sent() == 1).await;
        let said_under_tls = said(&lines, true);
        let has = |start: &str| said_under_tls.iter().any(|line| line.starts_with(start));
        // "\0nexus\0s3cret"
        assert!(has("AUTH PLAIN AG5leHVzAHMzY3JldA=="), "{said_under_tls:?}");
        assert!(has("MAIL FROM:<nexus@example.com>") && has("RCPT TO:<ops@example.com>") && has("RCPT TO:<boss@example.com>"));
        assert!(has("Subject: [nexus] error: the certificate"), "{said_under_tls:?}");
        let plain = said(&lines, false);
        let expected: &[&str] = if implicit { &[] } else { &["EHLO [127.0.0.1]", "STARTTLS"] };
        assert_eq!(plain, expected, "nothing else is said before TLS");
    }
}

#[tokio::test]
async fn a_reply_slipped_in_before_tls_ends_the_conversation() {
    let (watched, _nexus, lines, _peer, slips) = send(false, true).await;
    let channels = watched.board.channels();
    until("a refusal", || channels[0].failed() >= 1).await;
    assert_eq!(said(&lines, true), Vec::<String>::new(), "no TLS is built on it");
    slips.store(false, Ordering::SeqCst);
    until("the mail", || channels[0].sent() == 1).await;
}
