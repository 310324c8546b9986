//! A legacy server's requests in the middle of a call, as the `input_required` result of a modern one, and the way back
//! (MCP 2026-07-28, basic/patterns/mrtr).

use bytes::Bytes;

use crate::{
    mcp::{
        Field, Id, Message, Method, Span, Splices, build,
        errors::{ErrorParts, code, error_response},
        json::{for_each_item, for_each_member, lookup, quote, unescape},
        splice::object,
    },
    upstream::ClientCapabilities,
};

/// Requests that modern servers make of their clients within a result (basic/patterns/mrtr, input requests).
const ASKED: [Method; 3] = [Method::Elicit, Method::CreateMessage, Method::RootsList];

/// Whether a modern client that declared these capabilities can be asked this.
pub(crate) fn may_ask(request: &Message, capabilities: ClientCapabilities) -> bool {
    let Some(method) = Method::parse(request.method()).filter(|method| ASKED.contains(method)) else { return false };
    let params = request.raw(Field::Params).unwrap_or_default();
    let has = |key: &str| lookup(&params, &[key]).is_some_and(|value| value != b"null");
    match method {
        Method::RootsList => capabilities.roots,
        Method::CreateMessage => {
            let wants_tools = has("tools") || has("toolChoice");
            params.starts_with(b"{") && capabilities.sampling && (capabilities.sampling_tools || !wants_tools)
        }
        _ => match lookup(&params, &["mode"]).map(unescape) {
            _ if !params.starts_with(b"{") => false,
            None => capabilities.elicitation_form,
            Some(mode) => match mode.as_deref() {
                Some("form") => capabilities.elicitation_form,
                Some("url") => capabilities.elicitation_url,
                _ => false,
            },
        },
    }
}

/// A server's request as a value of `inputRequests`: method and parameters, without what belongs to the envelope.
pub(crate) fn input_request(request: &Message) -> Vec<u8> {
    let method = quote(request.method());
    let params = request.raw(Field::Params).filter(|params| params.starts_with(b"{"));
    let params = params.map(|params| if request.method() == Method::Elicit.as_str() { without_elicitation_id(&params) } else { params });
    let mut members: Vec<(&str, &[u8])> = vec![("method", &method)];
    members.extend(params.as_ref().map(|params| ("params", &params[..])));
    object(&members)
}

/// An elicitation by URL has no id of its own since 2026-07-28 (client/elicitation).
fn without_elicitation_id(params: &Bytes) -> Bytes {
    let mut splices = Splices::new();
    match splices.edit_object(params, Span::new(0, params.len()), |key| key == Field::ElicitationId.key(), &[]) {
        Ok(()) => splices.apply(params),
        Err(_) => params.clone(),
    }
}

/// The result that asks for input; `requests` are values as of [`input_request`], by their keys.
pub(crate) fn input_required<'a>(requests: impl IntoIterator<Item = (&'a str, &'a [u8])>, state: &str) -> Vec<u8> {
    let requests: Vec<_> = requests.into_iter().collect();
    object(&[("resultType", b"\"input_required\""), ("inputRequests", &object(&requests)), ("requestState", &quote(state))])
}

/// The answers to `keys` in a raw `inputResponses`, each a raw object; `None` for those that are not there.
///
/// # Errors
/// One of them is no object, or the whole is none.
pub(crate) fn input_responses<'a>(raw: &Bytes, keys: impl IntoIterator<Item = &'a str>) -> Result<Vec<Option<Bytes>>, &'static str> {
    if !raw.starts_with(b"{") {
        return Err("`inputResponses` is not an object");
    }
    let mut found = Vec::new();
    for key in keys {
        let mut answer: Option<Span> = None;
        let mut twice = false;
        for_each_member(raw, |name, value| {
            if name == key {
                twice |= answer.is_some();
                answer = Some(value);
            }
        })
        .map_err(|_| "`inputResponses` is not an object")?;
        // What reads the first and what reads the last would understand two answers.
        if twice {
            return Err("an input response occurs twice");
        }
        let answer = answer.map(|span| raw.slice(span.range()));
        if answer.as_ref().is_some_and(|answer| !answer.starts_with(b"{")) {
            return Err("an input response is not an object");
        }
        found.push(answer);
    }
    Ok(found)
}

