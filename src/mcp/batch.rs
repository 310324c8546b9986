//! JSON-RPC batches, which only MCP 2025-03-26 has.

use bytes::Bytes;

use super::{ParseError, ParseErrorKind, json::Cursor};

/// Most messages a batch may have: each is answered, and the answers are joined in memory.
pub const MAX_BATCH: usize = 100;

/// Takes a batch apart into its messages, each still to be parsed.
///
/// # Errors
/// The text is not a JSON array, is empty (JSON-RPC 2.0, section 6), or has more than [`MAX_BATCH`] messages.
pub fn split(bytes: &Bytes) -> Result<Vec<Bytes>, ParseError> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(ParseErrorKind::TooLarge.into());
    }
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(ParseErrorKind::NotUtf8 { at: error.valid_up_to() }.into());
    }
    let mut cursor = Cursor::new(bytes);
    let json = |error| ParseError::from(ParseErrorKind::NotJson(error));
    cursor.enter_array().map_err(json)?;
    let mut messages = Vec::new();
    while cursor.next_item().map_err(json)? {
        if messages.len() == MAX_BATCH {
            return Err(ParseErrorKind::Invalid("a batch of more than 100 messages").into());
        }
        let span = cursor.value().map_err(json)?;
        messages.push(bytes.slice(span.range()));
    }
    cursor.end().map_err(json)?;
    if messages.is_empty() {
        return Err(ParseErrorKind::Invalid("an empty batch").into());
    }
    Ok(messages)
}

/// Joins the answers to the requests of a batch.
pub fn join<'a>(answers: impl IntoIterator<Item = &'a Bytes>) -> Bytes {
    let mut out = vec![b'['];
    for answer in answers {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(answer);
    }
    out.push(b']');
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_is_split_into_its_messages_and_joined_again() {
        let batch = Bytes::from_static(b" [ {\"a\":[1]} ,2]\n");
        let messages = split(&batch).unwrap();
        assert_eq!(messages, ["{\"a\":[1]}", "2"]);
        assert_eq!(join(&messages), "[{\"a\":[1]},2]");
    }

    #[test]
    fn an_empty_endless_or_broken_batch_is_refused() {
        for bad in ["[]".to_owned(), "{}".to_owned(), "[1".to_owned(), "[1] 2".to_owned(), format!("[{}1]", "1,".repeat(100))] {
            assert!(split(&Bytes::from(bad.clone())).is_err(), "{bad}");
        }
        assert_eq!(split(&Bytes::from(format!("[{}1]", "1,".repeat(99)))).map(|messages| messages.len()), Ok(100));
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _either = split(&Bytes::from(bytes));
        }
    }
}
