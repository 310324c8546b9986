//! `nexus tls inspect`: what certificate and key files hold.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    super::{FAILURE, USAGE, World, fail, written},
    Format, paint,
    text::{Paint, colons, listed},
};
use crate::{
    reason::Reason,
    secret::Secret,
    tls::{CertificateItem, CrlFacts, Item, KeyItem, Validity, shown_date, shown_span, survey},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct InspectArgs {
    /// PEM, DER or PKCS#12 files; a key is compared with every certificate in any of them
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// A file with the password of a PKCS#12 archive or an encrypted key
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

const PASSWORD: &str = "write its password into a file, and name that with --password-file";

/// A file and what is in it.
struct Surveyed<'a> {
    path: &'a Path,
    items: Vec<Item>,
}

pub(super) fn run(world: &World, args: &InspectArgs) -> u8 {
    let password = match args.password_file.as_deref().map(|path| password(world, path)).transpose() {
        Ok(password) => password,
        Err(words) => return fail(USAGE, &words),
    };
    let mut surveyed = Vec::new();
    for path in &args.files {
        match read(world, path, password.as_ref()) {
            Ok(items) => surveyed.push(Surveyed { path, items }),
            Err(words) => return fail(FAILURE, &words),
        }
    }
    let now = world.clock.now();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let mut out = io::stdout().lock();
    written(
        match args.format {
            Format::Json => print_json(&mut out, &surveyed),
            Format::Text => print_text(&mut out, &surveyed, seconds, paint(world)),
        }
        .map(|()| 0),
    )
}

fn password(world: &World, path: &Path) -> Result<Secret, String> {
    let (bytes, _) = world.sources.read(path).map_err(|error| format!("error: --password-file {}: {error}", path.display()))?;
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("error: --password-file {}: it is no UTF-8 text", path.display()))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn read(world: &World, path: &Path, password: Option<&Secret>) -> Result<Vec<Item>, String> {
    let shown = path.display();
    let (bytes, _) = world.sources.read(path).map_err(|error| format!("error: {shown}: {error}"))?;
    let bytes = Zeroizing::new(bytes);
    survey(&bytes, password).map_err(|unusable| {
        let remedy = match unusable.reason {
            Reason::LocalPassword => PASSWORD.to_owned(),
            _ => unusable.remedy.replace("FILE", &shown.to_string()),
        };
        format!("error: {shown}: {} ({})\n  fix: {remedy}", unusable.detail, unusable.reason)
    })
}

fn certificates<'a>(surveyed: &'a [Surveyed<'_>]) -> impl Iterator<Item = &'a CertificateItem> {
    surveyed.iter().flat_map(|file| &file.items).filter_map(|item| match item {
        Item::Certificate(certificate) => Some(&**certificate),
        Item::Key(_) | Item::RevocationList(_) => None,
    })
}

fn print_text(out: &mut dyn Write, surveyed: &[Surveyed<'_>], now: i64, paint: Paint) -> io::Result<()> {
    for file in surveyed {
        writeln!(out, "{}", paint.title(&file.path.display().to_string()))?;
        for item in &file.items {
            match item {
                Item::Certificate(certificate) => print_certificate(out, certificate, now)?,
                Item::Key(key) => print_key(out, key, surveyed)?,
                Item::RevocationList(list) => print_list(out, list, now)?,
            }
        }
    }
    Ok(())
}

fn print_certificate(out: &mut dyn Write, certificate: &CertificateItem, now: i64) -> io::Result<()> {
    let facts = &certificate.facts;
    let kind = match (facts.is_ca, facts.self_signed) {
        (true, true) => "CA certificate, self-signed",
        (true, false) => "CA certificate",
        (false, true) => "certificate, self-signed",
        (false, false) => "certificate",
    };
    let time = std::time::Duration::from_secs(u64::try_from(now).unwrap_or_default());
    let validity = match facts.validity_at(time) {
        Validity::NotYet => format!("not valid yet, in {}", shown_span(now, facts.not_before)),
        Validity::Valid => format!("{} left", shown_span(now, facts.not_after)),
        Validity::Expired => format!("expired {} ago", shown_span(facts.not_after, now)),
    };
    let usage = match (facts.for_servers, facts.for_clients) {
        (true, true) => "servers and clients",
        (true, false) => "servers",
        (false, true) => "clients",
        (false, false) => "neither servers nor clients",
    };
    writeln!(out, "  {kind}")?;
    writeln!(out, "    subject  {}", facts.subject)?;
    writeln!(out, "    issuer   {}", facts.issuer)?;
    writeln!(out, "    names    {}", listed(facts))?;
    writeln!(out, "    valid    {} to {} ({validity})", shown_date(facts.not_before), shown_date(facts.not_after))?;
    if !facts.is_ca {
        writeln!(out, "    for      {usage}")?;
    }
    writeln!(out, "    key      {}", certificate.key)?;
    writeln!(out, "    serial   {}", certificate.serial)?;
    writeln!(out, "    SHA-1    {}", colons(&certificate.sha1))?;
    writeln!(out, "    SHA-256  {}", colons(&facts.fingerprint))?;
    writeln!(out, "    pin      {}", facts.spki_sha256)
}

fn print_key(out: &mut dyn Write, key: &KeyItem, surveyed: &[Surveyed<'_>]) -> io::Result<()> {
    writeln!(out, "  private key{}", if key.was_encrypted { ", encrypted" } else { "" })?;
    if let Err(why) = &key.opened {
        writeln!(out, "    cannot be read: {why}")?;
        return if key.was_encrypted { writeln!(out, "    fix: {PASSWORD}") } else { Ok(()) };
    }
    let own: Vec<_> = certificates(surveyed).filter(|certificate| key.belongs_to(certificate) == Some(true)).collect();
    match own.as_slice() {
        [] if certificates(surveyed).next().is_none() => writeln!(out, "    no certificate to compare it with; name its file as well"),
        [] => writeln!(out, "    belongs to none of the certificates"),
        [certificate, ..] => writeln!(out, "    belongs to the certificate {}", certificate.facts.subject),
    }
}

fn print_list(out: &mut dyn Write, list: &CrlFacts, now: i64) -> io::Result<()> {
    writeln!(out, "  revocation list")?;
    writeln!(out, "    issuer   {}", list.issuer)?;
    let next = match list.next_update {
        Some(end) if end < now => format!("the next was due on {}", shown_date(end)),
        Some(end) => format!("the next is due on {}", shown_date(end)),
        None => "no next one is announced".to_owned(),
    };
    writeln!(out, "    issued   {}; {next}", shown_date(list.this_update))?;
    writeln!(out, "    revokes  {}", list.revoked)
}

/// The contents of all files for programs.
#[derive(Serialize)]
struct Output<'a> {
    files: Vec<FileView<'a>>,
}

#[derive(Serialize)]
struct FileView<'a> {
    file: String,
    certificates: Vec<CertificateView<'a>>,
    keys: Vec<KeyView<'a>>,
    revocation_lists: Vec<ListView<'a>>,
}

#[derive(Serialize)]
struct CertificateView<'a> {
    subject: &'a str,
    issuer: &'a str,
    sans: &'a [String],
    is_ca: bool,
    not_before: String,
    not_after: String,
    key: &'a str,
    serial: &'a str,
    sha1: &'a str,
    sha256: &'a str,
    spki_sha256: &'a str,
}

#[derive(Serialize)]
struct KeyView<'a> {
    encrypted: bool,
    /// Why it cannot be read; `null` if it can.
    problem: Option<&'a str>,
    /// SHA-256 of the certificates that it belongs to.
    belongs_to: Vec<&'a str>,
}

