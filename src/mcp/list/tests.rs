use proptest::prelude::*;

use super::*;
use crate::mcp::{Splices, testing::value};

const WIDE: ListBounds = ListBounds { items: 1000, bytes: 1 << 20 };

fn page(text: &str, kind: ListKind) -> Result<ListPage, ListError> {
    ListPage::parse(&Bytes::copy_from_slice(text.as_bytes()), kind, WIDE)
}

fn tool(members: &str) -> ListPage {
    let good = r#"{"name":"good","inputSchema":{"type":"object"}}"#;
    page(&format!(r#"{{"tools":[{{"name":"t",{members}}},{good}]}}"#), ListKind::Tools).unwrap()
}

#[test]
fn items_keep_their_bytes() {
    let text = r#"{"nextCursor":"","tools":[ {"b":1.0,"name":"se\u0061rch","inputSchema":{"type":"object","z":1,"a":2}} ],"ttlMs":5,"cacheScope":"public"}"#;
    let page = page(text, ListKind::Tools).unwrap();
    assert_eq!(page.items.len(), 1);
    let item = &page.items[0];
    assert_eq!(item.bytes(), r#"{"b":1.0,"name":"se\u0061rch","inputSchema":{"type":"object","z":1,"a":2}}"#);
    assert_eq!((item.name(), item.uri()), (Cow::Borrowed("search"), None));
    assert_eq!(item.input_schema(), Some(&br#"{"type":"object","z":1,"a":2}"#[..]));
    assert_eq!(page.next_cursor.as_deref(), Some(&b"\"\""[..]));
    assert_eq!((page.ttl_ms, page.cache_scope), (Some(5), Some(CacheScope::Public)));
    let mut splices = Splices::new();
    splices.prefix_string(item.name_span(), "crm__");
    assert!(splices.apply(item.bytes()).starts_with(br#"{"b":1.0,"name":"crm__se\u0061rch","#));
}

#[test]
fn one_bad_tool_is_quarantined_and_the_others_stay() {
    let schema = r#""inputSchema":{"type":"object"}"#;
    for (members, why) in [
        (r#""x":1"#.to_owned(), "it has no `inputSchema`"),
        (r#""inputSchema":{}"#.to_owned(), "its `inputSchema` is not of type \"object\""),
        (r#""inputSchema":true"#.to_owned(), "its `inputSchema` is not of type \"object\""),
        (format!(r#"{schema},"outputSchema":null"#), "its `outputSchema` is not an object"),
        (format!(r#"{schema},"icons":[{{"src":"a"}},{{"url":"b"}}]"#), "one of its `icons` has no string `src`"),
        (format!(r#"{schema},"icons":{{}}"#), "its `icons` is not an array"),
        (format!(r#"{schema},"annotations":{{"readOnlyHint":"yes"}}"#), "its `readOnlyHint` is not a boolean"),
        (format!(r#"{schema},"description":null"#), "its `description` is not a string"),
        (format!(r#"{schema},"n\u0061me":"u""#), "its key `name` occurs twice"),
    ] {
        let page = tool(&members);
        assert_eq!(page.items.len(), 1, "{members}");
        assert_eq!(page.items[0].name(), "good");
        assert_eq!(page.quarantined.len(), 1);
        assert_eq!(page.quarantined[0].why, why, "{members}");
        assert!(page.quarantined[0].name.is_some());
    }
}

#[test]
fn nameless_and_misshapen_items_are_quarantined() {
    let text = r#"{"prompts":[1,null,{},{"name":7},{"name":""},{"name":"a\u0000"},{"name":"p","arguments":[{}]},{"name":"ok","arguments":[{"name":"x"}]}]}"#;
    let page = page(text, ListKind::Prompts).unwrap();
    assert_eq!((page.items.len(), page.quarantined.len()), (1, 7));
}

#[test]
fn an_output_that_is_no_object_is_only_marked() {
    let schema = r#""inputSchema":{"type":"object"}"#;
    let marks = |output: &str| tool(&format!(r#"{schema},"outputSchema":{output}"#)).items[0].output_is_no_object;
    assert!(marks(r#"{"type":"array"}"#));
    assert!(marks(r#"{"anyOf":[]}"#));
    assert!(!marks(r#"{"type":"object"}"#));
}

#[test]
fn resources_and_templates_have_their_uris() {
    let resources = page(r#"{"resources":[{"uri":"file:///a","name":"a"},{"name":"b"}]}"#, ListKind::Resources).unwrap();
    assert_eq!(resources.items[0].uri().as_deref(), Some("file:///a"));
    assert_eq!(resources.quarantined.len(), 1);
    let templates = page(r#"{"resourceTemplates":[{"uriTemplate":"file:///{x}","name":"a"}]}"#, ListKind::ResourceTemplates).unwrap();
    assert_eq!(templates.items[0].uri().as_deref(), Some("file:///{x}"));
}

#[test]
fn a_result_that_is_no_list_is_refused() {
    for (text, error) in [
        ("{}", ListError::NoItems("tools")),
        (r#"{"tools":{}}"#, ListError::NoItems("tools")),
        (r#"{"tools":[],"tools":[]}"#, ListError::DuplicateKey("tools")),
        (r#"{"tools":[],"nextCursor":5}"#, ListError::BadCursor),
    ] {
        assert_eq!(page(text, ListKind::Tools), Err(error), "{text}");
    }
    assert!(matches!(page("[]", ListKind::Tools), Err(ListError::Json(_))));
    assert_eq!(page(r#"{"tools":[],"nextCursor":null}"#, ListKind::Tools).unwrap().next_cursor, None);
}

#[test]
fn a_list_beyond_its_bounds_is_refused() {
    let text = Bytes::from(r#"{"prompts":[{"name":"a"},{"name":"b"}]}"#);
    let parse = |items, bytes| ListPage::parse(&text, ListKind::Prompts, ListBounds { items, bytes }).map(|page| page.items.len());
    assert_eq!(parse(2, 24), Ok(2));
    assert_eq!(parse(1, 24), Err(ListError::TooManyItems(1)));
    assert_eq!(parse(2, 23), Err(ListError::TooManyBytes(23)));
}

#[test]
fn a_freshness_is_read_leniently() {
    for (raw, expected) in
        [("5", Some(5)), ("-1", Some(0)), ("1.5e3", Some(1500)), ("1e300", Some(u64::MAX)), ("null", None), ("\"5\"", None)]
    {
        assert_eq!(millis(raw.as_bytes()), expected, "{raw}");
    }
}

proptest! {
    #[test]
    fn any_items_are_kept_or_quarantined(items in proptest::collection::vec(value(), 0..5), kind in 0usize..4) {
        let kind = ListKind::ALL[kind];
        let text = format!("{{\"{}\":[{}]}}", kind.key(), items.join(","));
        let page = page(&text, kind).unwrap();
        prop_assert_eq!(page.items.len() + page.quarantined.len(), items.len());
        for item in &page.items {
            prop_assert!(items.iter().any(|text| item.bytes() == text));
        }
    }
}
