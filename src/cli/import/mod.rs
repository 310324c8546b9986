//! `nexus import FILE…`: the MCP servers of a desktop client, as TOML to paste into `nexus.toml`.

mod entry;
mod json;
mod text;
mod variables;

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{config, names::UpstreamName, problem::Severity, sources::Sources};
use json::{Client, Server};
use variables::Variables;

/// Files to take over.
#[derive(Debug, Clone, clap::Args)]
pub struct ImportArgs {
    /// Configuration files of Claude Desktop, Cursor (mcpServers) or VS Code (servers)
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Writes the TOML to `out`, and what is wrong with a file to `err`.
///
/// Gives the exit code: 0, or 64 when a file could not be used; the others are taken over all the same.
///
/// # Errors
/// When `out` or `err` cannot be written to.
pub fn run(args: &ImportArgs, sources: &dyn Sources, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let mut names = BTreeSet::new();
    let mut blocks = Vec::new();
    let mut code = 0;
    let mut needed = BTreeSet::new();
    for path in &args.files {
        match read(path, sources) {
            Ok(client) => {
                for (name, server) in &client.servers {
                    let mut variables = Variables::new(&client.inputs);
                    let valid = valid_name(name, &mut names);
                    let block = entry::block(&valid, name, server, &mut variables, path, sources);
                    needed.append(&mut variables.needed());
                    blocks.push(checked(block, name, sources));
                }
                if client.servers.is_empty() {
                    writeln!(err, "warning: \"{}\" holds no MCP servers", path.display())?;
                }
            }
            Err(cause) => {
                code = 64;
                writeln!(
                    err,
                    "error: \"{}\" cannot be imported: {cause}\n  fix: name a JSON file with `mcpServers` or `servers`",
                    path.display()
                )?;
            }
        }
    }
    if !blocks.is_empty() {
        write_head(args, &needed, out)?;
        for block in blocks {
            write!(out, "\n{block}")?;
        }
    }
    Ok(code)
}

fn read(path: &Path, sources: &dyn Sources) -> Result<Client, String> {
    let (bytes, _) = sources.read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    json::parse(text.strip_prefix('\u{feff}').unwrap_or(&text))
}

fn write_head(args: &ImportArgs, needed: &BTreeSet<String>, out: &mut dyn Write) -> io::Result<()> {
    let files: Vec<String> = args.files.iter().map(|path| format!("{:?}", path.display().to_string())).collect();
    writeln!(out, "# Made by `nexus import` from {}.", files.join(", "))?;
    writeln!(out, "# Paste it into nexus.toml, then run `nexus check`.")?;
    if !needed.is_empty() {
        let names: Vec<&str> = needed.iter().map(String::as_str).collect();
        writeln!(out, "# Set these environment variables for nexus: {}", names.join(", "))?;
    }
    Ok(())
}

/// A name that may be a server's, and that no earlier server has.
fn valid_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut valid: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' }).collect();
    while valid.contains("__") {
        valid = valid.replace("__", "_");
    }
    let valid = valid.trim_matches(['-', '_', '.']);
    let valid = if UpstreamName::parse(valid).is_ok() { valid } else { "server" };
    let mut unique = valid.to_owned();
    let mut number = 2;
    while !taken.insert(unique.clone()) {
        unique = format!("{valid}-{number}");
        number += 1;
    }
    unique
}

/// The block as it is, or in comments when our own reader would refuse it.
fn checked(text: String, name: &str, sources: &dyn Sources) -> String {
    let problems = config::check_structure_of(&text, Path::new("nexus.toml"), sources);
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    let causes: Vec<String> = errors.map(|error| format!("  {}: {}", error.key, error.what)).collect();
    if causes.is_empty() {
        return text;
    }
    let mut commented = format!("# {name:?} could not be taken over as it is:\n");
    for line in causes.iter().map(String::as_str).chain(text.lines()) {
        commented.push_str(format!("# {line}").trim_end());
        commented.push('\n');
    }
    commented
}

/// Which fields of an entry were not taken over, for the comment.
fn left_over(server: &Server) -> Vec<&str> {
    server.rest.keys().map(String::as_str).filter(|key| !json::HARMLESS.contains(key)).collect()
}
