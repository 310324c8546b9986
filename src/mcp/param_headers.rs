//! `Mcp-Param-*`: arguments of a call that its tool wants repeated as headers.
//!
//! MCP 2026-07-28, basic/transports/streamable-http, "Custom Headers from Tool Parameters".

use std::borrow::Cow;

use super::{
    headers::{self, HeaderMismatch},
    json::{Cursor, JsonError, lookup, unescape},
};

/// Most annotations a tool may have: each costs a look-up in every call and a header line.
const MAX_ANNOTATIONS: usize = 32;

const ANNOTATION: &str = "x-mcp-header";

/// The annotations of a tool's input schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParamHeaders {
    annotations: Vec<Annotation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Annotation {
    /// With the prefix `mcp-param-`.
    header: String,
    /// Keys from the arguments down to the value.
    path: Vec<String>,
    integer: bool,
}

/// Why annotations are invalid. A tool with one must not be listed to clients that call it over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    #[error("its `inputSchema` is malformed: {0}")]
    Json(#[from] JsonError),
    #[error("an `x-mcp-header` stands where no chain of `properties` leads")]
    Unreachable,
    #[error("an `x-mcp-header` is not an HTTP field name")]
    NotAFieldName,
    #[error("two `x-mcp-header` are equal but for letter case")]
    Duplicate,
    #[error("an `x-mcp-header` is on a property that is no string, integer or boolean")]
    NotPrimitive,
    #[error("more than {MAX_ANNOTATIONS} `x-mcp-header`")]
    TooMany,
}

impl ParamHeaders {
    /// Reads the annotations of a raw `inputSchema`.
    ///
    /// # Errors
    /// [`AnnotationError`]: one of them breaks the rules, which makes the whole tool invalid.
    pub fn read(input_schema: &[u8]) -> Result<Self, AnnotationError> {
        let contains = |needle: &str| memchr::memmem::find(input_schema, needle.as_bytes()).is_some();
        if !contains(ANNOTATION) && !contains("\\u") {
            return Ok(Self::default());
        }
        let mut walk = Walk { text: input_schema, cursor: Cursor::new(input_schema), path: Vec::new(), found: Vec::new() };
        walk.schema(true)?;
        Ok(Self { annotations: walk.found })
    }

    pub fn is_empty(&self) -> bool {
        self.annotations.is_empty()
    }

    /// The headers of a call with these raw `arguments`, name (in lower case) and value.
    pub fn values(&self, arguments: Option<&[u8]>) -> Vec<(&str, String)> {
        let value = |annotation: &Annotation| annotation.body(arguments).map(|body| headers::encode(&body).into_owned());
        self.annotations.iter().filter_map(|annotation| Some((annotation.header.as_str(), value(annotation)?))).collect()
    }

