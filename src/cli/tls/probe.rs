//! `nexus tls probe`: a handshake with each server, and everything that is wrong.

use std::{
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use serde::Serialize;

use super::{
    super::{FAILURE, World, fail, written},
    Format, paint,
    target::{self, Probed, Replacements},
    text,
};
use crate::{
    finding::{Finding, Severity},
    reason::Reason,
    table::{duration, show_duration},
    tls::{Report, ReportView, Verdict},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct ProbeArgs {
    /// Upstreams of the file, or https:// URLs [default: every upstream that has TLS]
    #[arg(value_name = "SERVER|URL")]
    servers: Vec<String>,
    #[command(flatten)]
    replacements: Replacements,
    /// Write what each server sends to DIR/NAME.pem; nothing is overwritten
    #[arg(long, value_name = "DIR")]
    save_chain: Option<PathBuf>,
    /// Fail when a certificate ends within this time, such as 14d
    #[arg(long, value_name = "TIME", value_parser = span)]
    fail_within: Option<Duration>,
    /// How the reports are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn span(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "write a time such as 14d or 36h".to_owned())
}

#[derive(Serialize)]
struct Output<'a> {
    upstreams: Vec<ReportView<'a>>,
}

pub(super) async fn run(world: &World, args: &ProbeArgs) -> u8 {
    let probed = match target::find(world, &args.servers, &args.replacements) {
        Ok(probed) => probed,
        Err(code) => return code,
    };
    let reports = target::probe_all(world, &probed).await;
    let reports = reports.into_iter().map(|report| match args.fail_within.and_then(|within| ends_within(&report, within)) {
        Some(finding) => Arc::new(report.with_failure(finding)),
        None => report,
    });
    let all: Vec<(&Probed, Arc<Report>)> = probed.iter().zip(reports).collect();
    let printed = match args.format {
        Format::Json => print_json(&all),
        Format::Text => print_text(world, &all),
    };
    let mut code = written(printed.map(|()| 0));
    if all.iter().any(|(_, report)| report.verdict == Verdict::Fail) {
        code = code.max(FAILURE);
    }
    for (probed, report) in &all {
        if let Some(folder) = &args.save_chain {
            code = code.max(save(folder, probed, report));
        }
    }
    code
}

fn print_json(all: &[(&Probed, Arc<Report>)]) -> io::Result<()> {
    let output = Output { upstreams: all.iter().map(|(probed, report)| report.view(&probed.name, probed.url.as_str())).collect() };
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &output)?;
    writeln!(out)
}

fn print_text(world: &World, all: &[(&Probed, Arc<Report>)]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let paint = paint(world);
    for (index, (probed, report)) in all.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        text::write(&mut out, &probed.name, probed.url.as_str(), probed.table.as_deref(), report, paint)?;
    }
    Ok(())
}

/// What is wrong when the first of its certificates ends too soon; nothing when one has ended, which is told already.
fn ends_within(report: &Report, within: Duration) -> Option<Finding> {
    let end = report.earliest_end()?;
    let limit = i64::try_from((report.at + within).as_secs()).unwrap_or(i64::MAX);
    let first = report.depends_on().find(|link| link.facts.not_after == end)?;
    let is_told = report.has(Reason::TlsExpired) || report.has(Reason::TlsIntermediateExpired);
    (end <= limit && !(is_told && report.verdict == Verdict::Fail)).then(|| {
        let days = first.days_left(report.at);
        let left = if days < 0 { "it has expired".to_owned() } else { format!("{days} days left") };
        let (subject, date, within) = (&first.facts.subject, crate::tls::shown_date(end), show_duration(within));
        let detail = format!("the certificate {subject} ends on {date}, within {within} ({left})");
        Finding::new(Reason::TlsExpiring, Severity::Error, detail, "renew it on the server, or give --fail-within less time")
    })
}

fn save(folder: &Path, probed: &Probed, report: &Report) -> u8 {
    let pem = report.presented_pem();
    if pem.is_empty() {
        return fail(FAILURE, &format!("{}: there is no chain to save", probed.name));
    }
    let path = folder.join(format!("{}.pem", file_name(&probed.name)));
    let outcome = std::fs::create_dir_all(folder).and_then(|()| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
        file.write_all(pem.as_bytes())
    });
    match outcome {
        Ok(()) => {
            let mut err = io::stderr().lock();
            let _ = writeln!(err, "{}: saved to {}; compare with its issuer before you trust it:", probed.name, path.display());
            for link in report.chain.iter().filter(|link| link.sent) {
                let _ = writeln!(err, "  SHA-256 {}  {}", text::colons(&link.facts.fingerprint), link.facts.subject);
            }
            0
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fail(
            FAILURE,
            &format!("error: {} is there already and is not overwritten\n  fix: remove it, or give another --save-chain", path.display()),
        ),
        Err(error) => fail(FAILURE, &format!("error: cannot write {}: {error}", path.display())),
    }
}

/// A name that leads nowhere else.
fn file_name(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' }).collect();
    plain.trim_start_matches('.').to_owned()
}
