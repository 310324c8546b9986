//! The credentials in a request's headers. Whatever is ambiguous is refused rather than chosen from: what one reader of a request
//! takes for the credential, the next must not read differently.

use http::{HeaderMap, HeaderName, header::AUTHORIZATION};

use super::Denied;

/// Where an API key stands beside `Authorization`, in lower case.
pub const API_KEY_HEADER: &str = "x-api-key";
const API_KEY: HeaderName = HeaderName::from_static(API_KEY_HEADER);

/// The bearer token in `Authorization` (RFC 6750 §2.1). Another scheme is no credential here.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let Some(value) = only(headers, &AUTHORIZATION, "several Authorization headers")? else { return Ok(None) };
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let token = token.trim_matches(' ');
    if token.is_empty() || !is_token68(token) {
        return Err(Denied::Malformed("the Authorization header holds no bearer token"));
    }
    Ok(Some(token))
}

/// Whether it consists of the characters of a bearer token (RFC 9110 §11.2, token68). To the end without a branch, which a
/// processor does sixteen bytes at a time: tokens are long, and each request has one.
fn is_token68(token: &str) -> bool {
    token.bytes().fold(true, |is, byte| {
        let is_mark = (byte == b'-') | (byte == b'.') | (byte == b'_') | (byte == b'~') | (byte == b'+') | (byte == b'/') | (byte == b'=');
        is & (byte.is_ascii_lowercase() | byte.is_ascii_uppercase() | byte.is_ascii_digit() | is_mark)
    })
}

/// The key in `X-API-Key`.
pub(super) fn api_key(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let key = only(headers, &API_KEY, "several X-API-Key headers")?;
    match key.map(str::trim) {
        Some("") => Err(Denied::Malformed("the X-API-Key header is empty")),
        key => Ok(key),
    }
}

/// Whether a token is meant to be a JWT: three parts, of which the last is empty where nobody signed it.
pub(super) fn looks_like_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName, several: &'static str) -> Result<Option<&'a str>, Denied> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Denied::Malformed(several));
    }
    value.to_str().map(Some).map_err(|_| Denied::Malformed("a header with a credential is not readable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_bearer_token_is_one_word_after_its_scheme() {
        for (values, expected) in [
            (&["Bearer abc.DEF_1~+/="][..], Ok(Some("abc.DEF_1~+/="))),
            (&["bEARER  abc "], Ok(Some("abc"))),
            (&[], Ok(None)),
            (&["Basic dTpw"], Ok(None)),
            (&["Bearerabc"], Ok(None)),
        ] {
            assert_eq!(bearer(&headers(values)), expected, "{values:?}");
        }
    }

    #[test]
    fn a_token_holds_letters_digits_and_seven_marks_and_nothing_else() {
        for byte in 0..=0x7f_u8 {
            let expected = byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
            assert_eq!(is_token68(&format!("abc{}def", char::from(byte))), expected, "{byte:#x}");
        }
        assert!(!is_token68("abcdé"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for values in [
            &["Bearer abc", "Bearer def"][..],
            &["Bearer abc", "Bearer abc"],
            &["Basic dTpw", "Bearer abc"],
            &["Bearer abc, Bearer def"],
            &["Bearer abc def"],
            &["Bearer"],
            &["Bearer  "],
            &["Bearer \u{e4}bc"],
        ] {
            assert!(matches!(bearer(&headers(values)), Err(Denied::Malformed(_))), "{values:?}");
        }
    }
}
