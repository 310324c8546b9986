//! The files of a listener, replaced while it serves.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
};

use http_body_util::BodyExt as _;
use nexus::{
    clock::SystemClock,
    downstream::{Renewal, RenewalParts},
    events::{Event, EventKind},
    sources::SystemSources,
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle, time::advance};

use super::{swap::call, *};
use crate::support::{
    StillTime,
    https::{Connection, TlsClient},
    in_time,
    nexus::{GatewaySpec, Nexus},
    operator::Operator,
    pass,
    pki::{Authority, Chain, Leaf},
    program::Program,
    until, write,
};

/// Puts the `number`th certificate and key into a folder.
type Replace = fn(&Path, &Chain, u32);

/// A folder with what `[server.tls]` names.
struct Disk {
    pki: Pki,
    folder: TempDir,
}

impl Disk {
    fn new(replace: Replace) -> (Self, Chain) {
        let disk = Self { pki: Pki::new(), folder: tempfile::tempdir().unwrap() };
        let first = disk.pki.server();
        replace(disk.folder.path(), &first, 0);
        write(&disk.path("clients.pem"), &disk.pki.clients.pem());
        (disk, first)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A gateway that serves with these files; `keys` go into its TLS table as well.
    fn serve(&self, spec: GatewaySpec, keys: &str) -> GatewaySpec {
        let (certificate, key) = (self.path("tls.crt"), self.path("tls.key"));
        spec.on_disk().server(&format!("tls = {{ certificate = {certificate:?}, key = {key:?}{keys} }}"))
    }
}

/// Whoever follows the files of a gateway's listener; ends with its owner.
struct Follower {
    renewal: Arc<Renewal>,
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    fn of(nexus: &Nexus) -> Self {
        let parts = RenewalParts {
            sources: Arc::new(SystemSources),
            watcher: nexus.gateway.watcher().clone(),
            clock: Arc::new(SystemClock),
            events: nexus.gateway.events().clone(),
        };
        let renewal = Arc::new(Renewal::new("server.tls", Arc::clone(nexus.tls()), parts));
        let task = tokio::spawn(Arc::clone(&renewal).follow());
        Self { renewal, task }
    }

    fn counts(&self) -> (u64, u64) {
        self.renewal.reloads().counts()
    }
}

fn serves(nexus: &Nexus, chain: &Chain) -> bool {
    nexus.tls().current().leaf_der() == &*chain.certificates[0]
}

fn noted(nexus: &Nexus, kind: EventKind) -> Vec<Event> {
    let of_the_listener = |event: &Event| event.news.kind == kind && event.news.listener == Some("server.tls");
    nexus.gateway.events().since(0).into_iter().filter(of_the_listener).collect()
}

/// Each file by itself, so that for a moment they do not fit.
const RENAMED: Replace = |folder, chain, _| {
    for (name, text) in [("tls.crt", chain.pem()), ("tls.key", chain.key_pem())] {
        write(&folder.join("fresh"), &text);
        std::fs::rename(folder.join("fresh"), folder.join(name)).unwrap();
    }
};

/// As kubelet publishes a volume: the files lead through `..data`, which is swapped.
const VOLUME: Replace = |folder, chain, number| {
    let version = folder.join(format!("..v{number}"));
    std::fs::create_dir(&version).unwrap();
    write(&version.join("tls.crt"), &chain.pem());
    write(&version.join("tls.key"), &chain.key_pem());
    symlink(format!("..v{number}"), folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    match number {
        0 => ["tls.crt", "tls.key"].map(|name| symlink(format!("..data/{name}"), folder.join(name)).unwrap()).into_iter().collect(),
        _ => std::fs::remove_dir_all(folder.join(format!("..v{}", number - 1))).unwrap(),
    }
};

/// What one client met.
#[derive(Default)]
struct Met {
    answers: u32,
    failures: Vec<String>,
}

/// Calls without end, over new connections or, as long as the gateway lets it, over one.
async fn keep_calling(client: TlsClient, nexus: Arc<Nexus>, keeps: bool, done: watch::Receiver<bool>) -> Met {
    let (mut met, mut kept) = (Met::default(), None::<Connection>);
    while !*done.borrow() {
        if let Some(connection) = &mut kept
            && !connection.is_open().await
        {
            kept = None;
        }
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => match client.connect(nexus.address).await {
                Ok(connection) => connection,
                Err(error) => {
                    met.failures.push(error.to_string());
                    continue;
                }
            },
        };
        match answer(&mut connection).await {
            Ok(text) if text.contains("up:work") => met.answers += 1,
            Err(error) if was_never_sent(&error) => {}
            other => met.failures.push(format!("{other:?}")),
        }
        kept = keeps.then_some(connection);
    }
    met
}

/// The connection had ended before the request: every client sends it again over another one, as after a GOAWAY that says
/// so without an error (RFC 9113 §6.8).
fn was_never_sent(error: &std::io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<hyper::Error>());
    error.is_some_and(|error| error.is_canceled() || format!("{error:?}").contains("GoAway(b\"\", NO_ERROR, Remote)"))
}

