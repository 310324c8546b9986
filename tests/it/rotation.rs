//! Certificates and keys that are replaced under a running gateway.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nexus::{
    clock::{Clock, SystemClock},
    events::EventKind,
    outbound::probe::Prober,
};
use rustls::HandshakeKind;
use serde_json::json;
use tempfile::TempDir;
use tokio::{sync::watch, time::advance};

use crate::{
    reload::without,
    support::{
        StillTime,
        fake::{Answer, FakeSpec, legacy, modern, stream_until_the_next_tick},
        in_time,
        nexus::{Nexus, gateway},
        pass,
        pki::{Authority, Chain, Leaf},
        tls_peer::{Exchangeable, Shown, mtls_config_showing, mtls_config_trusting},
        until, while_time_passes, write,
    },
};

/// The clock of a test runs ahead of a machine that is busy; what is real must not time out for that.
const PATIENT: &str = "connect_timeout = \"10m\"\nlist_timeout = \"10m\"";

/// The files of one upstream, and who signs what is in them.
struct World {
    folder: TempDir,
    servers: Authority,
    clients: Authority,
    server: Arc<Exchangeable>,
}

impl World {
    fn new() -> Self {
        let (servers, clients) = (Authority::root("Server CA"), Authority::root("Client CA"));
        let server = Exchangeable::new(&servers.sign(Leaf::server(&["localhost"])));
        let world = Self { folder: tempfile::tempdir().unwrap(), servers, clients, server };
        write(&world.path("ca.pem"), &world.servers.pem());
        world.renew(&world.client(0));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn client(&self, number: u32) -> Chain {
        self.clients.sign(Leaf::client(&format!("nexus-{number}")))
    }

    /// Writes both files of the client's identity.
    fn renew(&self, identity: &Chain) {
        write(&self.path("client.pem"), &identity.pem());
        write(&self.path("client.key"), &identity.key_pem());
    }

    fn https(&self, spec: FakeSpec) -> FakeSpec {
        spec.tool("work").toml(PATIENT).https(mtls_config_showing(&self.server, &self.clients)).toml(&self.tls(self.folder.path()))
    }

    /// The table of an upstream whose identity is in `folder`.
    fn tls(&self, folder: &Path) -> String {
        let file = |folder: &Path, name: &str| folder.join(name).display().to_string();
        format!(
            "[.tls]\nroot_ca_cert_path = {:?}\nclient_cert_path = {:?}\nclient_key_path = {:?}",
            file(self.folder.path(), "ca.pem"),
            file(folder, "client.pem"),
            file(folder, "client.key")
        )
    }
}

fn generation(nexus: &Nexus) -> u64 {
    nexus.upstream("up").generation().map_or(0, |generation| generation.number())
}

async fn swapped(nexus: &Nexus, before: u64) {
    in_time("a new generation", || generation(nexus) > before).await;
}

/// The client certificates on the connections that are open.
fn names(shown: &[Shown]) -> Vec<&str> {
    shown.iter().filter_map(|shown| shown.client.as_deref()).collect()
}

#[tokio::test]
async fn two_hundred_streaming_calls_notice_nothing_of_twenty_rotations() {
    let world = World::new();
    let (spec, streams) = world.https(modern()).streamed("tools/call");
    let nexus = Arc::new(gateway().on_disk().upstream("up", spec).start().await);
    let tick = watch::Sender::new(0_u32);
    tokio::spawn(stream_until_the_next_tick(streams, tick.clone()));
    let done = watch::Sender::new(false);
    let callers: Vec<_> = (0..200)
        .map(|_| {
            let (client, done) = (nexus.modern(), done.subscribe());
            tokio::spawn(async move {
                let (mut calls, mut failed) = (0_u32, Vec::new());
                while !*done.borrow() {
                    let answer = client.call("up__work").await;
                    calls += 1;
                    if !answer["result"].is_object() {
                        failed.push(answer);
                    }
                }
                (calls, failed)
            })
        })
        .collect();
    until("200 streams", || nexus.fake("up").shown_now().len() >= 200).await;
    let _still = StillTime::begin();
    for round in 1..=20 {
        let before = generation(&nexus);
        world.renew(&world.client(round));
        world.server.exchange(&world.servers.sign(Leaf::server(&["localhost"])));
        swapped(&nexus, before).await;
        tick.send_modify(|tick| *tick += 1);
    }
    done.send_replace(true);
    let mut calls = 0;
    for caller in callers {
        tick.send_modify(|tick| *tick += 1);
        while !caller.is_finished() {
            tick.send_modify(|tick| *tick += 1);
            tokio::task::yield_now().await;
        }
        let (called, failed) = caller.await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        calls += called;
    }
    assert!(calls >= 400, "{calls} calls");
    let fake = nexus.fake("up");
    in_time("the end of the old connections", || names(&fake.shown_now()).iter().all(|name| *name == "CN=nexus-20")).await;
    assert!(!fake.shown_now().is_empty());
    for round in 0..=20 {
        assert!(names(&fake.shown()).contains(&format!("CN=nexus-{round}").as_str()), "round {round} was seen");
    }
}

#[tokio::test]
async fn a_new_identity_means_a_full_handshake_and_keeps_session_and_catalog() {
    let _still = StillTime::begin();
    let world = World::new();
    let nexus = gateway().on_disk().upstream("up", world.https(legacy())).start().await;
    let client = nexus.legacy().await;
    assert!(client.call("up__work").await["result"].is_object());
    let (fake, before, seen) = (nexus.fake("up"), generation(&nexus), nexus.fake("up").shown().len());
    let session = fake.last("tools/call").header("mcp-session-id").unwrap().to_owned();
    let listed = nexus.gateway.catalog();

    world.renew(&world.client(1));
    swapped(&nexus, before).await;
    assert!(client.call("up__work").await["result"].is_object());
    assert_eq!(fake.last("tools/call").header("mcp-session-id"), Some(session.as_str()), "the session goes on");
    assert_eq!(fake.seen_of("initialize").len(), 2, "the gateway's own and the client's, each once");
    assert!(Arc::ptr_eq(&listed, &nexus.gateway.catalog()));
    let shown = &fake.shown()[seen..];
    assert_eq!((shown[0].kind, shown[0].client.as_deref()), (Some(HandshakeKind::Full), Some("CN=nexus-1")), "{shown:?}");
    in_time("the end of the old connections", || names(&fake.shown_now()).iter().all(|name| *name == "CN=nexus-1")).await;
    assert_eq!(nexus.upstream("up").reloads().counts(), (1, 0));
    assert!(nexus.upstream("up").reloads().last_success().is_some());
    let events = nexus.gateway.events().since(0);
    assert!(events.iter().any(|event| event.news.kind == EventKind::Reloaded && event.news.upstream.as_deref() == Some("up")));
}

#[tokio::test]
async fn a_pair_is_found_however_it_is_replaced() {
    type Replace = fn(&World, &Path, u32);
    let renamed: Replace = |world, folder, number| {
        let identity = world.client(number);
        for (name, text) in [("client.pem", identity.pem()), ("client.key", identity.key_pem())] {
            write(&folder.join("fresh"), &text);
            std::fs::rename(folder.join("fresh"), folder.join(name)).unwrap();
        }
    };
    // As kubelet publishes a volume: the files lead through `..data`, which is swapped.
    let swapped_volume: Replace = |world, folder, number| {
        let version = folder.join(format!("..v{number}"));
        std::fs::create_dir(&version).unwrap();
        let identity = world.client(number);
        write(&version.join("client.pem"), &identity.pem());
        write(&version.join("client.key"), &identity.key_pem());
        symlink(format!("..v{number}"), folder.join("..data_tmp")).unwrap();
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        for name in ["client.pem", "client.key"] {
            if number == 0 {
                symlink(format!("..data/{name}"), folder.join(name)).unwrap();
            } else {
                let old = folder.join(format!("..v{}", number - 1)).join(name);
                std::fs::remove_file(old).unwrap();
            }
        }
    };
    // The configured paths are links; their target is written anew elsewhere.
    let linked: Replace = |world, folder, number| {
        world.renew(&world.client(number));
        for name in ["client.pem", "client.key"] {
            if number == 0 {
                symlink(world.path(name), folder.join(name)).unwrap();
            }
        }
    };
    let _still = StillTime::begin();
    for (what, replace) in [("renamed over", renamed), ("a volume", swapped_volume), ("links", linked)] {
        let world = World::new();
        let folder = tempfile::tempdir().unwrap();
        replace(&world, folder.path(), 0);
        let spec =
            modern().tool("work").toml(PATIENT).https(mtls_config_showing(&world.server, &world.clients)).toml(&world.tls(folder.path()));
        let nexus = gateway().on_disk().upstream("up", spec).start().await;
        for number in 1..=3 {
            let before = generation(&nexus);
            assert!(before > 0, "{what}: {:?}", nexus.upstream("up").status().borrow().state);
            replace(&world, folder.path(), number);
            swapped(&nexus, before).await;
            let expected = format!("CN=nexus-{number}");
            let fake = nexus.fake("up");
            in_time(what, || names(&fake.shown()).last() == Some(&expected.as_str())).await;
        }
    }
}

#[tokio::test]
async fn files_that_were_only_touched_change_nothing() {
    let _still = StillTime::begin();
    let world = World::new();
    let nexus = gateway().on_disk().upstream("up", world.https(modern())).start().await;
    let before = generation(&nexus);
    let same = std::fs::read_to_string(world.path("client.pem")).unwrap();
    for _ in 0..3 {
        write(&world.path("client.pem"), &same);
        pass(Duration::from_secs(1)).await;
    }
    // Whatever was seen before this change was done with before it.
    world.renew(&world.client(1));
    swapped(&nexus, before).await;
    assert_eq!(nexus.upstream("up").reloads().counts(), (1, 0));
}

#[tokio::test]
async fn half_of_a_new_pair_is_waited_for_and_then_said() {
    let _still = StillTime::begin();
    let world = World::new();
    let nexus = gateway().on_disk().upstream("up", world.https(modern())).start().await;
    let before = generation(&nexus);
    let state = |nexus: &Nexus| nexus.upstream("up").status().borrow().state.clone();

    let next = world.client(1);
    write(&world.path("client.pem"), &next.pem());
    pass(Duration::from_secs(4)).await;
    assert_eq!((generation(&nexus), state(&nexus).word()), (before, "up"), "a torn pair is nothing to report at once");
    write(&world.path("client.key"), &next.key_pem());
    swapped(&nexus, before).await;

    let before = generation(&nexus);
    let last = world.client(2);
    write(&world.path("client.pem"), &last.pem());
    in_time("the report", || state(&nexus).word() == "degraded").await;
    let why = state(&nexus).explanation().cloned().unwrap();
    assert_eq!(why.reason.code(), "reload_rejected");
    assert!(why.detail.contains("local_key_mismatch"), "{why}");
    assert!(nexus.modern().call("up__work").await["result"].is_object(), "the old pair goes on");
    let events = nexus.gateway.events().since(0);
    assert_eq!(events.iter().filter(|event| event.news.kind == EventKind::ReloadRejected).count(), 1, "{events:?}");
    assert_eq!((generation(&nexus), nexus.upstream("up").reloads().counts().1), (before, 1));
    write(&world.path("client.key"), &last.key_pem());
    swapped(&nexus, before).await;
    assert_eq!(state(&nexus).word(), "up");
}

#[tokio::test]
async fn a_bad_file_keeps_what_runs() {
    let _still = StillTime::begin();
    let world = World::new();
    let nexus = gateway().on_disk().upstream("up", world.https(modern())).start().await;
    let good = std::fs::read_to_string(world.path("ca.pem")).unwrap();
    let state = |nexus: &Nexus| nexus.upstream("up").status().borrow().state.clone();
    for bad in ["", "no certificate", &world.clients.sign(Leaf::client("x").expired()).key_pem()] {
        let before = generation(&nexus);
        write(&world.path("ca.pem"), bad);
        in_time("the rejection", || state(&nexus).word() == "degraded").await;
        assert!(nexus.modern().call("up__work").await["result"].is_object(), "{bad:?}");
        assert_eq!(generation(&nexus), before);
        write(&world.path("ca.pem"), &good);
        in_time("the recovery", || state(&nexus).word() == "up").await;
    }
}

#[tokio::test]
async fn an_older_revocation_list_brings_no_revoked_server_back() {
    let _still = StillTime::begin();
    let world = World::new();
    let list = world.path("servers.crl");
    write(&list, &world.servers.revoke(&[], 2));
    let spec = modern().tool("work").https(mtls_config_showing(&world.server, &world.clients));
    let table = format!("{}\ncrl_paths = [{:?}]", world.tls(world.folder.path()), list.display().to_string());
    let nexus = gateway().on_disk().upstream("up", spec.toml(&table)).start().await;
    let state = |nexus: &Nexus| nexus.upstream("up").status().borrow().state.clone();
    let before = generation(&nexus);
    write(&list, &world.servers.revoke(&[], 1));
    in_time("the rejection", || state(&nexus).word() == "degraded").await;
    let said = state(&nexus).explanation().unwrap().detail.clone();
    assert!(said.contains("servers.crl") && said.contains("is older than the one in use"), "{said}");
    assert_eq!(generation(&nexus), before);
    write(&list, &world.servers.revoke(&[], 3));
    swapped(&nexus, before).await;
    in_time("the recovery", || state(&nexus).word() == "up").await;
}

#[tokio::test]
async fn a_new_list_that_revokes_the_server_takes_effect_although_the_old_one_still_works() {
    let _still = StillTime::begin();
    let world = World::new();
    let server = world.servers.sign(Leaf::server(&["localhost"]));
    world.server.exchange(&server);
    let list = world.path("servers.crl");
    write(&list, &world.servers.revoke(&[], 2));
    let spec = modern().tool("work").https(mtls_config_showing(&world.server, &world.clients));
    let table = format!("{}\ncrl_paths = [{:?}]", world.tls(world.folder.path()), list.display().to_string());
    let nexus = gateway().on_disk().upstream("up", spec.toml(&table)).start().await;
    let (client, before) = (nexus.modern(), generation(&nexus));
    assert!(client.call("up__work").await["result"].is_object());
    write(&list, &world.servers.revoke(&[&server], 3));
    swapped(&nexus, before).await;
    let refused = client.call("up__work").await;
    assert_eq!(refused["error"]["data"]["reason"], "tls_revoked", "{refused}");
}

/// Days that the gateway's clock is ahead of the machine's.
#[derive(Clone, Debug, Default)]
struct Ahead(Arc<AtomicU64>);

impl Clock for Ahead {
    fn now(&self) -> Duration {
        SystemClock.now() + Duration::from_secs(self.0.load(Ordering::Relaxed) * 86_400)
    }
}

#[tokio::test]
async fn an_excuse_that_is_over_ends_what_was_connected_under_it() {
    let _still = StillTime::begin();
    let world = World::new();
    world.server.exchange(&world.servers.sign(Leaf::server(&["localhost"]).expired()));
    let until = nexus::tls::shown_date(i64::try_from(SystemClock.now().as_secs()).unwrap() + 3 * 86_400);
    let spec = modern().tool("work").https(mtls_config_showing(&world.server, &world.clients));
    let table = format!("{}\naccept_expired_until = {until:?}", world.tls(world.folder.path()));
    let clock = Ahead::default();
    let nexus = gateway().on_disk().clock(clock.clone()).upstream("up", spec.toml(&table)).start().await;
    let client = nexus.modern();
    assert!(client.call("up__work").await["result"].is_object());
    clock.0.store(4, Ordering::Relaxed);
    in_time("the end", || nexus.upstream("up").status().borrow().state.word() == "down").await;
    let refused = client.call("up__work").await;
    assert_eq!(refused["error"]["data"]["reason"], "tls_expired", "{refused}");
}

#[tokio::test]
async fn an_identity_that_the_server_does_not_know_yet_waits_until_it_does() {
    let _still = StillTime::begin();
    let world = World::new();
    let nexus = gateway().on_disk().upstream("up", world.https(legacy())).start().await;
    let (before, client) = (generation(&nexus), nexus.legacy().await);
    let state = |nexus: &Nexus| nexus.upstream("up").status().borrow().state.clone();
    let strangers = Authority::root("Next Client CA");
    world.renew(&strangers.sign(Leaf::client("nexus-next")));
    in_time("the rejection", || state(&nexus).word() == "degraded").await;
    assert!(state(&nexus).explanation().unwrap().detail.contains("tls_client_cert_rejected"), "{:?}", state(&nexus));
    for _ in 0..10 {
        assert!(client.call("up__work").await["result"].is_object());
    }
    assert_eq!(generation(&nexus), before);
    nexus.fake("up").serve_as(mtls_config_trusting(
        &world.servers.sign(Leaf::server(&["localhost"])),
        strangers.certificate(),
        rustls::ALL_VERSIONS,
    ));
    advance(Duration::from_secs(60)).await;
    swapped(&nexus, before).await;
    assert!(client.call("up__work").await["result"].is_object());
    assert_eq!(state(&nexus).word(), "up");
    assert_eq!(names(&nexus.fake("up").shown()).last(), Some(&"CN=nexus-next"));
}

#[tokio::test]
async fn what_a_bring_up_rejects_is_tried_again_each_minute_too() {
    let _still = StillTime::begin();
    let world = World::new();
    let nexus = gateway().on_disk().upstream("up", world.https(modern())).start().await;
    let before = generation(&nexus);
    let up = nexus.upstream("up");
    let strangers = Authority::root("Next Client CA");
    world.renew(&strangers.sign(Leaf::client("nexus-next")));
    in_time("the rejection", || up.reloads().counts().1 == 1).await;
    up.contradicted();
    in_time("its rejection by a bring-up", || up.reloads().counts().1 == 2).await;
    assert_eq!(generation(&nexus), before);
    nexus.fake("up").serve_as(mtls_config_trusting(
        &world.servers.sign(Leaf::server(&["localhost"])),
        strangers.certificate(),
        rustls::ALL_VERSIONS,
    ));
    advance(Duration::from_secs(60)).await;
    swapped(&nexus, before).await;
    assert_eq!(up.status().borrow().state.word(), "up");
}

#[tokio::test]
async fn whoever_looks_at_new_files_first_does_not_hide_them() {
    let _still = StillTime::begin();
    let world = World::new();
    let nexus = gateway().on_disk().upstream("up", world.https(modern())).start().await;
    let before = generation(&nexus);
    world.renew(&world.client(1));
    // An operator's probe tries what is on the disk now.
    let probed = while_time_passes("the probe", nexus.upstream("up").probe(&Prober::new(1))).await;
    assert!(probed.is_some());
    swapped(&nexus, before).await;
    in_time("the new identity", || names(&nexus.fake("up").shown()).last() == Some(&"CN=nexus-1")).await;
}

#[tokio::test]
async fn a_call_in_a_replaced_generation_outlives_the_removal_of_its_upstream() {
    let _still = StillTime::begin();
    let world = World::new();
    let (spec, mut held) = world.https(modern().toml("call_timeout = \"1h\"")).held("tools/call");
    let nexus = gateway().on_disk().upstream("stays", modern().tool("work")).upstream("up", spec).start().await;
    let client = nexus.modern();
    let call = tokio::spawn(async move { client.call("up__work").await });
    let (request, reply) = held.recv().await.unwrap();
    let before = generation(&nexus);
    world.renew(&world.client(1));
    swapped(&nexus, before).await;
    nexus.reload(&without(&nexus.toml, "up"));
    pass(Duration::from_secs(2)).await;
    assert!(!call.is_finished());
    let _ = reply.send(Answer::json(request.response(r#""resultType":"complete","content":[]"#)));
    let answer = call.await.unwrap();
    assert!(answer["result"].is_object(), "{answer}");
    in_time("the end of the old connections", || nexus.fake("up").shown_now().is_empty()).await;
}

#[tokio::test]
async fn without_the_trial_the_files_are_taken_at_their_word() {
    let _still = StillTime::begin();
    let world = World::new();
    let spec = gateway().on_disk().tables("[certificates]\nprobe_before_swap = false").upstream("up", world.https(modern()));
    let nexus = spec.start().await;
    let before = generation(&nexus);
    world.renew(&Authority::root("Next Client CA").sign(Leaf::client("nexus-next")));
    swapped(&nexus, before).await;
    let refused = nexus.modern().call("up__work").await;
    assert_eq!(refused["error"]["data"]["reason"], "tls_client_cert_rejected", "{refused}");
}

#[tokio::test]
async fn a_server_that_is_away_does_not_keep_a_new_identity_from_being_used() {
    let _still = StillTime::begin();
    let world = World::new();
    let nexus = gateway().on_disk().upstream("up", world.https(legacy())).start().await;
    let before = generation(&nexus);
    nexus.fake("up").go_down();
    world.renew(&world.client(1));
    swapped(&nexus, before).await;
    nexus.fake("up").come_back();
    assert!(nexus.modern().call("up__work").await["result"].is_object());
    assert_eq!(names(&nexus.fake("up").shown()).last(), Some(&"CN=nexus-1"));
}

#[tokio::test]
async fn an_upstream_that_is_down_for_its_files_comes_up_with_them() {
    let _still = StillTime::begin();
    let world = World::new();
    std::fs::remove_file(world.path("client.key")).unwrap();
    let nexus = gateway().on_disk().upstream("up", world.https(modern())).start().await;
    let why = nexus.upstream("up").status().borrow().state.explanation().cloned().unwrap();
    assert_eq!(why.reason.code(), "local_missing");
    // By now the pauses between the tries are long.
    for _ in 0..100 {
        advance(Duration::from_secs(2)).await;
        pass(Duration::from_millis(20)).await;
    }
    let began = tokio::time::Instant::now();
    world.renew(&world.client(1));
    in_time("its rise", || generation(&nexus) > 0).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(nexus.modern().call("up__work").await["result"].is_object());
}

#[tokio::test]
async fn what_does_not_end_is_cut_off_at_the_drain_limit_and_streams_move_on() {
    let _still = StillTime::begin();
    let world = World::new();
    let (spec, mut held) = world.https(legacy().get_stream().toml("call_timeout = \"1h\"")).held("tools/call");
    let nexus = gateway().on_disk().mcp("upstream_drain = \"4s\"").upstream("up", spec).start().await;
    let (client, fake) = (nexus.legacy().await, nexus.fake("up"));
    let mut stream = client.get().await;
    let twin = client.twin();
    let call = tokio::spawn(async move { twin.call("up__work").await });
    let (arrived, _reply) = held.recv().await.unwrap();
    let session = arrived.header("mcp-session-id").unwrap().to_owned();
    let first = while_time_passes("the upstream's stream", fake.stream_of(&session)).await;

    let before = generation(&nexus);
    world.renew(&world.client(1));
    swapped(&nexus, before).await;
    pass(Duration::from_secs(3)).await;
    assert!(!call.is_finished() && !first.is_gone(), "both have time until the limit");
    pass(Duration::from_secs(1)).await;
    in_time("the end of the call", || call.is_finished()).await;
    let answer = call.await.unwrap();
    assert_eq!(answer["error"]["data"]["reason"], "drained", "{answer}");
    in_time("the cancellation", || fake.seen_of("notifications/cancelled").iter().any(|told| told.params()["requestId"] == *arrived.id()))
        .await;
    in_time("the end of the old connections", || names(&fake.shown_now()).iter().all(|name| *name == "CN=nexus-1")).await;
    assert!(first.is_gone());
    let second = while_time_passes("the new stream", fake.stream_of(&session)).await;
    second
        .event(json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "still here"}}).to_string())
        .await;
    let event = while_time_passes("the event's way", stream.next()).await.unwrap();
    assert_eq!(event["params"]["data"], "still here", "the client's own stream never ended");
}

#[tokio::test]
async fn a_fourth_generation_waits_until_one_of_three_is_over() {
    let _still = StillTime::begin();
    let world = World::new();
    let (spec, mut held) = world.https(modern().toml("call_timeout = \"1h\"")).held("tools/call");
    let nexus = gateway().on_disk().upstream("up", spec).start().await;
    let mut open = Vec::new();
    for round in 1..=2 {
        let client = nexus.modern();
        let call = tokio::spawn(async move { client.call("up__work").await });
        open.push((call, held.recv().await.unwrap()));
        let before = generation(&nexus);
        world.renew(&world.client(round));
        swapped(&nexus, before).await;
    }
    let before = generation(&nexus);
    world.renew(&world.client(3));
    pass(Duration::from_secs(3)).await;
    assert_eq!(generation(&nexus), before, "two generations have calls, and a third one serves");
    let (call, (request, reply)) = open.remove(0);
    let _ = reply.send(Answer::json(request.response(r#""resultType":"complete","content":[]"#)));
    assert!(call.await.unwrap()["result"].is_object());
    swapped(&nexus, before).await;
    in_time("the last identity", || names(&nexus.fake("up").shown()).last() == Some(&"CN=nexus-3")).await;
}
