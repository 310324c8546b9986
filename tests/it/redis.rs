//! The client that replicas share, before a real redis-server.

#![allow(clippy::unwrap_used, reason = "an answer that is missing has failed its test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use nexus::{
    reason::Reason,
    redis::{RedisError, Reply, Script},
    tls::{ClientIdentityFiles, TlsSettings},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::TcpStream,
    time::sleep,
};

use crate::support::{
    pki::{Authority, Leaf},
    redis::{RedisServer, config, connected, start, try_out},
    soon,
    tls_peer::Peer,
    until, write,
};

const MINUTE: Duration = Duration::from_secs(60);

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[tokio::test]
async fn values_are_set_found_and_vanish() {
    let server = RedisServer::start().await;
    let redis = server.client().await;
    let key = redis.key("a");
    assert_eq!(key, bytes("test:a"));
    assert_eq!(redis.get(key.clone()).await, Ok(None));
    redis.set(key.clone(), bytes("1\0\r\n2"), MINUTE).await.unwrap();
    assert_eq!(redis.get(key.clone()).await, Ok(Some(bytes("1\0\r\n2"))));
    assert_eq!(redis.set_if_absent(key.clone(), bytes("2"), MINUTE).await, Ok(false));
    assert_eq!(redis.expire(key.clone(), Duration::from_millis(1)).await, Ok(true));
    soon("an end of the value", async { while redis.get(key.clone()).await.unwrap().is_some() {} }).await;
    assert_eq!(redis.set_if_absent(key.clone(), bytes("2"), MINUTE).await, Ok(true));
    assert_eq!((redis.delete(key.clone()).await, redis.delete(key).await), (Ok(true), Ok(false)));
}

#[tokio::test]
async fn an_element_reaches_whoever_waits_for_the_list() {
    let server = RedisServer::start().await;
    let (redis, other) = (server.client().await, server.client().await);
    let lists = [redis.key("a"), redis.key("b")];
    assert_eq!(redis.pop_first(&lists, Duration::from_millis(10)).await, Ok(None));
    let waits = redis.pop_first(&lists, MINUTE);
    let pushes = async {
        // Others do not wait for whoever waits.
        redis.set(redis.key("c"), bytes("c"), MINUTE).await.unwrap();
        other.push(lists[1].clone(), bytes("x"), MINUTE).await.unwrap();
    };
    let (popped, ()) = soon("an element", async { tokio::join!(waits, pushes) }).await;
    assert_eq!(popped, Ok(Some((lists[1].clone(), bytes("x")))));
    // What is pushed before anyone waits is kept, for a while.
    other.push(lists[0].clone(), bytes("y"), MINUTE).await.unwrap();
    assert_ne!(server.cli(&["PTTL", "test:a"]).await, "-1");
    assert_eq!(redis.pop_first(&lists, MINUTE).await, Ok(Some((lists[0].clone(), bytes("y")))));
}

