//! The program from its start to its end.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::advance;

use crate::support::{
    StillTime,
    child::{child, is_dead},
    client::{Client, send, text},
    fake::{Answer, legacy, modern},
    nexus::gateway,
    program::Program,
    soon, until,
    wire::full,
};

fn initialize(id: u32) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params":
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
    .to_string()
}

#[tokio::test]
async fn sigterm_ends_streams_lets_open_calls_finish_and_leaves_no_process_behind() {
    let (spec, mut held) = legacy().tool("slow").held("tools/call");
    let written = gateway().upstream("up", spec).upstream("kid", child()).write().await;
    let mut program = Program::start(&written, "serve", "info", &[]);
    let address = program.address().await;
    let client = Client::legacy(address, json!({})).await;
    assert!(client.call("kid__echo").await["result"].is_object());
    let mut stream = client.get().await;
    let mut listening = Client::modern(address).open_as(json!("sub"), "subscriptions/listen", json!({"notifications": {}})).await;
    assert_eq!(listening.next().await.unwrap()["method"], "notifications/subscriptions/acknowledged");
    let calls: Vec<_> = [client.twin(), Client::modern(address)]
        .into_iter()
        .map(|client| tokio::spawn(async move { client.call("up__slow").await }))
        .collect();
    let waiting = [held.recv().await.unwrap(), held.recv().await.unwrap()];
    let pids = written.notes["kid"].pids();
    assert!(pids.len() >= 2 && !pids.iter().any(|pid| is_dead(*pid)), "{pids:?}");

    program.terminate();
    assert_eq!(stream.next().await, None, "the GET stream ends");
    let last = listening.next().await.unwrap();
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!("sub"), &json!("complete")), "the subscription ends with its result");
    until("no new connection is taken", || std::net::TcpStream::connect(address).is_err()).await;
    for (call, reply) in waiting {
        let _ = reply.send(Answer::json(call.response(r#""content":[]"#)));
    }
    for call in calls {
        assert!(soon("the open call's answer", call).await.unwrap()["result"].is_object());
    }
    assert_eq!(program.ends().await, Some(0));
    until("the end of every process", || pids.iter().all(|pid| is_dead(*pid))).await;
    let deleted = written.fakes["up"].seen_of("DELETE");
    assert!(!deleted.is_empty(), "upstream sessions are ended, not left");
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_off_after_the_grace() {
    let (spec, mut held) = modern().tool("slow").held("tools/call");
    let written = gateway().server("shutdown_grace = \"0s\"").upstream("up", spec).upstream("other", legacy()).write().await;
    let mut program = Program::start(&written, "serve", "info", &[]);
    let client = Client::modern(program.address().await);
    let call = tokio::spawn(async move { client.try_open_as(json!(1), "tools/call", json!({"name": "up__slow"})).await.is_ok() });
    let (_, mut reply) = held.recv().await.unwrap();
    program.terminate();
    assert_eq!(program.ends().await, Some(0));
    assert!(program.said().contains("cut off"), "{}", program.said());
    assert!(!call.await.unwrap());
    soon("the end of the exchange", reply.closed()).await;
}

#[tokio::test]
async fn what_still_speaks_at_the_end_of_the_grace_is_cut_off_with_everything_behind_it() {
    let (spec, mut streams) = legacy().tool("slow").streamed("tools/call");
    let written = gateway().server("shutdown_grace = \"1s\"").upstream("up", spec).upstream("kid", child()).write().await;
    let mut program = Program::start(&written, "serve", "info", &[]);
    let client = Client::legacy(program.address().await, json!({})).await;
    let twin = client.twin();
    let hanging = tokio::spawn(async move { twin.try_open_as(json!("hangs"), "tools/call", json!({"name": "kid__hang"})).await.is_ok() });
    written.notes["kid"].arrives("tools/call").await;
    let mut speaking = client.open_as(json!("speaks"), "tools/call", json!({"name": "up__slow"})).await;
    let (_call, stream) = streams.recv().await.unwrap();
    let word = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "at work"}}).to_string();
    stream.event(&word).await;
    assert_eq!(speaking.next().await.unwrap()["params"]["data"], "at work");

    let began = std::time::Instant::now();
    program.terminate();
    program.says("draining, at most 1 s").await;
    stream.event(&word).await;
    assert_eq!(speaking.next().await.unwrap()["params"]["data"], "at work", "the grace is the call's");
    assert!(soon("the cut", speaking.try_bytes()).await.is_err(), "a stream that is cut off does not look complete");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(!soon("the other cut", hanging).await.unwrap());
    assert_eq!(program.ends().await, Some(0));
    assert!(program.said().contains("cut off"), "{}", program.said());
    until("the end of the exchange", || stream.is_gone()).await;
    let pids = written.notes["kid"].pids();
    until("the end of every process", || pids.iter().all(|pid| is_dead(*pid))).await;
}