    /// Compares the headers of a call with its raw `arguments`; `values` gives every value of the header of that name.
    ///
    /// # Errors
    /// [`HeaderMismatch`], the first found.
    pub fn check<'a, V>(&self, arguments: Option<&[u8]>, values: impl Fn(&str) -> V) -> Result<(), HeaderMismatch>
    where
        V: IntoIterator<Item = &'a [u8]>,
    {
        for annotation in &self.annotations {
            let header = || Cow::Owned(annotation.header.clone());
            let value = headers::single(&annotation.header, values(&annotation.header))?;
            match (annotation.body(arguments), value) {
                (None, None) => {}
                (Some(_), None) => return Err(HeaderMismatch::Missing { header: header() }),
                (body, Some(value)) => {
                    let value = headers::decode(value).ok_or_else(|| HeaderMismatch::Invalid { header: header() })?;
                    let body = body.unwrap_or(Cow::Borrowed("(absent)"));
                    if value != body && !(annotation.integer && same_number(&value, &body)) {
                        return Err(HeaderMismatch::differs(header(), &value, &body));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Annotation {
    /// The text of the argument, or `None` when there is nothing to repeat.
    fn body<'a>(&self, arguments: Option<&'a [u8]>) -> Option<Cow<'a, str>> {
        let raw = lookup(arguments?, &self.path)?;
        match raw.first()? {
            b'"' => unescape(raw),
            b't' | b'f' => std::str::from_utf8(raw).ok().map(Cow::Borrowed),
            b'-' | b'0'..=b'9' => std::str::from_utf8(raw).ok().map(decimal),
            _ => None,
        }
    }
}

/// A number without an exponent, which is all that a header may hold.
fn decimal(number: &str) -> Cow<'_, str> {
    match number.parse::<f64>() {
        Ok(value) if number.contains(['e', 'E']) && value.is_finite() => Cow::Owned(value.to_string()),
        _ => Cow::Borrowed(number),
    }
}

fn same_number(left: &str, right: &str) -> bool {
    let numeric = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.'));
    match (left.parse::<i128>(), right.parse::<i128>()) {
        (Ok(left), Ok(right)) => left == right,
        _ if !numeric(left) || !numeric(right) => false,
        _ => matches!((left.parse::<f64>(), right.parse::<f64>()), (Ok(left), Ok(right)) if left == right),
    }
}

/// One pass over a schema. It calls itself once a level of nesting, which the cursor bounds.
struct Walk<'a> {
    text: &'a [u8],
    cursor: Cursor<'a>,
    path: Vec<String>,
    found: Vec<Annotation>,
}

impl Walk<'_> {
    /// Reads one schema. `reachable`: only `properties` lead to it.
    fn schema(&mut self, reachable: bool) -> Result<(), AnnotationError> {
        let mut header = None;
        let mut kind = None;
        self.cursor.enter_object()?;
        while let Some(key) = self.cursor.next_key()? {
            match unescape(key.of(self.text)).as_deref() {
                Some(ANNOTATION) => header = Some(self.cursor.value()?),
                Some("type") => kind = unescape(self.cursor.value()?.of(self.text)),
                Some("properties") => self.named(reachable)?,
                Some("$defs" | "definitions" | "dependentSchemas" | "patternProperties") => self.named(false)?,
                // Data, not schemas.
                Some("default" | "const" | "enum" | "examples") => {
                    self.cursor.value()?;
                }
                _ => self.within()?,
            }
        }
        let Some(header) = header else { return Ok(()) };
        if !reachable || self.path.is_empty() {
            return Err(AnnotationError::Unreachable);
        }
        let name = unescape(header.of(self.text)).filter(|name| is_field_name(name)).ok_or(AnnotationError::NotAFieldName)?;
        let integer = match kind.as_deref() {
            Some("integer") => true,
            Some("string" | "boolean") => false,
            _ => return Err(AnnotationError::NotPrimitive),
        };
        let header = format!("{}{}", headers::PARAM_PREFIX, name.to_ascii_lowercase());
        if self.found.iter().any(|other| other.header == header) {
            return Err(AnnotationError::Duplicate);
        }
        if self.found.len() == MAX_ANNOTATIONS {
            return Err(AnnotationError::TooMany);
        }
        self.found.push(Annotation { header, path: self.path.clone(), integer });
        Ok(())
    }

    /// An object whose members are schemas by name.
    fn named(&mut self, reachable: bool) -> Result<(), AnnotationError> {
        if self.cursor.peek() != Some(b'{') {
            return self.within();
        }
        self.cursor.enter_object()?;
        while let Some(key) = self.cursor.next_key()? {
            if self.cursor.peek() != Some(b'{') {
                self.within()?;
                continue;
            }
            self.path.push(unescape(key.of(self.text)).unwrap_or_default().into_owned());
            self.schema(reachable)?;
            self.path.pop();
        }
        Ok(())
    }

    /// A value that may be or hold schemas, none of which is reachable.
    fn within(&mut self) -> Result<(), AnnotationError> {
        match self.cursor.peek() {
            Some(b'{') => self.schema(false),
            Some(b'[') => {
                self.cursor.enter_array()?;
                while self.cursor.next_item()? {
                    self.within()?;
                }
                Ok(())
            }
            _ => {
                self.cursor.value()?;
                Ok(())
            }
        }
    }
}

/// A `token` (RFC 9110 §5.6.2).
fn is_field_name(name: &str) -> bool {
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(tchar)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"type":"object","properties":{
        "region":{"type":"string","x-mcp-header":"Region"},
        "deep":{"type":"object","properties":{"count":{"x-mcp-header":"Count","type":"integer"}}},
        "flag":{"type":"boolean","x-mcp-header":"Flag"},
        "x-mcp-header":{"type":"string","default":{"x-mcp-header":"data"}}}}"#;

