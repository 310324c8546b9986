//! Why there is no connection, in the words and codes that upstreams have, too.

use super::{RedisConfig, RedisError, error::words, url::Kind};
use crate::{
    outbound,
    reason::{Explanation, Reason},
    secret::Secret,
    tls::TlsPolicy,
};

/// Nodes that are looked at for the sake of an explanation.
const LOOKED_AT: usize = 3;

/// Connects once more to the nodes that are named, for the sake of an explanation: what is wrong with the first, or, where one of
/// them can be reached, what the client `said` last.
pub(super) async fn explain(config: &RedisConfig, policy: Option<&TlsPolicy>, said: Option<&str>) -> Explanation {
    let mut first = None;
    for (host, port) in config.url.nodes.iter().take(LOOKED_AT) {
        match look(config, policy, host, *port).await {
            Err(explanation) => drop(first.get_or_insert(explanation)),
            Ok(()) => return unusable(config, &said.map_or_else(|| "it takes connections, and does not answer".to_owned(), plain)),
        }
    }
    first.unwrap_or_else(|| Explanation::new(Reason::LocalInvalid, "no node is named", "name one in the URL"))
}

/// Why a server that can be reached is of no use.
pub(super) fn refused(config: &RedisConfig, error: &RedisError) -> Explanation {
    unusable(config, &error.to_string())
}

async fn look(config: &RedisConfig, policy: Option<&TlsPolicy>, host: &str, port: u16) -> Result<(), Explanation> {
    let stream = outbound::connect(host, port, None, config.connection_timeout).await?;
    match policy {
        Some(policy) => outbound::secure(stream, policy, config.connection_timeout).await.map(drop),
        None => Ok(()),
    }
}

fn unusable(config: &RedisConfig, why: &str) -> Explanation {
    let url = &config.url;
    let (which, remedy) = match &url.kind {
        Kind::Single => (
            "",
            "check user, rights, password and database in the URL, whether it asks for TLS (rediss://) as the server does, and the server's log",
        ),
        Kind::Cluster => (
            "; a node can be reached",
            "check that it is a cluster, that all its slots are served, that the addresses it announces can be reached from here, and user, rights and password",
        ),
        Kind::Sentinel(_) => (
            "; a Sentinel can be reached",
            "check that they watch a primary of that name, that the address they give can be reached from here, and the user, rights and passwords of both (sentinelPassword is the Sentinels')",
        ),
    };
    let why = without(without(why.to_owned(), url.password.as_ref()), url.sentinel_password.as_ref());
    Explanation::new(Reason::Protocol, format!("{url} cannot be used: {why}{which}"), remedy)
}

/// A server's words, should it repeat what it was told.
fn without(words: String, password: Option<&Secret>) -> String {
    match password.map(Secret::expose).filter(|password| !password.is_empty()) {
        Some(password) => words.replace(password, "[redacted]"),
        None => words,
    }
}

/// The words of an error of the operating system, which the client shows with its number and kind.
fn plain(said: &str) -> String {
    let message = said.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"')).map(|(message, _)| message);
    words(message.unwrap_or(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_operating_system_is_told_in_its_words() {
        let said = r#"Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }"#;
        assert_eq!(plain(said), "Connection refused");
        assert_eq!(plain("WRONGPASS no"), "WRONGPASS no");
    }

    #[test]
    fn a_server_that_repeats_a_password_is_not_repeated() {
        let said = "ERR unknown command 'AUTH', with args beginning with: 'nexus' 'hunter2-secret'";
        assert_eq!(plain(said), "ERR unknown command 'AUTH'");
        assert_eq!(without("no hunter2 here".to_owned(), Some(&Secret::new("hunter2"))), "no [redacted] here");
    }
}
