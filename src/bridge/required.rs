//! What a modern server asks for in the middle of a call, as requests to a legacy client, and the client's answers as the
//! server wants them (MCP 2026-07-28, basic/patterns/mrtr).

use bytes::Bytes;

use super::Declared;
use crate::{
    mcp::{
        Field, Id, Kind, Message, Method, Span, Splices, Version, build,
        errors::ErrorParts,
        json::{for_each_member, quote, unescape},
        splice::object,
    },
    upstream::UpstreamError,
};

/// Most requests in one result; a person answers them one by one.
const MAX_REQUESTS: usize = 32;

/// An `input_required` result.
#[derive(Debug)]
pub(crate) struct InputRequired {
    pub(crate) requests: Vec<InputRequest>,
    /// A JSON literal, to be sent back as it is.
    pub(crate) state: Option<Bytes>,
}

/// One of the requests in it.
#[derive(Debug)]
pub(crate) struct InputRequest {
    /// The server's own name for it.
    pub(crate) key: String,
    pub(crate) method: Method,
    /// A raw JSON object.
    params: Option<Bytes>,
}

impl InputRequired {
    /// Reads a raw result.
    ///
    /// # Errors
    /// It is malformed, asks for nothing, or for what the specification does not know.
    pub(crate) fn read(result: &Bytes) -> Result<Self, UpstreamError> {
        let (mut requests, mut state) = (None, None);
        for_each_member(result, |key, value| match key {
            "inputRequests" => requests = Some(value),
            "requestState" => state = Some(value),
            _ => {}
        })
        .map_err(|error| UpstreamError::protocol(error.to_string()))?;
        let state = state.map(|span| result.slice(span.range()));
        if state.as_ref().is_some_and(|state| !state.starts_with(b"\"")) {
            return Err(UpstreamError::protocol("the `requestState` of its result is not a string"));
        }
        let requests = match requests {
            Some(span) => InputRequest::read_all(&result.slice(span.range()))?,
            None if state.is_some() => Vec::new(),
            None => return Err(UpstreamError::protocol("it requires input and neither asks for any nor gives a state")),
        };
        Ok(Self { requests, state })
    }
}

impl InputRequest {
    /// Reads a raw `inputRequests` object.
    ///
    /// # Errors
    /// As [`InputRequired::read`].
    pub(crate) fn read_all(requests: &Bytes) -> Result<Vec<Self>, UpstreamError> {
        let mut found: Vec<(String, Span)> = Vec::new();
        let mut count = 0;
        for_each_member(requests, |key, value| {
            count += 1;
            if count <= MAX_REQUESTS {
                found.push((key.to_owned(), value));
            }
        })
        .map_err(|_| UpstreamError::protocol("the `inputRequests` of its result are not an object"))?;
        if count > MAX_REQUESTS {
            return Err(UpstreamError::CannotAsk("it asks for more than 32 inputs at once"));
        }
        let is_twice = |key: &String| found.iter().filter(|(other, _)| other == key).count() > 1;
        if found.iter().any(|(key, _)| is_twice(key)) {
            return Err(UpstreamError::protocol("two of its `inputRequests` have the same key"));
        }
        found.into_iter().map(|(key, span)| Self::read(key, &requests.slice(span.range()))).collect()
    }

    fn read(key: String, request: &Bytes) -> Result<Self, UpstreamError> {
        let (mut method, mut params) = (None, None);
        for_each_member(request, |key, value| match key {
            "method" => method = Some(value),
            "params" => params = Some(value),
            _ => {}
        })
        .map_err(|_| UpstreamError::protocol("one of its `inputRequests` is not an object"))?;
        let method = method.and_then(|span| unescape(span.of(request))).and_then(|method| Method::parse(&method));
        let params = params.map(|span| request.slice(span.range()));
        if params.as_ref().is_some_and(|params| !params.starts_with(b"{")) {
            return Err(UpstreamError::protocol("the `params` of one of its `inputRequests` are not an object"));
        }
        match method {
            Some(method @ (Method::Elicit | Method::CreateMessage | Method::RootsList)) => Ok(Self { key, method, params }),
            _ => Err(UpstreamError::CannotAsk("it asks for an input of a kind that no client of this revision can give")),
        }
    }

    /// # Errors
    /// The client has not declared that it can be asked this.
    pub(crate) fn check(&self, declared: &Declared) -> Result<(), UpstreamError> {
        let is_possible = match self.method {
            Method::RootsList if !declared.roots => Err("it asks for roots, which the client has not declared"),
            Method::CreateMessage if !declared.sampling => Err("it asks for sampling, which the client has not declared"),
            Method::CreateMessage if self.wants_tools() && !declared.sampling_tools => {
                Err("it asks for sampling with tools, which the client has not declared")
            }
            Method::Elicit => match self.text("mode").as_deref() {
                None | Some("form") if !declared.form => Err("it asks for elicitation by a form, which the client has not declared"),
                Some("url") if !declared.url => Err("it asks for elicitation by URL, which the client does not know"),
                None | Some("form" | "url") => Ok(()),
                Some(_) => Err("it asks for elicitation in a mode that is not known"),
            },
            _ => Ok(()),
        };
        is_possible.map_err(UpstreamError::CannotAsk)
    }

