//! Arbitrary JSON text: nested, escaped, padded, with large numbers and duplicate keys.

use proptest::prelude::*;

/// A string literal; some characters are written as escapes.
pub(crate) fn literal() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![
            5 => "[a-z_./:{}\\[\\],]".prop_map(|c| c),
            1 => Just("é世".to_owned()),
            1 => Just(r"\u006e".to_owned()),
            1 => Just(r"\ud83d\ude00".to_owned()),
            1 => prop_oneof![Just(r#"\""#), Just(r"\\"), Just(r"\n"), Just(r"\/")].prop_map(str::to_owned),
        ],
        0..12,
    )
    .prop_map(|parts| format!("\"{}\"", parts.concat()))
}

pub(crate) fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t")]
}

/// A value of any kind, nested a few levels.
pub(crate) fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        Just("1.0".to_owned()),
        Just("-0.10000000000000000000000000000000001E+400".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        literal(),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec((space(), inner.clone()), 0..6).prop_map(|items| list('[', ']', items)),
            members(inner).prop_map(|members| object(&members)),
        ]
    })
}

/// Members with random keys, some of them equal, some of them those of the protocol.
pub(crate) fn members(value: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<String>> {
    let key = prop_oneof![
        3 => literal(),
        1 => prop_oneof![Just("\"name\""), Just("\"id\""), Just("\"_meta\""), Just(r#""i\u0064""#), Just("\"result\"")].prop_map(str::to_owned),
    ];
    proptest::collection::vec((space(), key, space(), value, space()).prop_map(|(a, k, b, v, c)| format!("{a}{k}{b}:{v}{c}")), 0..6)
}

pub(crate) fn object(members: &[String]) -> String {
    format!("{{{}}}", members.join(","))
}

fn list(open: char, close: char, items: Vec<(&'static str, String)>) -> String {
    let items: Vec<String> = items.into_iter().map(|(space, item)| format!("{space}{item}{space}")).collect();
    format!("{open}{}{close}", items.join(","))
}
