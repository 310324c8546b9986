//! Whole-program tests: one binary, a file per subject.

#![allow(clippy::panic, reason = "a helper that finds something else fails its test")]

// What operators and orchestrators are told.
mod access;
mod admin;
// Which part of the source may name which.
mod architecture;
// Who did what, written down.
mod audit;
// Clients that are wrong, hostile or gone.
mod bad_client;
// Upstreams that break the protocol.
mod bad_server;
// What results link to, and who is asked for it.
mod links;
// Tasks and refusals of modern servers, for legacy clients.
mod bridged_calls;
// Who may call, and as whom.
mod callers;
// Who may stop a call, and how the upstream is told.
mod cancellation;
// What is listed, and under which names.
mod catalog;
// What `nexus check` finds.
mod check;
// A TOML file to checked values, or all its problems.
mod config;
// The fuzz targets' corpus.
mod corpus;
// What upstreams are shown of who asks.
mod credentials;
// A client of one era before a server of the other.
mod cross_era;
// The demo's upstreams over their own transports.
mod demo;
// What the documents say.
mod docs;
// Why an upstream does not work, as callers are told.
mod down_upstreams;
// The gateway's own HTTPS.
mod grafbase;
mod https;
// A desktop client's servers as TOML.
mod import;
// A modern server that asks legacy clients.
mod input_required;
// Clients that reach for what is others'.
mod hostile_clients;
// Upstreams that mean harm.
mod hostile_servers;
// What belongs to one reaches nobody else.
mod isolation;
// The manifests for Kubernetes.
mod kubernetes;
// How often who may ask.
mod limits;
// The program from its start to its end.
mod life_cycle;
// A foreign suite of certificate chains.
mod limbo;
// What the gateway itself holds against an upstream.
mod own_view;
// Upstreams that are busy, restarted or cut off.
mod self_healing;
// Streams that end before the answer.
mod resumption;
// Batches of 2025-03-26.
mod batches;
// Clients of the HTTP+SSE transport of 2024-11-05.
mod sse_clients;
// Servers of the HTTP+SSE transport of 2024-11-05.
mod sse_servers;
// Clients and servers of one era.
mod same_era;
// A child process and its whole group.
mod stdio_child;
// Another configuration for a running gateway.
mod reload;
// Sessions that any replica serves.
mod replicas;
// Certificates and keys that are replaced under a running gateway.
mod rotation;
// What replicas share.
mod redis;
// The tools `search` and `execute`.
mod search;
// The schema of the file, for editors.
mod schema;
// What a legacy server asks in the middle of a modern client's call.
mod parked_calls;
// What a server asks in the middle of a call.
mod server_requests;
// What servers say in a session, outside of any call.
mod session_streams;
// Who hears of which resource, between clients and servers of both eras.
mod subscriptions;
// Work that servers do after the call, and whose it is.
mod tasks;
// What the tests are written with.
mod support;
// Byte for byte, and to everybody their own.
mod transparency;
// Handshakes under every policy, with real servers.
mod tls_policy;
// Certificates near their end, checks that fail, and who is told.
mod watch;
// The commands `nexus tls` and `nexus check --connect`.
mod tls_commands;
