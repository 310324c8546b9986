//! The part of an upstream that has a `cmd`.

use std::{collections::BTreeMap, time::Duration};

use super::super::config::{Isolation, StderrConfig, StdioConfig};
use crate::{
    problem::Problems,
    secret::Secret,
    table::{Keys, Table, built},
};

pub const STDERR_KEYS: Keys = Keys {
    table: "mcp.servers.NAME.stderr",
    doc: "The error output of a process, appended to a file.",
    keys: &[built("file", "The file.")],
};

/// Keys that only an upstream with a `cmd` has.
pub(super) const ONLY: [&str; 9] =
    ["cmd", "env", "inherit_env", "cwd", "stderr", "isolation", "startup_timeout", "idle_timeout", "max_processes"];

/// Reads everything but what both kinds of upstreams have.
pub(super) fn read(table: &mut Table, problems: &mut Problems) -> Option<StdioConfig> {
    let seconds = Duration::from_secs;
    let hour = 60 * 60;
    let isolation = [("principal", Isolation::Principal), ("session", Isolation::Session), ("shared", Isolation::Shared)];
    let cmd = cmd(table, problems);
    let env = env(table, problems);
    let cwd = table.path_value("cwd", problems);
    let stderr = stderr(table, problems);
    let inherit_env = inherit_env(table, problems);
    let isolation = table.choice("isolation", &isolation, &[], problems).unwrap_or_default();
    let startup_timeout = table.duration("startup_timeout", &(seconds(1)..=seconds(hour)), problems).unwrap_or(Duration::from_secs(60));
    let idle_timeout = table.duration("idle_timeout", &(seconds(1)..=seconds(7 * 24 * hour)), problems).unwrap_or(Duration::from_secs(600));
    let max_processes = table.integer("max_processes", 1..=10_000, problems).unwrap_or(32);
    Some(StdioConfig { cmd: cmd?, env, cwd, inherit_env, stderr, isolation, startup_timeout, idle_timeout, max_processes })
}

/// Program and arguments. Like every relative path, `./server` starts at the file's folder; a bare `npx` is looked up in `PATH`.
fn cmd(table: &mut Table, problems: &mut Problems) -> Option<Vec<String>> {
    let mut cmd = table.strings("cmd", problems)?;
    if cmd.iter().any(|part| part.contains('\0')) {
        table.error("cmd", problems, "the command holds a NUL character", "no argument of a process can", "remove it");
        return None;
    }
    match cmd.first_mut().filter(|program| !program.trim().is_empty()) {
        Some(program) => {
            if program.contains('/') {
                *program = table.in_folder(program);
            }
            Some(cmd)
        }
        None => {
            let remedy = "write it as [\"npx\", \"-y\", \"package\"]";
            table.error("cmd", problems, "the command is empty", "the first entry is the program that is started", remedy);
            None
        }
    }
}

fn env(table: &mut Table, problems: &mut Problems) -> BTreeMap<String, Secret> {
    let Some(mut variables) = table.table("env", problems) else { return BTreeMap::new() };
    let mut env = BTreeMap::new();
    for name in variables.names() {
        if !is_variable(&name) {
            variables.error(&name, problems, "this is no name of a variable", "a name is not empty and holds no `=`", "rename it");
        }
        if let Some(value) = variables.possible_secret(&name, &name, problems) {
            if value.expose().contains('\0') {
                variables.error(&name, problems, "the value holds a NUL character", "no variable of a process can", "remove it");
            }
            env.insert(name, value);
        }
    }
    env
}

fn inherit_env(table: &mut Table, problems: &mut Problems) -> Vec<String> {
    let names = table.strings("inherit_env", problems).unwrap_or_default();
    if names.iter().any(|name| !is_variable(name) || name.contains('*')) {
        let why = "variables are handed down one by one, because the gateway's environment holds the secrets of other upstreams";
        table.error("inherit_env", problems, "one of the entries is no name of a variable", why, "list the names: [\"HTTPS_PROXY\"]");
    }
    names
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// A word, or a table with a file.
fn stderr(table: &mut Table, problems: &mut Problems) -> StderrConfig {
    if table.holds_table("stderr") {
        let Some(mut target) = table.table("stderr", problems) else { return StderrConfig::default() };
        let file = target.path_value("file", problems);
        if !target.has("file") {
            let remedy = "write stderr = { file = \"server.log\" }, or one of \"log\", \"null\", \"inherit\"";
            target.error("", problems, "stderr without a file", "a table names the file that the output is appended to", remedy);
        }
        target.finish(&STDERR_KEYS, problems);
        return file.map_or_else(StderrConfig::default, StderrConfig::File);
    }
    let words = [("log", Word::Log), ("pipe", Word::Log), ("null", Word::Discard), ("inherit", Word::Inherit)];
    match table.choice("stderr", &words, &[], problems) {
        None | Some(Word::Log) => StderrConfig::Log,
        Some(Word::Discard) => StderrConfig::Discard,
        Some(Word::Inherit) => StderrConfig::Inherit,
    }
}

#[derive(Clone, Copy)]
enum Word {
    Log,
    Discard,
    Inherit,
}
