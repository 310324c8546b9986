//! A corpus of what parsers change, everywhere in every kind of message: same-era output equals input, byte for byte, but for what
//! the gateway documents that it replaces: the id, and the name where it has a prefix.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::support::fake::Call;

/// Members of an object that a parser would drop, merge, sort, round or rewrite. None of them is a name that the protocol knows.
const ODD: [&str; 24] = [
    r#""n":1"#,
    r#""n":1.0"#,
    r#""n":1e0,"m":1E+2,"o":0.10,"p":-0,"q":-0.0"#,
    r#""n":9223372036854775808,"m":-9223372036854775809,"o":18446744073709551616"#,
    r#""n":9007199254740993,"m":123456789012345678901234567890.123456789012345678901234567890"#,
    r#""n":1e400,"m":1e-400,"o":5e-324"#,
    r#""z":1,"a":2,"M":3,"m":4,"10":5,"9":6"#,
    r#""k":1,"k":2,"\u006b":3,"K":4"#,
    r#""content_":1,"Content_":2,"CONTENT_":3,"_content":4,"content ":5," content":6"#,
    "\"e\u{301}\":1,\"\u{e9}\":2,\"\u{430}\":3,\"a\":4",
    r#""__proto__":{"x":1},"constructor":{},"hasOwnProperty":null,"$schema":"s","$ref":"x#/y","@type":"t""#,
    r#""":0," ":1,"\t":2,"\u0000":3"#,
    "\"\u{1f600}\":\"\u{1f469}\u{200d}\u{1f680}\",\"\u{10ffff}\":\"\u{2028}\u{2029}\u{feff}\"",
    r#""\ud83d\ude00":"\uD83D\uDE00 \u00e9 \u2028","s":"\/ / \b\f\n\r\t \" \\ \u0022 \u005c \u007f""#,
    r#""lone":"\ud800","swapped":"\ude00\ud83d""#,
    r#""e":{},"l":[],"nil":null,"t":true,"f":false,"s":"""#,
    r#""l":[1,1.0,"1",[],{},null,[[[[]]]]]"#,
    r#""jsonrpc2":"2.0","Id_":7,"result_":{},"error_":{}"#,
    r#""inner":{"jsonrpc":"2.0","id":7,"id":8,"method":"m","params":{"name":"x","name":"y"},"result":{},"error":{}}"#,
    r#""inner":{"_meta":{"progressToken":1,"io.modelcontextprotocol/protocolVersion":"x"},"_meta":{}}"#,
    r#""text":"data: x\n\nevent: y\n\nid: 1\r\n\r\n""#,
    r#" "a" : 1 ,  "b":[ 1 , 2 ] , "c" : { "d" : null } "#,
    r#""uri_":"file:///a%2Fb?x=1&y=%zz#\u00e9","re":"^\\d+$","html":"<script>&amp;</script>""#,
    r#""d":{"d":{"d":{"d":{"d":{"d":{"d":{"d":{"d":{"d":{"d":{"d":{"d":{"d":{"d":{"d":[[[[[[[[[[[[1]]]]]]]]]]]]}}}}}}}}}}}}}}}"#,
];

