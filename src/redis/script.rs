//! Scripts that run in the server in one piece, and what commands answer.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::Bytes;
use fred::types::Value;

use super::RedisError;

/// Deepest answer that is looked at.
const DEEPEST: usize = 4;

/// A Lua script with the name by which the server knows it: the SHA-1 of its text (Redis `EVALSHA`).
#[derive(Debug)]
pub struct Script {
    pub(super) text: &'static str,
    pub(super) sha1: Bytes,
}

impl Script {
    pub fn new(text: &'static str) -> Self {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let sha1 = digest.as_ref().iter().fold(String::with_capacity(40), |mut sha1, byte| {
            // Writing to a `String` does not fail.
            let _ = write!(sha1, "{byte:02x}");
            sha1
        });
        Self { text, sha1: sha1.into() }
    }
}

/// What a script answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Nothing,
    Number(i64),
    Bytes(Bytes),
    List(Vec<Self>),
}

impl Reply {
    /// # Errors
    /// [`RedisError::Nonsense`] for what no script of ours answers.
    pub(super) fn of(value: Value) -> Result<Self, RedisError> {
        Self::of_depth(value, DEEPEST)
    }

    fn of_depth(value: Value, depth: usize) -> Result<Self, RedisError> {
        Ok(match value {
            Value::Null => Self::Nothing,
            Value::Integer(number) => Self::Number(number),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::String(text) => Self::Bytes(text.into_inner()),
            Value::Array(values) if depth > 0 => {
                Self::List(values.into_iter().map(|value| Self::of_depth(value, depth - 1)).collect::<Result<_, _>>()?)
            }
            Value::Array(_) | Value::Boolean(_) | Value::Double(_) | Value::Map(_) | Value::Queued => return Err(RedisError::Nonsense),
        })
    }

    /// The numbers of a list of numbers.
    ///
    /// # Errors
    /// [`RedisError::Nonsense`] when it is none.
    pub fn numbers(self) -> Result<Vec<i64>, RedisError> {
        let Self::List(entries) = self else { return Err(RedisError::Nonsense) };
        let number = |entry| if let Self::Number(number) = entry { Ok(number) } else { Err(RedisError::Nonsense) };
        entries.into_iter().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_named_by_the_sha_1_of_its_text() {
        assert_eq!(Script::new("return 1").sha1, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }

    #[test]
    fn an_answer_that_is_nested_too_deeply_is_nonsense() {
        let nested = |depth| (0..depth).fold(Value::Integer(1), |inner, _| Value::Array(vec![inner]));
        assert!(Reply::of(nested(DEEPEST)).is_ok());
        assert_eq!(Reply::of(nested(DEEPEST + 1)), Err(RedisError::Nonsense));
    }

    #[test]
    fn only_a_list_of_numbers_gives_numbers() {
        let list = |values: Vec<Value>| Reply::of(Value::Array(values)).unwrap().numbers();
        assert_eq!(list(vec![1.into(), (-2).into()]), Ok(vec![1, -2]));
        assert_eq!(list(vec![1.into(), Value::Null]), Err(RedisError::Nonsense));
        assert_eq!(Reply::Nothing.numbers(), Err(RedisError::Nonsense));
    }
}