#[tokio::test]
async fn a_bad_file_is_refused_with_all_its_problems() {
    let mut written = gateway().upstream("up", "url = \"http://localhost:1/\"\ntimeout = 3\n[.tls]\nverify_certs = \"no\"").write().await;
    written.toml = format!(
        "[serve]\n{}",
        written.toml.replace("[mcp.servers.up]", "[mcp.servers.up]\nurl = 7\ncmd = []").replacen("url = \"http", "urk = \"http", 1)
    );
    let mut program = Program::start(&written, "serve", "info", &[]);
    assert_eq!(program.ends().await, Some(64));
    until("the sum", || program.said().contains("nothing was started")).await;
    let said = program.said();
    for key in
        ["serve", "mcp.servers.up.timeout", "mcp.servers.up.urk", "mcp.servers.up.tls.verify_certs", "mcp.servers.up.cmd", "nexus.toml:"]
    {
        assert!(said.contains(key), "{key} is missing:\n{said}");
    }
}

#[tokio::test]
async fn an_address_in_use_ends_the_program_and_says_so() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut written = gateway().write().await;
    written.toml = written.toml.replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string());
    let mut program = Program::start(&written, "serve", "info", &[]);
    assert_eq!(program.ends().await, Some(1));
    program.says("cannot listen on").await;
}

#[tokio::test]
async fn health_is_told_whatever_the_upstreams_do() {
    let nexus = gateway().upstream("up", "url = \"http://127.0.0.1:1/mcp\"").start_at_once().await;
    let mut client = nexus.modern();
    client.path = "/health";
    let response = send(nexus.address, client.request(Method::GET, full(""))).await;
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.text().await, r#"{"status":"healthy"}"#);
}

#[tokio::test]
async fn a_quiet_stream_says_every_fifteen_seconds_that_it_is_alive() {
    let (spec, mut streams) = legacy().tool("slow").streamed("tools/call");
    let nexus = gateway().upstream("up", spec).upstream("other", modern()).start().await;
    let (old, new) = (nexus.legacy().await, nexus.modern());
    let mut listening = new.open("subscriptions/listen", json!({"notifications": {}})).await;
    listening.next().await.unwrap();
    let call = json!({"name": "up__slow"});
    let mut open = [old.get().await, listening, old.open("tools/call", call.clone()).await, new.open("tools/call", call).await];
    let _held = [streams.recv().await.unwrap(), streams.recv().await.unwrap()];
    let opening = open[2].next_bytes().await.unwrap();
    assert!(opening.starts_with(b"id: ") && opening.ends_with(b"\ndata: \n\n"), "{opening:?}");
    let _still = StillTime::begin();
    for _ in 0..3 {
        advance(Duration::from_secs(16)).await;
        for stream in &mut open {
            let said = stream.next_bytes().await.unwrap();
            assert!(said.starts_with(b":") && said.ends_with(b"\n\n"), "{said:?}");
        }
    }
}

#[tokio::test]
async fn the_program_serves_a_legacy_client_over_stdin_and_stdout() {
    let written = gateway().upstream("up", legacy().tool("x").get_stream()).upstream("kid", child()).write().await;
    let mut program = Program::start(&written, "stdio", "info", &[]);
    program.write(&initialize(1)).await;
    let greeting = program.answer().await;
    assert_eq!((&greeting["id"], &greeting["result"]["protocolVersion"]), (&json!(1), &json!("2025-11-25")));
    program.write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    program.write("this is no JSON").await;
    assert_eq!(program.answer().await["error"]["code"], -32700);
    program.write(r#"{"jsonrpc":"2.0","id":"l","method":"tools/list"}"#).await;
    let listed = program.answer().await;
    assert_eq!((&listed["id"], &listed["result"]["tools"][0]["name"]), (&json!("l"), &json!("up__x")));
    for (id, tool) in [("a", "up__x"), ("b", "kid__echo")] {
        program
            .write(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {}}}).to_string())
            .await;
        let answer = program.answer().await;
        assert_eq!(answer["id"], id, "{answer}");
        assert!(answer["result"].is_object());
    }
    let pids = written.notes["kid"].pids();
    program.hang_up();
    assert_eq!(program.ends().await, Some(0));
    assert_eq!(program.read().await, None);
    until("the end of every process", || pids.iter().all(|pid| is_dead(*pid))).await;
}

