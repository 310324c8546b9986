//! The gateway over stdin and stdout, for clients that launch a process (MCP, basic/transports, stdio).

use std::{collections::HashMap, io, sync::Arc};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Limited};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};
use tokio_util::task::TaskTracker;

use super::rescue::{rescue, rescue_opening, rescue_parse};
use crate::{
    auth,
    gateway::{Client, Gateway, JsonReply, LegacySession, ModernClient, Reply, UpstreamError},
    mcp::{
        Era, Id, Kind, Message,
        era::{Opening, classify},
        errors::{code, error_response},
        lines::{Line, LineReader},
    },
};

/// Requests in work at once. Further ones are refused: waiting would hold up the client's answers, for which those in
/// work may wait.
const IN_WORK: usize = 256;
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
    let peer = Arc::new(Peer {
        gateway,
        out,
        session: Mutex::default(),
        running: Mutex::default(),
        places: Arc::new(Semaphore::new(IN_WORK)),
        tasks: TaskTracker::new(),
    });
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
            peer.take(line).await;
        }
        if writer.is_finished() {
            break;
        }
    }
    // The client is gone: nobody waits for what is still running.
    for task in peer.running.lock().drain().flat_map(|(_, tasks)| tasks) {
        task.abort();
    }
    if let Some(session) = peer.session.lock().take() {
        peer.gateway.end(&session);
    }
    peer.tasks.close();
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

struct Peer {
    gateway: Arc<Gateway>,
    out: mpsc::Sender<Bytes>,
    session: Mutex<Option<Arc<LegacySession>>>,
    /// Requests in work, by the client's id; more than one where the client uses an id twice.
    running: Mutex<HashMap<Id, Vec<AbortHandle>>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Peer {
    async fn take(self: &Arc<Self>, line: Line) {
        let message = match line {
            Line::Text(bytes) => match Message::parse(bytes) {
                Ok(message) => message,
                Err(error) => return self.say(rescue_parse(&error).body).await,
            },
            Line::TooLong { .. } => {
                let words = "Invalid request: the line is longer than mcp.bounds.max_line";
                return self.say(error_response(None, code::INVALID_REQUEST, words, None)).await;
            }
        };
        let known = self.session.lock().clone();
        let opening = match classify(&message, None, known.is_some()) {
            Ok(opening) => opening,
            Err(error) => return self.say(rescue_opening(&error, message.id()).body).await,
        };
        let client = match (opening, known) {
            (Opening::Initialize, _) => return self.initialize(&message).await,
            (Opening::Modern(_), _) => Client::Modern(Arc::new(ModernClient::default())),
            (Opening::Legacy(_), Some(session)) => Client::Legacy(session),
            // A modern client's notification says no version; a legacy one sends none before initialize.
            (Opening::Legacy(_), None) if message.kind() == Kind::Notification => Client::Modern(Arc::new(ModernClient::default())),
            (Opening::Legacy(_), None) => {
                let words = "Invalid request: send initialize first";
                return self.say(error_response(message.id(), code::INVALID_REQUEST, words, None)).await;
            }
        };
        match message.kind() {
            Kind::Request => self.start(client, message).await,
            Kind::Notification => {
                if let Some(id) =
                    message.cancelled_id().filter(|_| message.method() == "notifications/cancelled" && client.era() == Era::Modern)
                {
                    self.cancel(&id);
                }
                self.gateway.notified(&client, &message).await;
            }
            Kind::Response | Kind::ErrorResponse => self.gateway.answered(&client, message).await,
        }
    }

    async fn initialize(self: &Arc<Self>, message: &Message) {
        match self.gateway.initialize(&auth::identify(), message).await {
            Ok((session, reply)) => {
                let mut outbox = self.gateway.open_stream(&session);
                let ended = session.end_token();
                if let Some(old) = self.session.lock().replace(session) {
                    self.gateway.end(&old);
                }
                self.send(reply, message.id().cloned(), Era::Legacy).await;
                let out = self.out.clone();
                self.tasks.spawn(async move {
                    loop {
                        let message = tokio::select! {
                            message = outbox.next() => message,
                            () = ended.cancelled() => None,
                        };
                        let Some(message) = message else { break };
                        if out.send(to_line(&message)).await.is_err() {
                            break;
                        }
                    }
                });
            }
            Err(error) => self.say(rescue(&error, message.id(), Era::Legacy).body).await,
        }
    }

    async fn start(self: &Arc<Self>, client: Client, message: Message) {
        let Some(id) = message.id().cloned() else { return };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let words = "too many requests at once; try again when one of them is answered";
            return self.say(error_response(Some(&id), code::SERVER_ERROR, words, None)).await;
        };
        let peer = Arc::clone(self);
        let key = id.clone();
        let (registered, begin) = tokio::sync::oneshot::channel::<()>();
        let task = self.tasks.spawn(async move {
            let _place = place;
            // Not before it can be cancelled.
            let _ = begin.await;
            let era = client.era();
            match peer.gateway.handle(&auth::identify(), &client, message).await {
                Ok(reply) => peer.send(reply, Some(id.clone()), era).await,
                Err(error) => peer.say(rescue(&error, Some(&id), era).body).await,
            }
            peer.finished(&id);
        });
        self.running.lock().entry(key).or_default().push(task.abort_handle());
        let _ = registered.send(());
    }

