//! One call whose server has asked something: waits for its client, passes the answers on, and goes on.

mod rounds;

use std::{future::pending, ops::ControlFlow, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Attached, Attachment, Incoming, Retry,
    attachment::attach,
    table::{Held, Place},
};
use crate::{
    bridge,
    gateway::{
        Gateway,
        adapt::Adapted,
        relay::{Relay, Sorted, Taken, read},
    },
    mcp::{Id, Message},
    upstream::UpstreamError,
};

/// What a server asks within this time becomes one round.
const GATHER: Duration = Duration::from_millis(20);
/// A result is remembered for so long after the answers came, for a client that did not get it.
const REPEAT: Duration = Duration::from_secs(60);
/// How often a server may ask in one call.
const MAX_ROUNDS: u32 = 64;
/// Requests of the server that are open at a time.
const MAX_QUESTIONS: usize = 32;
/// Requests of the client that wait for the same result.
const MAX_ATTACHED: usize = 4;
/// Longest wait for a server to take the news that nobody answered.
const GOODBYE: Duration = Duration::from_secs(5);

/// A server's request and the key under which the client sees it.
struct Question {
    key: String,
    request: Message,
    _held: Held,
}

/// How the call ended upstream.
enum End {
    Answer(Box<Message>),
    Failed(UpstreamError),
}

impl End {
    fn bytes(&self) -> usize {
        match self {
            Self::Answer(message) => message.bytes().len(),
            Self::Failed(_) => 0,
        }
    }
}

enum Phase {
    /// The server works, and the client has a request open. The call is given up at `idle`, moved on by every message,
    /// and at `last`.
    Running { idle: Instant, last: Instant, gather: Option<Instant> },
    /// The client knows what is asked.
    Waiting { until: Instant, expires: Duration },
    /// Nothing more happens; the end is kept for a repeat.
    Over { until: Instant },
}

/// The round that was answered last.
struct Answered {
    round: u32,
    digest: [u8; 32],
    at: Instant,
}

enum Event {
    Said(Option<Result<Bytes, UpstreamError>>),
    Retry(Retry),
    /// Every client that waited has hung up.
    Gone,
    /// An answer could not be brought to the server.
    Undelivered(UpstreamError),
    Due,
}

struct Call {
    gateway: Arc<Gateway>,
    relay: Relay,
    incoming: Incoming,
    attached: Vec<Attachment>,
    /// Asked in this round.
    open: Vec<Question>,
    /// For the next one.
    gathered: Vec<Question>,
    asked: u32,
    round: u32,
    answered: Option<Answered>,
    phase: Phase,
    end: Option<(End, Held)>,
    /// From the first round on.
    place: Option<Place>,
    undelivered: (mpsc::Sender<UpstreamError>, mpsc::Receiver<UpstreamError>),
}

/// Carries on with a call whose server has asked its first question. Gives the client's end.
pub(in crate::gateway) fn park(incoming: Incoming, mut relay: Relay, question: Message) -> Attached {
    if let Some(askable) = &mut relay.aside().askable {
        askable.forget_arguments();
    }
    let (attachment, attached) = attach(relay.client_id().clone(), relay.token(), relay.log());
    let gateway = Arc::clone(relay.gateway());
    let phase = running(&relay);
    let mut call = Call {
        gateway: Arc::clone(&gateway),
        relay,
        incoming,
        attached: vec![attachment],
        open: Vec::new(),
        gathered: Vec::new(),
        asked: 0,
        round: 0,
        answered: None,
        phase,
        end: None,
        place: None,
        undelivered: mpsc::channel(1),
    };
    call.ask(question);
    let shutdown = gateway.shutdown.clone();
    gateway.tasks.spawn(async move {
        tokio::select! {
            () = Box::pin(call.run()) => {}
            () = shutdown.cancelled() => {}
        }
    });
    attached
}

fn running(relay: &Relay) -> Phase {
    let now = Instant::now();
    Phase::Running { idle: now + relay.call_timeout(), last: now + relay.call_timeout_max(), gather: None }
}

impl Call {
    async fn run(mut self) {
        loop {
            let event = self.next().await;
            if self.take(event).await.is_break() {
                return;
            }
        }
    }

    async fn next(&mut self) -> Event {
        let Self { gateway, relay, incoming, attached, phase, end, place, undelivered, .. } = self;
        let (hears, is_running) = (end.is_none(), matches!(phase, Phase::Running { .. }));
        let max = gateway.config().bounds.max_event;
        let due = match phase {
            Phase::Running { idle, last, gather } => (*idle).min(*last).min(gather.unwrap_or(*last)),
            Phase::Waiting { until, .. } | Phase::Over { until } => *until,
        };
        let retry = async {
            match place.as_mut() {
                Some(place) => place.retries.recv().await,
                None => pending().await,
            }
        };
        let gone = async {
            for attachment in attached.iter() {
                attachment.gone().await;
            }
        };
        tokio::select! {
            said = incoming.next(max), if hears => Event::Said(said),
            said = relay.aside().next(), if hears => Event::Said(Some(Ok(said))),
            Some(retry) = retry => Event::Retry(retry),
            () = gone, if is_running => Event::Gone,
            Some(error) = undelivered.1.recv() => Event::Undelivered(error),
            () = sleep_until(due) => Event::Due,
        }
    }

