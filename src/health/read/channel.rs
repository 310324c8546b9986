//! `[[certificates.alerts]]`: one receiver.

use lettre::message::Mailbox;
use url::{Host, Url};

use super::super::config::{ChannelConfig, Mail, MailLogin, MailSecurity, Receiver, SecretUrl};
use crate::{
    finding::Severity,
    outbound::Proxy,
    problem::Problems,
    secret::Secret,
    table::{Keys, Table, built},
    tls::{
        TlsSettings,
        read::{self as tls_read, Leg},
    },
};

pub const ALERT_KEYS: Keys = Keys {
    table: "certificates.alerts",
    doc: "One receiver of alerts, in a list of tables.",
    keys: &[
        built("type", "`\"webhook\"`, `\"slack\"`, `\"pagerduty\"` or `\"email\"`."),
        built("min_severity", "`\"info\"`, `\"warning\"`, `\"error\"` or `\"critical\"`; what is milder is not sent."),
        built("url", "Where alerts are posted; never printed."),
        built("routing_key", "With `\"pagerduty\"`: the integration's key; never printed."),
        built("smtp_url", "With `\"email\"`: `smtps://USER:PASSWORD@HOST` or `smtp://…`; never printed."),
        built("from", "With `\"email\"`: the sender."),
        built("to", "With `\"email\"`: the recipients."),
        built("tls", "How the receiver's certificate is verified: the keys of `[mcp.servers.NAME.tls]`."),
        built("proxy", "A forward proxy on the way to the receiver: `http://HOST:PORT`."),
    ],
};

/// Where PagerDuty takes events (Events API v2).
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

const MAX_RECIPIENTS: usize = 100;

#[derive(Clone, Copy)]
enum Kind {
    Webhook,
    Slack,
    PagerDuty,
    Email,
}

/// Reads one table; `None` when it is refused.
pub(super) fn read(mut table: Table, problems: &mut Problems) -> Option<ChannelConfig> {
    let table = &mut table;
    let kinds = [("webhook", Kind::Webhook), ("slack", Kind::Slack), ("pagerduty", Kind::PagerDuty), ("email", Kind::Email)];
    if !table.has("type") {
        table.error("", problems, "a channel without `type`", "it says who is told", "add type = \"webhook\"");
    }
    let Some(kind) = table.choice("type", &kinds, &[], problems) else {
        // Which keys belong here depends on the type.
        table.ignore(&ALERT_KEYS.keys.iter().map(|key| key.name).collect::<Vec<_>>());
        table.finish(&ALERT_KEYS, problems);
        return None;
    };
    let severities = Severity::ALL.iter().map(|severity| (severity.word(), *severity)).collect::<Vec<_>>();
    let min_severity = table.choice("min_severity", &severities, &[], problems).unwrap_or(Severity::Warning);
    let (receiver, leg) = match kind {
        Kind::Webhook => http(table, "webhook", None, problems).map(|(url, leg)| (Receiver::Webhook(url), leg)),
        Kind::Slack => http(table, "slack", None, problems).map(|(url, leg)| (Receiver::Slack(url), leg)),
        Kind::PagerDuty => pagerduty(table, problems),
        Kind::Email => email(table, problems),
    }
    .map_or((None, Leg::Tls), |(receiver, leg)| (Some(receiver), leg));
    let tls = table.table("tls", problems).map(|tls| tls_read::read(tls, leg, problems));
    let tls: TlsSettings = tls.unwrap_or_default();
    let proxy = proxy(table, problems);
    table.finish(&ALERT_KEYS, problems);
    receiver.map(|receiver| ChannelConfig { min_severity, receiver, tls, proxy })
}

fn proxy(table: &mut Table, problems: &mut Problems) -> Option<Proxy> {
    // Its user information is a secret.
    let text = table.possible_secret("proxy", "", problems).filter(|text| !text.expose().is_empty())?;
    let proxy = Url::parse(text.expose()).map_err(|_| "it is no URL").and_then(|url| Proxy::from_url(&url));
    proxy
        .map_err(|why| {
            table.error("proxy", problems, "this is no proxy", why, "write it as \"http://proxy.example.com:3128\"");
        })
        .ok()
}

