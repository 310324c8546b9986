//! `key_log_path`: the keys of every connection, for whoever has to read its traffic.

use std::{fmt::Write as _, sync::Arc};

use rustls::KeyLog;

use crate::sources::LineSink;

/// Writes the NSS key log format: `LABEL CLIENT_RANDOM SECRET`, in hexadecimal.
///
/// Where it goes is decided by the configuration alone, never by `SSLKEYLOGFILE`.
#[derive(Debug)]
pub(super) struct NssKeyLog(pub(super) Arc<dyn LineSink>);

impl KeyLog for NssKeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = String::with_capacity(label.len() + 2 + 2 * (client_random.len() + secret.len()));
        line.push_str(label);
        for bytes in [client_random, secret] {
            line.push(' ');
            for byte in bytes {
                let _ = write!(line, "{byte:02x}");
            }
        }
        self.0.write(line);
    }
}
