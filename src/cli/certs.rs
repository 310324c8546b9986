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
    secret::Secret,
    tls::dev::{DevCertificates, LOOPBACK, mint},
};

#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// Folder to write to; nothing in it is overwritten
    #[arg(long, default_value = "certs-dev", value_name = "FOLDER")]
    out: PathBuf,
    /// Further names or addresses of the server, beside localhost, 127.0.0.1 and ::1
    #[arg(long = "host", value_name = "NAME", num_args = 1..)]
    hosts: Vec<String>,
    /// The password of client.pfx; the same key lies beside it without one, so it protects nothing here
    #[arg(long, env = "NEXUS_PFX_PASSWORD", default_value = "changeit", hide_env_values = true, value_name = "PASSWORD")]
    pfx_password: String,
}

const CERTIFICATE: u32 = 0o644;
const KEY: u32 = 0o600;

/// So that no key is ever committed, wherever the folder is.
const GITIGNORE: &str = "*\n!.gitignore\n!README.md\n";

pub(super) fn dev(args: &DevArgs, clock: &dyn Clock) -> u8 {
    let hosts = further(&args.hosts);
    let made = match mint(&hosts, clock.now()) {
        Ok(made) => made,
        Err(words) => return fail(USAGE, &format!("error: {words}")),
    };
    let pfx = match made.client_pfx(&Secret::new(args.pfx_password.as_str())) {
        Ok(pfx) => pfx,
        Err(words) => return fail(USAGE, &format!("error: --pfx-password: {words}")),
    };
    let files = files(&made, &pfx);
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
    written(writeln!(io::stdout(), "{}", summary(args, &hosts)).map(|()| 0))
}

/// Each once, without those that the certificate has anyway.
fn further(hosts: &[String]) -> Vec<String> {
    let mut further: Vec<String> = Vec::new();
    for host in hosts {
        if !LOOPBACK.contains(&host.as_str()) && !further.contains(host) {
            further.push(host.clone());
        }
    }
    further
}

/// What was made, and how an upstream and the listener use it.
fn summary(args: &DevArgs, hosts: &[String]) -> String {
    let shown = args.out.display();
    // In TOML a relative path would start at the configuration file's folder, which need not be this one.
    let absolute = std::path::absolute(&args.out).unwrap_or_else(|_| args.out.clone());
    let path = |name: &str| format!("{:?}", absolute.join(name).display().to_string());
    let password = match args.pfx_password.as_str() {
        "changeit" => "the password is changeit",
        _ => "with the password that was given",
    };
    format!(
        "{shown}/ca.pem          the CA, to trust\n\
         {shown}/server.pem      for a server on localhost, 127.0.0.1, ::1{}\n\
         {shown}/server-key.pem  its key\n\
         {shown}/client.pem      for a client\n\
         {shown}/client-key.pem  its key\n\
         {shown}/client.pfx      both and the CA in one archive; {password}\n\
         \n\
         For an upstream with server.pem that demands a client certificate:\n\
         \n\
         [mcp.servers.NAME.tls]\n\
         root_ca_cert_path = {ca}\n\
         client_cert_path = {}\n\
         client_key_path = {}\n\
         \n\
         For the gateway's own listener, over HTTPS, for clients with client.pem only:\n\
         \n\
         [server.tls]\n\
         certificate = {}\n\
         key = {}\n\
         client_ca = {ca}\n\
         \n\
         For development only: valid for 90 days, and the CA's key was not kept.",
        hosts.iter().map(|host| format!(", {host}")).collect::<String>(),
        path("client.pem"),
        path("client-key.pem"),
        path("server.pem"),
        path("server-key.pem"),
        ca = path("ca.pem"),
    )
}

fn files<'a>(made: &'a DevCertificates, pfx: &'a [u8]) -> [(&'static str, &'a [u8], u32); 6] {
    [
        ("ca.pem", made.ca.as_bytes(), CERTIFICATE),
        ("server.pem", made.server.certificate.as_bytes(), CERTIFICATE),
        ("server-key.pem", made.server.key.expose().as_bytes(), KEY),
        ("client.pem", made.client.certificate.as_bytes(), CERTIFICATE),
        ("client-key.pem", made.client.key.expose().as_bytes(), KEY),
        ("client.pfx", pfx, KEY),
    ]
}

