//! Web pages: CORS and the header against forged requests.

use super::*;
use crate::support::{client::send, wire::full};

const PAGE: &str = "https://app.corp.test";

async fn preflight(nexus: &Nexus, path: &str, origin: &str, lines: &[(&'static str, &str)]) -> Response {
    let mut request = http::Request::options(path).header("origin", origin).header("access-control-request-method", "POST");
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    send(nexus.address, request.body(full("")).unwrap()).await
}

#[tokio::test]
async fn without_a_table_only_pages_of_this_origin_may_read() {
    let nexus = before_a_tool().server("allowed_origins = [\"https://app.corp.test\"]").start().await;
    let answer = preflight(&nexus, "/mcp", PAGE, &[]).await;
    assert_eq!((answer.status.as_u16(), header(&answer.headers, "access-control-allow-origin")), (405, ""));
    let (status, headers, _) = called(&nexus.modern().header("origin", PAGE)).await;
    assert_eq!((status.as_u16(), header(&headers, "access-control-allow-origin")), (200, ""));
}

#[tokio::test]
async fn a_listed_page_may_ask_before_it_has_a_credential_and_read_every_answer() {
    let cors = "[server.cors]\nallow_origins = [\"https://app.corp.test\", \"https://*.dev.corp.test\"]\nmax_age = \"10m\"";
    let keys = "[[server.api_keys]]\nid = \"ci\"\nkey = \"0123456789abcdef\"";
    let nexus = before_a_tool().mcp("sse_path = \"/sse\"").tables(&format!("{cors}\n{keys}")).start().await;
    for path in ["/mcp", "/sse", "/sse/messages", "/.well-known/oauth-protected-resource/mcp"] {
        for origin in [PAGE, "https://a.dev.corp.test"] {
            let wanted = [("access-control-request-headers", "authorization,content-type,mcp-protocol-version")];
            let answer = preflight(&nexus, path, origin, &wanted).await;
            assert_eq!(answer.status, 204, "{path} {origin}");
            assert_eq!(header(&answer.headers, "access-control-allow-origin"), origin);
            assert!(header(&answer.headers, "access-control-allow-methods").contains("POST"));
            assert!(header(&answer.headers, "access-control-allow-headers").contains("authorization"));
            assert_eq!(header(&answer.headers, "access-control-max-age"), "600");
            assert_eq!(header(&answer.headers, "access-control-allow-credentials"), "");
        }
        for origin in ["https://evil.test", "https://dev.corp.test", "http://app.corp.test", "https://app.corp.test.evil.test", "null"] {
            let answer = preflight(&nexus, path, origin, &[]).await;
            assert_eq!((answer.status.as_u16(), header(&answer.headers, "access-control-allow-origin")), (403, ""), "{origin}");
        }
    }
    for (key, expected) in [("0123456789abcdef", 200), ("wrong", 401)] {
        let (status, headers, _) = called(&nexus.modern().header("origin", PAGE).header("x-api-key", key)).await;
        assert_eq!((status.as_u16(), header(&headers, "access-control-allow-origin")), (expected, PAGE), "a refusal is read too");
        assert!(header(&headers, "access-control-expose-headers").contains("www-authenticate"));
        assert!(headers.get_all("vary").iter().any(|value| value == "origin"));
    }
}

#[tokio::test]
async fn what_the_file_lists_is_what_browsers_are_told() {
    let cors = "[server.cors]\nallow_origins = [\"https://app.corp.test\"]\nallow_methods = [\"POST\"]\nallow_headers = \"any\"\n\
                expose_headers = [\"Mcp-Session-Id\"]\nallow_credentials = true\nallow_private_network = true";
    let nexus = before_a_tool().tables(cors).start().await;
    let wanted = [("access-control-request-headers", "x-anything"), ("access-control-request-private-network", "true")];
    let answer = preflight(&nexus, "/mcp", PAGE, &wanted).await;
    for (name, expected) in [
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "x-anything"),
        ("access-control-expose-headers", "Mcp-Session-Id"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-private-network", "true"),
    ] {
        assert_eq!(header(&answer.headers, name), expected, "{name}");
    }
}

#[tokio::test]
async fn a_browsers_request_needs_the_header_and_a_programs_does_not() {
    let nexus = before_a_tool().tables("[server.csrf]\nenabled = true\nheader_name = \"X-Ours\"").start().await;
    let own = format!("http://{}", nexus.address);
    assert_eq!(status(&nexus.modern()).await, 200);
    for (name, value) in [("origin", own.as_str()), ("sec-fetch-site", "cross-site"), ("referer", "https://evil.test/")] {
        assert_eq!(status(&nexus.modern().header(name, value)).await, 403, "{name}");
        assert_eq!(status(&nexus.modern().header(name, value).header("x-ours", "1")).await, 200, "{name}");
        assert_eq!(nexus.modern().header(name, value).delete().await, 403, "{name}");
    }
    assert_eq!(status(&before_a_tool().start().await.modern().header("sec-fetch-site", "cross-site")).await, 200, "off by default");
}
