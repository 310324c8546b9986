use proptest::prelude::*;

use super::*;
use crate::mcp::testing::{object, value};

/// The bytes given on, and how it ended.
fn scan<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, expected: Id) -> (String, Result<(), ScanError>) {
    let mut scanner = ResponseScanner::new(expected, Id::from_string("caller"));
    let mut out = Vec::new();
    for chunk in chunks {
        if let Err(error) = scanner.push(&Bytes::copy_from_slice(chunk), &mut |piece| out.extend_from_slice(&piece)) {
            return (String::from_utf8(out).unwrap(), Err(error));
        }
    }
    (String::from_utf8(out).unwrap(), scanner.finish())
}

fn whole(text: &str) -> (String, Result<(), ScanError>) {
    let once = scan([text.as_bytes()], Id::from_u64(7));
    let byte_by_byte = scan(text.as_bytes().chunks(1), Id::from_u64(7));
    assert_eq!(once.1, byte_by_byte.1, "{text}");
    if once.1.is_ok() {
        assert_eq!(once.0, byte_by_byte.0, "{text}");
    }
    once
}

#[test]
fn the_id_is_replaced_wherever_it_stands() {
    for (text, expected) in [
        (r#"{"id":7,"result":{"id":1}}"#, r#"{"id":"caller","result":{"id":1}}"#),
        (r#" {"jsonrpc":"2.0" , "id" : 7 ,"result":[]} "#, r#" {"jsonrpc":"2.0" , "id" : "caller" ,"result":[]} "#),
        (r#"{"result":{"a":"}\"]","id":8},"id":7}"#, r#"{"result":{"a":"}\"]","id":8},"id":"caller"}"#),
        (r#"{"error":{"code":1},"i\u0064":7}"#, r#"{"error":{"code":1},"i\u0064":"caller"}"#),
        (r#"{"result":null,"x":true,"y":-1.5e3,"id":7}"#, r#"{"result":null,"x":true,"y":-1.5e3,"id":"caller"}"#),
    ] {
        assert_eq!(whole(text), (expected.to_owned(), Ok(())));
    }
}

#[test]
fn a_response_that_is_not_ours_is_cut_off() {
    for (text, error) in [
        (r#"{"id":8,"result":{}}"#, ScanError::WrongId),
        (r#"{"id":70,"result":{}}"#, ScanError::WrongId),
        (r#"{"id":"7","result":{}}"#, ScanError::WrongId),
        (r#"{"id":null,"error":{}}"#, ScanError::WrongId),
        (r#"{"id":[7],"result":{}}"#, ScanError::WrongId),
        (r#"{"result":{"id":7}}"#, ScanError::MissingId),
        (r#"{"id":7,"result":{},"id":7}"#, ScanError::DuplicateKey("id")),
        (r#"{"id":7,"result":{},"\u0069d":8}"#, ScanError::DuplicateKey("id")),
        (r#"{"id":7,"result":{},"result":{}}"#, ScanError::DuplicateKey("result")),
        (r#"{"id":7,"result":{},"error":{}}"#, ScanError::NotAResponse),
        (r#"{"id":7}"#, ScanError::NotAResponse),
        (r#"{"id":7,"method":"roots/list"}"#, ScanError::NotAResponse),
        ("{}", ScanError::MissingId),
        (r#"[{"id":7,"result":{}}]"#, ScanError::NotAnObject),
        ("7", ScanError::NotAnObject),
        ("", ScanError::Truncated),
        (r#"{"id":7,"result":{}"#, ScanError::Truncated),
        (r#"{"id":7,"result":{}} {}"#, ScanError::NotAnObject),
        (r#"{"id":7 "result":{}}"#, ScanError::NotAnObject),
        (r#"{"id":7,}"#, ScanError::NotAnObject),
        (r#"{"id":7,"result":}"#, ScanError::NotAnObject),
    ] {
        assert_eq!(whole(text).1, Err(error), "{text}");
    }
    let long = format!(r#"{{"id":"{}","result":{{}}}}"#, "x".repeat(10_000));
    assert_eq!(whole(&long).1, Err(ScanError::WrongId));
}

#[test]
fn a_wrong_id_is_never_given_on_and_the_error_stays() {
    let mut scanner = ResponseScanner::new(Id::from_u64(7), Id::from_u64(1));
    let mut out = Vec::new();
    let wrong = Bytes::from_static(br#"{"result":{},"id":88,"x":1}"#);
    assert_eq!(scanner.push(&wrong, &mut |piece| out.extend_from_slice(&piece)), Err(ScanError::WrongId));
    assert_eq!(out, br#"{"result":{},"id":"#);
    assert_eq!(scanner.push(&Bytes::from_static(b"}"), &mut |_| panic!("cut off")), Err(ScanError::WrongId));
    assert_eq!(scanner.finish(), Err(ScanError::WrongId));
}

#[test]
fn bytes_before_the_id_are_given_on_at_once_and_not_copied() {
    let mut scanner = ResponseScanner::new(Id::from_u64(7), Id::from_u64(1));
    let chunk = Bytes::from_static(br#"{"result":{"text":"a long"#);
    let (at, length) = (chunk.as_ptr(), chunk.len());
    let mut pieces = Vec::new();
    scanner.push(&chunk, &mut |piece| pieces.push((piece.as_ptr(), piece.len()))).unwrap();
    assert_eq!(pieces, [(at, length)]);
}

#[test]
fn a_large_result_takes_no_memory() {
    let mut scanner = ResponseScanner::new(Id::from_u64(7), Id::from_u64(1));
    let chunk = Bytes::from(vec![b'x'; 1 << 16]);
    let mut bytes = 0;
    scanner.push(&Bytes::from_static(br#"{"result":{"a":[""#), &mut |_| {}).unwrap();
    for _ in 0..(1 << 14) {
        scanner.push(&chunk, &mut |piece| bytes += piece.len()).unwrap();
    }
    assert_eq!(bytes, 1 << 30);
    assert!(scanner.held.capacity() <= MAX_ID);
    scanner.push(&Bytes::from_static(br#""]},"id":7}"#), &mut |_| {}).unwrap();
    assert_eq!(scanner.finish(), Ok(()));
}

#[test]
fn deep_nesting_is_counted_not_followed() {
    let mut text = format!("{{\"result\":{}", "[".repeat(1_000_000));
    text.push_str(&"]".repeat(1_000_000));
    text.push_str(",\"id\":7}");
    assert_eq!(scan([text.as_bytes()], Id::from_u64(7)).1, Ok(()));
}

proptest! {
    #[test]
    fn any_chunks_give_the_same_text_with_the_id_replaced(
        result in value(),
        extra in value(),
        id in prop_oneof![any::<i64>().prop_map(|n| n.to_string()), crate::mcp::testing::literal()],
        place in 0usize..4,
        space in crate::mcp::testing::space(),
        cuts in proptest::collection::vec(0usize..600, 0..10),
    ) {
        let members = |id: &str| {
            let mut members = vec![format!("\"extra\" :{extra}"), "\"jsonrpc\":\"2.0\"".to_owned(), format!("\"result\":{result}")];
            members.insert(place, format!("\"id\":{space}{id}{space}"));
            object(&members)
        };
        let text = members(&id).into_bytes();
        let expected = Id::from_json(Bytes::from(id)).unwrap();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let replaced = (members("\"caller\""), Ok(()));
        prop_assert_eq!(&scan([&text[..]], expected.clone()), &replaced);
        prop_assert_eq!(&scan(text.chunks(1), expected.clone()), &replaced);
        prop_assert_eq!(&scan(cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]), expected), &replaced);
    }

    #[test]
    fn any_bytes_are_scanned_without_a_panic(bytes in "[\\[\\]{}\":,a0\\\\ ]{0,40}") {
        let once = scan([bytes.as_bytes()], Id::from_u64(7)).1;
        prop_assert_eq!(once, scan(bytes.as_bytes().chunks(1), Id::from_u64(7)).1);
    }
}
