//! How what is kept looks in Redis, which is not trusted with clients' data: nobody reads it there, and what was changed, or
//! moved to another session or field, does not open.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;

use super::pack::{pack, unpack};
use crate::{
    auth::PrincipalKey,
    mcp::{Version, digest::digest_of_parts, json::for_each_member},
    session::{Sealer, SessionId, SessionRecord},
};

/// Longest value that is looked at, in bytes: a record is shorter by what an initialize request may hold.
const MAX_VALUE: usize = 256 * 1024;
/// Tells the sealed values of one field apart without opening them.
pub(super) const TAG: usize = 16;

/// A session with an upstream, as any replica can go on with it.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamRecord {
    pub version: Version,
    /// `Mcp-Session-Id`; a server without sessions gives none. A bearer credential.
    pub id: Option<Bytes>,
}

impl fmt::Debug for UpstreamRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamRecord").field("version", &self.version).finish_non_exhaustive()
    }
}

/// The name of a session's key: its id is a bearer credential and stands nowhere in Redis.
pub(super) fn key_of(session: SessionId) -> String {
    format!("session:{}", URL_SAFE_NO_PAD.encode(digest(&SHA256, session.as_bytes())))
}

/// The field of one subscription. The same resource has the same field, and shows nothing of itself.
pub(super) fn subscription_field(session: SessionId, upstream: &str, uri: &str) -> String {
    let digest = digest_of_parts([b"subscription", &session.as_bytes()[..], upstream.as_bytes(), uri.as_bytes()]);
    format!("w:{}", URL_SAFE_NO_PAD.encode(&digest[..TAG]))
}

pub(super) fn upstream_field(upstream: &str) -> String {
    format!("u:{upstream}")
}

/// What a value is good for and nothing else.
pub(super) fn bond(session: SessionId, field: &str) -> [u8; 32] {
    digest_of_parts([b"session", &session.as_bytes()[..], field.as_bytes()])
}

/// Seals and opens one session's values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seals<'a> {
    pub(super) sealer: &'a Sealer,
    pub(super) session: SessionId,
}

impl Seals<'_> {
    pub(super) fn seal(&self, field: &str, content: &[u8]) -> Bytes {
        self.sealer.seal_bytes(&bond(self.session, field), content).into()
    }

    /// `None`, with a warning, for what is none of ours.
    pub(super) fn open(&self, field: &str, value: &[u8]) -> Option<Vec<u8>> {
        let opened = if value.len() > MAX_VALUE { None } else { self.sealer.open_bytes(&bond(self.session, field), value) };
        if opened.is_none() {
            tracing::warn!(session = ?self.session, bytes = value.len(), "a value in Redis was not sealed by these secrets for its place; it counts as absent");
        }
        opened
    }

    pub(super) fn record(&self, record: &SessionRecord) -> Bytes {
        let kind = match record.principal {
            PrincipalKey::Local => b"local".as_slice(),
            PrincipalKey::Identified(_) => b"identified",
            PrincipalKey::Token(_) => b"token",
        };
        let principal = record.principal.as_bytes();
        self.seal("r", &pack(&[record.version.as_str().as_bytes(), kind, principal, &record.capabilities, &record.client_info]))
    }

    pub(super) fn open_record(&self, value: &[u8]) -> Option<SessionRecord> {
        let opened = self.open("r", value)?;
        let [version, kind, principal, capabilities, client_info] = unpack(&opened)?;
        let principal = match (kind, principal.try_into().ok()) {
            (b"local", _) => PrincipalKey::Local,
            (b"identified", Some(digest)) => PrincipalKey::Identified(digest),
            (b"token", Some(digest)) => PrincipalKey::Token(digest),
            _ => return None,
        };
        let is_object = |raw: &[u8]| for_each_member(raw, |_, _| {}).is_ok();
        (is_object(capabilities) && is_object(client_info)).then_some(())?;
        Some(SessionRecord {
            id: self.session,
            principal,
            version: version_of(version)?,
            capabilities: Bytes::copy_from_slice(capabilities),
            client_info: Bytes::copy_from_slice(client_info),
        })
    }

    pub(super) fn subscription(&self, upstream: &str, uri: &str) -> (String, Bytes) {
        let field = subscription_field(self.session, upstream, uri);
        let sealed = self.seal(&field, &pack(&[upstream.as_bytes(), uri.as_bytes()]));
        (field, sealed)
    }

    pub(super) fn open_subscription(&self, field: &str, value: &[u8]) -> Option<(String, String)> {
        let opened = self.open(field, value)?;
        let [upstream, uri] = unpack(&opened)?;
        Some((String::from_utf8(upstream.to_vec()).ok()?, String::from_utf8(uri.to_vec()).ok()?))
    }

    /// What one upstream session has in front of its value, whoever wrote it. Says nothing to who does not know the session.
    pub(super) fn tag(&self, upstream: &str, identity: &[u8; 32], record: &UpstreamRecord) -> [u8; TAG] {
        let id = record.id.as_deref().unwrap_or_default();
        let digest = digest_of_parts([b"upstream", &self.session.as_bytes()[..], upstream.as_bytes(), identity, id]);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&digest[..TAG]);
        tag
    }

    pub(super) fn upstream(&self, upstream: &str, identity: &[u8; 32], record: &UpstreamRecord) -> Bytes {
        let id: &[u8] = record.id.as_deref().unwrap_or_default();
        let has_id: &[u8] = if record.id.is_some() { b"1" } else { b"" };
        let content = pack(&[identity, record.version.as_str().as_bytes(), has_id, id]);
        let sealed = self.seal(&upstream_field(upstream), &content);
        [&self.tag(upstream, identity, record)[..], &sealed].concat().into()
    }

    /// The upstream session in a value, with the identity of its upstream.
    pub(super) fn open_upstream(&self, upstream: &str, value: &[u8]) -> Option<([u8; 32], UpstreamRecord)> {
        let (_, sealed) = value.split_first_chunk::<TAG>()?;
        let opened = self.open(&upstream_field(upstream), sealed)?;
        let [identity, version, has_id, id] = unpack(&opened)?;
        let id = (!has_id.is_empty()).then(|| Bytes::copy_from_slice(id));
        Some((identity.try_into().ok()?, UpstreamRecord { version: version_of(version)?, id }))
    }
}

