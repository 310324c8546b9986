//! The command line: one file per command.

mod announce;
mod call;
mod certs;
pub mod check;
mod demo;
pub mod import;
mod operators;
mod reload;
mod serve;
pub mod snippet;
mod start;
pub mod status;
mod stdio;
mod tls;
mod tools;
mod watch;

use std::{io::Write as _, net::SocketAddr, path::PathBuf, sync::Arc};

use clap::{Args, Parser, Subcommand};

use crate::{
    clock::{Clock, SystemClock},
    config,
    sources::{Sources, SystemSources},
    telemetry,
};

/// Something went wrong while running.
pub const FAILURE: u8 = 1;
/// A problem in the configuration file or the arguments (`EX_USAGE` of sysexits).
pub const USAGE: u8 = 64;

/// Below a command's own options.
const HEADING: &str = "Options of every command";

/// One MCP endpoint for your agents, and for every upstream its own TLS policy
#[derive(Debug, Parser)]
#[command(
    name = "nexus",
    version,
    propagate_version = true,
    after_help = "Begin with `nexus demo`, or `nexus import` a desktop client's servers.\n\
                  Exit codes: 0 good, 1 a failure while running, 64 a problem in the file or the arguments."
)]
pub struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Configuration file [default: ./nexus.toml, then the user's folder, then /etc/nexus.toml]
    #[arg(short, long, global = true, env = "NEXUS_CONFIG_PATH", value_name = "FILE", help_heading = HEADING)]
    config: Option<PathBuf>,
    /// Listen here instead of at `server.listen_address`
    #[arg(short, long, global = true, env = "NEXUS_LISTEN_ADDRESS", value_name = "ADDRESS", help_heading = HEADING)]
    listen_address: Option<SocketAddr>,
    /// What is logged: off, error, warn, info, debug, trace, or filters such as nexus=debug
    #[arg(long, global = true, env = "NEXUS_LOG", default_value = "info", value_name = "LEVEL", help_heading = HEADING)]
    log: String,
    #[arg(
        long,
        global = true,
        env = "NEXUS_LOG_STYLE",
        value_enum,
        default_value_t,
        value_name = "STYLE",
        hide_possible_values = true,
        help = "How it is logged: text, color, or json (one object a line)",
        help_heading = HEADING
    )]
    log_style: telemetry::Style,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (what `nexus` does without a command)
    Serve,
    /// Run the gateway over stdin and stdout, for clients that launch a process
    Stdio,
    /// Find every problem of the configuration file and of the files it names
    Check(check::CheckArgs),
    /// Ask the running gateway how it is; exit code 1 if anything is down
    Status(status::StatusArgs),
    /// Connect to the upstreams and list the tools that agents will see
    Tools(tools::ToolsArgs),
    /// Connect to the upstreams and call one tool
    Call(call::CallArgs),
    /// Turn the MCP servers of Claude Desktop, Cursor or VS Code into TOML on stdout
    Import(import::ImportArgs),
    /// Print the block to paste into an MCP client
    Snippet(SnippetArgs),
    /// Print the JSON Schema of nexus.toml, for editors
    Schema,
    /// Look at servers' and files' certificates: why a handshake fails, and when it will
    #[command(subcommand)]
    Tls(tls::TlsCommand),
    /// Make certificates for development
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Try it: three real upstreams with development certificates, and the gateway in front of them
    Demo(demo::DemoArgs),
    /// One of the demo's own upstreams, over stdio
    #[command(hide = true)]
    DemoUpstream { name: String },
}

#[derive(Debug, Args)]
struct SnippetArgs {
    /// The client that it is for
    #[arg(value_enum)]
    client: snippet::Client,
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// A CA, a server and a client certificate with their keys
    Dev(certs::DevArgs),
}

/// Runs one command and gives its exit code: 0 good, 1 a failure while running, 64 a problem in the file or arguments.
pub fn run(arguments: Arguments) -> u8 {
    let Arguments { global, command } = arguments;
    let command = command.unwrap_or(Command::Serve);
    let is_server = matches!(command, Command::Serve | Command::Stdio | Command::Demo(_));
    if let Err(error) = telemetry::init(&global.log, global.log_style, is_server) {
        return fail(USAGE, &format!("error: --log: {error}\n  fix: off, error, warn, info, debug, trace, or filters such as nexus=debug"));
    }
    // Everything names its provider; this is for a library that would ask for the default one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let sources: Arc<dyn Sources> = Arc::new(SystemSources);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let world = World { global, sources, clock };
    match command {
        Command::Serve => start::block_on(serve::run(&world)),
        Command::Stdio => start::block_on(stdio::run(&world)),
        Command::Status(args) => start::block_on(status::run(&world, &args)),
        Command::Tools(args) => start::block_on(tools::run(&world, &args)),
        Command::Call(args) => start::block_on(call::run(&world, args)),
        Command::Demo(args) => start::block_on(demo::run(&world, &args)),
        Command::DemoUpstream { name } => start::block_on(demo::upstream(&name)),
        Command::Check(args) if args.connect => start::block_on(check::run_connected(&world, &args)),
        Command::Check(args) => {
            written(check::run(&args, world.global.config.clone(), &*world.sources, &*world.clock, &mut std::io::stdout()))
        }
        Command::Schema => written(writeln!(std::io::stdout(), "{:#}", config::schema()).map(|()| 0)),
        Command::Tls(command) => start::block_on(tls::run(&world, command)),
        Command::Import(args) => written(import::run(&args, &*world.sources, &mut std::io::stdout(), &mut std::io::stderr())),
        Command::Snippet(args) => print_snippet(&world, args.client),
        Command::Certs(CertsCommand::Dev(args)) => certs::dev(&args, &*world.clock),
    }
}

/// What a command works with.
pub(crate) struct World {
    pub(crate) global: Global,
    pub(crate) sources: Arc<dyn Sources>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Says what went wrong, on stderr.
pub(crate) fn fail(code: u8, words: &str) -> u8 {
    // There is nobody to tell if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{words}");
    code
}

/// A closed pipe is how `head` says that it has enough.
fn written(outcome: std::io::Result<u8>) -> u8 {
    match outcome {
        Ok(code) => code,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => fail(FAILURE, &format!("error: {error}")),
    }
}

fn print_snippet(world: &World, client: snippet::Client) -> u8 {
    let (path, config) = match start::load(world) {
        Ok(loaded) => loaded,
        Err(refused) => return refused.code,
    };
    let context = match start::snippet_context(&path, &config, None) {
        Ok(context) => context,
        Err(words) => return fail(FAILURE, &words),
    };
    written(writeln!(std::io::stdout(), "{}", snippet::snippet(client, &context)).map(|()| 0))
}
