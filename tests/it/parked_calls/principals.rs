//! Callers who are told apart: what waits for one of them is nobody else's.

use super::*;

/// Two callers of one group, told apart by keys.
const KEYS: &str = r#"
[[server.api_keys]]
id = "ada"
key = "the-key-of-ada-and-of-nobody-else"
[[server.api_keys]]
id = "eve"
key = "the-key-of-eve-and-of-nobody-else"
"#;

fn client_of(nexus: &Nexus, who: &str) -> Client {
    nexus.modern().header("x-api-key", &format!("the-key-of-{who}-and-of-nobody-else"))
}

#[tokio::test]
async fn nobody_goes_on_with_anothers_call() {
    let (spec, mut streams) = asking();
    let nexus = spec.tables(KEYS).start().await;
    let [ada, eve] = ["ada", "eve"].map(|who| client_of(&nexus, who));
    let (response, call, server) = begin(&ada, &mut streams).await;
    server.event(form("q")).await;
    let round = asked(response).await;
    let retry = retry_of(&params(), &round, &accepting(&round, &json!({})));
    is_refused(&eve.ask("tools/call", retry.clone()).await);
    assert!(cancellations(nexus.fake("crm")).is_empty() && !server.is_gone(), "and it still waits for its owner");
    let finished = ada.open("tools/call", retry.clone()).await;
    answer_to(nexus.fake("crm"), &json!("q")).await;
    server.event(call.response(r#""content":[{"type":"text","text":"for ada"}]"#)).await;
    assert_eq!(text(&finished.answer().await), "for ada");
    // Whoever repeats the retry is given the same result for a while, but only if it was his.
    is_refused(&eve.ask("tools/call", retry.clone()).await);
    assert_eq!(text(&ada.ask("tools/call", retry).await), "for ada");
    assert_eq!(nexus.fake("crm").seen_of("tools/call").len(), 1);
}

#[tokio::test]
async fn two_callers_who_wait_for_the_same_tool_are_each_given_their_own_result() {
    let (spec, mut streams) = asking();
    let nexus = spec.tables(KEYS).start().await;
    let mut waiting = Vec::new();
    for who in ["ada", "eve"] {
        let client = client_of(&nexus, who);
        let (response, call, server) = begin(&client, &mut streams).await;
        server.event(form(who)).await;
        waiting.push((who, client, call, server, asked(response).await));
    }
    let sessions = nexus.fake("crm").seen_of("tools/call");
    assert_ne!(sessions[0].header("mcp-session-id"), sessions[1].header("mcp-session-id"));
    for (who, client, call, server, round) in waiting.into_iter().rev() {
        assert!(round["inputRequests"].to_string().contains(who), "{round}");
        let finished = client.open("tools/call", retry_of(&params(), &round, &accepting(&round, &json!({})))).await;
        answer_to(nexus.fake("crm"), &json!(who)).await;
        server.event(call.response(&format!(r#""content":[{{"type":"text","text":"for {who}"}}]"#))).await;
        assert_eq!(text(&finished.answer().await), format!("for {who}"));
    }
}
