//! A client that did not get the result may ask once more, with the same answers and not for long.

use std::time::Duration;

use super::*;
use crate::support::{StillTime, in_time, pass};

#[tokio::test]
async fn the_same_answers_again_give_the_same_result_and_others_are_refused() {
    let (nexus, client, _streams, call, server, round) = waiting().await;
    let retry = retry_of(&params(), &round, &accepting(&round, &json!({"a": 1, "b": 2})));
    let first = client.open_as(json!("first"), "tools/call", retry.clone()).await;
    answer_to(nexus.fake("crm"), &json!("q")).await;
    // While the server still works.
    let second = client.open_as(json!("second"), "tools/call", retry.clone()).await;
    let other = retry_of(&params(), &round, &accepting(&round, &json!({"a": 1, "b": 3})));
    is_refused(&client.ask("tools/call", other.clone()).await);
    server.event(call.response(r#""content":[],"n":1.0"#)).await;
    // And when it has ended.
    for (response, id) in [(first, "first"), (second, "second"), (client.open_as(json!("third"), "tools/call", retry).await, "third")] {
        let text = response.texts().await.pop().unwrap();
        assert_eq!(text, format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"resultType":"complete","content":[],"n":1.0}}}}"#));
    }
    is_refused(&client.ask("tools/call", other).await);
    let answers = nexus.fake("crm").seen().into_iter().filter(|call| call.json["id"] == "q").count();
    assert_eq!(answers, 1, "the server got one answer");
}

#[tokio::test]
async fn a_call_is_charged_once_however_often_its_client_comes_back() {
    let (spec, mut streams) = legacy().tool("work").toml("[.rate_limits]\nlimit = 1\ninterval = \"1h\"").streamed("tools/call");
    let nexus = gateway().upstream("crm", spec).upstream("other", modern().tool("easy")).start().await;
    let client = nexus.modern();
    let (response, call, server) = begin(&client, &mut streams).await;
    server.event(form("q")).await;
    let round = asked(response).await;
    let retry = retry_of(&params(), &round, &accepting(&round, &json!({})));
    let (first, second) = (client.open("tools/call", retry.clone()).await, client.open("tools/call", retry.clone()).await);
    answer_to(nexus.fake("crm"), &json!("q")).await;
    server.event(call.response(r#""content":[]"#)).await;
    for response in [first, second] {
        assert_eq!(response.answer().await["result"]["resultType"], "complete");
    }
    // A state that is none of ours pays, as everybody does.
    let mut invented = retry;
    invented["requestState"] = "AAAA".into();
    for params in [params(), invented] {
        let refused = client.ask("tools/call", params).await;
        assert_eq!((&refused["error"]["code"], &refused["error"]["data"]["scope"]), (&json!(-32000), &json!("server")), "{refused}");
    }
}

#[tokio::test]
async fn a_repeat_after_the_next_question_gets_that_question() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let (response, call, server) = begin(&client, &mut streams).await;
    server.event(form("a")).await;
    let first = asked(response).await;
    let retry = retry_of(&params(), &first, &accepting(&first, &json!({})));
    let response = client.open("tools/call", retry.clone()).await;
    answer_to(nexus.fake("crm"), &json!("a")).await;
    server.event(form("b")).await;
    let second = asked(response).await;
    let again = asked(client.open("tools/call", retry).await).await;
    assert_eq!(again["inputRequests"], second["inputRequests"]);
    let response = client.open("tools/call", retry_of(&params(), &again, &accepting(&again, &json!({})))).await;
    answer_to(nexus.fake("crm"), &json!("b")).await;
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.answer().await["result"]["resultType"], "complete");
}

#[tokio::test]
async fn a_result_is_remembered_for_a_minute() {
    let _still = StillTime::begin();
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let began = tokio::spawn(async move { (asked(client.open("tools/call", params()).await).await, client) });
    let (call, server) = soon("the call", streams.recv()).await.unwrap();
    server.event(form("q")).await;
    in_time("the round", || began.is_finished()).await;
    let (round, client) = began.await.unwrap();
    let retry = retry_of(&params(), &round, &accepting(&round, &json!({})));
    let response = client.open("tools/call", retry.clone()).await;
    answer_to(nexus.fake("crm"), &json!("q")).await;
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.answer().await["result"]["resultType"], "complete");
    tokio::time::advance(Duration::from_secs(55)).await;
    assert_eq!(client.ask("tools/call", retry.clone()).await["result"]["resultType"], "complete");
    tokio::time::advance(Duration::from_secs(5)).await;
    pass(Duration::from_millis(200)).await;
    is_refused(&client.ask("tools/call", retry).await);
}

#[tokio::test]
async fn a_result_that_came_while_the_client_was_away_waits_for_it() {
    let (_nexus, client, _streams, call, server, round) = waiting().await;
    server.event(call.response(r#""content":[{"type":"text","text":"without you"}]"#)).await;
    let retry = retry_of(&params(), &round, &accepting(&round, &json!({})));
    assert_eq!(text(&client.ask("tools/call", retry).await), "without you");
}

#[tokio::test]
async fn a_call_that_broke_while_the_client_was_away_is_told_as_broken() {
    let (_nexus, client, _streams, _call, server, round) = waiting().await;
    server.break_off().await;
    let answer = client.ask("tools/call", retry_of(&params(), &round, &accepting(&round, &json!({})))).await;
    assert_eq!((&answer["error"]["code"], &answer["error"]["data"]["upstream"]), (&json!(-32603), &json!("crm")), "{answer}");
}
