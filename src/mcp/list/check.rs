//! What an item must be for no client to refuse the list it stands in.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Item, ListKind, Quarantined};
use crate::mcp::{
    Span,
    json::{for_each_item, for_each_member, unescape},
};

type Why = Cow<'static, str>;

/// The kinds of JSON values that clients check for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    String,
    Object,
    Array,
    Bool,
    Number,
}

impl Shape {
    fn fits(self, raw: &[u8]) -> bool {
        match self {
            Self::String => raw.starts_with(b"\""),
            Self::Object => raw.starts_with(b"{"),
            Self::Array => raw.starts_with(b"["),
            Self::Bool => raw == b"true" || raw == b"false",
            Self::Number => raw.first().is_some_and(|byte| matches!(byte, b'-' | b'0'..=b'9')),
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Object => "an object",
            Self::Array => "an array",
            Self::Bool => "a boolean",
            Self::Number => "a number",
        }
    }
}

/// Members of every item that may be absent but must have their shape (MCP 2025-11-25 and 2026-07-28, schema).
const OPTIONAL: &[(&str, Shape)] =
    &[("title", Shape::String), ("description", Shape::String), ("icons", Shape::Array), ("_meta", Shape::Object)];

const TOOL_OPTIONAL: &[(&str, Shape)] = &[("annotations", Shape::Object), ("execution", Shape::Object)];

const PROMPT_OPTIONAL: &[(&str, Shape)] = &[("arguments", Shape::Array)];

const RESOURCE_OPTIONAL: &[(&str, Shape)] = &[("annotations", Shape::Object), ("mimeType", Shape::String), ("size", Shape::Number)];

const TOOL_ANNOTATIONS: &[(&str, Shape)] = &[
    ("title", Shape::String),
    ("readOnlyHint", Shape::Bool),
    ("destructiveHint", Shape::Bool),
    ("idempotentHint", Shape::Bool),
    ("openWorldHint", Shape::Bool),
];

const RESOURCE_ANNOTATIONS: &[(&str, Shape)] = &[("audience", Shape::Array), ("priority", Shape::Number), ("lastModified", Shape::String)];

/// Where the checked members of an item lie.
#[derive(Default)]
struct Members {
    name: Option<Span>,
    uri: Option<Span>,
    input_schema: Option<Span>,
    output_schema: Option<Span>,
    icons: Option<Span>,
    annotations: Option<Span>,
    arguments: Option<Span>,
}

pub(super) fn item(bytes: Bytes, kind: ListKind) -> Result<Item, Quarantined> {
    let mut members = Members::default();
    let checked = read(&bytes, kind, &mut members).and_then(|()| check(&bytes, kind, &members));
    match checked {
        Ok((name, output_is_no_object)) => Ok(Item {
            bytes,
            name,
            uri: members.uri,
            input_schema: members.input_schema,
            output_schema: members.output_schema,
            output_is_no_object,
        }),
        Err(why) => {
            let name = members.name.and_then(|span| unescape(span.of(&bytes))).map(Cow::into_owned);
            Err(Quarantined { name, why })
        }
    }
}

/// Finds the members; the first that is of the wrong shape or there twice is the reason to refuse the item.
fn read(bytes: &Bytes, kind: ListKind, members: &mut Members) -> Result<(), Why> {
    if !Shape::Object.fits(bytes) {
        return Err("it is not an object".into());
    }
    let mut problem: Option<Why> = None;
    let own_shapes = match kind {
        ListKind::Tools => TOOL_OPTIONAL,
        ListKind::Prompts => PROMPT_OPTIONAL,
        ListKind::Resources | ListKind::ResourceTemplates => RESOURCE_OPTIONAL,
    };
    let uri_key = if kind == ListKind::ResourceTemplates { "uriTemplate" } else { "uri" };
    let walked = for_each_member(bytes, |key, span| {
        let raw = span.of(bytes);
        let slot = match key {
            "name" => Some(&mut members.name),
            "inputSchema" if kind == ListKind::Tools => Some(&mut members.input_schema),
            "outputSchema" if kind == ListKind::Tools => Some(&mut members.output_schema),
            "arguments" if kind == ListKind::Prompts => Some(&mut members.arguments),
            "icons" => Some(&mut members.icons),
            "annotations" => Some(&mut members.annotations),
            _ if key == uri_key && matches!(kind, ListKind::Resources | ListKind::ResourceTemplates) => Some(&mut members.uri),
            _ => None,
        };
        if let Some(slot) = slot
            && slot.replace(span).is_some()
        {
            problem.get_or_insert_with(|| format!("its key `{key}` occurs twice").into());
        }
        wrong_shape(OPTIONAL, key, raw, &mut problem);
        wrong_shape(own_shapes, key, raw, &mut problem);
    });
    walked.map_err(|error| Why::from(error.to_string()))?;
    problem.map_or(Ok(()), Err)
}