    fn read(schema: &str) -> Result<ParamHeaders, AnnotationError> {
        ParamHeaders::read(schema.as_bytes())
    }

    #[test]
    fn arguments_are_repeated_as_their_text() {
        let headers = read(SCHEMA).unwrap();
        let values = |arguments: &str| {
            let values = headers.values(Some(arguments.as_bytes()));
            values.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            values(r#"{"region":"us","deep":{"count":-7},"flag":true}"#),
            "mcp-param-region=us mcp-param-count=-7 mcp-param-flag=true"
        );
        assert_eq!(values(r#"{"region":" é","deep":{"count":1e3}}"#), "mcp-param-region==?base64?IMOp?= mcp-param-count=1000");
        assert_eq!(values(r#"{"region":null,"deep":[],"flag":{}}"#), "");
        assert!(headers.values(None).is_empty());
    }

    #[test]
    fn headers_are_compared_with_the_arguments() {
        let headers = read(SCHEMA).unwrap();
        let check = |arguments: &str, name: &str, value: &'static str| {
            headers.check(Some(arguments.as_bytes()), |header| (header == name).then_some(value.as_bytes()))
        };
        assert_eq!(check(r#"{"region":"us"}"#, "mcp-param-region", " us "), Ok(()));
        assert_eq!(check(r#"{"deep":{"count":42}}"#, "mcp-param-count", "42.0"), Ok(()));
        assert_eq!(check(r#"{"region":null}"#, "", ""), Ok(()));
        assert!(check(r#"{"region":"us"}"#, "mcp-param-region", "eu").is_err());
        assert!(check(r#"{"region":"42"}"#, "mcp-param-region", "42.0").is_err());
        assert!(check(r#"{"region":"us"}"#, "", "").is_err());
        assert!(check("{}", "mcp-param-region", "us").is_err());
        assert!(check(r#"{"region":"us"}"#, "mcp-param-region", "=?base64?!?=").is_err());
        assert!(check(r#"{"deep":{"count":9007199254740993}}"#, "mcp-param-count", "9007199254740992").is_err());
    }

    #[test]
    fn an_annotation_that_breaks_the_rules_makes_the_tool_invalid() {
        let property = |property: &str| format!(r#"{{"properties":{{"a":{property}}}}}"#);
        for (schema, error) in [
            (r#"{"x-mcp-header":"A","type":"string"}"#.to_owned(), AnnotationError::Unreachable),
            (property(r#"{"items":{"type":"string","x-mcp-header":"A"}}"#), AnnotationError::Unreachable),
            (property(r#"{"anyOf":[{"type":"string","x-mcp-header":"A"}]}"#), AnnotationError::Unreachable),
            (r#"{"$defs":{"a":{"type":"string","x-mcp-header":"A"}}}"#.to_owned(), AnnotationError::Unreachable),
            (property(r#"{"type":"string","x-mcp-header":""}"#), AnnotationError::NotAFieldName),
            (property(r#"{"type":"string","x-mcp-header":"a\r\nb"}"#), AnnotationError::NotAFieldName),
            (property(r#"{"type":"string","x-mcp-header":1}"#), AnnotationError::NotAFieldName),
            (property(r#"{"type":"number","x-mcp-header":"A"}"#), AnnotationError::NotPrimitive),
            (property(r#"{"type":["string","null"],"x-mcp-h\u0065ader":"A"}"#), AnnotationError::NotPrimitive),
            (
                r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#.to_owned(),
                AnnotationError::Duplicate,
            ),
        ] {
            assert_eq!(read(&schema), Err(error), "{schema}");
        }
    }

    #[test]
    fn a_schema_without_annotations_has_no_headers() {
        assert!(read(r#"{"type":"object","properties":{"a":{"description":"\u00e9"}}}"#).unwrap().is_empty());
        assert!(read(r#"{"type":"object"}"#).unwrap().is_empty());
    }

    #[test]
    fn a_schema_nested_too_deeply_is_refused_without_exhausting_the_stack() {
        let deep = format!("{}{}{}", r#"{"x-mcp-header":0,"items":"#, r#"{"properties":{"a":"#.repeat(100_000), "}".repeat(200_001));
        assert_eq!(read(&deep), Err(AnnotationError::Json(JsonError::TooDeep)));
    }
}
