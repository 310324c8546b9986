//! Nobody resumes a call but who began it, with what it began with, in time and once.

use std::{sync::Arc, time::Duration};

use nexus::clock::Clock;
use parking_lot::Mutex;

use super::*;
use crate::support::{StillTime, in_time, pass};

#[tokio::test]
async fn a_state_is_good_for_its_own_request_only_and_what_is_refused_disturbs_nothing() {
    let (nexus, client, _streams, call, server, round) = waiting().await;
    let right = retry_of(&params(), &round, &accepting(&round, &json!({})));
    let state = round["requestState"].as_str().unwrap();

    let changed = |change: &dyn Fn(&mut Value)| {
        let mut params = right.clone();
        change(&mut params);
        params
    };
    let middle = state.len() / 2;
    let flipped = if state.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let tampered = format!("{}{flipped}{}", &state[..middle], &state[middle + 1..]);
    for wrong in [
        changed(&|params| params["arguments"]["a"]["y"] = 2.into()),
        changed(&|params| params["arguments"] = json!({})),
        changed(&|params| drop(params.as_object_mut().unwrap().remove("arguments"))),
        changed(&|params| params["name"] = "crm__easy".into()),
        changed(&|params| params["requestState"] = tampered.clone().into()),
        changed(&|params| params["requestState"] = "".into()),
        changed(&|params| params["requestState"] = state[1..].into()),
        changed(&|params| params["requestState"] = format!("{state}A").into()),
        changed(&|params| params["requestState"] = 7.into()),
        changed(&|params| params["requestState"] = "A".repeat(100_000).into()),
    ] {
        is_refused(&client.ask("tools/call", wrong).await);
    }
    // The same words about a prompt.
    is_refused(&client.ask("prompts/get", right.clone()).await);
    assert!(nexus.fake("crm").seen_of("prompts/get").is_empty());

    for malformed in [json!([]), json!({"ask-1": 1}), json!({"ask-1": null}), json!("x")] {
        let answer = client.ask("tools/call", retry_of(&params(), &round, &malformed)).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }

    let reordered = r#"{"a":{"x":null, "y":1},"b":[1,2.0]}"#;
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": with_meta(changed(&|params| params["arguments"] = "ARGUMENTS".into()))});
    let body = body.to_string().replace("\"ARGUMENTS\"", reordered);
    let response = client.post_named("tools/call", Some("crm__work"), body).await;
    answer_to(nexus.fake("crm"), &json!("q")).await;
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.answer().await["result"]["resultType"], "complete", "the order of arguments says nothing");
    assert_eq!(nexus.fake("crm").seen_of("tools/call").len(), 1, "nothing that was refused became a call");
    assert!(cancellations(nexus.fake("crm")).is_empty());
}

#[tokio::test]
async fn a_state_from_another_gateway_or_for_another_upstream_is_refused() {
    let (one, mut streams) = asking();
    let (two, _streams) = legacy().tool("work").streamed("tools/call");
    let (one, other) = (one.upstream("erp", two).start().await, asking().0.start().await);
    let client = one.modern();
    let (response, _call, server) = begin(&client, &mut streams).await;
    server.event(form("q")).await;
    let round = asked(response).await;
    let mut retry = retry_of(&params(), &round, &accepting(&round, &json!({})));
    is_refused(&other.modern().ask("tools/call", retry.clone()).await);
    retry["name"] = "erp__work".into();
    is_refused(&client.ask("tools/call", retry).await);
    assert!(one.fake("erp").seen_of("tools/call").is_empty());
}

#[tokio::test]
async fn a_state_of_an_earlier_round_is_refused() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let (response, call, server) = begin(&client, &mut streams).await;
    server.event(form("a")).await;
    let first = asked(response).await;
    let response = client.open("tools/call", retry_of(&params(), &first, &accepting(&first, &json!({"n": 1})))).await;
    answer_to(nexus.fake("crm"), &json!("a")).await;
    server.event(form("b")).await;
    let second = asked(response).await;
    is_refused(&client.ask("tools/call", retry_of(&params(), &first, &accepting(&first, &json!({"n": 2})))).await);
    // The new answers under the old state.
    is_refused(&client.ask("tools/call", retry_of(&params(), &first, &accepting(&second, &json!({"n": 1})))).await);
    let response = client.open("tools/call", retry_of(&params(), &second, &accepting(&second, &json!({})))).await;
    answer_to(nexus.fake("crm"), &json!("b")).await;
    // And the first one again, with its own answers, now that another was answered.
    is_refused(&client.ask("tools/call", retry_of(&params(), &first, &accepting(&first, &json!({"n": 1})))).await);
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.answer().await["result"]["resultType"], "complete");
}

#[derive(Clone, Debug)]
struct Hands(Arc<Mutex<Duration>>);

impl Clock for Hands {
    fn now(&self) -> Duration {
        *self.0.lock()
    }
}

#[tokio::test]
async fn an_expired_state_is_refused() {
    let hands = Hands(Arc::new(Mutex::new(Duration::from_secs(1_800_000_000))));
    let (spec, mut streams) = asking();
    let nexus = spec.clock(hands.clone()).start().await;
    let client = nexus.modern();
    let (response, _call, server) = begin(&client, &mut streams).await;
    server.event(form("q")).await;
    let round = asked(response).await;
    *hands.0.lock() += Duration::from_secs(600);
    is_refused(&client.ask("tools/call", retry_of(&params(), &round, &accepting(&round, &json!({})))).await);
}

#[tokio::test]
async fn a_server_whose_questions_nobody_answers_in_time_is_told_so() {
    let _still = StillTime::begin();
    let (spec, mut streams) = asking();
    let nexus = spec.mcp("[mcp.parked]\nttl = \"4s\"").start().await;
    let client = nexus.modern();
    let began = tokio::spawn(async move { (asked(client.open("tools/call", params()).await).await, client) });
    let (call, server) = soon("the call", streams.recv()).await.unwrap();
    let sampling = question(&json!("s"), "sampling/createMessage", &json!({"messages": []}));
    server.bytes([form("e"), sampling].map(crate::support::wire::event).concat()).await;
    in_time("the round", || began.is_finished()).await;
    let (round, client) = began.await.unwrap();
    pass(Duration::from_secs(3)).await;
    assert!(cancellations(nexus.fake("crm")).is_empty(), "there is time");
    in_time("the end of the call", || !cancellations(nexus.fake("crm")).is_empty()).await;
    let answers: Vec<_> = nexus.fake("crm").seen().into_iter().filter(|call| call.method().is_empty() && call.verb == "POST").collect();
    assert_eq!((&answers[0].json["id"], &answers[0].json["result"]), (&json!("e"), &json!({"action": "cancel"})));
    assert_eq!((&answers[1].json["id"], answers[1].json["error"]["code"].is_i64()), (&json!("s"), true));
    assert_eq!(cancellations(nexus.fake("crm"))[0].params()["requestId"], *call.id());
    let key = key_of(&round, "e");
    is_refused(&client.ask("tools/call", retry_of(&params(), &round, &json!({key: {"action": "accept"}}))).await);
}
