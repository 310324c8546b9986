//! Servers that never come to an end.

use std::time::Duration;

use bytes::Bytes;

use super::*;

/// Bytes of memory that this process holds now.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

const GIGABYTE: usize = 1 << 30;
const PIECE: usize = 256 << 10;

/// Writes a gigabyte, or what of it the gateway takes.
async fn pour(server: &Sender, begin: &str, piece: &str) {
    server.bytes(begin.to_owned()).await;
    let piece = Bytes::from(piece.repeat(PIECE / piece.len()));
    for _ in 0..GIGABYTE / PIECE {
        if !server.bytes(piece.clone()).await {
            return;
        }
    }
}

/// The most that is held until `work` is done.
async fn most_memory(work: impl Future<Output = ()>) -> usize {
    let mut work = std::pin::pin!(work);
    let mut most = 0;
    loop {
        most = most.max(memory());
        tokio::select! {
            () = &mut work => return most,
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
    }
}

#[tokio::test]
async fn a_gigabyte_without_the_end_of_an_event_takes_no_memory() {
    let comment = format!(":{}\n", "x".repeat(8190));
    let shapes = [("data: ", "x"), ("", "data: x\n"), ("", "data\n"), ("", "id: 1\n"), ("event: ", "x"), ("", ":"), ("", &comment)];
    for evil in [legacy as fn() -> FakeSpec, modern] {
        let (nexus, mut streams) = beside(evil).await;
        for (begin_with, piece) in shapes {
            for client in clients(&nexus).await {
                let before = memory();
                let called = client.open("tools/call", json!({"name": "evil__work"}));
                let poured = async {
                    let (_, server) = soon("the call", streams.recv()).await.unwrap();
                    pour(&server, begin_with, piece).await;
                };
                let (mut most, mut response) = (0, None);
                tokio::join!(async { most = most_memory(poured).await }, async { response = Some(called.await) });
                // The event that grows, once more while it grows, and what lies in sockets.
                assert!(most < before + (80 << 20), "{piece:.10?}: {} MiB more", (most - before) >> 20);
                let answer = response.unwrap().answer().await;
                assert_eq!(answer["error"]["code"], -32603, "{piece:.10?}: {answer}");
            }
        }
        nexus.is_unharmed("good__x").await;
    }
}
