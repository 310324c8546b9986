//! The result of a list method, taken apart into its items.

mod check;

use std::{borrow::Cow, sync::LazyLock};

use bytes::Bytes;
use memchr::memmem;

use super::{
    Method, Span,
    json::{Cursor, JsonError, for_each_member, lookup, unescape},
};

/// Longest name, and longest reason, of an item that is left out, in characters.
const MAX_QUARANTINED_NAME: usize = 128;
const MAX_QUARANTINED_WHY: usize = 256;

/// What a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListKind {
    Tools,
    Prompts,
    Resources,
    ResourceTemplates,
}

impl ListKind {
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::ResourceTemplates];

    /// The member of the result that holds the items.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::ResourceTemplates => "resourceTemplates",
        }
    }

    pub const fn method(self) -> Method {
        match self {
            Self::Tools => Method::ToolsList,
            Self::Prompts => Method::PromptsList,
            Self::Resources => Method::ResourcesList,
            Self::ResourceTemplates => Method::ResourceTemplatesList,
        }
    }
}

/// How much of one list is taken. The caller lowers it page by page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListBounds {
    pub items: usize,
    /// Bytes of all items together.
    pub bytes: usize,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    pub items: Vec<Item>,
    pub quarantined: Vec<Quarantined>,
    /// The cursor of the next page as a JSON literal, to be sent back as it is. `""` is a valid cursor.
    pub next_cursor: Option<Bytes>,
    /// How long the page stays fresh, in milliseconds (MCP 2026-07-28, server/utilities/caching).
    pub ttl_ms: Option<u64>,
    pub cache_scope: Option<CacheScope>,
}

/// Who may be served from a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheScope {
    Public,
    Private,
}

impl CacheScope {
    /// What is not plainly public is private.
    pub(super) fn read(raw: &[u8]) -> Self {
        if unescape(raw).as_deref() == Some("public") { Self::Public } else { Self::Private }
    }
}

/// A tool, prompt, resource or resource template, as its server wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    bytes: Bytes,
    name: Span,
    uri: Option<Span>,
    input_schema: Option<Span>,
    output_schema: Option<Span>,
    /// The tool has an `outputSchema` that is not of type `object`: 2026-07-28 allows it, and earlier clients refuse the whole
    /// list for it.
    pub output_is_no_object: bool,
}

impl Item {
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn name(&self) -> Cow<'_, str> {
        unescape(self.name.of(&self.bytes)).unwrap_or_default()
    }

    /// The string literal of the name, within [`Item::bytes`].
    pub fn name_span(&self) -> Span {
        self.name
    }

    /// `uri` of a resource, `uriTemplate` of a resource template.
    pub fn uri(&self) -> Option<Cow<'_, str>> {
        unescape(self.uri?.of(&self.bytes))
    }

    pub fn uri_span(&self) -> Option<Span> {
        self.uri
    }

    /// The raw `inputSchema` of a tool.
    pub fn input_schema(&self) -> Option<&[u8]> {
        self.input_schema.map(|span| span.of(&self.bytes))
    }

    pub fn output_schema_span(&self) -> Option<Span> {
        self.output_schema
    }

    pub fn title(&self) -> Option<Cow<'_, str>> {
        self.text(&["title"])
    }

    pub fn description(&self) -> Option<Cow<'_, str>> {
        self.text(&["description"])
    }

    /// The `ui://` resource that shows a tool's results (MCP Apps, SEP-1865), which need not be listed.
    pub fn ui_resource(&self) -> Option<Cow<'_, str>> {
        static KEY: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("resourceUri\""));
        KEY.find(&self.bytes)?;
        // The second is what the extension's first drafts had.
        self.text(&["_meta", "ui", "resourceUri"]).or_else(|| self.text(&["_meta", "ui/resourceUri"]))
    }

    /// The tool is called as a task only (MCP 2025-11-25, basic/utilities/tasks).
    pub fn is_task_only(&self) -> bool {
        static KEY: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("taskSupport\""));
        KEY.find(&self.bytes).is_some() && self.text(&["execution", "taskSupport"]).as_deref() == Some("required")
    }

    fn text(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        unescape(lookup(&self.bytes, path)?)
    }
}