/// All files or none: what was written before a failure is removed again.
fn write_all(folder: &Path, files: &[(&str, &[u8], u32)]) -> Result<(), (PathBuf, io::Error)> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(|error| (folder.to_owned(), error))?;
    match write_new(&folder.join(".gitignore"), GITIGNORE.as_bytes(), CERTIFICATE) {
        // Whoever wrote one before knows what to ignore.
        Err((_, error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    for (index, (name, bytes, mode)) in files.iter().enumerate() {
        if let Err(failure) = write_new(&folder.join(name), bytes, *mode) {
            for (name, ..) in files.iter().take(index) {
                // The first failure is told; what cannot be removed either is in the same folder.
                let _ = std::fs::remove_file(folder.join(name));
            }
            return Err(failure);
        }
    }
    Ok(())
}

/// Never follows or replaces what is there; a file that could not be written whole is removed.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), (PathBuf, io::Error)> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|error| (path.to_owned(), error))?;
    file.write_all(bytes).map_err(|error| {
        let _ = std::fs::remove_file(path);
        (path.to_owned(), error)
    })
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

    fn args(out: PathBuf) -> DevArgs {
        DevArgs { out, hosts: vec!["crm.test".to_owned()], pfx_password: "changeit".to_owned() }
    }

    #[test]
    fn files_are_made_once_with_keys_for_their_owner_only_and_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = args(folder.path().join("certs"));
        assert_eq!(dev(&args, &Noon), 0);
        let read = |name: &str| std::fs::read(args.out.join(name)).expect("it was made");
        for key in ["server-key.pem", "client-key.pem", "client.pfx"] {
            let mode = std::fs::metadata(args.out.join(key)).expect("it was made").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        assert!(read(".gitignore").starts_with(b"*\n"));
        let before = ["ca.pem", "server.pem", "server-key.pem"].map(read);
        std::fs::remove_file(args.out.join("ca.pem")).expect("removed");
        assert_eq!(dev(&args, &Noon), FAILURE, "a part of them is there");
        assert!(!args.out.join("ca.pem").exists(), "nothing is written beside files of another CA");
        assert_eq!([read("server.pem"), read("server-key.pem")], before[1..]);
    }

    #[test]
    fn a_link_in_a_files_place_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = args(folder.path().join("certs"));
        std::fs::create_dir(&args.out).expect("made");
        let elsewhere = folder.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, args.out.join("server-key.pem")).expect("linked");
        assert_eq!(dev(&args, &Noon), FAILURE);
        assert!(!elsewhere.exists());
        assert!(!args.out.join("ca.pem").exists());
    }

    #[test]
    fn a_name_that_is_given_twice_is_in_the_certificate_once() {
        let hosts = ["localhost", "mcp.test", "::1", "mcp.test"].map(str::to_owned);
        assert_eq!(further(&hosts), ["mcp.test"]);
    }

    #[test]
    fn a_failure_half_way_leaves_no_half_set() {
        let folder = tempfile::tempdir().expect("a folder");
        let parts: [(&str, &[u8], u32); 3] = [("a", b"1", KEY), ("b", b"2", KEY), ("missing/c", b"3", KEY)];
        let (failed, _) = write_all(folder.path(), &parts).expect_err("the folder of the last is not there");
        assert!(failed.ends_with("missing/c"));
        assert!(!folder.path().join("a").exists() && !folder.path().join("b").exists());
    }

    #[test]
    fn the_toml_that_is_printed_loads() {
        let args = args(PathBuf::from("/a \"b\"/certs"));
        let said = summary(&args, &args.hosts);
        assert!(said.contains("localhost, 127.0.0.1, ::1, crm.test"), "{said}");
        let blocks: Vec<&str> = said.split("\n\n").filter(|part| part.starts_with('[')).collect();
        assert_eq!(blocks.len(), 2, "{said}");
        let text = format!("[mcp.servers.NAME]\nurl = \"https://localhost:1/\"\n{}", blocks.join("\n"));
        let problems = config::check_structure_of(&text, Path::new("nexus.toml"), &MemorySources::default());
        assert!(problems.is_empty(), "{problems:?}");
        assert!(text.contains(r#"client_key_path = "/a \"b\"/certs/client-key.pem""#), "{text}");
    }
}
