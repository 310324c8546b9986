//! One line: its fields, and how they are written.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::RequestId;

/// Longest text of a field, in characters. What clients choose may be longer.
const MAX_TEXT: usize = 256;
/// Most groups that a line names.
const MAX_GROUPS: usize = 32;
/// Room for most lines, in bytes.
const USUAL: usize = 512;
/// Longest arguments that a line holds, in bytes of JSON.
pub const MAX_ARGUMENTS: usize = 4096;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A request that was looked at, whatever came of it.
    Call,
    /// A request that was turned away before it was.
    Refusal,
    /// Something that an operator asked for.
    Admin,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    /// The tool answered that it failed.
    ToolError,
    /// The answer is an error of the upstream's or of the gateway's.
    Error,
    Limited,
    /// Not for this caller.
    Denied,
    /// Nobody waited for the answer any more.
    Cancelled,
    /// The client is asked something first, and comes back.
    InputRequired,
}

/// Who asked.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Who<'a> {
    pub method: &'static str,
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<&'a str>,
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'a str>,
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub client: Option<&'a str>,
    #[serde(serialize_with = "groups", skip_serializing_if = "<[_]>::is_empty")]
    pub groups: &'a [Box<str>],
}

/// A line. What is not known is left out.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Record<'a> {
    /// RFC 3339 in UTC, to the millisecond; of a span since 1970.
    #[serde(serialize_with = "date")]
    pub time: Duration,
    pub kind: Kind,
    #[serde(serialize_with = "shown")]
    pub request_id: RequestId,
    /// `None`: nobody is known.
    pub who: Option<Who<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub era: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    /// Of operators.
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub action: Option<&'a str>,
    /// These four as the client named it.
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub tool: Option<&'a str>,
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub prompt: Option<&'a str>,
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub resource: Option<&'a str>,
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub task: Option<&'a str>,
    /// What the tool `execute` was asked to run.
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub executes: Option<&'a str>,
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'a str>,
    /// As the upstream names it.
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub upstream_name: Option<&'a str>,
    pub outcome: Outcome,
    /// Of JSON-RPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// Of HTTP, where nothing was said in JSON-RPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The limit that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The client hung up before the end, and the call went on without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub client_left: bool,
    #[serde(serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<Duration>,
    /// Of these, the upstream's.
    #[serde(serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<&'a RawValue>,
    /// Of arguments that are too long for a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments_bytes: Option<usize>,
}

impl Record<'_> {
    /// Of which nothing is known but when, what and how it ended.
    pub fn new(time: Duration, kind: Kind, request_id: RequestId, outcome: Outcome) -> Self {
        Self {
            time,
            kind,
            request_id,
            who: None,
            address: None,
            session: None,
            era: None,
            method: None,
            action: None,
            tool: None,
            prompt: None,
            resource: None,
            task: None,
            executes: None,
            upstream: None,
            upstream_name: None,
            outcome,
            code: None,
            status: None,
            reason: None,
            scope: None,
            retry_after_ms: None,
            client_left: false,
            duration_ms: None,
            upstream_ms: None,
            arguments: None,
            arguments_bytes: None,
        }
    }

    /// The line with its end. Nothing in it could end it earlier, or move what a terminal shows.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(USUAL);
        serde_json::to_writer(&mut line, self).expect("a record serialises: its keys are ours, and writing to memory cannot fail");
        if !is_printable_ascii(&line) {
            line = escaped(&String::from_utf8_lossy(&line)).into_bytes();
        }
        line.push(b'\n');
        line
    }
}

/// Whether nothing has to be looked at closer. To the end without a branch, which a processor does many bytes at a time.
fn is_printable_ascii(line: &[u8]) -> bool {
    line.iter().fold(true, |is, byte| is & (*byte >= b' ') & (*byte < 0x7f))
}