    /// Takes this very task out of the requests in work.
    fn finished(&self, id: &Id) {
        let mut running = self.running.lock();
        let Some(tasks) = running.get_mut(id) else { return };
        tasks.retain(|task| Some(task.id()) != tokio::task::try_id());
        if tasks.is_empty() {
            running.remove(id);
        }
    }

    /// Of two requests with one id neither is cancelled: it could be the wrong one.
    fn cancel(&self, id: &Id) {
        let mut running = self.running.lock();
        if let Some([task]) = running.get(id).map(Vec::as_slice) {
            task.abort();
            running.remove(id);
        }
    }

    async fn send(&self, reply: Reply, id: Option<Id>, era: Era) {
        match reply {
            Reply::Message { body, .. } => self.say(body).await,
            Reply::Pieces(pieces) => self.say(pieces.concat().into()).await,
            Reply::Json(json) => match self.collect(*json).await {
                Ok(whole) => self.say(whole).await,
                Err(words) => self.say(error_response(id.as_ref(), code::INTERNAL_ERROR, &words, None)).await,
            },
            Reply::Events(mut events) => {
                while let Some(next) = events.next().await {
                    match next {
                        Ok(message) => self.say(message).await,
                        Err(error) => self.say(rescue(&error, id.as_ref(), era).body).await,
                    }
                }
            }
        }
    }

    /// A line needs the whole of what an HTTP client gets bit by bit. The error is for the client.
    async fn collect(&self, json: JsonReply) -> Result<Bytes, String> {
        let limit = self.gateway.config().bounds.max_event;
        let error = match Limited::new(json, limit).collect().await {
            Ok(whole) => return Ok(whole.to_bytes()),
            Err(error) => error,
        };
        let Ok(error) = error.downcast::<UpstreamError>() else {
            return Err(format!("the upstream's answer is longer than {limit} bytes (mcp.bounds.max_event)"));
        };
        tracing::warn!(reason = error.reason().code(), detail = %error.explanation().detail, "an answer broke off");
        Err(format!("the upstream's answer broke off: {}", error.reason().words()))
    }

    async fn say(&self, message: Bytes) {
        // Fails only when the client is gone.
        let _ = self.out.send(to_line(&message)).await;
    }
}

/// One line: a raw line end can only stand between JSON tokens, where a space means the same.
fn to_line(message: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(message.len() + 1);
    line.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    line.push(b'\n');
    line.into()
}