    fn wants_tools(&self) -> bool {
        self.member("tools").is_some() || self.member("toolChoice").is_some()
    }

    fn member(&self, wanted: &str) -> Option<Bytes> {
        let params = self.params.as_ref()?;
        let mut found = None;
        for_each_member(params, |key, value| {
            if key == wanted {
                found = Some(value);
            }
        })
        .ok()?;
        found.map(|span| params.slice(span.range()))
    }

    /// A member that should be a string; what is none counts as an empty one.
    fn text(&self, wanted: &str) -> Option<String> {
        self.member(wanted).map(|raw| unescape(&raw).map(std::borrow::Cow::into_owned).unwrap_or_default())
    }

    /// The request as this client's revision has it. `fresh` is for an identifier that the revision wants and the server's
    /// lacks: until 2025-11-25 an elicitation by URL has one.
    pub(crate) fn message(&self, id: &Id, declared: &Declared, fresh: &str) -> Bytes {
        let Some(params) = &self.params else { return build::request(id, self.method, None) };
        let whole = Span::new(0, params.len());
        let mut splices = Splices::new();
        let edited = match (self.method, self.text("mode").as_deref()) {
            (Method::Elicit, Some("form")) if declared.version < Version::V2025_11_25 => {
                splices.edit_object(params, whole, |key| key == "mode", &[])
            }
            (Method::Elicit, Some("url")) if self.member("elicitationId").is_none() => {
                splices.edit_object(params, whole, |_| false, &[("elicitationId", &quote(fresh))])
            }
            _ => Ok(()),
        };
        edited.expect("the parameters are an object: they were read as one");
        build::request(id, self.method, Some(&splices.apply(params)))
    }
}

/// A client's answer to a server's request.
#[derive(Debug)]
pub(crate) enum Given {
    /// A raw JSON object. That a person declined or cancelled is one too.
    Input(Bytes),
    /// It has no place in `inputResponses`: the call ends with it.
    Refusal { code: i64, message: String },
}

impl Given {
    pub(crate) fn read(answer: &Message) -> Self {
        let result = answer.raw(Field::Result).filter(|result| answer.kind() == Kind::Response && result.starts_with(b"{"));
        if let Some(result) = result {
            return Self::Input(result);
        }
        let Some(error) = ErrorParts::of(answer) else {
            return Self::Refusal { code: crate::mcp::errors::code::INTERNAL_ERROR, message: "an answer that is no object".to_owned() };
        };
        let message = error.message.and_then(|span| unescape(span.of(answer.bytes())));
        let message = message.unwrap_or_default().chars().filter(|c| !c.is_control()).take(256).collect();
        Self::Refusal { code: error.code, message }
    }
}

/// The raw `inputResponses`: the server's keys, and what the client gave for each.
pub(crate) fn gathered(given: &[(String, Bytes)]) -> Bytes {
    object(&given.iter().map(|(key, input)| (key.as_str(), &input[..])).collect::<Vec<_>>()).into()
}

