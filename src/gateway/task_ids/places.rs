//! Where the ids of tasks stand (MCP 2025-11-25, basic/utilities/tasks; extension `io.modelcontextprotocol/tasks`).

use crate::mcp::{
    Method, Span,
    json::{for_each_member, unescape},
};

/// Says to which task a message belongs.
const RELATED: &str = "io.modelcontextprotocol/related-task";

/// A string literal that is the id of a task.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) span: Span,
    /// Its text.
    pub(super) own: String,
}

/// Those in the `result` of a request.
pub(super) fn in_result(text: &[u8], result: Span, method: Method) -> Vec<Place> {
    let mut found = related(text, result);
    match method {
        // A task in place of the result: inside of `task` up to 2025-11-25, the result itself in the extension.
        Method::ToolsCall => {
            if let Some(task) = member(text, result, "task") {
                found.extend(id_of(text, task));
            }
            let kind = member(text, result, "resultType").and_then(|span| unescape(span.of(text)));
            if kind.as_deref() == Some("task") {
                found.extend(id_of(text, result));
            }
        }
        Method::TasksGet | Method::TasksCancel | Method::TasksUpdate => found.extend(id_of(text, result)),
        _ => {}
    }
    found
}

/// Those in the `params` of a server's notification or request.
pub(super) fn in_params(text: &[u8], params: Span) -> Vec<Place> {
    let mut found = related(text, params);
    found.extend(id_of(text, params));
    found
}

/// The id in an object that is a task.
pub(super) fn id_of(text: &[u8], task: Span) -> Option<Place> {
    let span = member(text, task, "taskId")?;
    Some(Place { span, own: unescape(span.of(text))?.into_owned() })
}

fn related(text: &[u8], object: Span) -> Vec<Place> {
    // Rare, and cheap to see.
    if memchr::memmem::find(object.of(text), RELATED.as_bytes()).is_none() {
        return Vec::new();
    }
    let task = member(text, object, "_meta").and_then(|meta| member(text, meta, RELATED));
    task.and_then(|task| id_of(text, task)).into_iter().collect()
}

/// The place of a member's value, the last of equal keys; `None` in what is no object.
fn member(text: &[u8], object: Span, wanted: &str) -> Option<Span> {
    let mut found = None;
    for_each_member(object.of(text), |key, value| {
        if key == wanted {
            found = Some(value.shifted(object.start));
        }
    })
    .ok()?;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str, method: Option<Method>) -> Vec<String> {
        let whole = Span::new(0, text.len());
        let found = match method {
            Some(method) => in_result(text.as_bytes(), whole, method),
            None => in_params(text.as_bytes(), whole),
        };
        for place in &found {
            assert_eq!(unescape(place.span.of(text.as_bytes())).as_deref(), Some(&*place.own));
        }
        found.into_iter().map(|place| place.own).collect()
    }

    #[test]
    fn ids_are_found_where_the_specification_puts_them_and_nowhere_else() {
        use Method::{TasksGet, TasksResult, ToolsCall};
        let related = r#"{"taskId":"no","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"r"}}}"#;
        for (text, method, expected) in [
            (r#"{"task":{"taskId":"t","status":"working"}}"#, Some(ToolsCall), &["t"][..]),
            (r#"{"resultType":"task","taskId":"t"}"#, Some(ToolsCall), &["t"]),
            (r#"{"resultType":"complete","taskId":"mine","structuredContent":{"taskId":"mine"}}"#, Some(ToolsCall), &[]),
            (r#"{"taskId":"t","result":{"taskId":"inner"}}"#, Some(TasksGet), &["t"]),
            (related, Some(TasksResult), &["r"]),
            (related, None, &["r", "no"]),
            (r#"{"task\u0049d":"t"}"#, None, &["t"]),
            (r#"{"taskId":7}"#, None, &[]),
            ("[]", None, &[]),
        ] {
            assert_eq!(ids(text, method), expected, "{text}");
        }
    }
}
