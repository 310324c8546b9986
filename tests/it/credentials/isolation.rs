//! Two principals, the same upstreams, thousands of calls between one another: nothing crosses.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::{SERVERS, personal, token};
use crate::support::{client::Client, nexus::gateway};

/// Calls of each client; two principals with a client of each era are four.
const CALLS: usize = 2_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_interleaved_calls_of_two_principals_never_cross() {
    for server in SERVERS {
        let nexus = gateway().upstream("crm", personal(server)).start().await;
        let mut clients: Vec<(&str, Client)> = Vec::new();
        for who in ["ann", "bob"] {
            for is_modern in [false, true] {
                clients.push((who, nexus.bearing(is_modern, who).await));
            }
        }
        let share = CALLS / SERVERS.len();
        let work = (0..share).flat_map(|n| clients.iter().map(move |(who, client)| (n, *who, client)));
        let checked = stream::iter(work).map(|(n, who, client)| async move {
            if n % 50 == 0 {
                assert_eq!(client.list("tools").await, ["crm__whoami".to_owned(), format!("crm__of_{who}")]);
            }
            let asked = json!({"name": format!("crm__of_{who}"), "arguments": {"n": n}});
            let answer = client.ask("tools/call", asked).await;
            assert_eq!(answer["result"]["content"][0]["text"], format!("of_{who} for {who}"), "{answer}");
        });
        checked.buffer_unordered(16).count().await;
        let seen = nexus.fake("crm").seen();
        let mut sessions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for call in &seen {
            let who = token(call);
            assert!(["ann", "bob"].contains(&who), "{who:?} in {}", call.method());
            if let Some(session) = call.header("mcp-session-id") {
                sessions.entry(session).or_default().insert(who);
            }
            if call.method() == "tools/call" {
                assert_eq!(call.params()["name"], format!("of_{who}"), "a call went up in another's name");
            }
        }
        assert!(sessions.values().all(|of| of.len() == 1), "{sessions:?}");
        assert_eq!(seen.iter().filter(|call| call.method() == "tools/call").count(), share * clients.len());
    }
}
