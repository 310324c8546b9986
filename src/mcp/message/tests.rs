use proptest::prelude::*;

use super::*;
use crate::mcp::testing::{object, value};

fn parse(text: &str) -> Result<Message, ParseError> {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn refused(text: &str) -> (i64, Option<String>, String) {
    let error = parse(text).expect_err(text);
    (error.code(), error.id.as_ref().map(Id::to_string), error.to_string())
}

#[test]
fn a_call_tells_what_a_gateway_decides_on() {
    let text = r#" {"jsonrpc":"2.0","id":"a1","method":"tools\/call","params":{"name":"se\u0061rch","arguments":{"name":1,"name":2},"_meta":{"progressToken":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28","x":{}}}}"#;
    let message = parse(text).unwrap();
    assert_eq!((message.kind(), message.method()), (Kind::Request, "tools/call"));
    assert_eq!(message.id().unwrap().as_json(), b"\"a1\"");
    assert_eq!(message.name().as_deref(), Some("search"));
    assert_eq!(message.meta_protocol_version().as_deref(), Some("2026-07-28"));
    assert_eq!(message.raw(Field::MetaProgressToken).unwrap(), "1");
    assert_eq!(message.raw(Field::Name).unwrap(), r#""se\u0061rch""#);
    assert_eq!(message.raw(Field::Arguments).unwrap(), r#"{"name":1,"name":2}"#);
    assert_eq!(message.uri(), None);
    assert_eq!(message.bytes(), text);
}

#[test]
fn the_kind_follows_from_the_members() {
    for (text, kind) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, Kind::Request),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null}"#, Kind::Request),
        (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, Kind::Notification),
        (r#"{"result":{"id":2,"id":3},"jsonrpc":"2.0","id":1}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#, Kind::ErrorResponse),
        (r#"{"jsonrpc":"2.0","id":null,"error":{}}"#, Kind::ErrorResponse),
        (r#"{"jsonrpc":"2.0","error":{}}"#, Kind::ErrorResponse),
    ] {
        assert_eq!(parse(text).unwrap().kind(), kind, "{text}");
    }
}

#[test]
fn a_completion_names_its_reference() {
    let message = parse(
        r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"x"}}}"#,
    )
    .unwrap();
    assert_eq!(message.text(Field::RefType).as_deref(), Some("ref/prompt"));
    assert_eq!(message.text(Field::RefName).as_deref(), Some("p"));
    assert_eq!(message.name(), None);
}

#[test]
fn what_is_no_message_is_refused_with_its_code_and_id() {
    for (text, code, id) in [
        ("", -32700, None),
        ("{", -32700, None),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"} x"#, -32700, None),
        ("[]", -32600, None),
        ("3", -32600, None),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600, Some("1")),
        (r#"{"id":"x","method":"ping"}"#, -32600, Some("\"x\"")),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600, None),
        (r#"{"jsonrpc":"2.0","id":1.0,"method":"ping"}"#, -32600, None),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600, None),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600, Some("1")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#, -32600, Some("1")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#, -32600, Some("1")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#, -32600, Some("1")),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, -32600, Some("1")),
        (r#"{"jsonrpc":"2.0","id":1}"#, -32600, Some("1")),
        (r#"{"jsonrpc":"2.0","result":{}}"#, -32600, None),
    ] {
        let (got_code, got_id, words) = refused(text);
        assert_eq!((got_code, got_id.as_deref()), (code, id), "{text}: {words}");
    }
    assert_eq!(Message::parse(Bytes::from_static(b"{\"\xff\":1}")).unwrap_err().code(), -32700);
    let long = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(255));
    assert_eq!(refused(&long).0, -32600);
}

#[test]
fn a_key_that_decides_must_not_occur_twice() {
    for (members, key, id) in [
        (r#""params":{"name":"allowed","na\u006de":"denied"}"#, "name", Some("1")),
        (r#""params":{"name":"allowed"},"params":{"name":"denied"}"#, "params", Some("1")),
        (r#""params":{"_meta":{},"\u005fmeta":{}}"#, "_meta", Some("1")),
        (r#""params":{"_meta":{"progressToken":1,"progressToken":1}}"#, "progressToken", Some("1")),
        (r#""params":{"ref":{"name":"a","name":"b"}}"#, "name", Some("1")),
        (r#""params":{"uri":"a","uri":"b"}"#, "uri", Some("1")),
        (r#""params":{"taskId":"a","taskId":"b"}"#, "taskId", Some("1")),
        (r#""method":"ping""#, "method", Some("1")),
        (r#""id":2"#, "id", None),
        (r#""i\u0064":2"#, "id", None),
        // Readers that ignore letter case take the last of these.
        (r#""params":{"name":"allowed","Name":"denied"}"#, "name", Some("1")),
        (r#""params":{"NAME":"denied","name":"allowed"}"#, "name", Some("1")),
        (r#""param\u017f":{},"params":{}"#, "params", Some("1")),
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call",{members}}}"#);
        let (code, got_id, words) = refused(&text);
        assert_eq!((code, got_id.as_deref(), words), (-32600, id, format!("the key `{key}` occurs twice")), "{text}");
    }
}

#[test]
fn other_duplicates_pass() {
    for params in [
        r#"{"name":"a","arguments":{"a":1,"a":2},"other":1,"other":2}"#,
        r#"{"_meta":{"traceparent":1,"traceparent":2,"name":1,"Name":2}}"#,
        r#"{"x":{"name":1,"name":2}}"#,
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","x":1,"x":2,"id":1,"method":"tools/call","params":{params}}}"#);
        assert_eq!(parse(&text).expect(&text).bytes(), &text);
    }
}

#[test]
fn a_message_nested_too_deeply_is_refused_without_recursion() {
    let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{}"#, "[".repeat(2_000_000));
    assert_eq!(refused(&deep).0, -32600);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _either = Message::parse(Bytes::from(bytes));
    }

    #[test]
    fn what_parses_is_what_serde_json_reads(
        extra in value(),
        arguments in value(),
        id in prop_oneof![any::<i64>().prop_map(|n| n.to_string()), crate::mcp::testing::literal()],
        name in crate::mcp::testing::literal(),
        order in Just(()).prop_perturb(|(), mut rng| rng.random::<u64>()),
    ) {
        let mut members = vec![
            "\"jsonrpc\":\"2.0\"".to_owned(),
            format!("\"id\": {id}"),
            "\"method\":\"tools/call\"".to_owned(),
            format!("\"extra\":{extra}"),
            format!("\"params\":{{\"arguments\":{arguments} ,\"name\":{name}}}"),
        ];
        let turn = usize::try_from(order % 5).unwrap();
        members.rotate_left(turn);
        let text = object(&members);
        let message = parse(&text).unwrap();
        let oracle: serde_json::Value = serde_json::from_str(&text.replace("E+400", "")).unwrap();
        let read = message.name();
        prop_assert_eq!(read.as_deref(), oracle["params"]["name"].as_str());
        prop_assert_eq!(message.id().unwrap().as_json(), id.as_bytes());
        prop_assert_eq!(message.raw(Field::Arguments).unwrap(), arguments.as_bytes().to_vec());
    }
}
