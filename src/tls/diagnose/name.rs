//! Whether the leaf is for the wanted name, and what comes close where it is not.

use std::{fmt::Write as _, net::IpAddr};

use rustls::{client::verify_server_name, pki_types::ServerName, server::ParsedCertificate};
use x509_parser::prelude::GeneralName;

use super::certificate::Certificate;
use crate::{
    finding::{Finding, Severity},
    reason::Reason,
    tls::inspect::shown,
};

/// Most alternative names that are looked through for a near miss.
const LOOKED_THROUGH: usize = 1000;

/// `None` when the name is right, or when the certificate cannot be read by the verification: then nothing can be said
/// of its names, and a finding about its form says so.
pub(super) fn finding(leaf: &Certificate<'_>, wanted: &ServerName<'_>) -> Option<Finding> {
    let readable = ParsedCertificate::try_from(leaf.der).ok()?;
    if verify_server_name(&readable, wanted).is_ok() {
        return None;
    }
    let wanted_words = shown(&wanted.to_str());
    let names = dns_names(leaf);
    if names.is_empty() && !has_address(leaf) {
        return Some(common_name_only(leaf, wanted, &wanted_words));
    }
    let mut detail = format!(
        "the server's certificate is for {}, not for {wanted_words}",
        leaf.facts.shown_names().unwrap_or_else(|| "no name".to_owned())
    );
    if let Some(near) = near_miss(&names, wanted) {
        let _ = write!(detail, "; {near}");
    }
    let remedy = match wanted {
        ServerName::IpAddress(_) => {
            "use a name of the certificate in url, set server_name to it, or reissue it with that address as an IP address"
        }
        _ => "use a name of the certificate in url, or set server_name to it",
    };
    Some(Finding::new(Reason::TlsHostnameMismatch, Severity::Error, detail, remedy).with_key("server_name"))
}

fn common_name_only(leaf: &Certificate<'_>, wanted: &ServerName<'_>, wanted_words: &str) -> Finding {
    let cn = match &leaf.facts.common_name {
        Some(cn) if cn.eq_ignore_ascii_case(&wanted.to_str()) => {
            format!("; its common name {cn} would fit, but the common name is ignored")
        }
        Some(cn) => format!("; its common name {cn} is ignored"),
        None => String::new(),
    };
    let kind = if matches!(wanted, ServerName::IpAddress(_)) { "IP address" } else { "DNS name" };
    Finding::new(
        Reason::TlsCnOnly,
        Severity::Error,
        format!(
            "the server's certificate has no DNS name and no IP address among its subject alternative names{cn}; wanted {wanted_words}"
        ),
        format!("reissue the certificate with the subject alternative name {wanted_words} ({kind})"),
    )
}

fn general_names<'a>(leaf: &'a Certificate<'_>) -> impl Iterator<Item = &'a GeneralName<'a>> {
    let extension = leaf.parsed.subject_alternative_name().ok().flatten();
    extension.into_iter().flat_map(|extension| extension.value.general_names.iter()).take(LOOKED_THROUGH)
}

fn dns_names(leaf: &Certificate<'_>) -> Vec<String> {
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) => Some((*text).to_owned()),
        _ => None,
    };
    general_names(leaf).filter_map(text).collect()
}

fn has_address(leaf: &Certificate<'_>) -> bool {
    general_names(leaf).any(|name| matches!(name, GeneralName::IPAddress(_)))
}

/// Why a name that looks right is not.
fn near_miss(names: &[String], wanted: &ServerName<'_>) -> Option<String> {
    match wanted {
        ServerName::IpAddress(ip) => {
            let ip = IpAddr::from(*ip);
            names
                .iter()
                .find(|name| name.parse::<IpAddr>().is_ok_and(|name| name == ip))
                .map(|name| format!("{} stands there as a DNS name, and an IP address counts only as an IP address", shown(name)))
        }
        ServerName::DnsName(wanted) => names.iter().find_map(|name| near_dns_name(name, wanted.as_ref())),
        _ => None,
    }
}

fn near_dns_name(name: &str, wanted: &str) -> Option<String> {
    let (lower, wanted) = (name.to_ascii_lowercase(), wanted.to_ascii_lowercase());
    if lower.strip_suffix('.').is_some_and(|bare| bare == wanted) {
        return Some(format!("{} is written with a dot at its end, which no certificate may have", shown(name)));
    }
    let zone = lower.strip_prefix("*.")?;
    if zone == wanted {
        return Some(format!("the wildcard {} does not cover {} itself", shown(name), shown(zone)));
    }
    let label = wanted.strip_suffix(zone)?.strip_suffix('.')?;
    if label.contains('.') {
        Some(format!("the wildcard {} covers one label, and {} are two or more", shown(name), shown(label)))
    } else if !zone.contains('.') {
        Some(format!("the wildcard {} directly below a top-level domain is not accepted", shown(name)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_told_from_a_stranger() {
        for (name, wanted, expected) in [
            ("*.corp.test", "a.b.corp.test", Some("covers one label")),
            ("*.corp.test", "corp.test", Some("does not cover corp.test itself")),
            ("*.test", "corp.test", Some("directly below a top-level domain")),
            ("Corp.test.", "corp.test", Some("dot at its end")),
            ("*.corp.test", "other.test", None),
            ("other.test", "corp.test", None),
        ] {
            let said = near_dns_name(name, wanted);
            assert_eq!(said.is_some(), expected.is_some(), "{name} {wanted}");
            assert!(expected.is_none_or(|part| said.as_ref().is_some_and(|said| said.contains(part))), "{said:?}");
        }
    }
}
