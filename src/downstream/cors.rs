//! `[server.cors]`: which web pages of other origins may read our answers (Fetch standard, CORS protocol).

use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, VARY,
    },
};

use crate::{
    problem::Problems,
    table::{AnyOr, Keys, Table, built},
};

pub const KEYS: Keys = Keys {
    table: "server.cors",
    doc: "Which web pages of other origins may read answers.",
    keys: &[
        built("allow_origins", "`\"any\"`, or a list of origins; `*` stands for a part of a name."),
        built("allow_methods", "`\"any\"`, or a list of methods."),
        built("allow_headers", "`\"any\"`, or a list of the request headers that pages may set."),
        built("expose_headers", "`\"any\"`, or a list of the answer's headers that pages may read."),
        built("allow_credentials", "Whether pages may send cookies and client certificates."),
        built("max_age", "How long a browser keeps what it was allowed."),
        built("allow_private_network", "Whether public pages may call an address of a private network."),
    ],
};

const METHODS: &str = "GET, POST, DELETE, OPTIONS";
/// What MCP clients send, in every revision, with the two ways to bring a credential.
const HEADERS: &str = "authorization, x-api-key, content-type, accept, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name, \
                       last-event-id";
/// What they read.
const EXPOSED: &str = "mcp-session-id, www-authenticate, retry-after, x-request-id";

const PRIVATE_NETWORK_WANTED: HeaderName = HeaderName::from_static("access-control-request-private-network");
const PRIVATE_NETWORK_ALLOWED: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// What pages of other origins may do.
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Origins,
    methods: Listed,
    headers: Listed,
    exposed: Listed,
    allow_credentials: bool,
    max_age: Option<Duration>,
    allow_private_network: bool,
}

#[derive(Clone, Debug)]
enum Origins {
    Any,
    These { exact: Vec<String>, patterns: Vec<GlobMatcher> },
}

impl Origins {
    /// Every host is among them: `"any"`, or what comes to the same, such as `"https://*"`.
    fn are_any(&self) -> bool {
        /// A host of which nobody wrote a part into the file.
        const SOMEBODY: [&str; 4] = ["https://x.invalid", "https://x.invalid:1", "http://x.invalid", "http://x.invalid:1"];
        match self {
            Self::Any => true,
            Self::These { patterns, .. } => SOMEBODY.iter().any(|origin| patterns.iter().any(|pattern| pattern.is_match(origin))),
        }
    }
}

/// A header's value; `Any` becomes what was asked for, since browsers do not take `*` in every case.
#[derive(Clone, Debug)]
enum Listed {
    Any,
    These(HeaderValue),
}