fn escaped(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len() + 64);
    for c in line.chars() {
        match c {
            // Between the tokens of arguments as they came; within a string it is escaped already.
            '\n' | '\r' | '\t' => escaped.push(' '),
            c if moves(c) => drop(write!(escaped, "\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Control characters, invisible ones, and those that change the direction of what follows: all below U+10000.
fn moves(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Whole milliseconds, and none too few.
pub fn whole_millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn cut(text: &str) -> (&str, bool) {
    if text.len() <= MAX_TEXT {
        return (text, false);
    }
    text.char_indices().nth(MAX_TEXT).map_or((text, false), |(at, _)| (text.get(..at).unwrap_or_default(), true))
}

#[allow(clippy::ref_option, reason = "serde calls it like this")]
fn text<S: Serializer>(text: &Option<&str>, to: S) -> Result<S::Ok, S::Error> {
    match text.map(cut) {
        Some((text, false)) => to.serialize_str(text),
        Some((text, true)) => to.collect_str(&format_args!("{text}…")),
        None => to.serialize_none(),
    }
}

fn groups<S: Serializer>(groups: &[Box<str>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(groups.iter().take(MAX_GROUPS).map(|group| cut(group).0))
}

fn shown<S: Serializer>(shown: &impl std::fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(shown)
}

#[allow(clippy::ref_option, reason = "serde calls it like this")]
fn millis<S: Serializer>(took: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    // Microseconds of some three hundred years fit exactly.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let millis = took.map(|took| took.as_micros() as f64 / 1e3);
    to.serialize_some(&millis)
}

fn date<S: Serializer>(since_1970: &Duration, to: S) -> Result<S::Ok, S::Error> {
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or_default();
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, millis) = (at.date(), since_1970.subsec_millis());
    let (month, day) = (u8::from(date.month()), date.day());
    to.collect_str(&format_args!(
        "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        date.year(),
        at.hour(),
        at.minute(),
        at.second()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<'static> {
        Record::new(Duration::from_millis(1_700_000_000_042), Kind::Call, RequestId::next(), Outcome::ToolError)
    }

    #[test]
    fn a_line_says_what_is_known_and_leaves_out_the_rest() {
        let groups = ["pro".into()];
        let who = Who { method: "jwt", issuer: Some("https://idp"), subject: Some("ada"), client: None, groups: &groups };
        let id = RequestId::next();
        let line =
            Record { request_id: id, who: Some(who), tool: Some("a__b"), duration_ms: Some(Duration::from_micros(1_500)), ..record() };
        let expected = format!(
            "{{\"time\":\"2023-11-14T22:13:20.042Z\",\"kind\":\"call\",\"request_id\":\"{id}\",\"who\":{{\"method\":\"jwt\",\
             \"issuer\":\"https://idp\",\"subject\":\"ada\",\"groups\":[\"pro\"]}},\"tool\":\"a__b\",\"outcome\":\"tool_error\",\"duration_ms\":1.5}}\n"
        );
        assert_eq!(String::from_utf8(line.line()).unwrap(), expected);
    }

    #[test]
    fn hostile_text_stays_text_on_one_line_and_is_cut() {
        let hostile = format!("\"}}\n{{\"outcome\":\"ok\u{202e}\u{7f}\u{2028}{}", "x".repeat(10_000));
        let line = Record { tool: Some(&hostile), ..record() }.line();
        let text = String::from_utf8(line).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.is_ascii() || !text.chars().any(|c| c != '\n' && moves(c)), "{text}");
        assert!(text.len() < 1000);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["outcome"], "tool_error");
        let tool = read["tool"].as_str().unwrap();
        assert!(tool.starts_with("\"}\n{\"outcome\":\"ok\u{202e}\u{7f}\u{2028}x") && tool.ends_with('…'));
    }

    #[test]
    fn arguments_stay_as_they_came_but_on_one_line() {
        let raw = RawValue::from_string("{\n\t\"a\": \"b\\nc\",\r\n \"d\": \"\u{202e}\"}".to_owned()).unwrap();
        let text = String::from_utf8(Record { arguments: Some(&raw), ..record() }.line()).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["arguments"], serde_json::json!({"a": "b\nc", "d": "\u{202e}"}));
    }
}
