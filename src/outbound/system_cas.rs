//! The system's trust anchors.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::tls::SystemCas;

static LOADED: Mutex<Option<Arc<SystemCas>>> = Mutex::new(None);

/// Loads the system's CAs at the first call and keeps them; an empty store is looked at again the next time.
///
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the platform's store. Reads files, some milliseconds.
pub fn system_cas() -> Arc<SystemCas> {
    let mut loaded = LOADED.lock();
    if let Some(cas) = &*loaded {
        return Arc::clone(cas);
    }
    let found = rustls_native_certs::load_native_certs();
    let errors = found.errors.iter().map(ToString::to_string).collect();
    let cas = Arc::new(SystemCas::new(found.certs, errors, origin()));
    if !cas.is_empty() {
        *loaded = Some(Arc::clone(&cas));
    }
    cas
}

fn origin() -> String {
    let set: Vec<_> = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .iter()
        .filter_map(|name| std::env::var(name).ok().map(|value| format!("{name}={value}")))
        .collect();
    if set.is_empty() { "the system's certificate store".to_owned() } else { set.join(" and ") }
}
