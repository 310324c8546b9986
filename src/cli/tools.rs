//! `nexus tools`: what agents will see.

use std::{io::Write as _, sync::Arc};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{FAILURE, World, announce::Announcer, fail, start, written};
use crate::{
    catalog::{Catalog, ListedTool, ToolsMode},
    upstream::State,
};

#[derive(Debug, Args)]
pub(super) struct ToolsArgs {
    /// How the tools are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Serialize)]
struct Output<'a> {
    /// How agents get at them: `direct`, `search` or `both`.
    mode: &'static str,
    tools: Vec<Tool<'a>>,
    upstreams: Vec<Upstream>,
}

#[derive(Serialize)]
struct Tool<'a> {
    /// As agents see it.
    name: &'a str,
    upstream: &'a str,
    /// As the upstream calls it.
    own_name: &'a str,
}

#[derive(Serialize)]
struct Upstream {
    name: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    quarantined: Vec<String>,
}

pub(super) async fn run(world: &World, args: &ToolsArgs) -> u8 {
    let (_, config) = match start::load(world) {
        Ok(loaded) => loaded,
        Err(refused) => return refused.code,
    };
    let gateway = start::gateway_alone(world, &config);
    Announcer::new(world.global.log_style).tried(&gateway).await;
    let (catalog, upstreams) = (gateway.catalog(), gateway.upstreams());
    let mode = gateway.config().tools;
    let output = Output {
        mode: mode.word(),
        tools: tools(&upstreams, &catalog),
        upstreams: upstreams.iter().map(|upstream| condition(upstream)).collect(),
    };
    let all_up = output.upstreams.iter().all(|upstream| upstream.reason.is_none() || upstream.state == "degraded");
    let code = if all_up { 0 } else { FAILURE };
    let printed = match args.format {
        Format::Json => serde_json::to_string_pretty(&output)
            .map_or_else(|error| fail(FAILURE, &error.to_string()), |text| written(writeln!(std::io::stdout(), "{text}").map(|()| code))),
        Format::Text => written(print(&output, mode).map(|()| code)),
    };
    gateway.shut_down().await;
    printed
}

fn tools<'a>(upstreams: &'a [Arc<crate::upstream::Upstream>], catalog: &'a Catalog) -> Vec<Tool<'a>> {
    let upstream = |index: usize| upstreams.get(index).map_or("", |upstream| upstream.name().as_str());
    let tool = |tool: &'a ListedTool| Tool { name: &tool.name, upstream: upstream(tool.found.upstream), own_name: &tool.found.name };
    catalog.listed_tools().iter().map(tool).collect()
}

fn condition(upstream: &crate::upstream::Upstream) -> Upstream {
    let status = upstream.status().borrow().clone();
    let quarantined = upstream.offer().map(|offer| {
        let named = |item: &crate::mcp::list::Quarantined| format!("{}: {}", item.name.as_deref().unwrap_or("(nameless)"), item.why);
        offer.quarantined.iter().map(named).collect()
    });
    let why = match &status.state {
        State::Down(why) | State::Degraded(why) | State::Suspect(why) => Some(why.clone()),
        State::Starting | State::Waiting(_) | State::Up => None,
    };
    Upstream {
        name: upstream.name().to_string(),
        state: status.state.word(),
        reason: why.as_ref().map(|why| why.reason.code()),
        detail: why.as_ref().map(|why| why.detail.clone()),
        remedy: why.map(|why| why.remedy),
        quarantined: quarantined.unwrap_or_default(),
    }
}

fn print(output: &Output<'_>, mode: ToolsMode) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let width = output.tools.iter().map(|tool| tool.name.chars().count()).max().unwrap_or_default();
    for tool in &output.tools {
        let own = if tool.name.ends_with(tool.own_name) { String::new() } else { format!(" ({})", tool.own_name) };
        writeln!(out, "{:width$}  {}{own}", tool.name, tool.upstream)?;
    }
    let mut err = std::io::stderr().lock();
    if output.upstreams.is_empty() {
        writeln!(err, "no upstream is configured; add [mcp.servers.NAME], or run `nexus import` on a desktop client's file")?;
    } else if output.tools.is_empty() {
        writeln!(err, "no tools")?;
    }
    let seen = match mode {
        ToolsMode::Direct => None,
        ToolsMode::Search => Some("agents see search and execute (mcp.tools = \"search\"): search finds these, execute runs them"),
        ToolsMode::Both => Some("agents see search and execute besides (mcp.tools = \"both\")"),
    };
    if let Some(words) = seen {
        writeln!(err, "{words}")?;
    }
    for upstream in &output.upstreams {
        if let (Some(reason), Some(detail), Some(remedy)) = (upstream.reason, &upstream.detail, &upstream.remedy) {
            writeln!(err, "upstream {}: {} · {reason} · {detail}\n  fix: {remedy}", upstream.name, upstream.state)?;
        }
        for item in &upstream.quarantined {
            writeln!(err, "upstream {}: left out {item}", upstream.name)?;
        }
    }
    Ok(())
}