#[tokio::test]
async fn the_program_serves_a_modern_client_over_stdin_and_stdout() {
    let (spec, mut held) = modern().tool("x").held("tools/call");
    let written = gateway().upstream("up", spec).upstream("other", legacy()).write().await;
    let mut program = Program::start(&written, "stdio", "info", &[]);
    let request = |id: &str, method: &str, mut params: Value| {
        params["_meta"] =
            json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
    };
    program.write(r#"{"jsonrpc":"2.0","id":0,"method":"tools/list"}"#).await;
    assert_eq!(program.answer().await["error"]["code"], -32600, "neither greeted nor modern");
    program.write(&request("d", "server/discover", json!({}))).await;
    assert!(program.answer().await["result"]["supportedVersions"].is_array());
    program.write(&request("1", "tools/call", json!({"name": "up__x"}))).await;
    program.write(&request("2", "tools/call", json!({"name": "up__x"}))).await;
    let (first, second) = (held.recv().await.unwrap(), held.recv().await.unwrap());
    let (cancelled, kept) = if first.0.json["id"] == "1" { (first, second) } else { (second, first) };
    program.write(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"1"}}"#).await;
    let (_, mut reply) = cancelled;
    soon("the end of the cancelled exchange", reply.closed()).await;
    let (call, reply) = kept;
    let _ = reply
        .send(Answer::json(format!("{{\n\"jsonrpc\":\"2.0\",\r\n\"id\":{},\"result\":{{\"resultType\":\"complete\"}}}}\n", call.id())));
    let answer = program.answer().await;
    assert_eq!(
        (&answer["id"], &answer["result"]["resultType"]),
        (&json!("2"), &json!("complete")),
        "on one line, and no answer to the other"
    );
    program.hang_up();
    assert_eq!(program.ends().await, Some(0));
}

#[tokio::test]
async fn no_secret_is_logged_however_much_is_logged() {
    let refusing = legacy()
        .tool("x")
        .on("tools/call", |_| Answer::new(401, "text/html", "no: canary-page").header("www-authenticate", "canary-challenge"));
    let written = gateway()
        .upstream("fine", legacy().tool("x").get_stream().toml("[.auth]\ntoken = \"{{ env.CANARY_TOKEN }}\""))
        .upstream("refusing", refusing.toml("[.auth]\ntype = \"header\"\nname = \"X-Api-Key\"\nvalue = \"{{ env.CANARY_KEY }}\""))
        .upstream(
            "new",
            modern().tool("x").toml("[[.headers]]\nrule = \"insert\"\nname = \"X-Secret\"\nvalue = \"{{ env.CANARY_HEADER }}\""),
        )
        .upstream("kid", child().env("KID_SECRET", "{{ env.CANARY_ENV }}"))
        .write()
        .await;
    let env =
        [("CANARY_TOKEN", "canary-token"), ("CANARY_KEY", "canary-key"), ("CANARY_HEADER", "canary-header"), ("CANARY_ENV", "canary-env")];
    let mut program = Program::start(&written, "serve", "trace", &env);
    let address = program.address().await;
    let session = Client::legacy(address, json!({})).await;
    let mut replies = String::new();
    for client in [session.twin(), Client::modern(address)] {
        for tool in ["fine__x", "refusing__x", "new__x", "kid__env", "missing"] {
            let params = json!({"name": tool, "arguments": {"password": "canary-argument"}});
            let answer = client.ask("tools/call", params).await;
            if tool == "kid__env" {
                assert!(text(&answer).contains("canary-env"), "the child has its own secret");
            } else {
                replies.push_str(&answer.to_string());
            }
        }
    }
    replies.push_str(&session.call("kid__die").await.to_string());
    let sessions =
        written.fakes["fine"].seen().iter().filter_map(|call| call.header("mcp-session-id").map(str::to_owned)).collect::<Vec<_>>();
    assert!(!sessions.is_empty());
    program.terminate();
    assert_eq!(program.ends().await, Some(0));
    let log = program.said();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
    for (what, text) in [("log", &log), ("replies", &replies)] {
        assert!(!text.contains("canary-"), "{what}: {}", around(text, "canary-"));
        for secret in sessions.iter().map(String::as_str).chain([session.session()]) {
            assert!(!text.contains(secret), "{what}: {}", around(text, secret));
        }
    }
}

fn around<'a>(text: &'a str, what: &str) -> &'a str {
    text.lines().find(|line| line.contains(what)).unwrap_or_default()
}

#[tokio::test]
async fn a_process_that_is_still_starting_is_gone_when_the_gateway_is() {
    // It starts a process of its own, answers nothing, and does not end when its input does.
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!("trap '' TERM; sleep 1000 & echo $$ $! > {}; while :; do sleep 1000; done", pids.display());
    let nexus = gateway().upstream("slow", format!("cmd = [\"sh\", \"-c\", {script:?}]\n")).start_at_once().await;
    let started = || std::fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n'));
    until("its start", started).await;
    let pids: Vec<u64> = std::fs::read_to_string(&pids).unwrap().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.len() == 2 && !pids.iter().any(|pid| is_dead(*pid)), "{pids:?}");
    soon("the end", nexus.gateway.shut_down()).await;
    assert!(is_dead(pids[0]), "what we started is reaped: {pids:?}");
    // What it started itself was killed with it, but is nobody's to wait for: on a busy machine it takes a moment to die.
    until("the end of its own process", || is_dead(pids[1])).await;
}