impl Cors {
    /// Whether pages of this origin may read answers.
    pub(super) fn allows(&self, origin: &str) -> bool {
        match &self.origins {
            Origins::Any => true,
            Origins::These { exact, patterns } => {
                exact.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) || patterns.iter().any(|pattern| pattern.is_match(origin))
            }
        }
    }

    /// The answer to a browser that asks before it sends, to be [shared](Self::share); `None`: this is no such question, or a page that
    /// may not.
    pub(super) fn preflight<B: Default>(&self, origin: &HeaderValue, request: &HeaderMap) -> Option<Response<B>> {
        let method = request.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        origin.to_str().is_ok_and(|origin| self.allows(origin)).then_some(())?;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.value(Some(method)));
        let wanted = request.get(ACCESS_CONTROL_REQUEST_HEADERS);
        if wanted.is_some() || matches!(self.headers, Listed::These(_)) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.headers.value(wanted));
        }
        if let Some(max_age) = self.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(max_age.as_secs()));
        }
        if self.allow_private_network && request.contains_key(PRIVATE_NETWORK_WANTED) {
            headers.insert(PRIVATE_NETWORK_ALLOWED, HeaderValue::from_static("true"));
        }
        headers.append(VARY, HeaderValue::from_static("access-control-request-method, access-control-request-headers"));
        Some(response)
    }

    /// Lets a page of this origin read an answer, if it may.
    pub(super) fn share(&self, origin: &HeaderValue, answer: &mut HeaderMap) {
        // A cache must not give one origin's answer to another.
        answer.append(VARY, HeaderValue::from_static("origin"));
        if !origin.to_str().is_ok_and(|origin| self.allows(origin)) {
            return;
        }
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.value(None));
        if self.allow_credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    pub(super) fn read(mut table: Table, problems: &mut Problems) -> Self {
        let table = &mut table;
        let origins = origins(table, problems);
        let methods = listed(table, "allow_methods", METHODS, |word| Method::from_bytes(word.as_bytes()).is_ok(), problems);
        let is_header = |word: &str| HeaderName::try_from(word).is_ok();
        let headers = listed(table, "allow_headers", HEADERS, is_header, problems);
        let exposed = listed(table, "expose_headers", EXPOSED, is_header, problems);
        let allow_credentials = table.bool("allow_credentials", problems).unwrap_or(false);
        let max_age = table.duration("max_age", &(Duration::ZERO..=Duration::from_secs(86_400)), problems);
        let allow_private_network = table.bool("allow_private_network", problems).unwrap_or(false);
        if origins.are_any() {
            if allow_credentials {
                table.error(
                    "allow_credentials",
                    problems,
                    "allow_credentials together with allow_origins = \"any\", or what comes to the same",
                    "every web page could act with the cookies and certificates of whoever looks at it",
                    "list the origins, or remove allow_credentials",
                );
            }
            table.insecure(
                "allow_origins",
                problems,
                "web pages of every origin may call",
                "where nothing else identifies callers, any page that somebody looks at reaches the upstreams",
                "list the origins of your own pages",
            );
        }
        table.finish(&KEYS, problems);
        Self { origins, methods, headers, exposed, allow_credentials, max_age, allow_private_network }
    }
}

impl Listed {
    fn value(&self, wanted: Option<&HeaderValue>) -> HeaderValue {
        match self {
            Self::These(value) => value.clone(),
            Self::Any => wanted.cloned().unwrap_or(HeaderValue::from_static("*")),
        }
    }
}

fn origins(table: &mut Table, problems: &mut Problems) -> Origins {
    let typed = match table.any_or_strings("allow_origins", problems) {
        Some(AnyOr::Any) => return Origins::Any,
        Some(AnyOr::These(typed)) => typed,
        None => Vec::new(),
    };
    let (mut exact, mut patterns) = (Vec::new(), Vec::new());
    for origin in &typed {
        let origin = origin.strip_suffix('/').unwrap_or(origin).to_ascii_lowercase();
        let is_origin =
            origin.split_once("://").is_some_and(|(scheme, host)| !scheme.is_empty() && !host.is_empty() && !host.contains('/'));
        let pattern = GlobBuilder::new(&origin).literal_separator(true).case_insensitive(true).build();
        match (is_origin, origin.contains('*'), pattern) {
            (true, false, _) => exact.push(origin),
            (true, true, Ok(pattern)) => patterns.push(pattern.compile_matcher()),
            _ => table.error(
                "allow_origins",
                problems,
                "one of the entries is no origin",
                "browsers send scheme, host and port only, and entries are compared with that",
                "write \"https://app.example.com\" or \"https://*.example.com\", without a path",
            ),
        }
    }
    Origins::These { exact, patterns }
}

fn listed(table: &mut Table, key: &str, usual: &'static str, is_valid: impl Fn(&str) -> bool, problems: &mut Problems) -> Listed {
    match table.any_or_strings(key, problems) {
        Some(AnyOr::Any) => Listed::Any,
        Some(AnyOr::These(words)) => {
            let value = words.join(", ");
            match HeaderValue::try_from(&value) {
                Ok(value) if words.iter().all(|word| is_valid(word)) => Listed::These(value),
                _ => {
                    let why = "browsers compare the entries with what a page wants to send or read";
                    table.error(key, problems, "one of the entries is no such name", why, "write each name as an entry of its own");
                    Listed::These(HeaderValue::from_static(""))
                }
            }
        }
        None => Listed::These(HeaderValue::from_static(usual)),
    }
}
