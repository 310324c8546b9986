//! `/certificates`: every certificate that is watched, with the days that are left to it.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::State};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::{
    admin::{respond, server::Inner},
    health::WatchedCertificate,
    tls::shown_date,
};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

#[derive(Serialize)]
struct Certificates {
    certificates: Vec<CertificateView>,
}

/// One certificate in JSON. Its text was made safe to print when it was read.
#[derive(Serialize)]
pub(super) struct CertificateView {
    /// Null: the gateway's own.
    upstream: Option<String>,
    /// `server`, `client`, `anchor`, `downstream` or `public`.
    role: &'static str,
    /// `leaf`, `intermediate` or `root`.
    position: &'static str,
    subject: String,
    issuer: String,
    sans: Vec<String>,
    not_before: String,
    not_after: String,
    /// Rounded down; negative once it has ended.
    days_left: i64,
    sha256: String,
    spki_sha256: String,
    /// Its end breaks something.
    decides: bool,
    file: Option<String>,
}

impl CertificateView {
    pub(super) fn of(watched: WatchedCertificate, now: Duration) -> Self {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let WatchedCertificate { role, upstream, position, facts, decides, file } = watched;
        Self {
            upstream,
            role: role.word(),
            position: position.word(),
            not_before: shown_date(facts.not_before),
            not_after: shown_date(facts.not_after),
            days_left: facts.not_after.saturating_sub(now).div_euclid(DAY),
            subject: facts.subject,
            issuer: facts.issuer,
            sans: facts.names,
            sha256: facts.fingerprint,
            spki_sha256: facts.spki_sha256,
            decides,
            file: file.map(|file| file.display().to_string()),
        }
    }
}

pub(super) async fn all(State(state): State<Arc<Inner>>) -> Response<Body> {
    let now = state.parts.clock.now();
    let certificates = state.parts.board.certificates().into_iter().map(|watched| CertificateView::of(watched, now)).collect();
    respond::json(StatusCode::OK, &Certificates { certificates })
}
