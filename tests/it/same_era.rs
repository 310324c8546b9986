//! Clients and servers of one era: what passes, and that it passes unchanged.

#![allow(clippy::unwrap_used)] // Helpers of tests.

#[tokio::test]
async fn smoke() {
    use crate::support::{fake::{legacy, modern}, child::child, nexus::gateway, client::text};
    let nexus = gateway().upstream("crm", legacy().tool("search")).upstream("m", modern().tool("find")).upstream("kid", child()).start().await;
    let c = nexus.legacy().await;
    println!("{:?}", c.list("tools").await);
    assert_eq!(text(&c.call("crm__search").await), "crm:search");
    assert_eq!(text(&nexus.modern().call("m__find").await), "m:find");
    println!("{}", c.call("kid__echo").await);
    println!("{}", nexus.modern().call("kid__echo").await);
    println!("{}", nexus.modern().call("crm__search").await);
    println!("{}", c.call("m__find").await);
}
