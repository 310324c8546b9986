//! A child process as a channel for many requests.

use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    channel::{Channel, Out, Unasked},
    stdio::{Child, ChildSpec, Inbound, Line},
};
use crate::{
    auth::PrincipalKey,
    reason::{Explanation, Reason},
    upstream::generation::Notices,
};

use std::time::Duration;

/// Time for a child to end by itself after its stdin was closed.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Starts the child. Messages that answer no request go to `notices`; what does not fit there is dropped. The permit is
/// kept until the child is gone.
///
/// # Errors
/// `spawn_failed`
pub(crate) async fn start(
    spec: ChildSpec<'_>,
    principal: PrincipalKey,
    notices: Notices,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<Arc<Channel>, Explanation> {
    let counted = spec.alive.token();
    let (child, inbound) = Child::spawn(spec).await?;
    let (process, ends) = Channel::new(Out::Child(child.sender()), Unasked::Notices { principal, notices });
    // The task ends with the child, or when the last handle to the process is gone.
    let work = attend(Arc::downgrade(&process), child, inbound, ends.stopped, ends.tell_end);
    tokio::spawn(async move {
        work.await;
        drop(permit);
        drop(counted);
    });
    Ok(process)
}

async fn attend(
    process: Weak<Channel>,
    child: Child,
    mut inbound: Inbound,
    mut stopped: watch::Receiver<bool>,
    tell_end: watch::Sender<Option<Explanation>>,
) {
    loop {
        tokio::select! {
            line = inbound.next() => match line {
                Some(Line::Message(bytes)) => match process.upgrade() {
                    Some(process) => process.dispatch(bytes),
                    None => break,
                },
                Some(Line::TooLong { .. }) => tracing::warn!("a child's line exceeds mcp.bounds.max_line; dropped"),
                Some(Line::NotJson { .. }) => tracing::warn!("a child wrote something other than JSON to its stdout; dropped"),
                None => break,
            },
            _ = stopped.wait_for(|stop| *stop) => break,
        }
    }
    let asked_to_end = *stopped.borrow();
    let explanation = if asked_to_end { None } else { Some(inbound.explain().await) };
    let report = child.shutdown(SHUTDOWN_GRACE).await;
    tracing::debug!(%report, "process ended");
    let ended =
        || Explanation::new(Reason::Exited, "it was ended because nobody needed it any more", "nothing; the next call starts another");
    tell_end.send_replace(Some(explanation.unwrap_or_else(ended)));
    if let Some(process) = process.upgrade() {
        process.let_go();
    }
}
