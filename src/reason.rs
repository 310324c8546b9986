//! Why an upstream does not work: the closed list of machine codes, and what is said about them.

use std::fmt;

macro_rules! reasons {
    ($($variant:ident $code:literal $words:literal,)*) => {
        /// Why an upstream is down or degraded, or why a call to it failed. A closed list: scripts and alerts rely on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $(#[doc = $words] $variant,)* }

        impl Reason {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable machine code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The words that a client may see: no address, no path, no certificate detail.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$variant => $words,)* }
            }
        }
    };
}

reasons! {
    TlsExpired "tls_expired" "its certificate has expired",
    TlsNotYetValid "tls_not_yet_valid" "its certificate is not valid yet",
    TlsIntermediateExpired "tls_intermediate_expired" "an intermediate certificate has expired",
    TlsUnknownCa "tls_unknown_ca" "its certificate comes from a CA that is not trusted",
    TlsIncompleteChain "tls_incomplete_chain" "it does not send its intermediate certificate",
    TlsSelfSigned "tls_self_signed" "its certificate is self-signed and not trusted",
    TlsSelfSignedCa "tls_self_signed_ca" "its certificate is a self-signed CA certificate and not trusted",
    TlsBadSignature "tls_bad_signature" "its certificate's signature does not match the trusted CA",
    TlsHostnameMismatch "tls_hostname_mismatch" "its certificate is for another name",
    TlsCnOnly "tls_cn_only" "its certificate has no subject alternative name",
    TlsWrongUsage "tls_wrong_usage" "its certificate is not for servers",
    TlsRevoked "tls_revoked" "its certificate was revoked",
    TlsRevocationUnknown "tls_revocation_unknown" "its certificate's revocation status is unknown",
    TlsClientCertRequired "tls_client_cert_required" "it demands a client certificate",
    TlsClientCertRejected "tls_client_cert_rejected" "it refused our client certificate",
    TlsProtocolVersion "tls_protocol_version" "it speaks no TLS version that is allowed here",
    TlsNoSharedCipher "tls_no_shared_cipher" "it shares no cipher suite with us",
    TlsSniUnknown "tls_sni_unknown" "it does not know the host name",
    TlsAlpn "tls_alpn" "it shares no application protocol with us",
    TlsNotTls "tls_not_tls" "it does not speak TLS on that port",
    TlsReset "tls_reset" "the connection was reset during the TLS handshake",
    TlsClosed "tls_closed" "the connection was closed during the TLS handshake",
    TlsTimeout "tls_timeout" "the TLS handshake took too long",
    TlsPinMismatch "tls_pin_mismatch" "its key matches no pin",
    TlsWeakKey "tls_weak_key" "its key is too weak",
    TlsWeakSignature "tls_weak_signature" "its certificate's signature algorithm is not accepted",
    TlsCertVersion "tls_cert_version" "its certificate has an unsupported form",
    TlsChainOrder "tls_chain_order" "its certificates are in the wrong order",
    TlsAnchorExpired "tls_anchor_expired" "a trusted CA certificate has expired",
    TlsCrlExpired "tls_crl_expired" "a revocation list has expired",
    TlsExpiring "tls_expiring" "a certificate ends soon",
    LocalMissing "local_missing" "a local certificate or key file is missing",
    LocalUnreadable "local_unreadable" "a local certificate or key file cannot be read",
    LocalInvalid "local_invalid" "a local certificate or key file is not usable",
    LocalPassword "local_password" "a local key's password is wrong",
    LocalKeyMismatch "local_key_mismatch" "the local client key does not belong to the client certificate",
    LocalExpired "local_expired" "the local client certificate is outside its validity",
    LocalPermissions "local_permissions" "a local key file is open to others",
    Dns "dns" "its host name does not resolve",
    Refused "refused" "the connection was refused",
    Unreachable "unreachable" "it is not reachable",
    ConnectTimeout "connect_timeout" "connecting took too long",
    Proxy "proxy" "the forward proxy refused",
    HttpStatus "http_status" "it answered with an unexpected HTTP status",
    HttpRedirect "http_redirect" "it answered with a redirect, which is not followed",
    AuthRequired "auth_required" "it did not accept the configured credential",
    AuthTokenEndpoint "auth_token_endpoint" "no token could be had for it",
    InsecureCredential "insecure_credential" "its credential travels over a connection that is not verified",
    NeedsCaller "needs_caller" "it waits for the first caller's credential",
    NotMcp "not_mcp" "what answers there is not an MCP server",
    Protocol "protocol" "it broke the protocol",
    ListTimeout "list_timeout" "listing took too long",
    CallTimeout "call_timeout" "the call took too long",
    SpawnFailed "spawn_failed" "its process could not be started",
    Exited "exited" "its process ended",
    BreakerOpen "breaker_open" "it failed too often and is left alone for a while",
    NameCollision "name_collision" "one of its names is already taken",
    ReloadRejected "reload_rejected" "a new configuration for it was rejected",
    Drained "drained" "it was replaced by a new configuration",
    Starting "starting" "it is still starting",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A [`Reason`] with the details that only the operator sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub reason: Reason,
    /// One sentence of facts: names, dates, paths. For logs, never for a client.
    pub detail: String,
    /// What to do about it, with the TOML key to change where there is one.
    pub remedy: String,
}

impl Explanation {
    pub fn new(reason: Reason, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
