//! Where the configuration file is.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::sources::Sources;

/// The variable that names the file when the command line does not.
pub const PATH_VARIABLE: &str = "NEXUS_CONFIG_PATH";

/// What to do about [`NotFound`].
pub const NOT_FOUND_REMEDY: &str = "write ./nexus.toml, or name a file with --config or NEXUS_CONFIG_PATH; `nexus demo` needs none";

/// No configuration file was found.
#[derive(Debug, PartialEq, Eq)]
pub struct NotFound {
    /// Every place that was looked at, in order.
    pub tried: Vec<PathBuf>,
}

impl std::error::Error for NotFound {}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error: no configuration file was found")?;
        for path in &self.tried {
            write!(f, "\n  tried: {}", path.display())?;
        }
        write!(f, "\n  fix: {NOT_FOUND_REMEDY}")
    }
}

/// Finds the file: `--config`, `NEXUS_CONFIG_PATH`, `./nexus.toml`, the user's configuration folder, `/etc/nexus.toml`.
///
/// A named file is taken as it is, so that the error about it comes from reading it, not from a fallback. In the other
/// places a file that is there but cannot be read is taken as well: passing it over would serve another configuration.
///
/// # Errors
/// [`NotFound`] with every place that was tried.
pub fn find(explicit: Option<PathBuf>, sources: &dyn Sources) -> Result<PathBuf, NotFound> {
    if let Some(path) = explicit.or_else(|| variable(PATH_VARIABLE, sources)) {
        return Ok(path);
    }
    let user = variable("XDG_CONFIG_HOME", sources).filter(|path| path.is_absolute());
    let user = user.or_else(|| variable("HOME", sources).map(|home| home.join(".config")));
    let places = [Some(PathBuf::from("nexus.toml")), user.map(|folder| folder.join("nexus/nexus.toml")), Some("/etc/nexus.toml".into())];
    let tried: Vec<PathBuf> = places.into_iter().flatten().collect();
    match tried.iter().find(|path| is_there(path, sources)) {
        Some(path) => Ok(path.clone()),
        None => Err(NotFound { tried }),
    }
}

fn variable(name: &str, sources: &dyn Sources) -> Option<PathBuf> {
    sources.env(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn is_there(path: &Path, sources: &dyn Sources) -> bool {
    !sources.read(path).is_err_and(|error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::MemorySources;

    #[test]
    fn a_named_file_is_taken_without_looking_elsewhere() {
        let sources = MemorySources::default().with_env(PATH_VARIABLE, "from-env.toml").with_file("nexus.toml", "");
        assert_eq!(find(Some("named.toml".into()), &sources), Ok("named.toml".into()));
        assert_eq!(find(None, &sources), Ok("from-env.toml".into()));
    }

    #[test]
    fn the_nearest_place_wins() {
        let sources = MemorySources::default().with_env("HOME", "/home/ann").with_file("/etc/nexus.toml", "");
        assert_eq!(find(None, &sources), Ok("/etc/nexus.toml".into()));
        let sources = sources.with_file("/home/ann/.config/nexus/nexus.toml", "");
        assert_eq!(find(None, &sources), Ok("/home/ann/.config/nexus/nexus.toml".into()));
        let sources = sources.with_env("XDG_CONFIG_HOME", "/xdg").with_file("/xdg/nexus/nexus.toml", "");
        assert_eq!(find(None, &sources), Ok("/xdg/nexus/nexus.toml".into()));
        let sources = sources.with_file("nexus.toml", "");
        assert_eq!(find(None, &sources), Ok("nexus.toml".into()));
    }

    #[test]
    fn not_found_says_what_was_tried() {
        let error = find(None, &MemorySources::default().with_env("HOME", "/home/ann")).unwrap_err();
        let tried = [PathBuf::from("nexus.toml"), "/home/ann/.config/nexus/nexus.toml".into(), "/etc/nexus.toml".into()];
        assert_eq!(error.tried, tried);
        assert!(error.to_string().contains("tried: /etc/nexus.toml"));
    }
}
