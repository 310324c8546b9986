//! `nexus tls pin`: the pin of a server's key.

use std::io::{self, Write as _};

use clap::Args;

use super::{
    super::{FAILURE, World, fail, written},
    target::{self, Replacements},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct PinArgs {
    /// An upstream of the file, or an https:// URL
    #[arg(value_name = "SERVER|URL")]
    server: String,
    #[command(flatten)]
    replacements: Replacements,
}

/// The pin on stdout; whose it is, and whether to believe it, on stderr.
pub(super) async fn run(world: &World, args: &PinArgs) -> u8 {
    let probed = match target::find(world, std::slice::from_ref(&args.server), &args.replacements) {
        Ok(probed) => probed,
        Err(code) => return code,
    };
    let reports = target::probe_all(world, &probed).await;
    let (Some(probed), Some(report)) = (probed.first(), reports.first()) else { return FAILURE };
    let Some(leaf) = report.leaf() else {
        let why = report.cause().map_or_else(|| "it showed no certificate".to_owned(), ToString::to_string);
        return fail(FAILURE, &format!("{}: there is no key to pin: {why}", probed.name));
    };
    let mut err = io::stderr().lock();
    let _ = writeln!(
        err,
        "{}: the key of {}, whose certificate ends on {}",
        probed.name,
        leaf.facts.subject,
        crate::tls::shown_date(leaf.facts.not_after)
    );
    if let Some(cause) = report.cause() {
        let _ = writeln!(
            err,
            "the policy does not accept this server now: {}; compare the pin with the server's owner before you use it",
            cause.detail
        );
    }
    let _ = writeln!(err, "add the pin of the next key as well, so that its renewal does not shut you out: spki_pins = [\"…\", \"…\"]");
    drop(err);
    written(writeln!(io::stdout(), "{}", leaf.spki_sha256).map(|()| 0))
}
