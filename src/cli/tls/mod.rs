//! `nexus tls`: what servers and files have to say, before anything depends on it.

mod inspect;
mod pin;
mod probe;
pub(super) mod target;
pub(super) mod text;

use std::io::IsTerminal as _;

use clap::{Subcommand, ValueEnum};

use super::World;

#[derive(Debug, Subcommand)]
pub(super) enum TlsCommand {
    /// Shake hands with servers, and tell everything that is wrong
    Probe(probe::ProbeArgs),
    /// Tell what is in certificate and key files, and whether they belong together
    Inspect(inspect::InspectArgs),
    /// Print the pin of a server's key, for spki_pins
    Pin(pin::PinArgs),
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}

pub(super) async fn run(world: &World, command: TlsCommand) -> u8 {
    match command {
        TlsCommand::Probe(args) => probe::run(world, &args).await,
        TlsCommand::Inspect(args) => inspect::run(world, &args),
        TlsCommand::Pin(args) => pin::run(world, &args).await,
    }
}

/// Colours are for a terminal, and for nobody who asked not to have them (<https://no-color.org>).
pub(super) fn paint(world: &World) -> text::Paint {
    let wanted = world.sources.env("NO_COLOR").is_none_or(|value| value.is_empty()) && world.sources.env("TERM").as_deref() != Some("dumb");
    text::Paint::new(wanted && std::io::stdout().is_terminal())
}
