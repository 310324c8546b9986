// What the tests are written with.
mod support;
// Handshakes under every policy, with real servers.
mod tls_policy;
