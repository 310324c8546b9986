//! `nexus status`: asks the running gateway, through the admin listener of the same file, how it is.

mod ask;
mod explain;
mod show;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Args;
use serde_json::json;

use self::ask::Trouble;
pub use super::tools::Format;
use super::{FAILURE, USAGE, World, start};
use crate::{admin::AdminConfig, sources::Sources, table::nearest};

/// How many of the last events are shown.
const LAST_EVENTS: usize = 10;

#[derive(Debug, Default, Args)]
pub struct StatusArgs {
    /// One upstream instead of all
    #[arg(value_name = "SERVER", conflicts_with = "explain")]
    pub server: Option<String>,
    /// Why clients see this tool, or do not
    #[arg(long, value_name = "TOOL")]
    pub explain: Option<String>,
    /// The same for callers in this group; several make one caller in all of them, and "" is one in none
    #[arg(long = "as", value_name = "GROUP", requires = "explain")]
    pub groups: Vec<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

pub(super) async fn run(world: &World, args: &StatusArgs) -> u8 {
    let (path, config) = match start::load(world) {
        Ok(loaded) => loaded,
        Err(refused) => return refused.code,
    };
    let Some(admin) = &config.admin else {
        return super::fail(
            USAGE,
            &format!(
                "error: {} has no [admin] listener to ask\n  fix: add [admin] (with a token, off loopback), and restart the gateway",
                path.display()
            ),
        );
    };
    let asked = Asked { admin, sources: &*world.sources, now: world.clock.now() };
    super::written(print(asked, args, &mut io::stdout(), &mut io::stderr()).await)
}

/// Whom to ask, and what it takes.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub admin: &'a AdminConfig,
    /// For the files of `[admin.tls]`.
    pub sources: &'a dyn Sources,
    /// Since 1970.
    pub now: Duration,
}

/// Asks, prints, and gives the exit code: 1 if anything is down, or if nobody answers.
///
/// # Errors
/// `out` or `err` cannot be written to.
pub async fn print(asked: Asked<'_>, args: &StatusArgs, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let answers = match ask::ask(asked.admin, asked.sources, asked.now, &args.groups).await {
        Ok(answers) => answers,
        Err(trouble) => return fail(err, &trouble),
    };
    if let Some(tool) = &args.explain {
        let explained = explain::explain(&answers, tool, !args.groups.is_empty());
        match args.format {
            Format::Text => writeln!(out, "{}", explained.words())?,
            Format::Json => writeln!(out, "{:#}", explained.json())?,
        }
        return Ok(if explained.is_callable() { 0 } else { FAILURE });
    }
    let Some(upstreams) = answers.selected(args.server.as_deref()) else {
        let typed = args.server.as_deref().unwrap_or_default();
        let hint = nearest(typed, answers.upstreams.iter().map(|upstream| &*upstream.name));
        let hint = hint.map_or_else(|| "nexus status shows all of them".to_owned(), |name| format!("did you mean {name}?"));
        writeln!(err, "error: the gateway has no upstream {typed:?}\n  fix: {hint}")?;
        return Ok(USAGE);
    };
    match args.format {
        Format::Text => show::show(out, &answers, &upstreams, args.server.is_none())?,
        Format::Json => {
            let shown: Vec<_> = upstreams.iter().map(|upstream| &upstream.raw).collect();
            let last = answers.last_events(args.server.as_deref(), LAST_EVENTS);
            let events: Vec<_> = last.iter().map(|event| &event.raw).collect();
            let whole = json!({
                "ready": answers.ready,
                "upstreams": shown,
                "certificates": answers.certificates_of(args.server.as_deref()),
                "last_reload": answers.last_reload().map(|event| &event.raw),
                "events": events,
            });
            writeln!(out, "{whole:#}")?;
        }
    }
    Ok(if upstreams.iter().any(|upstream| upstream.state == "down") { FAILURE } else { 0 })
}

fn fail(err: &mut impl Write, trouble: &Trouble) -> io::Result<u8> {
    writeln!(err, "error: {}\n  fix: {}", trouble.what, trouble.remedy)?;
    Ok(FAILURE)
}