/// An item that is left out, because clients refuse a whole list for one like it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// As far as it has one.
    pub name: Option<String>,
    pub why: Cow<'static, str>,
}

impl Quarantined {
    /// What is said about it, in bounded memory: its server chose the words.
    fn bounded(mut self) -> Self {
        self.name = self.name.map(|name| name.chars().take(MAX_QUARANTINED_NAME).collect());
        if self.why.chars().nth(MAX_QUARANTINED_WHY).is_some() {
            self.why = self.why.chars().take(MAX_QUARANTINED_WHY).collect::<String>().into();
        }
        self
    }
}

/// Why a result is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("the list result is malformed: {0}")]
    Json(#[from] JsonError),
    #[error("the list result has no array `{0}`")]
    NoItems(&'static str),
    #[error("the key `{0}` of the list result occurs twice")]
    DuplicateKey(&'static str),
    #[error("`nextCursor` of the list result is not a string")]
    BadCursor,
    #[error("the list has more than {0} items")]
    TooManyItems(usize),
    #[error("the list has more than {0} bytes")]
    TooManyBytes(usize),
}

impl ListPage {
    /// Takes a `result` apart. Nothing of the page is kept: items and cursor are copies, which are much smaller.
    ///
    /// An item that would make clients refuse the list is quarantined and the others are kept.
    ///
    /// # Errors
    /// [`ListError`]: the result is not that of this list method, or exceeds `bounds`.
    pub fn parse(result: &Bytes, kind: ListKind, bounds: ListBounds) -> Result<Self, ListError> {
        let mut page = Self { items: Vec::new(), quarantined: Vec::new(), next_cursor: None, ttl_ms: None, cache_scope: None };
        let mut array = None;
        let mut cursor = None;
        let mut twice = None;
        for_each_member(result, |key, value| match key {
            "nextCursor" => twice = twice.or_else(|| cursor.replace(value).map(|_| "nextCursor")),
            "ttlMs" => page.ttl_ms = millis(value.of(result)),
            "cacheScope" => page.cache_scope = Some(CacheScope::read(value.of(result))),
            _ if key == kind.key() => twice = twice.or_else(|| array.replace(value).map(|_| kind.key())),
            _ => {}
        })?;
        if let Some(key) = twice {
            return Err(ListError::DuplicateKey(key));
        }
        page.next_cursor = match cursor.map(|span| Bytes::copy_from_slice(span.of(result))) {
            Some(literal) if literal.starts_with(b"\"") => Some(literal),
            Some(literal) if literal != "null" => return Err(ListError::BadCursor),
            _ => None,
        };
        let array = array.filter(|span| span.of(result).starts_with(b"[")).ok_or_else(|| ListError::NoItems(kind.key()))?;
        page.read_items(&result.slice(array.range()), kind, bounds)?;
        Ok(page)
    }

    fn read_items(&mut self, array: &Bytes, kind: ListKind, bounds: ListBounds) -> Result<(), ListError> {
        let mut cursor = Cursor::new(array);
        let mut bytes = 0;
        let mut count = 0;
        cursor.enter_array()?;
        while cursor.next_item()? {
            let span = cursor.value()?;
            count += 1;
            bytes += span.range().len();
            if count > bounds.items {
                return Err(ListError::TooManyItems(bounds.items));
            }
            if bytes > bounds.bytes {
                return Err(ListError::TooManyBytes(bounds.bytes));
            }
            match check::item(Bytes::copy_from_slice(span.of(array)), kind) {
                Ok(item) => self.items.push(item),
                Err(quarantined) => self.quarantined.push(quarantined.bounded()),
            }
        }
        Ok(())
    }
}

/// A count of milliseconds; a negative one is 0 (MCP 2026-07-28, server/utilities/caching), what is no number is nothing.
pub(super) fn millis(raw: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(raw).ok()?;
    if let Ok(millis) = text.parse() {
        return Some(millis);
    }
    let number: f64 = serde_json::from_str(text).ok()?;
    // A cast from float to integer saturates, which is what is wanted of 1e300 and of -1.
    Some(number as u64)
}

#[cfg(test)]
mod tests;
