//! From a TLS policy to an HTTP client: the only place for reqwest and for client-side rustls outside `tls`.
