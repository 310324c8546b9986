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
    written(writeln!(io::stdout(), "{}", summary(&args.out, &args.hosts)).map(|()| 0))
}

/// What was made, and how an upstream uses it.
fn summary(folder: &Path, hosts: &[String]) -> String {
    let shown = folder.display();
    // In TOML a relative path would start at the configuration file's folder, which need not be this one.
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let path = |name: &str| format!("{:?}", absolute.join(name).display().to_string());
    format!(
        "{shown}/ca.pem          the CA, to trust\n\
         {shown}/server.pem      for a server on localhost, 127.0.0.1, ::1{}\n\
         {shown}/server-key.pem  its key\n\
         {shown}/client.pem      for a client\n\
         {shown}/client-key.pem  its key\n\
         \n\
         For an upstream with server.pem that demands a client certificate:\n\
         \n\
         [mcp.servers.NAME.tls]\n\
         root_ca_cert_path = {}\n\
         client_cert_path = {}\n\
         client_key_path = {}\n\
         \n\
         For development only: valid for 90 days, and the CA's key was not kept.",
        hosts.iter().map(|host| format!(", {host}")).collect::<String>(),
        path("ca.pem"),
        path("client.pem"),
        path("client-key.pem"),
    )
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

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Duration};

    use super::*;
    use crate::{config, sources::MemorySources};

    #[derive(Debug)]
    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Duration {
            Duration::from_secs(1_800_000_000)
        }
    }

    #[test]
    fn files_are_made_once_with_keys_for_their_owner_only_and_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = DevArgs { out: folder.path().join("certs"), hosts: vec!["crm.test".to_owned()] };
        assert_eq!(dev(&args, &Noon), 0);
        let read = |name: &str| std::fs::read(args.out.join(name)).expect("it was made");
        for key in ["server-key.pem", "client-key.pem"] {
            let mode = std::fs::metadata(args.out.join(key)).expect("it was made").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        let before = ["ca.pem", "server.pem", "server-key.pem"].map(read);
        std::fs::remove_file(args.out.join("ca.pem")).expect("removed");
        assert_eq!(dev(&args, &Noon), FAILURE, "a part of them is there");
        assert!(!args.out.join("ca.pem").exists(), "nothing is written beside files of another CA");
        assert_eq!([read("server.pem"), read("server-key.pem")], before[1..]);
    }

    #[test]
    fn the_toml_that_is_printed_loads() {
        let said = summary(Path::new("/a \"b\"/certs"), &["crm.test".to_owned()]);
        assert!(said.contains("localhost, 127.0.0.1, ::1, crm.test"), "{said}");
        let block: String =
            said.lines().skip_while(|line| !line.starts_with('[')).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        let text = format!("[mcp.servers.NAME]\nurl = \"https://localhost:1/\"\n{block}");
        let problems = config::check_structure_of(&text, Path::new("nexus.toml"), &MemorySources::default());
        assert!(problems.is_empty(), "{problems:?}");
        assert!(block.contains(r#"client_key_path = "/a \"b\"/certs/client-key.pem""#), "{block}");
    }
}
