//! `[certificates]`, checked.

use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use lettre::message::Mailbox;
use url::Url;

use super::threshold::Thresholds;
use crate::{finding::Severity, outbound::Proxy, secret::Secret, tls::TlsSettings};

/// `[certificates]`: what is watched, how often, and who is told.
#[derive(Clone, Debug)]
pub struct CertificatesConfig {
    pub warn_before: Thresholds,
    /// A new identity or CA set is tried by a handshake before it replaces a working one.
    pub probe_before_swap: bool,
    /// Between two checks of one upstream; each is moved by up to a tenth.
    pub probe_interval: Duration,
    /// Failed checks in a row after which an upstream is down.
    pub failures_before_down: NonZeroU32,
    pub alerts: Vec<ChannelConfig>,
}

impl Default for CertificatesConfig {
    fn default() -> Self {
        Self {
            warn_before: Thresholds::default(),
            probe_before_swap: true,
            probe_interval: Duration::from_secs(60),
            failures_before_down: NonZeroU32::new(3).unwrap_or(NonZeroU32::MIN),
            alerts: Vec::new(),
        }
    }
}

/// `[[certificates.alerts]]`: one way to tell the operator.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// What is milder is not sent here.
    pub min_severity: Severity,
    pub receiver: Receiver,
    /// How the receiver's certificate is verified; not used over plain HTTP or SMTP.
    pub tls: TlsSettings,
    /// The forward proxy on the way, whatever the receiver is; those of the environment are never used.
    pub proxy: Option<Proxy>,
}

/// Who is told.
#[derive(Clone, Debug)]
pub enum Receiver {
    /// The JSON of docs/alerts.md, posted to a URL. The URL may hold a secret.
    Webhook(SecretUrl),
    /// A Slack incoming webhook.
    Slack(SecretUrl),
    /// PagerDuty Events API v2.
    PagerDuty {
        url: SecretUrl,
        routing_key: Secret,
    },
    Email(Mail),
}

impl ChannelConfig {
    /// The host whose certificate is verified; `None` without TLS.
    pub fn tls_host(&self) -> Option<&str> {
        match &self.receiver {
            Receiver::Webhook(url) | Receiver::Slack(url) | Receiver::PagerDuty { url, .. } => {
                url.expose().host_str().filter(|_| url.expose().scheme() == "https")
            }
            Receiver::Email(mail) => (mail.security != MailSecurity::Plain).then_some(mail.host.as_str()),
        }
    }

    /// Who is told, as a text that stays the same wherever the channel stands in the file, and however its receiver is
    /// reached. Holds no secret: a URL may be one, so it is in here as a digest.
    pub fn key(&self) -> String {
        let who = match &self.receiver {
            Receiver::Webhook(url) | Receiver::Slack(url) => url.expose().to_string(),
            Receiver::PagerDuty { url, routing_key } => format!("{} {}", url.expose(), routing_key.expose()),
            Receiver::Email(mail) => {
                let to: BTreeSet<_> = mail.to.iter().map(|mailbox| mailbox.email.to_string()).collect();
                to.into_iter().collect::<Vec<_>>().join(" ")
            }
        };
        let digest = digest(&SHA256, who.as_bytes());
        let half = digest.as_ref().iter().take(16);
        half.fold(format!("{}:", self.receiver.word()), |key, byte| format!("{key}{byte:02x}"))
    }
}

impl Receiver {
    /// As in `type`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::PagerDuty { .. } => "pagerduty",
            Self::Email(_) => "email",
        }
    }
}

/// A URL that is itself a secret, as those of incoming webhooks are. Shows its host only.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Url);

impl SecretUrl {
    pub(super) fn new(url: Url) -> Self {
        Self(url)
    }

    /// The URL itself, for whoever connects.
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl std::fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}/…", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }
}

/// `type = "email"`.
#[derive(Clone, Debug)]
pub struct Mail {
    pub host: String,
    pub port: u16,
    pub security: MailSecurity,
    pub login: Option<MailLogin>,
    pub from: Mailbox,
    pub to: Vec<Mailbox>,
}

/// How a mail server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// `smtps://`: TLS from the first byte (RFC 8314 §3.3).
    Implicit,
    /// `smtp://`: STARTTLS, and nothing is said before it succeeded (RFC 3207).
    StartTls,
    /// `smtp://` to this machine, without a `tls` table.
    Plain,
}

#[derive(Clone, Debug)]
pub struct MailLogin {
    pub user: String,
    pub password: Secret,
}
