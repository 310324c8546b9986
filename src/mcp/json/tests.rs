use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

fn accepts(text: &[u8]) -> bool {
    let mut cursor = Cursor::new(text);
    std::str::from_utf8(text).is_ok() && cursor.value().is_ok() && cursor.end().is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_accepts_exactly_what_serde_json_accepts(text in r#"([\[\]{},: ]|"a"|"\\u00e9"|"\\x"|-|0|12|\.|e|E\+|true|nul|null|\\|"|\n|é|\x01){0,12}"#) {
        prop_assert_eq!(accepts(text.as_bytes()), serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn the_plain_prefix_ends_at_the_first_special_byte(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let slow = bytes.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\').unwrap_or(bytes.len());
        prop_assert_eq!(plain_prefix(&bytes), slow);
    }
}

#[test]
fn nesting_is_allowed_as_deep_as_serde_json_allows_it() {
    for (depth, allowed) in [(127, true), (128, false), (100_000, false)] {
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(accepts(text.as_bytes()), allowed, "{depth}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), allowed, "{depth}");
    }
}

#[test]
fn depth_counts_the_containers_walked_into() {
    let text = format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127));
    let mut cursor = Cursor::new(text.as_bytes());
    cursor.enter_object().unwrap();
    assert_eq!(cursor.next_key().unwrap(), Some(Span::new(1, 4)));
    assert_eq!(cursor.value(), Err(JsonError::TooDeep));
}

#[test]
fn a_look_up_follows_the_path_and_takes_the_last_of_equal_keys() {
    let text = br#"{"a":{"b":1,"\u0062":{"c":[2]}},"a ":0}"#;
    assert_eq!(lookup(text, &["a", "b", "c"]), Some(&b"[2]"[..]));
    assert_eq!(lookup(text, &["a", "b", "c", "d"]), None);
    assert_eq!(lookup(text, &["x"]), None);
    assert_eq!(lookup(text, &[""; 0]), Some(&text[..]));
}

#[test]
fn a_literal_is_unescaped_and_a_lone_surrogate_has_no_text() {
    assert_eq!(unescape(br#""na\u006de""#).as_deref(), Some("name"));
    assert!(matches!(unescape(br#""name""#), Some(Cow::Borrowed("name"))));
    assert_eq!(unescape(br#""\ud800""#), None);
    assert_eq!(unescape(b"12"), None);
    assert_eq!(unescape(br#""a"b""#), None);
    assert_eq!(unescape(b"\""), None);
}