fn wrong_shape(shapes: &[(&str, Shape)], key: &str, raw: &[u8], problem: &mut Option<Why>) {
    if let Some((_, shape)) = shapes.iter().find(|(name, _)| *name == key)
        && !shape.fits(raw)
    {
        problem.get_or_insert_with(|| format!("its `{key}` is not {}", shape.words()).into());
    }
}

/// The place of the name, and whether the output is other than an object.
fn check(bytes: &Bytes, kind: ListKind, members: &Members) -> Result<(Span, bool), Why> {
    let name = members.name.ok_or("it has no `name`")?;
    let text = unescape(name.of(bytes)).ok_or("its `name` is not a string")?;
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("its `name` is empty or holds control characters".into());
    }
    if let Some(icons) = members.icons {
        each_has_string(icons.of(bytes), "icons", "src")?;
    }
    let annotations = members.annotations.map(|span| span.of(bytes));
    let mut output_is_no_object = false;
    match kind {
        ListKind::Tools => {
            let input = members.input_schema.ok_or("it has no `inputSchema`")?.of(bytes);
            if schema_type(input).as_deref() != Some("object") {
                return Err("its `inputSchema` is not of type \"object\"".into());
            }
            if let Some(output) = members.output_schema.map(|span| span.of(bytes)) {
                if !Shape::Object.fits(output) {
                    return Err("its `outputSchema` is not an object".into());
                }
                output_is_no_object = schema_type(output).as_deref() != Some("object");
            }
            annotations.map_or(Ok(()), |raw| shapes(raw, TOOL_ANNOTATIONS))?;
        }
        ListKind::Prompts => {
            if let Some(arguments) = members.arguments {
                each_has_string(arguments.of(bytes), "arguments", "name")?;
            }
        }
        ListKind::Resources | ListKind::ResourceTemplates => {
            let uri = members.uri.ok_or("it has no URI")?;
            unescape(uri.of(bytes)).filter(|uri| !uri.is_empty()).ok_or("its URI is not a string")?;
            annotations.map_or(Ok(()), |raw| shapes(raw, RESOURCE_ANNOTATIONS))?;
        }
    }
    Ok((name, output_is_no_object))
}

/// Checks the members of an object of annotations.
fn shapes(object: &[u8], expected: &[(&str, Shape)]) -> Result<(), Why> {
    let mut problem = None;
    for_each_member(object, |key, span| wrong_shape(expected, key, span.of(object), &mut problem)).map_err(|error| error.to_string())?;
    problem.map_or(Ok(()), Err)
}

/// Checks that `array` holds objects only, each with a string under `key`.
fn each_has_string(array: &[u8], what: &str, key: &str) -> Result<(), Why> {
    let mut valid = true;
    let walked = for_each_item(array, |span| valid &= has_string(span.of(array), key));
    if walked.is_ok() && valid { Ok(()) } else { Err(format!("one of its `{what}` has no string `{key}`").into()) }
}

fn has_string(object: &[u8], key: &str) -> bool {
    let mut found = false;
    let walked = for_each_member(object, |name, span| {
        if name == key {
            found = Shape::String.fits(span.of(object));
        }
    });
    walked.is_ok() && found
}

/// The `type` of a JSON Schema, if that is a single word.
fn schema_type(schema: &[u8]) -> Option<String> {
    let mut found = None;
    for_each_member(schema, |key, span| {
        if key == "type" {
            found = unescape(span.of(schema)).map(Cow::into_owned);
        }
    })
    .ok()?;
    found
}