/// Methods that go up, and what each names.
const REQUESTS: [(&str, &str, &str); 4] = [
    ("tools/call", r#""name":"NAME","arguments":{ODD}"#, "x"),
    ("prompts/get", r#""name":"NAME","arguments":{ODD}"#, "x"),
    ("resources/read", r#""uri":"doc://a""#, "doc://a"),
    (
        "completion/complete",
        r#""ref":{"type":"ref/prompt","name":"NAME",ODD},"argument":{"name":"a","value":"b",ODD},"context":{ODD}"#,
        "x",
    ),
];

/// Results with content of every kind, and of none that is known.
const RESULTS: [&str; 4] = [
    r#""content":[{"type":"text","text":"t",ODD},{"type":"image","data":"","mimeType":"a/b",ODD},{"type":"vendor/new",ODD},{ODD}],"structuredContent":{ODD},"isError":false"#,
    r#""messages":[{"role":"vendor","content":{"type":"text","text":"t",ODD},ODD}],"description":"d""#,
    r#""contents":[{"uri":"doc://a","text":"t",ODD},{"uri":"doc://b","blob":"",ODD}],"ttlMs":1.0,"cacheScope":"private""#,
    r#""completion":{"values":["b"],"total":1.0,"hasMore":false,ODD}"#,
];

/// What comes before the answer in a stream.
const BEFORE: [&str; 3] = [
    r#"{ODD,"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1.0,"total":1,ODD,"_meta":{ODD}}}"#,
    r#"{"method":"notifications/message","params":{"level":"error","logger":"l","data":{ODD},ODD},"jsonrpc":"2.0",ODD}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/vendor/x","params":{ODD}}"#,
];

const MODERN_META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{ODD},"io.modelcontextprotocol/logLevel":"debug","#;

/// A server of one era that answers with what the test put there; `ID` stands for the id of the request.
fn server(of: fn() -> FakeSpec, answers: &Arc<Mutex<(bool, Vec<String>)>>) -> FakeSpec {
    let mut spec = of().tool("x").prompt("x").resource("doc://a");
    for (method, ..) in REQUESTS {
        let answers = Arc::clone(answers);
        spec = spec.on(method, move |call: &Call| {
            let (streams, texts) = &*answers.lock();
            let texts: Vec<_> = texts.iter().map(|text| text.replace("ID", &raw_id(call.text()))).collect();
            if *streams { Answer::events(texts) } else { Answer::json(texts.last().unwrap().clone()) }
        });
    }
    spec
}

/// Every request and every answer in one era, through a gateway with prefixes or one that passes everything through.
async fn passes(of: fn() -> FakeSpec, prefix: &str) {
    let answers = Arc::new(Mutex::new((false, Vec::new())));
    let spec = server(of, &answers);
    let is_modern = spec.is_modern();
    let nexus = match prefix {
        "" => gateway().upstream("up", spec.toml("prefix = \"\"")),
        _ => gateway().upstream("up", spec).upstream("other", legacy()),
    };
    let nexus = nexus.start().await;
    let client = if is_modern { nexus.modern() } else { nexus.legacy().await };
    let meta = if is_modern { MODERN_META } else { "" };
    for odd in ODD {
        for ((method, params, named), result) in REQUESTS.into_iter().zip(RESULTS) {
            let head = if is_modern { r#""resultType":"complete","# } else { "" };
            let whole = format!(r#"{{"result":{{{head}{result},ODD,"_meta":{{ODD}}}},ODD,"id":ID,"jsonrpc":"2.0"}}"#);
            let error = r#"{"error":{"data":{ODD},"code":-31999,"message":"\u00e9",ODD},"id":ID,"jsonrpc":"2.0",ODD}"#.to_owned();
            let before = || BEFORE.iter().map(|text| (*text).to_owned());
            let name = if named == "x" { format!("{prefix}x") } else { named.to_owned() };
            let body = format!(
                r#"{{ODD,"params":{{ODD,{params},"_meta":{{{meta}"progressToken":"t",ODD}}}},"method":"{method}","id":ID,"jsonrpc":"2.0"}}"#
            );
            let body = body.replace("ODD", odd);
            for (streams, texts) in
                [(false, vec![whole.clone()]), (false, vec![error.clone()]), (true, before().chain([whole]).collect()), (true, vec![error])]
            {
                let texts: Vec<_> = texts.iter().map(|text| text.replace("ODD", odd)).collect();
                *answers.lock() = (streams, texts.clone());
                let sent = body.replace("NAME", &name).replace("ID", r#""mine\u0021""#);
                let header = (method != "completion/complete").then_some(&*name);
                let response = client.post_named(method, header, sent).await;
                assert_eq!((response.status.as_u16(), response.is_stream()), (200, streams), "{method} {odd}");
                let shown = response.texts().await;
                let expected: Vec<_> = texts.iter().map(|text| text.replace("ID", r#""mine\u0021""#)).collect();
                assert_eq!(
                    shown.iter().map(|text| text.trim()).collect::<Vec<_>>(),
                    expected.iter().map(|text| text.trim()).collect::<Vec<_>>()
                );
                let arrived = nexus.fake("up").last(method);
                let expected = body.replace("NAME", if named == "x" { "x" } else { "" }).replace("ID", &raw_id(arrived.text()));
                assert_eq!(arrived.text(), expected, "{method}");
                if is_modern {
                    assert!(raw_id(arrived.text()) == r#""mine\u0021""#, "an exchange of its own needs no other id");
                }
            }
        }
    }
}

/// The id as it was written.
fn raw_id(message: &str) -> String {
    let (_, rest) = message.rsplit_once(r#""id":"#).unwrap();
    rest.split_once(r#","jsonrpc""#).unwrap().0.to_owned()
}

#[tokio::test]
async fn every_byte_passes_between_legacy_peers() {
    passes(legacy, "up__").await;
}

#[tokio::test]
async fn every_byte_passes_between_modern_peers() {
    passes(modern, "up__").await;
}

#[tokio::test]
async fn every_byte_passes_a_gateway_of_one_upstream_without_a_prefix() {
    passes(legacy, "").await;
    passes(modern, "").await;
}

#[tokio::test]
async fn every_byte_of_every_listed_item_passes() {
    let item = |n: usize, name: &str, odd: &str| {
        let schema = format!(r#"{{"type":"object","properties":{{"z":{{{odd}}},"a":{{}}}},"required":["z"],{odd}}}"#);
        format!(r#"{{{odd},"description":"{n}","inputSchema":{schema},"name":"{name}","annotations":{{{odd}}},"_meta":{{{odd}}}}}"#)
    };
    let offer = |of: fn() -> FakeSpec| ODD.iter().enumerate().fold(of(), |spec, (n, odd)| spec.raw_tool(&item(n, &format!("t{n}"), odd)));
    let nexus = gateway().upstream("old", offer(legacy)).upstream("new", offer(modern)).start().await;
    for client in [nexus.legacy().await, nexus.modern()] {
        let listed = client.open("tools/list", json!({})).await.text().await;
        for (n, odd) in ODD.iter().enumerate() {
            for up in ["old", "new"] {
                assert!(listed.contains(&item(n, &format!("{up}__t{n}"), odd)), "{odd}: {listed:.3000}");
            }
        }
    }
}

#[tokio::test]
async fn names_that_look_alike_are_names_of_their_own() {
    const ALIKE: [&str; 8] = ["get", "Get", "GET", "get_", "get-", "get.", "g3t", "get_1"];
    for of in [legacy as fn() -> FakeSpec, modern] {
        let spec = ALIKE.iter().fold(of(), |spec, name| spec.tool(name));
        let nexus = gateway().upstream("up", spec).upstream("other", legacy()).start().await;
        let client = if of().is_modern() { nexus.modern() } else { nexus.legacy().await };
        assert_eq!(client.list("tools").await, ALIKE.map(|name| format!("up__{name}")));
        for name in ALIKE {
            assert_eq!(text(&client.call(&format!("up__{name}")).await), format!("up:{name}"));
        }
    }
}

#[tokio::test]
async fn every_byte_of_a_servers_request_and_of_its_answer_passes() {
    let (spec, mut streams) = legacy().tool("work").streamed("tools/call");
    let nexus = gateway().upstream("crm", spec).upstream("other", modern()).start().await;
    let client = nexus.legacy().await;
    let mut response = client.open("tools/call", json!({"name": "crm__work"})).await;
    let (_, server) = soon("the call", streams.recv()).await.unwrap();
    for odd in ODD {
        for method in ["sampling/createMessage", "elicitation/create", "roots/list", "vendor/asks"] {
            let question = format!(r#"{{{odd},"id":ID,"method":"{method}","params":{{{odd},"_meta":{{{odd}}}}},"jsonrpc":"2.0"}}"#);
            server.event(question.replace("ID", r#""q\u0021""#)).await;
            let asked = response.next_text().await.unwrap();
            assert!(asked.contains(method), "{odd}: {asked}");
            let start = question.find("ID").unwrap();
            let end = asked.len() - (question.len() - start - 2);
            let id = asked.get(start..end).unwrap();
            assert_eq!(asked, question.replace("ID", id));
            let answer = format!(r#"{{"jsonrpc":"2.0","result":{{{odd},"_meta":{{{odd}}}}},"id":ID,{odd}}}"#);
            assert_eq!(client.post(answer.replace("ID", id)).await.status, http::StatusCode::ACCEPTED);
            let expected = answer.replace("ID", r#""q\u0021""#);
            nexus.fake("crm").arrives("the answer", |call| call.text() == expected).await;
        }
    }
}
