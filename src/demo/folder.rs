//! The files of a demo: certificates, keys and a ready `nexus.toml`, in a folder of their own.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{DemoError, http};
use crate::{secret::Secret, sources::Sources, tls::dev::DevCertificates};

/// The first line of a `nexus.toml` that is ours to overwrite.
const MARK: &str = "# Written by `nexus demo`; the next start writes it anew.";

/// Where the files are.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    fleeting: bool,
}

/// What goes into `nexus.toml`.
pub(super) struct Facts<'a> {
    pub(super) exe: &'a Path,
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) calendar: SocketAddr,
    pub(super) inventory: SocketAddr,
}

impl Folder {
    /// Takes `path`, which is made if it is missing and kept afterwards.
    ///
    /// # Errors
    /// It cannot be made, or holds a `nexus.toml` that somebody else wrote.
    pub(super) fn at(path: &Path) -> Result<Self, DemoError> {
        let path = std::path::absolute(path).map_err(|source| DemoError::files(path, source))?;
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|source| DemoError::files(&path, source))?;
        let config = path.join("nexus.toml");
        match fs::read_to_string(&config) {
            Ok(text) if !text.starts_with(MARK) => Err(DemoError::NotOurs { path: config }),
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(DemoError::files(&config, source)),
            _ => Ok(Self { path, fleeting: false }),
        }
    }

    /// Makes a folder that nobody else can read, removed with this value.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn fleeting(sources: &dyn Sources) -> Result<Self, DemoError> {
        let parent = sources.env("TMPDIR").filter(|path| !path.is_empty()).map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let mut random = [0_u8; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| DemoError::Certificates("no random numbers".to_owned()))?;
        let path = parent.join(format!("nexus-demo-{:016x}", u64::from_be_bytes(random)));
        // Not recursive: a folder that is already there is somebody else's.
        DirBuilder::new().mode(0o700).create(&path).map_err(|source| DemoError::files(&path, source))?;
        Ok(Self { path, fleeting: true })
    }

    pub(super) fn config_path(&self) -> PathBuf {
        self.path.join("nexus.toml")
    }

    pub(super) fn is_fleeting(&self) -> bool {
        self.fleeting
    }

    /// # Errors
    /// A file cannot be written.
    pub(super) fn write(&self, calendar: &DevCertificates, inventory: &DevCertificates, facts: &Facts<'_>) -> Result<(), DemoError> {
        let certificates = self.path.join("certs");
        DirBuilder::new().recursive(true).mode(0o700).create(&certificates).map_err(|source| DemoError::files(&certificates, source))?;
        write(&certificates.join("calendar-ca.pem"), &calendar.ca)?;
        write(&certificates.join("inventory-ca.pem"), &inventory.ca)?;
        write(&certificates.join("inventory-client.pem"), &inventory.client.certificate)?;
        write_secret(&certificates.join("inventory-client-key.pem"), &inventory.client.key)?;
        write(&self.config_path(), &toml(facts))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.fleeting {
            // Nobody is left to tell; the system cleans its temporary folder.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Three upstreams, three kinds of trust.
fn toml(facts: &Facts<'_>) -> String {
    let Facts { exe, listen, admin, calendar, inventory } = facts;
    // A JSON string is a TOML basic string (TOML 1.0, "String"), but for DEL.
    let exe = Value::String(exe.to_string_lossy().into_owned()).to_string().replace('\u{7f}', "\\u007f");
    let path = http::PATH;
    format!(
        r#"{MARK}

[server]
listen_address = "{listen}"

# What `nexus status` asks, and what serves /metrics. Off loopback it needs a token.
[admin]
listen_address = "{admin}"

# A local process; it sees nothing of our environment but PATH, HOME and the like.
[mcp.servers.notes]
cmd = [{exe}, "demo-upstream", "notes"]

# Behind a private CA, which is trusted for this upstream only and instead of the system's CAs.
[mcp.servers.calendar]
url = "https://{calendar}{path}"

[mcp.servers.calendar.tls]
root_ca_cert_path = "certs/calendar-ca.pem"

# Another private CA, and a server that lets nobody in without a client certificate.
[mcp.servers.inventory]
url = "https://{inventory}{path}"

[mcp.servers.inventory.tls]
root_ca_cert_path = "certs/inventory-ca.pem"
client_cert_path = "certs/inventory-client.pem"
client_key_path = "certs/inventory-client-key.pem"
"#
    )
}

fn write(path: &Path, text: &str) -> Result<(), DemoError> {
    replace(path, text.as_bytes(), 0o644)
}

fn write_secret(path: &Path, secret: &Secret) -> Result<(), DemoError> {
    replace(path, secret.expose().as_bytes(), 0o600)
}

/// Writes a new file in the old one's place, so that the mode holds from the first byte.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DemoError> {
    let replaced = || -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(bytes)
    };
    replaced().map_err(|source| DemoError::files(path, source))
}
