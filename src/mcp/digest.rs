//! A digest of a JSON value that does not depend on how the value is written.

use aws_lc_rs::digest::{Context, SHA256};

use super::json::{Cursor, JsonError, unescape};

/// SHA-256 over a JSON value. The order of an object's members, white space and the escapes in strings make no difference;
/// everything else does, also `1` and `1.0`.
///
/// Of something that is no JSON it is the digest of the bytes.
pub fn digest(raw: &[u8]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    let mut cursor = Cursor::new(raw);
    if feed(&mut hash, &mut cursor, raw).and_then(|()| cursor.end()).is_err() {
        hash = Context::new(&SHA256);
        piece(&mut hash, b'!', raw);
    }
    finish(hash)
}

/// SHA-256 over several texts, each of which counts by itself.
pub fn digest_of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        piece(&mut hash, b'p', part);
    }
    finish(hash)
}

/// Calls itself for nested values, no deeper than the cursor goes.
fn feed(hash: &mut Context, cursor: &mut Cursor<'_>, text: &[u8]) -> Result<(), JsonError> {
    match cursor.peek() {
        Some(b'{') => {
            cursor.enter_object()?;
            let mut members = Vec::new();
            while let Some(key) = cursor.next_key()? {
                let key = unescape(key.of(text)).unwrap_or_default().into_owned();
                let mut value = Context::new(&SHA256);
                feed(&mut value, cursor, text)?;
                members.push((key, finish(value)));
            }
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            hash.update(b"{");
            for (key, value) in &members {
                piece(hash, b'k', key.as_bytes());
                hash.update(value);
            }
            hash.update(b"}");
        }
        Some(b'[') => {
            cursor.enter_array()?;
            hash.update(b"[");
            while cursor.next_item()? {
                feed(hash, cursor, text)?;
            }
            hash.update(b"]");
        }
        _ => {
            let raw = cursor.value()?.of(text);
            match unescape(raw) {
                Some(string) => piece(hash, b's', string.as_bytes()),
                None => piece(hash, b'v', raw),
            }
        }
    }
    Ok(())
}

fn piece(hash: &mut Context, kind: u8, bytes: &[u8]) {
    hash.update(&[kind]);
    hash.update(&(bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

fn finish(hash: Context) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_way_of_writing_makes_no_difference() {
        let same = [r#"{"a":1,"b":{"x":"é","y":[1,2]}}"#, r#"{ "b": {"y":[1, 2],"x":"\u00e9"}, "a":1 }"#];
        assert_eq!(digest(same[0].as_bytes()), digest(same[1].as_bytes()));
        let all = [
            same[0],
            r#"{"a":1.0,"b":{"x":"é","y":[1,2]}}"#,
            r#"{"a":"1","b":{"x":"é","y":[1,2]}}"#,
            r#"{"a":1,"b":{"x":"é","y":[2,1]}}"#,
            r#"{"a":1,"b":{"x":"é"},"y":[1,2]}"#,
            r#"{"a":1,"b":{"x":"é","y":[12]}}"#,
            r#"{"a":1,"b":{"x":"é","y":[1,2,null]}}"#,
            "{}",
            "[]",
            "",
            "{",
            "nonsense",
        ];
        for (n, one) in all.iter().enumerate() {
            for other in &all[n + 1..] {
                assert_ne!(digest(one.as_bytes()), digest(other.as_bytes()), "{one} {other}");
            }
        }
    }

    #[test]
    fn parts_do_not_flow_into_each_other() {
        assert_ne!(digest_of_parts([&b"ab"[..], b"c"]), digest_of_parts([&b"a"[..], b"bc"]));
        assert_ne!(digest_of_parts([&b""[..]]), digest_of_parts([]));
    }
}