fn version_of(text: &[u8]) -> Option<Version> {
    Version::parse(std::str::from_utf8(text).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> SessionRecord {
        SessionRecord {
            id: SessionId::random(),
            principal: PrincipalKey::of("jwt", "https://idp.test", "ada"),
            version: Version::V2025_06_18,
            capabilities: Bytes::from_static(br#"{"sampling":{}}"#),
            client_info: Bytes::from_static(br#"{"name":"telltale"}"#),
        }
    }

    #[test]
    fn what_is_kept_is_read_back_by_whoever_has_the_secrets() {
        let sealer = Sealer::new(&[]);
        for principal in [PrincipalKey::Local, PrincipalKey::of_token("t"), record().principal] {
            let record = SessionRecord { principal, ..record() };
            let seals = Seals { sealer: &sealer, session: record.id };
            let value = seals.record(&record);
            let opened = seals.open_record(&value).unwrap();
            assert_eq!((&opened.principal, opened.version), (&record.principal, record.version));
            assert_eq!((opened.capabilities, opened.client_info), (record.capabilities.clone(), record.client_info.clone()));
            assert!(memchr::memmem::find(&value, b"telltale").is_none());
        }
        let seals = Seals { sealer: &sealer, session: SessionId::random() };
        for id in [None, Some(Bytes::from_static(b"")), Some(Bytes::from_static(b"abc"))] {
            let up = UpstreamRecord { version: Version::V2025_11_25, id };
            assert_eq!(seals.open_upstream("crm", &seals.upstream("crm", &[7; 32], &up)), Some(([7; 32], up)));
        }
        let (field, value) = seals.subscription("crm", "a://b");
        assert_eq!(seals.open_subscription(&field, &value), Some(("crm".to_owned(), "a://b".to_owned())));
        assert_eq!(seals.subscription("crm", "a://b").0, field);
    }

    #[test]
    fn a_value_opens_in_its_own_place_only_and_no_garbage_does() {
        let sealer = Sealer::new(&[]);
        let (one, other) =
            (Seals { sealer: &sealer, session: SessionId::random() }, Seals { sealer: &sealer, session: SessionId::random() });
        let value = one.seal("l", b"\"info\"");
        assert!(one.open("l", &value).is_some());
        assert!(one.open("r", &value).is_none() && other.open("l", &value).is_none());
        let up = one.upstream("crm", &[7; 32], &UpstreamRecord { version: Version::V2025_11_25, id: None });
        assert!(one.open_upstream("erp", &up).is_none() && one.open_upstream("crm", &up[1..]).is_none());
        for garbage in [&b""[..], b"x", &[0; 64], &vec![1; MAX_VALUE + 1]] {
            assert!(one.open_record(garbage).is_none() && one.open_upstream("crm", garbage).is_none());
        }
        // Sealed by us, and still not what belongs there.
        assert!(one.open_record(&one.seal("r", b"{}")).is_none());
    }
}
