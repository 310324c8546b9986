//! One upstream whose names pass as they are: rules hold there too.

use super::*;

const RULES: &str = "prefix = \"\"\nallow = [\"pro\"]\ntools.open = { allow = [\"free\", \"pro\"] }";

#[tokio::test]
async fn rules_hold_where_names_pass_unchanged() {
    for spec in [legacy(), modern()] {
        let nexus = guarded().upstream("old", full(spec, "old").toml(RULES)).start().await;
        let contacts = || nexus.fake("old").seen().len();
        for client in both(&nexus, "pro").await {
            assert_eq!(client.list("tools").await, ["secret", "open"]);
            assert_eq!(client.call("secret").await["error"], Value::Null);
        }
        for client in both(&nexus, "free").await {
            assert_eq!(client.list("tools").await, ["open"]);
            assert_eq!(client.list("prompts").await, [""; 0]);
            assert_eq!(client.list("resources").await, [""; 0]);
            let before = contacts();
            for (method, denied, unknown) in [
                ("tools/call", json!({"name": "secret"}), json!({"name": "absent"})),
                ("prompts/get", json!({"name": "ask"}), json!({"name": "absent"})),
                ("resources/read", json!({"uri": "old://listed"}), json!({"uri": "absent"})),
            ] {
                let word = |params: &Value| params["name"].as_str().or_else(|| params["uri"].as_str()).unwrap().to_owned();
                let answers = (said(&client, method, &denied, &word(&denied)).await, said(&client, method, &unknown, "absent").await);
                assert_eq!(answers.0, answers.1);
                assert!(answers.0.1.contains("error"));
            }
            assert_eq!(contacts(), before, "neither the denied nor the unknown is asked for");
            assert_eq!(client.call("open").await["error"], Value::Null);
        }
    }
}

#[tokio::test]
async fn without_rules_the_only_upstream_speaks_for_itself() {
    let nexus = guarded().upstream("old", full(legacy(), "old").toml("prefix = \"\"")).start().await;
    let client = new(&nexus, "nobody");
    assert_eq!(client.list("tools").await, ["secret", "open"]);
    client.call("absent").await;
    assert_eq!(nexus.fake("old").last("tools/call").params()["name"], "absent");
}
