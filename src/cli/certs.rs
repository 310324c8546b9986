//! `nexus certs dev`: certificates for development.

use std::{
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{FAILURE, USAGE, fail, written};
use crate::{
    clock::Clock,
    tls::dev::{DevCertificates, mint},
};

#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// Folder to write to; nothing in it is overwritten
    #[arg(long, default_value = "certs-dev", value_name = "FOLDER")]
    out: PathBuf,
    /// A further name of the server, beside localhost, 127.0.0.1 and ::1
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
}

const CERTIFICATE: u32 = 0o644;
const KEY: u32 = 0o600;

pub(super) fn dev(args: &DevArgs, clock: &dyn Clock) -> u8 {
    let made = match mint(&args.hosts, clock.now()) {
        Ok(made) => made,
        Err(words) => return fail(USAGE, &format!("error: {words}")),
    };
    let files = files(&made);
    if let Some((taken, ..)) = files.iter().find(|(name, ..)| args.out.join(name).symlink_metadata().is_ok()) {
        let path = args.out.join(taken);
        return fail(
            FAILURE,
            &format!("error: {} is there already and is not overwritten\n  fix: remove it, or give another --out", path.display()),
        );
    }
    if let Err((path, error)) = write_all(&args.out, &files) {
        return fail(FAILURE, &format!("error: cannot write {}: {error}", path.display()));
    }
    let folder = args.out.display();
    let lines = format!(
        "{folder}/ca.pem           trust this: root_ca_cert_path of an upstream, or the CA of a client\n\
         {folder}/server.pem       server certificate for localhost, 127.0.0.1, ::1{}\n\
         {folder}/server-key.pem   its key (0600)\n\
         {folder}/client.pem       client certificate: client_cert_path of an upstream\n\
         {folder}/client-key.pem   its key (0600): client_key_path\n\
         For development only: valid 90 days, the CA's key was not kept.",
        args.hosts.iter().map(|host| format!(", {host}")).collect::<String>()
    );
    written(writeln!(io::stdout(), "{lines}").map(|()| 0))
}

fn files(made: &DevCertificates) -> [(&'static str, &str, u32); 5] {
    [
        ("ca.pem", &made.ca, CERTIFICATE),
        ("server.pem", &made.server.certificate, CERTIFICATE),
        ("server-key.pem", made.server.key.expose(), KEY),
        ("client.pem", &made.client.certificate, CERTIFICATE),
        ("client-key.pem", made.client.key.expose(), KEY),
    ]
}

fn write_all(folder: &Path, files: &[(&str, &str, u32)]) -> Result<(), (PathBuf, io::Error)> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(|error| (folder.to_owned(), error))?;
    for (name, text, mode) in files {
        let path = folder.join(name);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(*mode).open(&path).map_err(|error| (path.clone(), error))?;
        file.write_all(text.as_bytes()).map_err(|error| (path.clone(), error))?;
    }
    Ok(())
}
