//! The gateway over stdin and stdout, for clients that launch a process (MCP, basic/transports, stdio).

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::{
    batch::WayIn,
    peer::{Outlet, Peer},
};
use crate::{
    auth::Caller,
    gateway::Gateway,
    mcp::{
        Message,
        errors::{code, error_response},
        lines::{Line, LineReader},
    },
};

/// Lines that wait for a client that does not read.
const OUTBOX: usize = 256;
const CHUNK: usize = 64 * 1024;

/// Serves the one client at the other end until it closes its side.
///
/// # Errors
/// Reading or writing failed.
pub async fn serve(
    gateway: Arc<Gateway>,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin + Send + 'static,
    max_line: usize,
) -> io::Result<()> {
    let (out, mut lines) = mpsc::channel::<Bytes>(OUTBOX);
    let writer = tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            output.write_all(&line).await?;
            if lines.is_empty() {
                output.flush().await?;
            }
        }
        output.flush().await
    });
    let peer = Peer::new(gateway, Outlet::Lines(out), CancellationToken::new());
    let mut reader = LineReader::new(max_line);
    let mut buffer = BytesMut::with_capacity(CHUNK);
    loop {
        buffer.reserve(CHUNK);
        if input.read_buf(&mut buffer).await? == 0 {
            break;
        }
        let mut ready = Vec::new();
        reader.push(buffer.split().freeze(), &mut |line| ready.push(line));
        for line in ready {
            take(&peer, line).await;
        }
        if writer.is_finished() {
            break;
        }
    }
    peer.close();
    drop(peer);
    writer.await.unwrap_or(Ok(()))
}

/// Answers the first request with an error and ends: the client's user sees that, and seldom our stderr.
///
/// # Errors
/// Reading or writing failed.
pub async fn refuse(mut input: impl AsyncRead + Unpin, mut output: impl AsyncWrite + Unpin, words: &str) -> io::Result<()> {
    const FIRST_LINE: usize = 1 << 20;
    let mut reader = LineReader::new(FIRST_LINE);
    let mut buffer = BytesMut::with_capacity(CHUNK);
    let mut first = None;
    while first.is_none() {
        buffer.reserve(CHUNK);
        if input.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        reader.push(buffer.split().freeze(), &mut |line| {
            if let Line::Text(text) = line {
                first.get_or_insert(text);
            }
        });
    }
    let id = first.and_then(|line| Message::parse(line).ok()).and_then(|message| message.id().cloned());
    output.write_all(&to_line(&error_response(id.as_ref(), code::INTERNAL_ERROR, words, None))).await?;
    output.flush().await
}

async fn take(peer: &Arc<Peer>, line: Line) {
    match line {
        Line::Text(bytes) => peer.take(&Caller::local(), bytes, WayIn::Process).await,
        Line::TooLong { .. } => {
            let words = "Invalid request: the line is longer than mcp.bounds.max_line";
            peer.say(error_response(None, code::INVALID_REQUEST, words, None)).await;
        }
    }
}

/// One line: a raw line end can only stand between JSON tokens, where a space means the same.
pub(super) fn to_line(message: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(message.len() + 1);
    line.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    line.push(b'\n');
    line.into()
}
