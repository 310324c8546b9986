//! A modern server's task, which a legacy client does not know (extension `io.modelcontextprotocol/tasks`, 2026-07-28).

use std::time::Duration;

use bytes::Bytes;

use super::required::InputRequest;
use crate::{
    mcp::{
        json::{for_each_member, unescape},
        splice::object,
    },
    upstream::UpstreamError,
};

/// Pauses between two looks at a task, whatever the server suggests.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Where the server suggests nothing.
const USUAL_PAUSE: Duration = Duration::from_millis(500);
/// Longest task id, in bytes: it becomes a header.
pub(crate) const MAX_TASK_ID: usize = 1024;

/// What a server says of a task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) status: Status,
    /// Until the next look.
    pub(crate) pause: Duration,
}

#[derive(Debug)]
pub(crate) enum Status {
    Working,
    InputRequired(Vec<InputRequest>),
    /// A raw result; empty where there is none.
    Completed(Bytes),
    /// A raw error object; empty where there is none.
    Failed(Bytes),
    Cancelled,
}

impl Task {
    /// Reads a raw result: of the call that became the task, or of `tasks/get`.
    ///
    /// # Errors
    /// It is malformed.
    pub(crate) fn read(result: &Bytes) -> Result<Self, UpstreamError> {
        let (mut id, mut status, mut pause, mut requests, mut outcome, mut error) = (None, None, None, None, None, None);
        for_each_member(result, |key, value| match key {
            "taskId" => id = Some(value),
            "status" => status = Some(value),
            "pollIntervalMs" => pause = Some(value),
            "inputRequests" => requests = Some(value),
            "result" => outcome = Some(value),
            "error" => error = Some(value),
            _ => {}
        })
        .map_err(|error| UpstreamError::protocol(error.to_string()))?;
        let raw = |span: Option<crate::mcp::Span>| span.map(|span| result.slice(span.range()));
        let object = |span| raw(span).filter(|raw| raw.starts_with(b"{"));
        let text = |span| raw(span).and_then(|raw| unescape(&raw).map(std::borrow::Cow::into_owned));
        let id =
            text(id).filter(|id| !id.is_empty() && id.len() <= MAX_TASK_ID).ok_or_else(|| UpstreamError::protocol("its task has no id"))?;
        let status = match text(status).as_deref() {
            Some("working") => Status::Working,
            Some("input_required") => {
                // The answer that makes a task says nothing of what it asks for; `tasks/get` does.
                Status::InputRequired(object(requests).map_or_else(|| Ok(Vec::new()), |requests| InputRequest::read_all(&requests))?)
            }
            Some("completed") => Status::Completed(object(outcome).unwrap_or_default()),
            Some("failed") => Status::Failed(object(error).unwrap_or_default()),
            Some("cancelled") => Status::Cancelled,
            _ => return Err(UpstreamError::protocol("its task is in a state that is not known")),
        };
        let pause = raw(pause).and_then(|raw| serde_json::from_slice::<u64>(&raw).ok()).map_or(USUAL_PAUSE, Duration::from_millis);
        Ok(Self { id, status, pause: pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE) })
    }
}

/// The parameters of a request about a task; `meta` is a raw object, and so are the responses of a `tasks/update`.
pub(crate) fn task_params(id: &str, meta: &[u8], responses: Option<&[u8]>) -> Vec<u8> {
    let id = crate::mcp::json::quote(id);
    let mut members: Vec<(&str, &[u8])> = vec![("taskId", &id), ("_meta", meta)];
    members.extend(responses.map(|responses| ("inputResponses", responses)));
    object(&members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(members: &str) -> Result<Task, UpstreamError> {
        Task::read(&Bytes::from(format!(r#"{{"resultType":"complete",{members}}}"#)))
    }

    #[test]
    fn a_task_is_read_in_every_state() {
        let status = |members: &str| read(&format!(r#""taskId":"t",{members}"#)).unwrap().status;
        assert!(matches!(status(r#""status":"working""#), Status::Working));
        assert!(matches!(status(r#""status":"cancelled""#), Status::Cancelled));
        assert!(matches!(status(r#""status":"completed","result":{"n":1.0}"#), Status::Completed(raw) if raw == r#"{"n":1.0}"#));
        assert!(matches!(status(r#""status":"failed","error":{"code":1}"#), Status::Failed(raw) if raw == r#"{"code":1}"#));
        let asked = status(r#""status":"input_required","inputRequests":{"k":{"method":"roots/list"}}"#);
        assert!(matches!(asked, Status::InputRequired(requests) if requests[0].key == "k"));
    }

    #[test]
    fn the_pause_is_the_servers_within_bounds() {
        let pause = |interval: &str| read(&format!(r#""taskId":"t","status":"working"{interval}"#)).unwrap().pause;
        for (interval, expected) in [
            ("", USUAL_PAUSE),
            (r#","pollIntervalMs":0"#, SHORTEST_PAUSE),
            (r#","pollIntervalMs":1000"#, Duration::from_secs(1)),
            (r#","pollIntervalMs":99999999999"#, LONGEST_PAUSE),
            (r#","pollIntervalMs":-1"#, USUAL_PAUSE),
        ] {
            assert_eq!(pause(interval), expected, "{interval}");
        }
    }

    #[test]
    fn what_is_no_task_is_refused() {
        for members in [r#""status":"working""#, r#""taskId":"","status":"working""#, r#""taskId":"t""#, r#""taskId":"t","status":"odd""#] {
            assert!(read(members).is_err(), "{members}");
        }
    }
}