/// The answer to a server's request when its client lets it wait too long.
pub(crate) fn gave_up(request: &Message) -> Option<Bytes> {
    let id = request.id()?;
    Some(if request.method() == Method::Elicit.as_str() {
        build::response(id, br#"{"action":"cancel"}"#)
    } else {
        error_response(Some(id), code::SERVER_ERROR, "the client did not answer in time", None)
    })
}

/// The answer to a server's request that nobody can be asked.
pub(crate) fn declined(id: &Id) -> Bytes {
    error_response(Some(id), code::METHOD_NOT_FOUND, "this client cannot be asked", None)
}

/// The elicitations of a legacy server's error that wants the user to visit URLs first (MCP 2025-11-25,
/// client/elicitation, "URL elicitation required error"), as values of `inputRequests`. At most `max`; `None` when the
/// error is another, or names none that makes sense.
pub(crate) fn url_elicitations(error: &Message, max: usize) -> Option<Vec<Vec<u8>>> {
    let parts = ErrorParts::of(error).filter(|parts| parts.code == code::URL_ELICITATION_REQUIRED)?;
    let data = error.bytes().slice(parts.data?.range());
    let list = lookup(&data, &["elicitations"])?;
    let list = data.slice_ref(list);
    let mut requests = Vec::new();
    let mut is_sound = true;
    for_each_item(&list, |item| {
        let params = list.slice(item.range());
        let has = |key: &str| lookup(&params, &[key]).is_some_and(|value| value.starts_with(b"\""));
        is_sound &= lookup(&params, &["mode"]) == Some(b"\"url\"") && has("url") && has("message") && requests.len() < max;
        if is_sound {
            let params = without_elicitation_id(&params);
            requests.push(object(&[("method", &quote(Method::Elicit.as_str())), ("params", &params)]));
        }
    })
    .ok()?;
    (is_sound && !requests.is_empty()).then_some(requests)
}

/// Whether every answer in a raw `inputResponses` is an elicitation that was accepted.
pub(crate) fn all_accepted(raw: &[u8]) -> bool {
    let (mut count, mut accepted) = (0, 0);
    let read = for_each_member(raw, |_, answer| {
        count += 1;
        accepted += usize::from(lookup(answer.of(raw), &["action"]) == Some(b"\"accept\""));
    });
    read.is_ok() && count > 0 && count == accepted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn request(method: &str, params: &str) -> Message {
        message(&format!(r#"{{"jsonrpc":"2.0","id":"q","method":"{method}","params":{params}}}"#))
    }

    #[test]
    fn a_client_is_asked_only_for_what_it_declared() {
        let form = r#"{"message":"m"}"#;
        for (declared, method, params, expected) in [
            (r#"{"elicitation":{}}"#, "elicitation/create", form, true),
            (r#"{"elicitation":{}}"#, "elicitation/create", r#"{"mode":"form"}"#, true),
            (r#"{"elicitation":{}}"#, "elicitation/create", r#"{"mode":"url"}"#, false),
            (r#"{"elicitation":{"url":{}}}"#, "elicitation/create", r#"{"mode":"url"}"#, true),
            (r#"{"elicitation":{"url":{}}}"#, "elicitation/create", form, false),
            (r#"{"elicitation":{"url":{},"form":{}}}"#, "elicitation/create", r#"{"mode":"other"}"#, false),
            (r#"{"elicitation":{"url":{},"form":{}}}"#, "elicitation/create", r#"{"mode":1}"#, false),
            (r#"{"elicitation":{}}"#, "elicitation/create", "null", false),
            (r#"{"sampling":{}}"#, "elicitation/create", form, false),
            (r#"{"sampling":{}}"#, "sampling/createMessage", "{}", true),
            (r#"{"sampling":{}}"#, "sampling/createMessage", r#"{"tools":[]}"#, false),
            (r#"{"sampling":{"tools":{}}}"#, "sampling/createMessage", r#"{"tools":[]}"#, true),
            (r#"{"roots":{}}"#, "roots/list", "{}", true),
            (r#"{"roots":{}}"#, "ping", "{}", false),
            (r#"{"roots":{}}"#, "tools/list", "{}", false),
            ("{}", "roots/list", "{}", false),
        ] {
            let capabilities = ClientCapabilities::read(declared.as_bytes());
            assert_eq!(may_ask(&request(method, params), capabilities), expected, "{declared} {method} {params}");
        }
    }

    #[test]
    fn a_request_keeps_its_bytes_but_for_the_envelope_and_the_elicitations_id() {
        let params = r#"{"z":1.0,"message":"\u00e9","a":{"big":18446744073709551616}}"#;
        let asked = String::from_utf8(input_request(&request("sampling/createMessage", params))).unwrap();
        assert_eq!(asked, format!(r#"{{"method":"sampling/createMessage","params":{params}}}"#));
        let by_url = r#"{"mode":"url","elicitationId":"e","url":"https://x"}"#;
        let asked = String::from_utf8(input_request(&request("elicitation/create", by_url))).unwrap();
        assert_eq!(asked, r#"{"method":"elicitation/create","params":{"mode":"url","url":"https://x"}}"#);
        let bare = message(r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#);
        assert_eq!(input_request(&bare), br#"{"method":"roots/list"}"#);
    }

    #[test]
    fn answers_are_found_by_their_keys_and_anything_but_objects_is_refused() {
        let read = |raw: &'static str| input_responses(&Bytes::from(raw), ["a", "b"]);
        let found = read(r#"{"x":1,"b":{"n":1.0},"\u0061":{}}"#).unwrap();
        assert_eq!(found, [Some(Bytes::from("{}")), Some(Bytes::from(r#"{"n":1.0}"#))]);
        assert_eq!(read("{}").unwrap(), [None, None]);
        for bad in ["[]", "null", r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":{},"\u0061":{}}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_with_urls_becomes_elicitations_and_any_other_stays_an_error() {
        let error = |code: i64, data: &str| {
            message(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"m","data":{data}}}}}"#))
        };
        let one = r#"{"mode":"url","elicitationId":"e","url":"https://x","message":"go"}"#;
        let good = format!(r#"{{"elicitations":[{one},{one}]}}"#);
        let found = url_elicitations(&error(-32042, &good), 2).unwrap();
        let expected = r#"{"method":"elicitation/create","params":{"mode":"url","url":"https://x","message":"go"}}"#;
        assert_eq!(found, [expected.as_bytes(), expected.as_bytes()]);
        assert_eq!(url_elicitations(&error(-32042, &good), 1), None, "too many");
        assert_eq!(url_elicitations(&error(-32602, &good), 2), None);
        for data in
            ["null", "{}", r#"{"elicitations":[]}"#, r#"{"elicitations":[{"mode":"form","message":"m"}]}"#, r#"{"elicitations":{}}"#]
        {
            assert_eq!(url_elicitations(&error(-32042, data), 2), None, "{data}");
        }
    }

    #[test]
    fn only_accepted_elicitations_are_consent() {
        assert!(all_accepted(br#"{"a":{"action":"accept"},"b":{"action":"accept"}}"#));
        for raw in [r#"{}"#, r#"{"a":{"action":"decline"}}"#, r#"{"a":{"action":"accept"},"b":{}}"#, "null"] {
            assert!(!all_accepted(raw.as_bytes()), "{raw}");
        }
    }
}
