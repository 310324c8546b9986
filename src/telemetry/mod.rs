//! Logs: to stderr, as text or JSON, never with a secret in them.

pub mod read;
mod terminal;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

pub use read::TelemetryConfig;
pub use terminal::Stderr;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// Plain text.
    #[default]
    Text,
    /// Text with colours.
    Color,
    /// One JSON object a line.
    Json,
}

/// Libraries whose debug output could show a header or a body, and one that warns of what is explained once here and told many
/// times there; they stay quiet unless named in the filter.
const QUIET: &str = "hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,h2=warn,fred=error";

/// Starts logging. `level` is a level or a list of filters. A short-lived command logs warnings only, unless asked for more.
///
/// # Errors
/// `level` is neither.
pub fn init(level: &str, style: Style, long_lived: bool) -> Result<(), ParseError> {
    let level = if long_lived || level != "info" { level } else { "warn" };
    let filter = EnvFilter::builder().parse(format!("{QUIET},{level}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process, as in tests, keeps the first.
    let _ = match style {
        Style::Json => registry.with(fmt::layer().json().flatten_event(true).with_writer(|| Stderr)).try_init(),
        Style::Text | Style::Color => {
            registry.with(fmt::layer().with_ansi(style == Style::Color).with_target(false).with_writer(|| Stderr)).try_init()
        }
    };
    Ok(())
}
