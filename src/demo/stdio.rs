//! A demo upstream on stdin and stdout.

use std::{io, pin::pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{
    calendar::Calendar,
    inventory::Inventory,
    notes::Notes,
    server::{Reply, Sent, Upstream, converse},
};
use crate::mcp::{
    Message,
    errors::code,
    lines::{Line, LineReader},
};

/// Longest message taken.
const MAX_LINE: usize = 4 * 1024 * 1024;

/// The upstreams that `nexus demo-upstream NAME` knows.
pub const NAMES: [&str; 3] = ["notes", "calendar", "inventory"];

/// Serves one of [`NAMES`] until stdin ends (MCP basic/lifecycle, "Shutdown").
///
/// # Errors
/// An unknown name (`InvalidInput`), or the client closed our stdout while we wrote.
pub async fn run(name: &str, stdin: impl AsyncRead, stdout: impl AsyncWrite) -> io::Result<()> {
    match name {
        "notes" => serve(Notes::default(), stdin, stdout).await,
        "calendar" => serve(Calendar, stdin, stdout).await,
        "inventory" => serve(Inventory::default(), stdin, stdout).await,
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("there is no demo upstream \"{name}\"; there are {}", NAMES.join(", ")),
        )),
    }
}

async fn serve<U: Upstream>(upstream: U, stdin: impl AsyncRead, stdout: impl AsyncWrite) -> io::Result<()> {
    let upstream = Arc::new(upstream);
    let (mut stdin, mut stdout) = (pin!(stdin), pin!(stdout));
    let mut reader = LineReader::new(MAX_LINE);
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(16 * 1024);
        if stdin.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let mut lines = Vec::new();
        reader.push(buffer.split().freeze(), &mut |line| lines.push(line));
        for line in lines {
            match parse(line) {
                Ok(message) => {
                    let mut sent = pin!(converse(Arc::clone(&upstream), message, None));
                    while let Some(sent) = sent.next().await {
                        let (Sent::Notification(body) | Sent::Reply(Reply { body, .. })) = sent;
                        write(&mut stdout, &body).await?;
                    }
                }
                Err(Reply { body, .. }) => write(&mut stdout, &body).await?,
            }
        }
    }
}

fn parse(line: Line) -> Result<Message, Reply> {
    match line {
        Line::Text(bytes) => Message::parse(bytes).map_err(|error| Reply::unreadable(&error)),
        Line::TooLong { .. } => Err(Reply::error(None, 413, code::INVALID_REQUEST, "the message is longer than 4 MiB", None)),
    }
}

async fn write(stdout: &mut (impl AsyncWrite + Unpin), body: &Bytes) -> io::Result<()> {
    stdout.write_all(body).await?;
    stdout.write_all(b"\n").await?;
    stdout.flush().await
}
