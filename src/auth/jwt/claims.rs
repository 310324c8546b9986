//! Whether a token with a good signature is meant for us, now (RFC 7519 §4.1).

use std::time::Duration;

use serde_json::Value;

use crate::auth::{Denied, OauthConfig};

/// How far clocks may be apart.
const LEEWAY: f64 = 30.0;

/// Checks issuer, audience, times and scopes, and says until when (since 1970) the token is good.
pub(super) fn check(claims: &Value, config: &OauthConfig, now: Duration) -> Result<Duration, Denied> {
    if let Some(expected) = &config.expected_issuer
        && claims.get("iss").and_then(Value::as_str) != Some(expected)
    {
        return Err(Denied::Invalid("the token is of another issuer (server.oauth.expected_issuer)"));
    }
    if let Some(expected) = &config.expected_audience
        && !is_for(claims.get("aud"), expected)
    {
        return Err(Denied::Invalid("the token is for another audience (server.oauth.expected_audience)"));
    }
    let seconds = now.as_secs_f64();
    let ends = match claims.get("exp").map(Value::as_f64) {
        Some(Some(ends)) => ends + LEEWAY,
        Some(None) => return Err(Denied::Invalid("the token's exp is no number")),
        None => return Err(Denied::Invalid("the token has no exp")),
    };
    if seconds >= ends {
        return Err(Denied::Invalid("the token has expired"));
    }
    match claims.get("nbf").map(Value::as_f64) {
        None => {}
        Some(Some(begins)) if seconds + LEEWAY >= begins => {}
        Some(Some(_)) => return Err(Denied::Invalid("the token is not valid yet")),
        Some(None) => return Err(Denied::Invalid("the token's nbf is no number")),
    }
    let has = |scope: &String| holds(claims.get("scope"), scope) || holds(claims.get("scp"), scope);
    if !config.required_scopes.iter().all(has) {
        return Err(Denied::Scope);
    }
    Ok(Duration::try_from_secs_f64(ends).unwrap_or(Duration::MAX))
}

/// `aud` is one name or several (RFC 7519 §4.1.3).
fn is_for(audience: Option<&Value>, expected: &str) -> bool {
    match audience {
        Some(Value::String(only)) => only == expected,
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(expected)),
        _ => false,
    }
}

/// `scope` is space-separated (RFC 8693 §4.2); `scp` is that, or a list, depending on the issuer.
fn holds(scopes: Option<&Value>, wanted: &str) -> bool {
    match scopes {
        Some(Value::String(text)) => text.split(' ').any(|scope| scope == wanted),
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(wanted)),
        _ => false,
    }
}
