//! Why there is no connection, in the words and codes that upstreams have, too.

use super::{RedisConfig, error::words};
use crate::{
    outbound,
    reason::{Explanation, Reason},
    tls::TlsPolicy,
};

/// Connects once more to the node that is named first, for the sake of an explanation. `said`: the client's last error.
pub(super) async fn explain(config: &RedisConfig, policy: Option<&TlsPolicy>, said: Option<&str>) -> Explanation {
    let Some((host, port)) = config.url.nodes.first() else {
        return Explanation::new(Reason::LocalInvalid, "no node is named", "name one in the URL");
    };
    let looked = async {
        let stream = outbound::connect(host, *port, None, config.connection_timeout).await?;
        match policy {
            Some(policy) => outbound::secure(stream, policy, config.connection_timeout).await.map(drop),
            None => Ok(()),
        }
    };
    match looked.await {
        Err(explanation) => explanation,
        Ok(()) => Explanation::new(
            Reason::Protocol,
            format!(
                "{} cannot be used: {}",
                config.url,
                said.map_or_else(|| "it takes connections, and does not answer".to_owned(), words)
            ),
            "check user, password and database in the URL, whether it asks for TLS (rediss://) as the server does, and the server's log",
        ),
    }
}