    async fn take(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Said(Some(Ok(message))) => return self.hear(message).await,
            Event::Said(Some(Err(error))) => return self.ended(End::Failed(error)).await,
            Event::Said(None) => {
                let error = self.relay.premature_end().await;
                return self.ended(End::Failed(error)).await;
            }
            Event::Retry(retry) => return self.retry(retry).await,
            // Closing the stream of a modern request cancels it (MCP 2026-07-28, basic/patterns/cancellation): the server
            // is told when the relay is dropped.
            Event::Gone => return ControlFlow::Break(()),
            Event::Undelivered(error) => {
                if self.end.is_none() {
                    return self.ended(End::Failed(error)).await;
                }
            }
            Event::Due => return self.due().await,
        }
        ControlFlow::Continue(())
    }

    async fn hear(&mut self, message: Bytes) -> ControlFlow<()> {
        if let Phase::Running { idle, .. } = &mut self.phase {
            *idle = Instant::now() + self.relay.call_timeout();
        }
        let message = match read(message) {
            Ok(message) => message,
            Err(error) => return self.ended(End::Failed(error)).await,
        };
        match self.relay.sort(&message) {
            Sorted::Response => return self.ended(End::Answer(Box::new(message))).await,
            Sorted::Other(Taken::Send(message)) => {
                // While the client thinks, nobody is there to hear of progress.
                if let Some(attachment) = self.attached.last()
                    && !attachment.send(message).await
                {
                    self.attached.pop();
                    if self.attached.is_empty() {
                        return ControlFlow::Break(());
                    }
                }
            }
            Sorted::Other(Taken::Asked(question)) => self.ask(*question),
            Sorted::Other(Taken::Withdrawn(id)) => self.withdraw(&id),
            Sorted::Other(Taken::Nothing | Taken::Last(..) | Taken::Unfinished(_)) => {}
        }
        ControlFlow::Continue(())
    }

    /// Makes room for what is held for the client.
    fn hold(&self, bytes: usize) -> Option<Held> {
        let principal = &self.relay.askable()?.principal;
        self.gateway.parking.hold(principal, bytes)
    }

    fn ask(&mut self, request: Message) {
        let open = || self.open.iter().chain(&self.gathered);
        let bytes: usize = open().map(|question| question.request.bytes().len()).sum();
        let fits = bytes + request.bytes().len() <= self.gateway.config().bounds.max_event;
        let may_be_asked = fits && open().count() < MAX_QUESTIONS && self.round < MAX_ROUNDS;
        let Some(held) = may_be_asked.then(|| self.hold(request.bytes().len())).flatten() else {
            return self.relay.decline(&request);
        };
        self.asked += 1;
        self.gathered.push(Question { key: format!("ask-{}", self.asked), request, _held: held });
        if let Phase::Running { gather, .. } = &mut self.phase {
            gather.get_or_insert_with(|| Instant::now() + GATHER);
        }
    }

    fn withdraw(&mut self, id: &Id) {
        for questions in [&mut self.open, &mut self.gathered] {
            questions.retain(|question| question.request.id() != Some(id));
        }
    }

    async fn due(&mut self) -> ControlFlow<()> {
        let now = Instant::now();
        match self.phase {
            Phase::Running { gather: Some(at), .. } if now >= at => {
                self.begin_round().await;
                ControlFlow::Continue(())
            }
            Phase::Running { idle, last, .. } if now >= idle || now >= last => {
                let limit = if now >= last { self.relay.call_timeout_max() } else { self.relay.call_timeout() };
                self.ended(End::Failed(UpstreamError::TimedOut(limit))).await
            }
            Phase::Running { .. } => ControlFlow::Continue(()),
            Phase::Waiting { .. } => {
                self.give_up().await;
                ControlFlow::Break(())
            }
            Phase::Over { .. } => ControlFlow::Break(()),
        }
    }

    async fn ended(&mut self, end: End) -> ControlFlow<()> {
        self.relay.aside().membership = None;
        if matches!(&end, End::Failed(error) if !error.leaves_it_working()) {
            self.relay.settle();
        }
        if !matches!(self.phase, Phase::Waiting { .. }) {
            return self.tell_end(end).await;
        }
        match self.hold(end.bytes()) {
            Some(held) => self.end = Some((end, held)),
            None => {
                tracing::warn!(upstream = %self.relay.upstream(), "too much is held for clients that are away; a result is dropped");
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Gives the end to everybody who waits, and keeps it for a while where it may be asked for once more.
    async fn tell_end(&mut self, end: End) -> ControlFlow<()> {
        for attachment in std::mem::take(&mut self.attached) {
            self.relay.turn_to(&attachment);
            let last = match &end {
                End::Answer(message) => match self.relay.adapt_last((**message).clone()) {
                    Ok(Adapted::Ready(body, _)) => Ok(body),
                    Ok(Adapted::Unfinished(_)) => Err(UpstreamError::protocol("a result of another revision")),
                    Err(error) => Err(error),
                },
                End::Failed(error) => Err(error.clone()),
            };
            let last = last.map_err(|error| self.relay.failure(error));
            attachment.finish(last).await;
        }
        let (Some(answered), Some(place)) = (&self.answered, &self.place) else { return ControlFlow::Break(()) };
        let Some(held) = self.hold(end.bytes()) else { return ControlFlow::Break(()) };
        if !place.is_over(self.gateway.config().parked) {
            return ControlFlow::Break(());
        }
        self.phase = Phase::Over { until: answered.at + REPEAT };
        self.open.clear();
        self.gathered.clear();
        self.incoming = Incoming::Ended;
        self.end = Some((end, held));
        ControlFlow::Continue(())
    }

    /// Nobody came back: the server is told, for what it asked and then, by the relay's end, for the call.
    async fn give_up(&mut self) {
        for question in self.open.drain(..).chain(self.gathered.drain(..)) {
            if let (None, Some(answer)) = (&self.end, bridge::gave_up(&question.request)) {
                let _ = timeout(GOODBYE, self.relay.send_up(answer)).await;
            }
        }
    }
}