#[derive(Serialize)]
struct ListView<'a> {
    issuer: &'a str,
    this_update: String,
    next_update: Option<String>,
    revoked: usize,
}

fn print_json(out: &mut dyn Write, surveyed: &[Surveyed<'_>]) -> io::Result<()> {
    let files = surveyed
        .iter()
        .map(|file| {
            let mut view = FileView {
                file: file.path.display().to_string(),
                certificates: Vec::new(),
                keys: Vec::new(),
                revocation_lists: Vec::new(),
            };
            for item in &file.items {
                match item {
                    Item::Certificate(certificate) => view.certificates.push(certificate_view(certificate)),
                    Item::Key(key) => view.keys.push(KeyView {
                        encrypted: key.was_encrypted,
                        problem: key.opened.as_ref().err().map(String::as_str),
                        belongs_to: certificates(surveyed)
                            .filter(|certificate| key.belongs_to(certificate) == Some(true))
                            .map(|certificate| certificate.facts.fingerprint.as_str())
                            .collect(),
                    }),
                    Item::RevocationList(list) => view.revocation_lists.push(ListView {
                        issuer: &list.issuer,
                        this_update: shown_date(list.this_update),
                        next_update: list.next_update.map(shown_date),
                        revoked: list.revoked,
                    }),
                }
            }
            view
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &Output { files })?;
    writeln!(out)
}

fn certificate_view(certificate: &CertificateItem) -> CertificateView<'_> {
    let facts = &certificate.facts;
    CertificateView {
        subject: &facts.subject,
        issuer: &facts.issuer,
        sans: &facts.names,
        is_ca: facts.is_ca,
        not_before: shown_date(facts.not_before),
        not_after: shown_date(facts.not_after),
        key: &certificate.key,
        serial: &certificate.serial,
        sha1: &certificate.sha1,
        sha256: &facts.fingerprint,
        spki_sha256: &facts.spki_sha256,
    }
}