fn http(table: &mut Table, kind: &str, default: Option<&str>, problems: &mut Problems) -> Option<(SecretUrl, Leg)> {
    if !table.has("url") && default.is_none() {
        table.error("", problems, format!("type = {kind:?} without `url`"), "it says where alerts are posted", "add url = \"https://…\"");
        return None;
    }
    let text = if table.has("url") {
        table.possible_secret("url", if kind == "slack" { "secret" } else { "" }, problems)?
    } else {
        Secret::new(default.unwrap_or_default())
    };
    let url = Url::parse(text.expose()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(mut url) = url else {
        table.error(
            "url",
            problems,
            "this is no https:// URL",
            "alerts are posted over HTTP",
            "write it as \"https://hooks.example.com/…\"",
        );
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        let why = "user information in a URL would not be sent";
        table.error(
            "url",
            problems,
            "the URL holds a user or a password",
            why,
            "remove it; put the secret into the path, as the service does",
        );
        return None;
    }
    url.set_fragment(None);
    let leg = if url.scheme() == "http" { Leg::Plain("an http:// URL") } else { Leg::Tls };
    if url.scheme() == "http" && !is_this_machine(&url) {
        let why = "everyone on the way can read the alerts, the address that takes them, and keep them back";
        table.insecure("url", problems, "alerts are sent over an unencrypted connection", why, "use the receiver's https:// URL");
    }
    Some((SecretUrl::new(url), leg))
}

fn pagerduty(table: &mut Table, problems: &mut Problems) -> Option<(Receiver, Leg)> {
    let target = http(table, "pagerduty", Some(PAGERDUTY), problems);
    if !table.has("routing_key") {
        let why = "PagerDuty would not know whom to page";
        table.error(
            "",
            problems,
            "type = \"pagerduty\" without `routing_key`",
            why,
            "add routing_key = \"{{ env.PAGERDUTY_ROUTING_KEY }}\"",
        );
    }
    let routing_key = table.secret("routing_key", problems)?;
    if routing_key.expose().trim().is_empty() {
        table.error("routing_key", problems, "the key is empty", "PagerDuty refuses it", "set it to the integration key of the service");
        return None;
    }
    target.map(|(url, leg)| (Receiver::PagerDuty { url, routing_key }, leg))
}

fn email(table: &mut Table, problems: &mut Problems) -> Option<(Receiver, Leg)> {
    for (key, remedy) in [
        ("smtp_url", "add smtp_url = \"smtps://{{ env.SMTP_USER }}:{{ env.SMTP_PASSWORD }}@mail.example.com\""),
        ("from", "add from = \"nexus@example.com\""),
        ("to", "add to = [\"ops@example.com\"]"),
    ] {
        if !table.has(key) {
            table.error("", problems, format!("type = \"email\" without `{key}`"), "no mail can be sent without it", remedy);
        }
    }
    let from = table.string("from", problems).and_then(|text| mailbox(table, ("from", None), &text, problems));
    let to = table.strings("to", problems).and_then(|texts| recipients(table, &texts, problems));
    let text = table.secret("smtp_url", problems)?;
    let Some(url) = smtp_url(text.expose()) else {
        let why = "a mail server is named by its scheme, its host and, where it wants one, a login";
        table.error(
            "smtp_url",
            problems,
            "this is no smtps:// or smtp:// URL",
            why,
            "write it as \"smtps://USER:PASSWORD@mail.example.com\", special characters as %40",
        );
        return None;
    };
    let security = match (url.scheme(), is_this_machine(&url) && !table.has("tls")) {
        ("smtps", _) => MailSecurity::Implicit,
        (_, true) => MailSecurity::Plain,
        (_, false) => MailSecurity::StartTls,
    };
    let default_port = if security == MailSecurity::Implicit { 465 } else { 587 };
    let login = (!url.username().is_empty())
        .then(|| MailLogin { user: decoded(url.username()), password: Secret::new(decoded(url.password().unwrap_or_default())) });
    let mail = Mail {
        host: url.host_str().unwrap_or_default().to_owned(),
        port: url.port().unwrap_or(default_port),
        security,
        login,
        from: from?,
        to: to?,
    };
    let leg = if security == MailSecurity::Plain { Leg::Plain("an smtp:// URL of this machine") } else { Leg::Tls };
    Some((Receiver::Email(mail), leg))
}

fn smtp_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    (matches!(url.scheme(), "smtp" | "smtps") && url.host_str().is_some_and(|host| !host.is_empty()) && is_plain).then_some(url)
}

fn recipients(table: &Table, texts: &[String], problems: &mut Problems) -> Option<Vec<Mailbox>> {
    if texts.is_empty() || texts.len() > MAX_RECIPIENTS {
        table.error("to", problems, "there must be 1 to 100 recipients", "a mail goes to somebody", "write it as [\"ops@example.com\"]");
        return None;
    }
    texts.iter().enumerate().map(|(index, text)| mailbox(table, ("to", Some(index)), text, problems)).collect()
}

fn mailbox(table: &Table, (key, index): (&str, Option<usize>), text: &str, problems: &mut Problems) -> Option<Mailbox> {
    let mailbox = text.parse().ok();
    if mailbox.is_none() {
        let remedy = "write it as \"ops@example.com\" or \"Operations <ops@example.com>\"";
        let what = format!("{} is no mail address", table.typed(key, index));
        table.error(key, problems, what, "the mail server would refuse it", remedy);
    }
    mailbox
}

/// Percent-encoded user information (RFC 3986 §3.2.1).
fn decoded(text: &str) -> String {
    let encoded = text.replace('+', "%2B").replace('&', "%26");
    url::form_urlencoded::parse(format!("v={encoded}").as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        // A scheme that the URL standard does not know keeps its host as text.
        Some(Host::Domain(name)) => {
            name == "localhost" || name.ends_with(".localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}
