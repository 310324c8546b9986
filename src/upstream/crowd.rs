//! The calls that are under way in a session that several share: which of them what the server says is for.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::Session;
use crate::mcp::LogLevel;

/// Messages that wait for one call beside its own stream; further ones are not taken.
const ASIDE: usize = 16;

/// Those calls in a shared session that can be asked something or want to hear of its log.
#[derive(Debug, Default)]
pub struct Crowd {
    members: Mutex<Vec<Member>>,
    /// The log level that the server was told last.
    level: tokio::sync::Mutex<Option<LogLevel>>,
    hearing: watch::Sender<Hearing>,
}

#[derive(Debug)]
struct Member {
    /// The id of its request in this session.
    id: u64,
    askable: bool,
    level: Option<LogLevel>,
    aside: mpsc::Sender<Bytes>,
}

/// Whether somebody listens to the session's own stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hearing {
    #[default]
    Not,
    Opening,
    /// As far as the server lets us, and again when a stream ends.
    Tried,
    /// The server has no such stream.
    Never,
}

/// A call's place among the others. Its end is the call's leaving.
#[derive(Debug)]
pub struct Membership {
    session: Arc<Session>,
    id: u64,
    aside: mpsc::Receiver<Bytes>,
}

impl Crowd {
    /// Adds a call; `id` is that of its request.
    pub fn join(session: &Arc<Session>, id: u64, askable: bool, level: Option<LogLevel>) -> Membership {
        let (tx, aside) = mpsc::channel(ASIDE);
        session.crowd().members.lock().push(Member { id, askable, level, aside: tx });
        Membership { session: Arc::clone(session), id, aside }
    }

    /// Gives a server's request to the only call that it can be about. `false`: there is none, there are several, or it
    /// takes no more.
    pub fn ask(&self, request: Bytes) -> bool {
        self.give_to_only(request, |member| member.askable)
    }

    /// Gives a log message to the only call that wants any.
    pub fn log(&self, message: Bytes) -> bool {
        self.give_to_only(message, |member| member.level.is_some())
    }

    /// Gives a message to the call whose request has this id.
    pub fn give(&self, id: u64, message: Bytes) -> bool {
        self.give_to_only(message, |member| member.id == id)
    }

    fn give_to_only(&self, message: Bytes, is_meant: impl Fn(&Member) -> bool) -> bool {
        let members = self.members.lock();
        let mut meant = members.iter().filter(|member| !member.aside.is_closed() && is_meant(member));
        match (meant.next(), meant.next()) {
            (Some(only), None) => only.aside.try_send(message).is_ok(),
            _ => false,
        }
    }

    /// The mildest level that any of these calls wants.
    fn wanted(&self) -> Option<LogLevel> {
        self.members.lock().iter().filter_map(|member| member.level).min()
    }

    /// Has the server told, by `tell`, what the calls want, unless it knows. One at a time.
    pub async fn settle_level<F: Future<Output = ()>>(&self, tell: impl FnOnce(LogLevel) -> F) {
        let mut told = self.level.lock().await;
        if let Some(wanted) = self.wanted()
            && *told != Some(wanted)
        {
            tell(wanted).await;
            *told = Some(wanted);
        }
    }

    /// Follows whether somebody listens to the session's own stream.
    pub fn hearing(&self) -> watch::Receiver<Hearing> {
        self.hearing.subscribe()
    }

    /// `true` for the one who is to listen now.
    pub fn begin_hearing(&self) -> bool {
        self.hearing.send_if_modified(|hearing| {
            let begins = *hearing == Hearing::Not;
            if begins {
                *hearing = Hearing::Opening;
            }
            begins
        })
    }

    pub fn hears(&self, hearing: Hearing) {
        self.hearing.send_replace(hearing);
    }
}

impl Membership {
    /// What the server said to this call beside its stream. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.aside.recv().await
    }

    /// Nothing can be said to it beside its stream any more.
    pub fn close(&mut self) {
        self.aside.close();
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.session.crowd().members.lock().retain(|member| member.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mcp::Version,
        upstream::session::{Session, SessionLink},
    };

    fn session() -> Arc<Session> {
        let version = http::HeaderValue::from_static("2025-11-25");
        Arc::new(Session::new(Version::V2025_11_25, SessionLink::Http { id: None, version }, b""))
    }

    fn text() -> Bytes {
        Bytes::from_static(b"{}")
    }

    #[test]
    fn a_question_is_given_to_a_call_only_where_there_is_one_that_can_be_asked() {
        let session = session();
        let crowd = session.crowd();
        assert!(!crowd.ask(text()), "nobody is there");
        let mut one = Crowd::join(&session, 1, true, None);
        let quiet = Crowd::join(&session, 2, false, None);
        assert!(crowd.ask(text()));
        assert_eq!(one.aside.try_recv().ok(), Some(text()));
        let other = Crowd::join(&session, 3, true, None);
        assert!(!crowd.ask(text()), "it could be meant for either");
        drop(other);
        assert!(crowd.ask(text()));
        one.close();
        assert!(!crowd.ask(text()));
        drop((one, quiet));
        assert!(crowd.members.lock().is_empty());
    }

    #[test]
    fn a_call_that_does_not_read_fills_its_own_queue_only() {
        let session = session();
        let _call = Crowd::join(&session, 1, true, None);
        let taken = (0..100).filter(|_| session.crowd().give(1, text())).count();
        assert_eq!(taken, ASIDE);
        let _other = Crowd::join(&session, 2, true, None);
        assert!(session.crowd().give(2, text()) && !session.crowd().give(3, text()));
    }

    #[tokio::test]
    async fn the_server_is_told_the_mildest_level_that_is_wanted_and_once() {
        let session = session();
        let told = Mutex::new(Vec::new());
        let settle = || async {
            session
                .crowd()
                .settle_level(|level| {
                    told.lock().push(level);
                    std::future::ready(())
                })
                .await;
        };
        settle().await;
        let one = Crowd::join(&session, 1, false, Some(LogLevel::Error));
        settle().await;
        settle().await;
        let other = Crowd::join(&session, 2, false, Some(LogLevel::Info));
        settle().await;
        drop(other);
        settle().await;
        drop(one);
        settle().await;
        assert_eq!(*told.lock(), [LogLevel::Error, LogLevel::Info, LogLevel::Error]);
    }
}
