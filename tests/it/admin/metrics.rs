//! What Prometheus reads.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::json;

use crate::support::{
    client::Client,
    fake::{Answer, legacy, modern},
    nexus::{Nexus, gateway},
};

/// The value of a series, written as in the page.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).map(|value| value.parse().unwrap())
}

async fn page(nexus: &Nexus) -> String {
    let response = nexus.operator().get("/metrics").await;
    assert_eq!(response.content_type(), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let page = response.text().await;
    is_strict(&page);
    page
}

/// What OpenMetrics 1.0 asks of a page: each family in one piece behind its TYPE and HELP, no series twice, names and labels
/// of the allowed characters, counters that end in `_total`, and an end.
fn is_strict(page: &str) {
    let name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let (body, end) = page.rsplit_once("# EOF").expect("an end");
    assert_eq!(end, "\n");
    let (mut families, mut series, mut kind) = (BTreeSet::new(), BTreeSet::new(), "");
    let mut family = "";
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let (keyword, rest) = rest.split_once(' ').unwrap();
            let (of, words) = rest.split_once(' ').unwrap();
            match keyword {
                "HELP" => assert!(families.insert(of) && name(of) && !words.is_empty(), "{line}"),
                "TYPE" => {
                    assert!(families.contains(of) && ["gauge", "counter", "histogram"].contains(&words), "{line}");
                    (family, kind) = (of, words);
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let (what, value) = line.rsplit_once(' ').unwrap();
        assert!(series.insert(what), "twice: {line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (metric, labels) = what.split_once('{').map_or((what, ""), |(metric, labels)| (metric, labels.strip_suffix('}').unwrap()));
        let suffix = metric.strip_prefix(family).unwrap_or_else(|| panic!("outside its family {family}: {line}"));
        let allowed: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(allowed.contains(&suffix), "{line}");
        let mut rest = labels;
        while !rest.is_empty() {
            let (label, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(name(label), "{line}");
            let mut escaped = false;
            let close = value.find(|c| {
                let ends = c == '"' && !escaped;
                assert!(!escaped || matches!(c, '\\' | '"' | 'n'), "{line}");
                escaped = c == '\\' && !escaped;
                ends
            });
            let after = &value[close.unwrap_or_else(|| panic!("{line}")) + 1..];
            rest = after.strip_prefix(',').unwrap_or(after);
            assert!(rest.len() < after.len() || after.is_empty(), "{line}");
        }
    }
}

/// A request is counted a moment after its answer.
async fn becomes(nexus: &Nexus, series: &str, expected: f64) {
    let reached = async {
        while value(&page(nexus).await, series) != Some(expected) {
            tokio::task::yield_now().await;
        }
    };
    let outcome = tokio::time::timeout(crate::support::PATIENCE, reached).await;
    assert!(outcome.is_ok(), "{series} did not become {expected}:\n{}", page(nexus).await);
}

#[tokio::test]
async fn requests_are_counted_by_method_and_outcome_and_timed_by_part() {
    let long = format!("\"content\":[{{\"type\":\"text\",\"text\":\"{}\"}}]", "x".repeat(200_000));
    let nexus = gateway()
        .admin("")
        .upstream("old", legacy().tool("x").on("tools/call", move |call| Answer::json(call.response(&long))))
        .upstream("new", modern().tool("x").on("tools/call", |call| Answer::events([call.progress(1), call.response("\"content\":[]")])))
        .upstream("gone", "url = \"http://127.0.0.1:1/mcp\"")
        .start()
        .await;
    for client in [nexus.legacy().await, nexus.modern()] {
        // A long document that streams, and events.
        client.call("old__x").await;
        client.call("new__x").await;
        client.call("gone__x").await;
        client.call("nobody__x").await;
        client.ask("no/such/method", json!({})).await;
        client.ask("tools/list", json!({})).await;
    }
    becomes(&nexus, "nexus_requests_total{method=\"tools/call\",outcome=\"ok\"}", 4.0).await;
    becomes(&nexus, "nexus_requests_total{method=\"tools/call\",outcome=\"failed\"}", 2.0).await;
    becomes(&nexus, "nexus_requests_total{method=\"tools/call\",outcome=\"refused\"}", 2.0).await;
    becomes(&nexus, "nexus_requests_total{method=\"other\",outcome=\"refused\"}", 2.0).await;
    becomes(&nexus, "nexus_requests_total{method=\"tools/list\",outcome=\"ok\"}", 2.0).await;
    becomes(&nexus, "nexus_requests_total{method=\"initialize\",outcome=\"ok\"}", 1.0).await;
    let page = page(&nexus).await;
    for (upstream, part) in [("old", "gateway"), ("old", "upstream"), ("new", "gateway"), ("new", "upstream")] {
        let labels = format!("{{method=\"tools/call\",upstream=\"{upstream}\",part=\"{part}\"}}");
        assert_eq!(value(&page, &format!("nexus_request_duration_seconds_count{labels}")), Some(2.0), "{labels}\n{page}");
        assert!(value(&page, &format!("nexus_request_duration_seconds_sum{labels}")).unwrap() > 0.0);
    }
    assert!(!page.contains("upstream=\"gone\",part"), "what never left is not timed");
    assert!(!page.contains("no/such/method"), "a client's words are no label");
    assert_eq!(value(&page, "nexus_upstream_calls_total{upstream=\"gone\",outcome=\"failed\"}"), Some(2.0));
    assert_eq!(value(&page, "nexus_sessions"), Some(1.0));
    assert!(page.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_client_that_hangs_up_has_abandoned_its_request() {
    let (spec, mut calls) = modern().tool("x").held("tools/call");
    let nexus = gateway().admin("").upstream("crm", spec).start().await;
    let client = nexus.modern();
    {
        let asked = client.call("crm__x");
        tokio::pin!(asked);
        tokio::select! {
            _ = asked.as_mut() => unreachable!("the call is held"),
            _ = calls.recv() => {}
        }
    }
    becomes(&nexus, "nexus_requests_total{method=\"tools/call\",outcome=\"abandoned\"}", 1.0).await;
}

#[tokio::test]
async fn the_state_of_an_upstream_is_one_series_of_five() {
    let nexus = gateway().admin("").upstream("crm", legacy().tool("x").tool("y").get_stream()).start().await;
    let series = |state: &str| format!("nexus_upstream_state{{upstream=\"crm\",state=\"{state}\"}}");
    let before = page(&nexus).await;
    assert_eq!((value(&before, &series("up")), value(&before, &series("down"))), (Some(1.0), Some(0.0)));
    assert_eq!(value(&before, "nexus_tools{upstream=\"crm\"}"), Some(2.0));
    nexus.fake("crm").go_down();
    nexus.state("crm", "down").await;
    let after = page(&nexus).await;
    assert_eq!((value(&after, &series("up")), value(&after, &series("down"))), (Some(0.0), Some(1.0)));
    for state in ["starting", "degraded", "suspect"] {
        assert_eq!(value(&after, &series(state)), Some(0.0), "{state}");
    }
}

#[tokio::test]
async fn metrics_need_the_token_unless_they_are_open() {
    let closed = gateway().admin("token = \"t\"").start().await;
    assert_eq!(closed.operator().status("/metrics").await, StatusCode::UNAUTHORIZED);
    assert_eq!(closed.operator().showing("t").status("/metrics").await, StatusCode::OK);
    let open = gateway().admin("token = \"t\"\nmetrics = \"open\"").start().await;
    assert_eq!(open.operator().status("/metrics").await, StatusCode::OK);
    assert_eq!(open.operator().status("/api/v1/upstreams").await, StatusCode::UNAUTHORIZED);
    assert_eq!(open.operator().with("host", "evil.test").status("/metrics").await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn prometheus_asks_a_pod_by_its_address_and_nobody_else_does() {
    let nexus = gateway().server("public_url = \"https://nexus.test\"").admin("").start().await;
    for (host, expected) in
        [("10.1.2.3:8001", StatusCode::OK), ("[fd00::1]:8001", StatusCode::OK), ("10.1.2.3.evil.test", StatusCode::FORBIDDEN)]
    {
        assert_eq!(nexus.operator().with("host", host).status("/metrics").await, expected, "{host}");
    }
    let page = nexus.operator().with("host", "10.1.2.3:8001").with("origin", "http://10.1.2.3:8001");
    assert_eq!(page.status("/metrics").await, StatusCode::FORBIDDEN);
    assert_eq!(nexus.operator().with("host", "10.1.2.3:8001").status("/api/v1/upstreams").await, StatusCode::FORBIDDEN);
}

/// Prometheus keeps whatever labels it is given for ever.
#[tokio::test]
async fn whatever_clients_send_makes_no_further_series() {
    let nexus = gateway().admin("").upstream("crm", modern().tool("x")).start().await;
    let count = |page: &str| page.lines().filter(|line| !line.starts_with('#')).count();
    let client = Client::modern(nexus.address);
    client.ask("a/b", json!({})).await;
    client.call("crm__x").await;
    client.call("nobody__x").await;
    becomes(&nexus, "nexus_requests_total{method=\"tools/call\",outcome=\"refused\"}", 1.0).await;
    becomes(&nexus, "nexus_requests_total{method=\"tools/call\",outcome=\"ok\"}", 1.0).await;
    let before = count(&page(&nexus).await);
    for n in 0..20 {
        client.ask(&format!("a/{n}"), json!({})).await;
        client.call(&format!("nobody__{n}")).await;
    }
    becomes(&nexus, "nexus_requests_total{method=\"other\",outcome=\"refused\"}", 21.0).await;
    assert_eq!(count(&page(&nexus).await), before);
}
