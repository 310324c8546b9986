//! The keys that say by which way a server is reached: `http_version` and `proxy`.

use url::Url;

use super::{HttpVersion, Proxy, Way};
use crate::{problem::Problems, table::Table};

/// Reads both keys.
pub fn way(table: &mut Table, problems: &mut Problems) -> Way {
    let versions = [("1.1", HttpVersion::Http1), ("2", HttpVersion::Http2), ("auto", HttpVersion::Auto)];
    let version = table.choice("http_version", &versions, &[], problems).unwrap_or_default();
    Way { version, proxy: proxy(table, problems) }
}

/// Reads `proxy`; an empty string is no proxy.
pub fn proxy(table: &mut Table, problems: &mut Problems) -> Option<Proxy> {
    let text = table.secret_if("proxy", |text| text.contains('@'), problems)?;
    if text.expose().is_empty() {
        return None;
    }
    let refused = |table: &Table, problems: &mut Problems, what: &str| {
        let remedy = "write it as \"http://proxy.example.com:3128\", with USER:PASSWORD@ before the host if the proxy wants them";
        table.error("proxy", problems, what, "a tunnel (CONNECT) is asked for at that host and port", remedy);
        None
    };
    let Ok(url) = Url::parse(text.expose()) else {
        return refused(table, problems, "this is no URL of a proxy");
    };
    match Proxy::from_url(&url) {
        Ok(proxy) => Some(proxy),
        Err(what) => refused(table, problems, what),
    }
}
