//! Bodies that stream, and the messages in them.

#![allow(clippy::unwrap_used, reason = "a peer that cannot speak has failed its test")]

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

pub(crate) type Body = BoxBody<Bytes, io::Error>;

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// The sending end of a body that a test writes as it goes. The body ends when this is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Sender(mpsc::Sender<io::Result<Bytes>>);

pub(crate) fn stream() -> (Sender, Body) {
    let (tx, rx) = mpsc::channel::<io::Result<Bytes>>(16);
    let frames = futures_util::stream::unfold(rx, |mut rx| async {
        let next = rx.recv().await?;
        Some((next.map(Frame::data), rx))
    });
    (Sender(tx), BoxBody::new(StreamBody::new(frames)))
}

impl Sender {
    /// `false` when the reader is gone.
    pub(crate) async fn bytes(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(Ok(bytes.into())).await.is_ok()
    }

    /// Sends a message as an event.
    pub(crate) async fn event(&self, message: impl AsRef<str>) -> bool {
        self.bytes(event(message)).await
    }

    /// Breaks the body off, and the connection with it.
    pub(crate) async fn break_off(self) {
        let _ = self.0.send(Err(io::Error::other("the test breaks it off"))).await;
    }

    /// Waits until nobody reads any more.
    pub(crate) async fn gone(&self) {
        self.0.closed().await;
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

pub(crate) fn event(message: impl AsRef<str>) -> String {
    format!("event: message\ndata: {}\n\n", message.as_ref())
}

/// Takes the next whole event out of `buffer`: its data, or `None` for a comment.
pub(crate) fn take_event(buffer: &mut BytesMut) -> Option<Option<String>> {
    let end = buffer.windows(2).position(|two| two == b"\n\n")?;
    let event = buffer.split_to(end);
    buffer.advance(2);
    let text = String::from_utf8(event.to_vec()).unwrap();
    let data: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("data:")).map(|data| data.strip_prefix(' ').unwrap_or(data)).collect();
    // An event that only says where the stream is carries no message.
    Some(data.iter().any(|line| !line.is_empty()).then(|| data.join("\n")))
}