#[tokio::test]
async fn a_script_runs_in_one_piece_also_after_the_server_has_forgotten_it() {
    let mut server = RedisServer::start().await;
    let redis = server.client().await;
    let script = Script::new("return {redis.call('INCRBY', KEYS[1], ARGV[1]), 7}");
    let run = || async { redis.run(&script, vec![redis.key("n")], vec![bytes("2")]).await.and_then(Reply::numbers) };
    assert_eq!((run().await, run().await), (Ok(vec![2, 7]), Ok(vec![4, 7])));
    server.cli(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(run().await, Ok(vec![6, 7]));
    server.restart().await;
    let again = soon("a connection to the new process", async {
        loop {
            match run().await {
                Ok(numbers) => return numbers,
                Err(error) => assert_eq!(error, RedisError::NotConnected),
            }
        }
    });
    assert_eq!(again.await, [2, 7]);
    let failing = Script::new("return redis.error_reply('ERR no')");
    assert_eq!(redis.run(&failing, vec![], vec![]).await, Err(RedisError::Refused("ERR no".to_owned())));
}

#[tokio::test]
async fn without_a_server_every_command_fails_at_once_and_with_one_all_is_well() {
    let mut server = RedisServer::start().await;
    let redis = server.client().await;
    server.kill().await;
    soon("the end of the connections", redis.is_connected().wait_for(|is| !is)).await.unwrap();
    let began = Instant::now();
    for _ in 0..1000 {
        assert_eq!(redis.get(redis.key("a")).await, Err(RedisError::NotConnected));
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    server.restart().await;
    soon("another connection", redis.is_connected().wait_for(|is| *is)).await.unwrap();
    assert_eq!(redis.get(redis.key("a")).await, Ok(None));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_waited_for_by_few() {
    let server = RedisServer::start().await;
    let mut config = server.config();
    config.response_timeout = Duration::from_millis(100);
    let redis = connected(config).await;
    let script = Script::new("return {1}");
    assert_eq!(redis.run(&script, vec![], vec![]).await.and_then(Reply::numbers), Ok(vec![1]));
    server.freeze();
    let began = Instant::now();
    assert_eq!(redis.run(&script, vec![], vec![]).await, Err(RedisError::TimedOut));
    for _ in 0..1000 {
        assert_eq!(redis.get(redis.key("a")).await, Err(RedisError::TimedOut));
    }
    // Three find out; then one at a time tries, every half second.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    server.wake();
    soon("an answer", async {
        while redis.get(redis.key("a")).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..10 {
        assert_eq!(redis.get(redis.key("a")).await, Ok(None));
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_the_right_one_is_taken() {
    let server = RedisServer::start_with(|_| vec!["--requirepass".to_owned(), "p@ss".to_owned()]).await;
    let with = |password: &str| config(&format!("redis://:{password}@localhost:{}/1", server.port));
    let redis = connected(with("p%40ss")).await;
    assert_eq!(redis.get(redis.key("a")).await, Ok(None));
    let wrong = start(with("other"));
    soon("a second attempt", async { while !server.cli(&["-a", "p@ss", "--no-auth-warning", "ACL", "LOG"]).await.contains("auth") {} })
        .await;
    assert!(!*wrong.is_connected().borrow());
    assert_eq!(wrong.get(wrong.key("a")).await, Err(RedisError::NotConnected));
}

#[tokio::test]
async fn tls_and_client_certificates_are_those_of_the_policy() {
    let (ca, clients, other) = (Authority::root("Redis CA"), Authority::root("Client CA"), Authority::root("Other CA"));
    let server = RedisServer::start_tls(&ca.sign(Leaf::server(&["redis.corp.test"])), Some(&clients.pem())).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let client = clients.sign(Leaf::client("nexus"));
    write(&path("ca.pem"), &other.pem());
    write(&path("client.pem"), &client.pem());
    write(&path("client-key.pem"), &client.key_pem());
    let mut config = server.config();
    config.tls = Some(TlsSettings {
        root_ca_cert_path: Some(path("ca.pem")),
        server_name: Some("redis.corp.test".to_owned()),
        client_identity: Some(ClientIdentityFiles { cert_path: path("client.pem"), key_path: path("client-key.pem") }),
        ..TlsSettings::default()
    });
    let redis = start(config.clone());
    until("a refusal of another CA", || server.failed_handshakes() > 2).await;
    assert!(!*redis.is_connected().borrow());
    // The files are followed.
    write(&path("ca.pem"), &ca.pem());
    soon("a connection", redis.is_connected().wait_for(|is| *is)).await.unwrap();
    redis.set(redis.key("a"), bytes("1"), MINUTE).await.unwrap();
    // A change that does not work replaces nothing.
    write(&path("ca.pem"), &other.pem());
    let before = server.failed_handshakes();
    until("a refusal of another CA", || server.failed_handshakes() > before).await;
    assert_eq!(redis.get(redis.key("a")).await, Ok(Some(bytes("1"))));

    if let Some(tls) = &mut config.tls {
        (tls.root_ca_cert_path, tls.server_name) = (Some(path("ca.pem")), None);
    }
    write(&path("ca.pem"), &ca.pem());
    let misnamed = start(config);
    let before = server.failed_handshakes();
    until("a refusal of another name", || server.failed_handshakes() > before + 2).await;
    assert!(!*misnamed.is_connected().borrow());
}

#[tokio::test]
async fn a_primary_that_became_a_copy_is_left_for_where_its_name_leads_now() {
    let (first, second) = (RedisServer::start().await, RedisServer::start().await);
    // As a name that is given to another machine: connections that are open stay where they are.
    let leads_to = Arc::new(AtomicU16::new(first.port));
    let name = Arc::clone(&leads_to);
    let peer = Peer::start(move |mut stream, _| {
        let port = name.load(Ordering::Relaxed);
        async move {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut server).await;
        }
    })
    .await;
    let redis = connected(config(&format!("redis://localhost:{}", peer.address.port()))).await;
    let key = redis.key("a");
    redis.set(key.clone(), bytes("1"), MINUTE).await.unwrap();
    leads_to.store(second.port, Ordering::Relaxed);
    first.cli(&["REPLICAOF", "127.0.0.1", &second.port.to_string()]).await;
    assert!(matches!(redis.set(key.clone(), bytes("2"), MINUTE).await, Err(RedisError::Refused(words)) if words.contains("READONLY")));
    soon("a connection to the new primary", async {
        while redis.set(key.clone(), bytes("3"), MINUTE).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(second.cli(&["GET", "test:a"]).await, "3");
}

#[tokio::test]
async fn a_trial_says_whether_replicas_could_share_it_and_if_not_why() {
    let server =
        RedisServer::start_with(|_| ["--user", "reader", "on", ">pw", "~*", "+@read", "+@connection"].map(str::to_owned).to_vec()).await;
    assert_eq!(try_out(server.config()).await, Ok(()));
    let said = async |url: String| try_out(config(&url)).await.unwrap_err();
    let reader = said(format!("redis://reader:pw@localhost:{}", server.port)).await;
    assert!(reader.reason == Reason::Protocol && reader.detail.contains("NOPERM"), "{reader:?}");
    let stranger = said(format!("redis://stranger:pw@localhost:{}", server.port)).await;
    assert!(stranger.detail.contains("WRONGPASS") && !stranger.detail.contains("stranger"), "{stranger:?}");
    let no_cluster = said(format!("redis-cluster://localhost:{}", server.port)).await;
    assert!(no_cluster.detail.contains("cluster support disabled"), "{no_cluster:?}");
    let no_sentinel = said(format!("redis-sentinel://localhost:{}?sentinelServiceName=main", server.port)).await;
    assert!(no_sentinel.remedy.contains("watch a primary of that name"), "{no_sentinel:?}");
    let nobody = said("redis://localhost:1".to_owned()).await;
    assert_eq!(nobody.reason, Reason::Refused);
}

#[tokio::test]
async fn a_server_that_answers_nonsense_harms_nobody() {
    let liar = Peer::start(|mut stream, _| async move {
        let mut request = [0; 4096];
        while stream.read(&mut request).await.is_ok_and(|count| count > 0) {
            if stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n:12\r\n*1000000000\r\n").await.is_err() {
                break;
            }
        }
    })
    .await;
    let redis = start(config(&format!("redis://localhost:{}", liar.address.port())));
    for _ in 0..100 {
        assert!(redis.get(redis.key("a")).await.is_err());
        tokio::task::yield_now().await;
    }
    soon("the end of a client without a connection", redis.shut_down()).await;
}
