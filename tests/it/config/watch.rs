//! `[certificates]`, its alerts, and `[state]`.

use std::{num::NonZeroU32, time::Duration};

use nexus::health::{MailSecurity, Receiver};

use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn channel(keys: &str) -> String {
    format!("[[certificates.alerts]]\n{keys}\n[mcp.servers.crm]\nurl = \"https://crm.example.com/mcp\"\n")
}

fn mail(url: &str, more: &str) -> String {
    channel(&format!("type = \"email\"\nsmtp_url = \"{url}\"\nfrom = \"nexus@example.com\"\nto = [\"ops@example.com\"]\n{more}"))
}

fn receiver(text: &str) -> Receiver {
    good(text).certificates.alerts.into_iter().next().expect("a channel").receiver
}

#[test]
fn the_watch_is_set_up() {
    let with = |lines: &str| good(&https("").replacen("[mcp", &format!("{lines}\n[mcp"), 1));
    let lines =
        "[certificates]\nwarn_before = [\"20d\", \"36h\"]\nprobe_interval = \"10s\"\nfailures_before_down = 5\nprobe_before_swap = false";
    let config = with(lines).certificates;
    let spans: Vec<_> = config.warn_before.of(HOUR * 24 * 3650).iter().map(|threshold| threshold.before).collect();
    assert_eq!(spans, [HOUR * 24 * 20, HOUR * 36, Duration::ZERO]);
    assert_eq!((config.probe_interval, config.failures_before_down), (Duration::from_secs(10), NonZeroU32::new(5).expect("5")));
    assert!(!config.probe_before_swap);
    assert_eq!(with("[state]\ndirectory = \"kept\"").state.directory.as_deref(), Some(Path::new("/etc/nexus/kept")));
    assert_eq!(with("[state]\ndirectory = \"\"").state.directory, None);
}

#[test]
fn what_makes_no_sense_is_refused() {
    refused("[certificates]\nprobe_interval = \"9s\"", &["out of range", "10s"]);
    refused("[certificates]\nfailures_before_down = 0", &["out of range"]);
    refused("[certificates]\nwarn_before = [\"30 days\"]", &["\"30 days\" is no duration"]);
    refused("[certificates]\nwarn_before = [\"0s\"]", &["is no duration from 1m"]);
    refused(&format!("[state]\nsecrets = [{:?}, {:?}]", "s".repeat(32), "s".repeat(31)), &["state.secrets", "shorter than 32 bytes"]);
    refused("[state]\nsecrets = \"s\"", &["state.secrets", "expected a list of strings"]);
    refused("[mcp.parked]\nttl = \"0s\"", &["mcp.parked.ttl", "out of range"]);
    refused(&channel("url = \"https://h.example.com\""), &["a channel without `type`"]);
    refused(&channel("type = \"sms\""), &["unknown value"]);
    refused(&channel("type = \"slack\""), &["type = \"slack\" without `url`"]);
    refused(&channel("type = \"webhook\"\nurl = \"ftp://h.example.com\""), &["no https:// URL"]);
    refused(&channel("type = \"webhook\"\nurl = \"https://u:p@h.example.com\""), &["holds a user or a password"]);
    refused(&channel("type = \"webhook\"\nurl = \"https://h.example.com\"\nrouting_key = \"k\""), &["has no effect here"]);
    refused(&channel("type = \"webhook\"\nurl = \"https://h.example.com\"\nmin_severity = \"fatal\""), &["unknown value"]);
    refused(
        &channel("type = \"webhook\"\nurl = \"http://localhost:1\"\ntls = { min_version = \"1.3\" }"),
        &["TLS setting on an http:// URL"],
    );
    refused(&channel("type = \"webhook\"\nurl = \"https://h.example.com\"\nproxy = \"https://p.example.com\""), &["this is no proxy"]);
    refused(&channel("type = \"pagerduty\""), &["without `routing_key`"]);
    refused(&channel("type = \"email\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]"), &["without `smtp_url`"]);
    refused(&mail("http://mail.example.com", ""), &["no smtps:// or smtp:// URL"]);
    refused(&mail("smtps://mail.example.com", "").replace("ops@example.com", "nobody"), &["\"nobody\" is no mail address"]);
    refused(&mail("smtp://localhost:25", "").replace("[\"ops@example.com\"]", "[]"), &["1 to 100 recipients"]);
}

#[test]
fn alerts_over_plain_http_are_warned_about_unless_they_stay_here() {
    warned(&channel("type = \"webhook\"\nurl = \"http://h.example.com/x\""), &["alerts are sent over an unencrypted connection"], true);
    good(&channel("type = \"webhook\"\nurl = \"http://127.0.0.1:9/x\""));
}

#[test]
fn a_mail_server_is_spoken_to_as_its_url_says() {
    let of = |url: &str, more: &str| match receiver(&mail(url, more)) {
        Receiver::Email(mail) => {
            (mail.host.clone(), mail.port, mail.security, mail.login.map(|login| (login.user, login.password.expose().to_owned())))
        }
        other => panic!("{other:?}"),
    };
    let login = Some(("a@b.c".to_owned(), "p+&w".to_owned()));
    assert_eq!(of("smtps://a%40b.c:p+&w@mail.example.com", ""), ("mail.example.com".to_owned(), 465, MailSecurity::Implicit, login));
    assert_eq!(of("smtp://mail.example.com", ""), ("mail.example.com".to_owned(), 587, MailSecurity::StartTls, None));
    assert_eq!(of("smtp://localhost:25", ""), ("localhost".to_owned(), 25, MailSecurity::Plain, None));
    assert_eq!(of("smtp://127.0.0.1:25", "").2, MailSecurity::Plain);
    assert_eq!(of("smtp://localhost:25", "tls = { root_ca_cert_path = \"ca.pem\" }").2, MailSecurity::StartTls);
}

#[test]
fn no_secret_of_a_channel_shows_in_debug_or_in_a_message() {
    let text = format!(
        "{}[[certificates.alerts]]\ntype = \"pagerduty\"\nrouting_key = \"canary-2\"\n\
         [[certificates.alerts]]\ntype = \"email\"\nsmtp_url = \"smtps://u:canary-3@m.example.com\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\n",
        channel("type = \"slack\"\nurl = \"https://hooks.slack.com/services/canary-1\"\nproxy = \"http://u:canary-4@p.example.com\""),
    );
    let debug = format!("{:?}", good(&text));
    assert!(!debug.contains("canary"), "{debug}");
    for wrong in ["type = \"slack\"\nurl = \"canary\"", "type = \"slack\"\nurl = 1", "type = \"webhook\"\nurl = \"https://a:canary@b.c\""] {
        let said = shown(&load(&channel(wrong)).problems);
        assert!(said.starts_with("error") && !said.contains("canary"), "{said}");
    }
}
