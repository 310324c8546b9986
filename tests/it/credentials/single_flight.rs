//! One fetch of a token for all who need it, whoever of them goes away.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::json;

use super::{
    SERVERS, Server,
    tokens::{SECRET, fetching, numbered, refusing},
};
use crate::support::{
    StillTime,
    client::text,
    fake::{Answer, Fake, Held, modern},
    in_time,
    nexus::{Nexus, gateway},
    pass, soon,
};

/// A token endpoint whose answers are the test's to give.
async fn held() -> (Fake, Held) {
    let (spec, asked) = modern().held("");
    (spec.start("idp").await, asked)
}

fn token(name: &str, lifetime: u64) -> Answer {
    Answer::json(json!({"access_token": name, "token_type": "Bearer", "expires_in": lifetime}).to_string())
}

/// A gateway whose first token, of ten seconds, was given out.
async fn begun(server: Server, idp: &Fake, asked: &mut Held) -> Nexus {
    let starting = gateway().upstream("crm", fetching(server, "client_credentials", idp, SECRET)).start();
    let giving = async {
        let (_, answer) = asked.recv().await.unwrap();
        let _ = answer.send(token("own-1", 10));
    };
    tokio::join!(starting, giving).0
}

#[tokio::test]
async fn a_storm_of_refusals_fetches_one_token() {
    for server in SERVERS {
        let refused: Arc<parking_lot::Mutex<Vec<String>>> = Arc::default();
        let idp = numbered(3600).await;
        let spec = refusing(fetching(server, "client_credentials", &idp, SECRET), Arc::clone(&refused));
        let nexus = gateway().upstream("crm", spec).start().await;
        let client = nexus.bearing(true, "ann").await;
        client.call("crm__whoami").await;
        refused.lock().push("own-1".to_owned());
        let answers = join_all((0..20).map(|_| client.call("crm__whoami"))).await;
        assert!(answers.iter().all(|answer| text(answer) == "whoami for own-2"), "{answers:?}");
        assert_eq!(idp.seen().len(), 2);
    }
}

#[tokio::test]
async fn while_a_token_is_renewed_calls_go_on_with_the_one_that_is_good() {
    let _still = StillTime::begin();
    let (idp, mut asked) = held().await;
    let nexus = begun(modern, &idp, &mut asked).await;
    let client = nexus.modern();
    pass(Duration::from_millis(8500)).await;
    // The endpoint says nothing, and nobody waits for it.
    for answer in join_all((0..20).map(|_| client.call("crm__whoami"))).await {
        assert_eq!(text(&answer), "whoami for own-1");
    }
    let (_, answer) = soon("the request for another", asked.recv()).await.unwrap();
    assert_eq!(idp.seen().len(), 2, "one for all");
    assert!(answer.send(token("own-2", 3600)).is_ok(), "those who wanted it are gone, and it is still waited for");
    let fresh = || async { text(&client.call("crm__whoami").await) == "whoami for own-2" };
    soon("the next token", async { while !fresh().await {} }).await;
    assert_eq!(idp.seen().len(), 2);
}

#[tokio::test]
async fn whoever_hangs_up_takes_no_fetch_along() {
    let _still = StillTime::begin();
    let (idp, mut asked) = held().await;
    let nexus = begun(modern, &idp, &mut asked).await;
    let client = nexus.modern();
    // Nothing is good any more; the supervisor may be at it already, and waits as everybody does.
    pass(Duration::from_millis(10_500)).await;
    let first = tokio::select! {
        answer = client.call("crm__whoami") => panic!("there is no token: {answer}"),
        request = asked.recv() => request.unwrap(),
    };
    for _ in 0..5 {
        tokio::select! {
            answer = client.call("crm__whoami") => panic!("there is no token: {answer}"),
            () = pass(Duration::from_millis(100)) => {}
        }
    }
    assert_eq!(idp.seen().len(), 2, "all of them waited for the same");
    assert!(first.1.send(token("own-2", 3600)).is_ok(), "nobody who hangs up ends it");
    in_time("the token", || nexus.upstream("crm").generation().is_ok()).await;
    assert_eq!(text(&client.call("crm__whoami").await), "whoami for own-2");
    assert_eq!(idp.seen().len(), 2);
}
