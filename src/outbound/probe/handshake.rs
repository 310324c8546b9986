//! One TLS handshake, driven by hand so that a failed one still tells how far it got. Writes no application data.

use std::{io, sync::Arc, time::Duration};

use rustls::{ClientConnection, ProtocolVersion, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, timeout, timeout_at},
};

use crate::tls::{Negotiated, Observed};

/// How long a server has to refuse our client certificate after a TLS 1.3 handshake, which is over before the server has
/// looked at it (RFC 8446 §4.4.2.4).
const VERDICT: Duration = Duration::from_millis(400);

/// Longest wait for an alert after a failed write, and for the last alert of our own to go out.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Most bytes that a server may send in a handshake.
const MOST_BYTES: usize = 1 << 20;

/// How a handshake ended other than well.
#[derive(Debug)]
pub(super) enum Broken {
    /// By an alert, or by a refusal of ours.
    Tls(rustls::Error),
    /// By the connection: a reset, a close.
    Io(io::Error),
    /// Closed or reset after the handshake, before a first answer.
    After,
    Timeout,
}

/// What came of one handshake.
#[derive(Debug)]
pub(super) struct Handshaken {
    pub(super) outcome: Result<(), Broken>,
    pub(super) negotiated: Option<Negotiated>,
}

/// Shakes hands, and waits for the server's verdict on our client certificate where it comes later.
pub(super) async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    config: rustls::ClientConfig,
    name: ServerName<'static>,
    observed: &Observed,
    deadline: Instant,
) -> Handshaken {
    let mut connection = match ClientConnection::new(Arc::new(config), name) {
        Ok(connection) => connection,
        Err(error) => return Handshaken { outcome: Err(Broken::Tls(error)), negotiated: None },
    };
    let mut outcome = match timeout_at(deadline, drive(stream, &mut connection)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Broken::Timeout),
    };
    let judged_later = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3) && observed.asked_for_client_certificate();
    if outcome.is_ok() && judged_later {
        outcome = timeout(VERDICT, verdict(stream, &mut connection)).await.unwrap_or(Ok(()));
    }
    let negotiated = negotiated(&connection, observed);
    connection.send_close_notify();
    // The server may be gone already.
    let _ = timeout(LAST_WORDS, flush(stream, &mut connection)).await;
    Handshaken { outcome, negotiated }
}

async fn drive<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, connection: &mut ClientConnection) -> Result<(), Broken> {
    let mut room = MOST_BYTES;
    loop {
        if let Err(error) = flush(stream, connection).await {
            // A server that hangs up on us may have said why before.
            let heard = timeout(LAST_WORDS, listen(stream, connection)).await;
            return Err(heard.ok().flatten().unwrap_or(Broken::Io(error)));
        }
        if !connection.is_handshaking() {
            return Ok(());
        }
        let count = receive(stream, connection).await?;
        room = room.saturating_sub(count);
        if count == 0 || room == 0 {
            return Err(Broken::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Reads until the server says something that decides.
async fn verdict<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, connection: &mut ClientConnection) -> Result<(), Broken> {
    loop {
        match receive(stream, connection).await {
            Ok(0) | Err(Broken::Io(_)) => return Err(Broken::After),
            Ok(_) if is_answered(connection)? => return Ok(()),
            Ok(_) => {}
            Err(broken) => return Err(broken),
        }
    }
}

/// The server sent data, or ended the connection in good order.
fn is_answered(connection: &mut ClientConnection) -> Result<bool, Broken> {
    let state = connection.process_new_packets().map_err(Broken::Tls)?;
    Ok(state.plaintext_bytes_to_read() > 0 || state.peer_has_closed())
}

/// Reads until an alert or the end; `None` when there was no alert.
async fn listen<S: AsyncRead + Unpin>(stream: &mut S, connection: &mut ClientConnection) -> Option<Broken> {
    loop {
        match receive(stream, connection).await {
            Ok(0) | Err(Broken::Io(_)) => return None,
            Ok(_) => {}
            Err(broken) => return Some(broken),
        }
    }
}

/// Takes in what comes next; 0 at the end of the stream.
async fn receive<S: AsyncRead + Unpin>(stream: &mut S, connection: &mut ClientConnection) -> Result<usize, Broken> {
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer).await.map_err(Broken::Io)?;
    let mut rest = buffer.get(..count).unwrap_or_default();
    while !rest.is_empty() {
        connection.read_tls(&mut rest).map_err(Broken::Io)?;
        connection.process_new_packets().map_err(Broken::Tls)?;
    }
    Ok(count)
}

async fn flush<S: AsyncWrite + Unpin>(stream: &mut S, connection: &mut ClientConnection) -> io::Result<()> {
    while connection.wants_write() {
        let mut out = Vec::new();
        connection.write_tls(&mut out)?;
        stream.write_all(&out).await?;
    }
    stream.flush().await
}

fn negotiated(connection: &ClientConnection, observed: &Observed) -> Option<Negotiated> {
    let version = match connection.protocol_version()? {
        ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
        ProtocolVersion::TLSv1_2 => "TLS 1.2".to_owned(),
        other => format!("{other:?}"),
    };
    let cipher = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    let group = connection.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
    Some(Negotiated {
        version,
        cipher: cipher.unwrap_or_default(),
        group: group.unwrap_or_default(),
        alpn: connection.alpn_protocol().map(|name| crate::tls::shown(&String::from_utf8_lossy(name))),
        client_cert_requested: observed.asked_for_client_certificate(),
        accepted_client_cas: observed.accepted_client_cas(),
        ocsp_stapled: observed.staple().is_some(),
    })
}
