//! `nexus demo`: three real upstreams, the gateway in front of them, and what to paste into clients.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    FAILURE, USAGE, World, fail, serve,
    snippet::{self, SnippetContext, shell_word},
    start,
};
use crate::{
    config,
    demo::{self, DemoOptions},
};

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Keep the certificates and nexus.toml in this folder [default: a temporary one]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub(super) async fn run(world: &World, args: &DemoArgs) -> u8 {
    let exe = match std::env::current_exe() {
        Ok(exe) => exe,
        Err(error) => return fail(FAILURE, &format!("error: the program's own path is not known: {error}")),
    };
    let [free, admin] = match demo::free_addresses(world.global.listen_address).await {
        Ok(addresses) => addresses,
        Err(error) => return fail(FAILURE, &format!("error: {error}")),
    };
    let listen = world.global.listen_address.unwrap_or(free);
    let options = DemoOptions { dir: args.dir.as_deref(), exe: &exe, listen, admin, now: world.clock.now() };
    let demo = match demo::start(&options, &*world.sources).await {
        Ok(demo) => demo,
        Err(error) => return fail(FAILURE, &format!("error: {error}")),
    };
    let loaded = config::load(&demo.config_path, &*world.sources);
    for problem in &loaded.problems {
        fail(0, &problem.to_string());
    }
    let Some(config) = loaded.config else { return USAGE };
    let context = start::snippet_context(&demo.config_path, &config, Some(listen));
    serve::serve(world, &demo.config_path, config, |_| {
        if let Ok(context) = context {
            let banner = demo.banner(&context.endpoint, &format!("{}\n{}", commands(&context), snippet::all(&context)));
            // A reader who has gone does not stop the demo.
            let _ = writeln!(std::io::stdout(), "{banner}");
        }
    })
    .await
}

/// What to try from another terminal.
fn commands(context: &SnippetContext) -> String {
    let word = |path: &Path| shell_word(&path.to_string_lossy());
    let nexus = format!("{} -c {}", word(&context.exe), word(&context.config));
    format!(
        "--- another terminal\n{nexus} status\n{nexus} tools\n\
         {nexus} call calendar__days_between '{{\"from\":\"2026-01-01\",\"to\":\"2026-12-24\"}}'\n"
    )
}

/// The hidden command behind the demo's stdio upstream.
pub(super) async fn upstream(name: &str) -> u8 {
    if !demo::stdio::NAMES.contains(&name) {
        return fail(USAGE, &format!("error: there is no demo upstream {name:?}"));
    }
    match demo::stdio::run(name, tokio::io::stdin(), tokio::io::stdout()).await {
        Ok(()) => 0,
        Err(error) => fail(FAILURE, &format!("error: {error}")),
    }
}
