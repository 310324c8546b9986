//! `nexus check --connect`: a handshake with every upstream, its lists over the normal way, and a connection to each Redis.

use std::{
    io::{self, Write},
    sync::Arc,
};

use serde::Serialize;

use super::{
    super::{
        FAILURE, World,
        announce::Announcer,
        start,
        tls::{
            paint,
            target::{self, Probed},
            text,
        },
        written,
    },
    CheckArgs, Format, Further, code, problems, redis, write_json, write_text,
};
use crate::{
    config,
    tls::{Report, ReportView, Verdict},
    upstream::{Status, Upstream},
};

/// One upstream in the JSON report.
#[derive(Serialize)]
pub(super) struct View<'a> {
    name: &'a str,
    state: &'static str,
    reason: Option<&'static str>,
    detail: Option<&'a str>,
    remedy: Option<&'a str>,
    /// How many it lists; `null` when its lists could not be fetched.
    tools: Option<usize>,
    prompts: Option<usize>,
    resources: Option<usize>,
    /// `null` for an upstream without TLS.
    tls: Option<ReportView<'a>>,
}

/// What became of one upstream.
struct Tried {
    name: String,
    status: Status,
    /// Tools, prompts and resources.
    listed: Option<[usize; 3]>,
    probed: Option<(Probed, Arc<Report>)>,
}

impl Tried {
    fn is_good(&self) -> bool {
        self.status.state.serves() && self.probed.as_ref().is_none_or(|(_, report)| report.verdict != Verdict::Fail)
    }

    fn view(&self) -> View<'_> {
        let why = self.status.state.explanation();
        let [tools, prompts, resources] = self.listed.map_or([None; 3], |counts| counts.map(Some));
        View {
            name: &self.name,
            state: self.status.state.word(),
            reason: why.map(|why| why.reason.code()),
            detail: why.map(|why| why.detail.as_str()),
            remedy: why.map(|why| why.remedy.as_str()),
            tools,
            prompts,
            resources,
            tls: self.probed.as_ref().map(|(probed, report)| report.view(&self.name, probed.url.as_str())),
        }
    }
}

/// Checks the file first; where it has errors, nobody is contacted.
///
/// Gives the exit code: 64 with an error in the file, 1 when an upstream or a Redis does not work, else 0.
pub(in crate::cli) async fn run(world: &World, args: &CheckArgs) -> u8 {
    let (path, problems) = problems(args, world.global.config.clone(), &*world.sources, &*world.clock);
    let config = path.as_deref().and_then(|path| config::load(path, &*world.sources).config);
    let (tried, redis) = match &config {
        Some(config) => {
            let redis = redis::try_all(world, config).await;
            (Some(try_all(world, config).await), redis)
        }
        None => (None, Vec::new()),
    };
    let upstreams = tried.as_deref().unwrap_or_default();
    let mut out = io::stdout().lock();
    let printed = match args.format {
        Format::Json => {
            let upstreams = tried.as_ref().map(|tried| tried.iter().map(Tried::view).collect());
            let further = Further { upstreams, redis: redis.iter().map(redis::Tried::view).collect(), differences: None };
            write_json(path.as_deref(), &problems, further, &mut out)
        }
        Format::Text => write_text(path.as_deref(), &problems, &mut out)
            .and_then(|()| redis::print(&mut out, &redis, paint(world)))
            .and_then(|()| print(&mut out, upstreams, paint(world))),
    };
    let is_good = upstreams.iter().all(Tried::is_good) && redis.iter().all(redis::Tried::is_good);
    let failed = if is_good { 0 } else { FAILURE };
    written(printed.map(|()| code(&problems).max(failed)))
}

async fn try_all(world: &World, config: &config::Config) -> Vec<Tried> {
    let probed = target::all(config);
    // First without any traffic, because a server may count connections.
    let mut reports: Vec<_> = target::probe_all(world, &probed).await.into_iter().zip(probed).collect();
    let gateway = start::gateway_alone(world, config);
    Announcer::new(world.global.log_style).tried(&gateway).await;
    let mut take = |upstream: &Arc<Upstream>| {
        let at = reports.iter().position(|(_, probed)| probed.name == upstream.name().as_str());
        let listed = upstream.offer().map(|offer| [offer.tools.len(), offer.prompts.len(), offer.resources.len() + offer.templates.len()]);
        Tried {
            name: upstream.name().to_string(),
            status: upstream.status().borrow().clone(),
            listed,
            probed: at.map(|at| reports.swap_remove(at)).map(|(report, probed)| (probed, report)),
        }
    };
    let tried = gateway.upstreams().iter().map(&mut take).collect();
    gateway.shut_down().await;
    tried
}

fn print(out: &mut dyn Write, tried: &[Tried], paint: text::Paint) -> io::Result<()> {
    for upstream in tried {
        writeln!(out)?;
        let listed = upstream.listed.map(|counts| [", ", &said(counts)].concat());
        writeln!(out, "{}: {}{}", paint.title(&upstream.name), upstream.status.state.word(), listed.unwrap_or_default())?;
        if let Some(why) = upstream.status.state.explanation() {
            writeln!(out, "  {why}\n    fix: {}", why.remedy)?;
        }
        if let Some((probed, report)) = &upstream.probed {
            text::write_body(out, probed.table.as_deref(), report, paint)?;
        }
    }
    Ok(())
}

/// `3 tools, 1 prompt, 0 resources`
fn said(counts: [usize; 3]) -> String {
    let said = |(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    counts.into_iter().zip(["tool", "prompt", "resource"]).map(said).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_several() {
        assert_eq!(said([3, 1, 0]), "3 tools, 1 prompt, 0 resources");
    }
}