async fn answer(connection: &mut Connection) -> std::io::Result<String> {
    let body = connection.send(call()).await?.into_body().collect().await.map_err(std::io::Error::other)?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

#[tokio::test]
async fn no_call_fails_while_the_certificate_is_replaced_twenty_times() {
    for replace in [RENAMED, VOLUME] {
        let (disk, _) = Disk::new(replace);
        let nexus = Arc::new(disk.serve(gateway().upstream("up", modern().tool("work")), "").start().await);
        let follower = Follower::of(&nexus);
        let done = watch::Sender::new(false);
        let mut clients = Vec::new();
        for (protocol, keeps) in [("h2", true), ("http/1.1", true), ("http/1.1", false)] {
            for _ in 0..6 {
                let client = disk.pki.client().alpn(&[protocol]);
                clients.push(tokio::spawn(keep_calling(client, Arc::clone(&nexus), keeps, done.subscribe())));
            }
        }
        let still = StillTime::begin();
        for number in 1..=20 {
            let chain = disk.pki.server();
            replace(disk.folder.path(), &chain, number);
            in_time("the new certificate", || serves(&nexus, &chain)).await;
            let new = disk.pki.client().connect(nexus.address).await.unwrap();
            assert_eq!(new.served.as_ref(), chain.certificates.first(), "new connections see it");
        }
        done.send_replace(true);
        drop(still);
        tokio::time::resume();
        for client in clients {
            let met = client.await.unwrap();
            assert!(met.failures.is_empty(), "{:?}", met.failures);
            assert!(met.answers >= 20, "{} answers", met.answers);
        }
        assert_eq!(follower.counts(), (20, 0));
        assert_eq!(noted(&nexus, EventKind::Reloaded).len(), 20);
    }
}

#[tokio::test]
async fn half_of_a_new_pair_is_waited_for_and_then_said() {
    let (disk, first) = Disk::new(RENAMED);
    let nexus = disk.serve(gateway(), "").start_at_once().await;
    let _still = StillTime::begin();
    let follower = Follower::of(&nexus);
    let second = disk.pki.server();
    write(&disk.path("tls.crt"), &second.pem());
    pass(Duration::from_secs(4)).await;
    assert!(serves(&nexus, &first) && noted(&nexus, EventKind::ReloadRejected).is_empty(), "a torn pair is nothing to report at once");
    write(&disk.path("tls.key"), &second.key_pem());
    in_time("the new certificate", || serves(&nexus, &second)).await;
    assert_eq!(follower.counts(), (1, 0));

    let third = disk.pki.server();
    write(&disk.path("tls.key"), &third.key_pem());
    in_time("the report", || !noted(&nexus, EventKind::ReloadRejected).is_empty()).await;
    assert!(serves(&nexus, &second));
    write(&disk.path("tls.crt"), &third.pem());
    in_time("the new certificate", || serves(&nexus, &third)).await;
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_certificate_and_is_said_once_while_it_is_tried_each_minute() {
    let (disk, first) = Disk::new(RENAMED);
    let nexus = disk.serve(gateway(), "").start_at_once().await;
    let _still = StillTime::begin();
    let follower = Follower::of(&nexus);
    let good = first.pem();
    let key = first.key_pem();
    for (count, (bad, words)) in
        [("garbage", "it holds no certificate"), ("", "it is empty"), (key.as_str(), "it holds no certificate, but PRIVATE KEY")]
            .into_iter()
            .enumerate()
    {
        write(&disk.path("tls.crt"), bad);
        in_time("the rejection", || noted(&nexus, EventKind::ReloadRejected).len() == count + 1).await;
        let said = noted(&nexus, EventKind::ReloadRejected).pop().unwrap().news.detail;
        assert!(said.contains("[server.tls]") && said.contains("server.tls.certificate") && said.contains(words), "{said}");
        let (_, tried) = follower.counts();
        for more in 1..=2 {
            advance(Duration::from_secs(60)).await;
            in_time("another try", || follower.counts().1 == tried + more).await;
        }
        assert_eq!(noted(&nexus, EventKind::ReloadRejected).len(), count + 1, "the same is not said again");
        let served = disk.pki.client().connect(nexus.address).await.unwrap().served.clone();
        assert_eq!(served.as_ref(), first.certificates.first());
        write(&disk.path("tls.crt"), &good);
        in_time("the recovery", || noted(&nexus, EventKind::Reloaded).len() == count + 1).await;
    }
    assert_eq!(follower.counts().0, 0, "what is served was never another");
}

#[tokio::test]
async fn a_client_whose_ca_was_removed_from_the_file_is_refused_whatever_it_remembers() {
    for version in [&TLS12, &TLS13] {
        let (disk, _) = Disk::new(RENAMED);
        let keys = format!(", client_ca = {:?}", disk.path("clients.pem"));
        let nexus = disk.serve(gateway(), &keys).start_at_once().await;
        let client = disk.pki.client().showing(&disk.pki.clients.sign(Leaf::client("agent")), version);
        let mut open = client.connect(nexus.address).await.unwrap();
        assert!(open.get("/health").await.unwrap().status.is_success());
        let next = Authority::root("Next client CA");
        let follower = Follower::of(&nexus);
        let still = StillTime::begin();
        write(&disk.path("clients.pem"), &next.pem());
        in_time("the new CA", || follower.counts() == (1, 0)).await;
        drop(still);
        tokio::time::resume();
        assert!(client.get(nexus.address, "/health").await.is_err(), "{version:?}");
        open.ends().await;
        let known = disk.pki.client().showing(&next.sign(Leaf::client("agent")), version);
        assert!(known.get(nexus.address, "/health").await.unwrap().status.is_success(), "{version:?}");
    }
}

/// The certificate that a new connection sees.
async fn is_shown(disk: &Disk, program: &Program, chain: &Chain) -> bool {
    let connection = disk.pki.client().connect(program.address().await).await.unwrap();
    connection.served.as_ref() == chain.certificates.first()
}

#[tokio::test]
async fn a_reload_takes_all_or_nothing() {
    let (disk, first) = Disk::new(RENAMED);
    let written = disk.serve(gateway().admin(""), "").upstream("a", legacy().tool("x")).write().await;
    let program = Program::start(&written, "serve", "info", &[]);
    program.says("admin on http://").await;
    let told = program.said().split("admin on http://").nth(1).and_then(|rest| rest.lines().next()).unwrap().parse().unwrap();
    let operator = Operator::new(told).with("x-nexus-csrf-protection", "1");
    let nexus_toml = written.folder.path().join("nexus.toml");
    let upstreams = async || operator.json("/api/v1/upstreams").await["upstreams"].as_array().unwrap().len();
    let reload = async || operator.post("/api/v1/reload").await.text().await;

    // Other files for the listener, of which one is bad, and one more upstream.
    let second = disk.pki.server();
    write(&disk.path("next.crt"), "garbage");
    write(&disk.path("next.key"), &second.key_pem());
    let next = written.toml.replace("tls.crt", "next.crt").replace("tls.key", "next.key");
    let url = written.fakes["a"].url();
    let next = format!("# Every line is another one now.\n{next}\n[mcp.servers.b]\nurl = {url:?}\n");
    std::fs::write(&nexus_toml, &next).unwrap();
    let rejected = reload().await;
    assert!(rejected.contains("server.tls.certificate") && rejected.contains("it holds no certificate"), "{rejected}");
    assert_eq!(upstreams().await, 1);
    assert!(is_shown(&disk, &program, &first).await);

    write(&disk.path("next.crt"), &second.pem());
    let taken = reload().await;
    assert!(taken.contains("added b") && taken.contains("[server.tls] serves with new files"), "{taken}");
    assert_eq!(upstreams().await, 2);
    assert!(is_shown(&disk, &program, &second).await);

    // The new files are followed.
    let third = disk.pki.server();
    write(&disk.path("next.crt"), &third.pem());
    write(&disk.path("next.key"), &third.key_pem());
    program.hang_up_signal();
    until("the reload", || program.said().matches("new connections are served with the new ones").count() == 2).await;
    assert!(is_shown(&disk, &program, &third).await);

    std::fs::write(&nexus_toml, next.lines().filter(|line| !line.starts_with("tls = ")).collect::<Vec<_>>().join("\n")).unwrap();
    let rejected = reload().await;
    assert!(rejected.contains("restart needed: server.tls.certificate"), "{rejected}");

    let page = operator.get("/metrics").await.text().await;
    for series in [
        "nexus_tls_reload_total{target=\"server.tls\",result=\"success\"} 2",
        "nexus_tls_reload_total{target=\"server.tls\",result=\"error\"} 0",
        "nexus_tls_reload_total{target=\"nexus.toml\",result=\"error\"} 2",
        "nexus_tls_reload_last_success_timestamp_seconds{target=\"server.tls\"} ",
        "nexus_tls_reload_last_success_timestamp_seconds{target=\"nexus.toml\"} ",
    ] {
        assert!(page.contains(series), "{series} is missing in\n{page}");
    }
}
