use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::mcp::testing::{literal, members as any_members, object as written, value};

fn splice(text: &str, edit: impl FnOnce(&mut Splices, &[u8], Span)) -> String {
    let mut splices = Splices::new();
    edit(&mut splices, text.as_bytes(), Span::new(0, text.len()));
    let out = splices.apply(&Bytes::copy_from_slice(text.as_bytes()));
    String::from_utf8(out.to_vec()).unwrap()
}

fn edited(text: &str, drop: &[&str], add: &[(&str, &[u8])]) -> String {
    splice(text, |splices, bytes, all| splices.edit_object(bytes, all, |key| drop.contains(&key), add).unwrap())
}

#[test]
fn members_are_removed_with_their_commas() {
    for (text, expected) in [
        (r#"{"a":1,"b":2,"c":3}"#, r#"{"b":2}"#),
        (r#"{"a":1 , "c":3}"#, "{}"),
        (r#"{ "b":2 , "a":1,"c":[] }"#, r#"{ "b":2 }"#),
        (r#"{"\u0061":1,"b":2}"#, r#"{"b":2}"#),
        (r#"{"b":2,"a":1,"d":4}"#, r#"{"b":2,"d":4}"#),
        ("{ }", "{ }"),
    ] {
        assert_eq!(edited(text, &["a", "c"], &[]), expected, "{text}");
    }
}

#[test]
fn members_are_added_at_the_front() {
    let add: &[(&str, &[u8])] = &[("resultType", b"\"complete\""), ("x", b"1")];
    assert_eq!(edited("{}", &[], add), r#"{"resultType":"complete","x":1}"#);
    assert_eq!(edited(r#"{ "a":1}"#, &[], add), r#"{"resultType":"complete","x":1, "a":1}"#);
    assert_eq!(edited(r#"{ "a":1}"#, &["a"], add), r#"{"resultType":"complete","x":1 }"#);
}

#[test]
fn a_member_is_set_however_often_it_was_there() {
    let text = r#"{"a":1,"b":2,"\u0061":3}"#;
    assert_eq!(splice(text, |splices, bytes, all| splices.set_member(bytes, all, "a", b"9").unwrap()), r#"{"a":9,"b":2}"#);
}

#[test]
fn a_name_is_prefixed_inside_its_literal() {
    let text = r#"["se\u0061rch","x"]"#;
    assert_eq!(splice(text, |splices, _, _| splices.prefix_string(Span::new(1, 14), "crm__")), r#"["crm__se\u0061rch","x"]"#);
}

#[test]
#[should_panic(expected = "replacements do not overlap")]
fn overlapping_replacements_are_never_dropped_silently() {
    splice("abcdef", |splices, _, _| {
        splices.remove(Span::new(0, 4));
        splices.remove(Span::new(2, 6));
    });
}

fn with_meta(text: &str, add: &[(&str, &[u8])]) -> String {
    let message = Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
    let mut splices = Splices::new();
    splices.request_meta(&message, add);
    String::from_utf8(splices.apply(message.bytes()).to_vec()).unwrap()
}

#[test]
fn request_meta_is_made_where_there_is_none() {
    let add: &[(&str, &[u8])] = &[("k", b"1")];
    for (params, expected) in [
        ("", r#"{"params":{"_meta":{"k":1}},"jsonrpc":"2.0","method":"m"}"#),
        (r#","params":null"#, r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"k":1}}}"#),
        (r#","params":{}"#, r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"k":1}}}"#),
        (r#","params":{"a":1}"#, r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"k":1},"a":1}}"#),
        (r#","params":{"_meta":null}"#, r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"k":1}}}"#),
        (r#","params":{"_meta":{"k":2,"t":3}}"#, r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"k":1,"t":3}}}"#),
    ] {
        assert_eq!(with_meta(&format!(r#"{{"jsonrpc":"2.0","method":"m"{params}}}"#), add), expected);
    }
}

#[test]
fn only_the_reserved_meta_keys_are_dropped() {
    let text = r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":1,"io.modelcontextprotocol/clientInfo":{},"traceparent":"t","io.modelcontextprotocol/related-task":{},"io.modelcontextprotocol/logLevel":"info"}}}"#;
    let expected = r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"progressToken":1,"traceparent":"t","io.modelcontextprotocol/related-task":{}}}}"#;
    assert_eq!(with_meta(text, &[]), expected);
    let plain = r#"{"jsonrpc":"2.0","method":"m","params":{}}"#;
    assert_eq!(with_meta(plain, &[]), plain);
}

proptest! {
    #[test]
    fn every_byte_outside_the_spliced_spans_is_kept(
        id in prop_oneof![any::<i64>().prop_map(|n| n.to_string()), literal()],
        name in literal(),
        before in value(),
        after in value(),
        tail in any_members(value()),
    ) {
        let tail = written(&tail);
        let text = format!(r#"{{"x":{before},"id":{id},"jsonrpc":"2.0","method":"tools/call" ,"params":{{"arguments":{tail},"name": {name} ,"y":{after}}}}}"#);
        let message = Message::parse(Bytes::from(text.clone())).unwrap();
        let mut splices = Splices::new();
        splices.replace(message.id_span().unwrap(), "42");
        splices.prefix_string(message.name_span().unwrap(), "crm__");
        let out = splices.apply(message.bytes());
        let expected = format!(r#"{{"x":{before},"id":42,"jsonrpc":"2.0","method":"tools/call" ,"params":{{"arguments":{tail},"name": "crm__{} ,"y":{after}}}}}"#, &name[1..]);
        prop_assert_eq!(out.clone(), expected);
        let back = Message::parse(out).unwrap();
        prop_assert_eq!(back.name().unwrap().into_owned(), format!("crm__{}", message.name().unwrap()));
    }

    #[test]
    fn an_edited_object_is_valid_and_keeps_the_other_members(members in any_members(value())) {
        let text = written(&members);
        let out = edited(&text, &["name", "id"], &[("added", b"[1]")]);
        let read = |text: &str| serde_json::from_str::<serde_json::Map<String, Value>>(&text.replace("E+400", "")).unwrap();
        let mut expected = read(&text);
        expected.remove("name");
        expected.remove("id");
        expected.insert("added".to_owned(), serde_json::json!([1]));
        prop_assert_eq!(read(&out), expected);
    }
}