/// The client's request once more, with what the server required. Whatever the client itself had put there is replaced.
pub(crate) fn with_input(message: &Message, responses: Option<&[u8]>, state: Option<&[u8]>) -> Bytes {
    let Some(params) = message.params_span() else { return message.bytes().clone() };
    let mut add: Vec<(&str, &[u8])> = Vec::new();
    add.extend(responses.map(|responses| (Field::InputResponses.key(), responses)));
    add.extend(state.map(|state| (Field::RequestState.key(), state)));
    let is_old = |key: &str| key == Field::InputResponses.key() || key == Field::RequestState.key();
    let mut splices = Splices::new();
    match splices.edit_object(message.bytes(), params, is_old, &add) {
        Ok(()) => splices.apply(message.bytes()),
        // `params` is null: nothing that could be asked about is called this way.
        Err(_) => message.bytes().clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(capabilities: &str, version: Version) -> Declared {
        Declared::read(capabilities.as_bytes(), version)
    }

    fn read(result: &str) -> Result<InputRequired, UpstreamError> {
        InputRequired::read(&Bytes::copy_from_slice(result.as_bytes()))
    }

    fn one(request: &str) -> InputRequest {
        read(&format!(r#"{{"inputRequests":{{"k":{request}}}}}"#)).unwrap().requests.remove(0)
    }

    #[test]
    fn a_result_is_taken_apart_into_requests_and_state() {
        let required = read(r#"{"requestState":"a\u0062","inputRequests":{"b":{"method":"roots/list"},"a":{"method":"elicitation/create","params":{"x":1.0}}}}"#).unwrap();
        assert_eq!(required.state.unwrap(), r#""a\u0062""#, "as it was written");
        assert_eq!(required.requests.iter().map(|request| request.key.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert!(read(r#"{"requestState":"s"}"#).unwrap().requests.is_empty());
    }

    #[test]
    fn what_asks_for_nothing_or_nonsense_is_refused() {
        let many: Vec<_> = (0..33).map(|n| format!(r#""{n}":{{"method":"roots/list"}}"#)).collect();
        for result in [
            "{}",
            r#"{"requestState":1}"#,
            r#"{"inputRequests":[]}"#,
            r#"{"inputRequests":{"a":1}}"#,
            r#"{"inputRequests":{"a":{}}}"#,
            r#"{"inputRequests":{"a":{"method":"tools/call"}}}"#,
            r#"{"inputRequests":{"a":{"method":"ping"}}}"#,
            r#"{"inputRequests":{"a":{"method":"roots/list","params":[]}}}"#,
            r#"{"inputRequests":{"a":{"method":"roots/list"},"\u0061":{"method":"roots/list"}}}"#,
            &format!(r#"{{"inputRequests":{{{}}}}}"#, many.join(",")),
        ] {
            assert!(read(result).is_err(), "{result}");
        }
    }

    #[test]
    fn only_what_was_declared_is_asked() {
        let everything = r#"{"roots":{},"sampling":{"tools":{}},"elicitation":{"form":{},"url":{}}}"#;
        for (request, needed) in [
            (r#"{"method":"roots/list"}"#, r#"{"roots":{}}"#),
            (r#"{"method":"sampling/createMessage","params":{}}"#, r#"{"sampling":{}}"#),
            (r#"{"method":"sampling/createMessage","params":{"tools":[]}}"#, r#"{"sampling":{"tools":{}}}"#),
            (r#"{"method":"elicitation/create","params":{}}"#, r#"{"elicitation":{}}"#),
            (r#"{"method":"elicitation/create","params":{"mode":"form"}}"#, r#"{"elicitation":{"form":{}}}"#),
            (r#"{"method":"elicitation/create","params":{"mode":"url"}}"#, r#"{"elicitation":{"url":{}}}"#),
        ] {
            let request = one(request);
            for (capabilities, is_possible) in [("{}", false), (needed, true), (everything, true)] {
                assert_eq!(request.check(&declared(capabilities, Version::V2025_11_25)).is_ok(), is_possible, "{request:?} {capabilities}");
            }
        }
        for mode in ["\"voice\"", "1"] {
            let odd = one(&format!(r#"{{"method":"elicitation/create","params":{{"mode":{mode}}}}}"#));
            assert!(odd.check(&declared(everything, Version::V2025_11_25)).is_err());
        }
    }

    #[test]
    fn a_request_is_written_for_the_clients_revision() {
        let said = r#"{"elicitation":{"form":{},"url":{}}}"#;
        for (request, version, expected) in [
            (r#"{"method":"roots/list"}"#, Version::V2025_11_25, r#""method":"roots/list""#),
            (
                r#"{"method":"elicitation/create","params":{"mode":"form","n":1.0}}"#,
                Version::V2025_11_25,
                r#""method":"elicitation/create","params":{"mode":"form","n":1.0}"#,
            ),
            (
                r#"{"method":"elicitation/create","params":{"mode":"form","n":1.0}}"#,
                Version::V2025_06_18,
                r#""method":"elicitation/create","params":{"n":1.0}"#,
            ),
            (
                r#"{"method":"elicitation/create","params":{"mode":"url"}}"#,
                Version::V2025_11_25,
                r#""method":"elicitation/create","params":{"elicitationId":"fresh","mode":"url"}"#,
            ),
            (
                r#"{"method":"elicitation/create","params":{"elicitationId":"own","mode":"url"}}"#,
                Version::V2025_11_25,
                r#""method":"elicitation/create","params":{"elicitationId":"own","mode":"url"}"#,
            ),
        ] {
            let message = one(request).message(&Id::from_string("q"), &declared(said, version), "fresh");
            assert_eq!(message, format!(r#"{{"jsonrpc":"2.0","id":"q",{expected}}}"#));
        }
    }

    #[test]
    fn the_repeated_request_has_the_servers_answers_and_nobody_elses() {
        for (params, expected) in [
            (r#"{"name":"x"}"#, r#"{"inputResponses":{"k":{"n":1.0}},"requestState":"s","name":"x"}"#),
            (
                r#"{"requestState":"mine","name":"x","inputResponses":{"k":2}}"#,
                r#"{"inputResponses":{"k":{"n":1.0}},"requestState":"s","name":"x"}"#,
            ),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
            let message = Message::parse(Bytes::from(text)).unwrap();
            let responses = gathered(&[("k".to_owned(), Bytes::from_static(br#"{"n":1.0}"#))]);
            let again = with_input(&message, Some(&responses), Some(b"\"s\""));
            assert_eq!(again, format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{expected}}}"#));
        }
    }

    #[test]
    fn a_client_that_errs_gives_no_input() {
        let given = |text: &str| Given::read(&Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap());
        assert!(matches!(given(r#"{"jsonrpc":"2.0","id":1,"result":{"action":"decline"}}"#), Given::Input(_)));
        assert!(matches!(given(r#"{"jsonrpc":"2.0","id":1,"result":7}"#), Given::Refusal { .. }));
        let Given::Refusal { code, message } = given(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no\nway"}}"#) else {
            panic!("an error is no input")
        };
        assert_eq!((code, message.as_str()), (-1, "noway"));
    }
}
