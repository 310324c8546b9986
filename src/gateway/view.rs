//! What the gateway serves at one moment: the upstreams and the catalog made of what they offer.

use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};
use http::HeaderName;

use super::{McpConfig, audiences::Audiences, rebuild::Part};
use crate::{
    auth::{Access, Audience, Wanted},
    catalog::Catalog,
    names::UpstreamName,
    upstream::{Upstream, UpstreamConfig},
};

/// Who takes part, by one reading of the configuration. Replaced as a whole by a reload.
#[derive(Debug)]
pub(super) struct Lineup {
    pub(super) config: Arc<McpConfig>,
    /// In file order, as the configuration names them.
    pub(super) upstreams: Arc<[Arc<Upstream>]>,
    /// Some of them take their callers' own tokens.
    pub(super) takes_callers_tokens: bool,
    /// Headers of callers that some of them get.
    pub(super) forwarded: Arc<[HeaderName]>,
    /// Who may use what of them.
    pub(super) access: Arc<Access>,
    /// What each of them shows, and what it hides.
    globs: Arc<[(GlobSet, GlobSet)]>,
}

/// Taken once per request and kept to its end, so that an index into it always means the same upstream.
#[derive(Debug)]
pub(super) struct View {
    pub(super) lineup: Arc<Lineup>,
    pub(super) catalog: Arc<Catalog>,
    /// What it is made of: of each upstream, in the lineup's order.
    pub(super) parts: Arc<[Part]>,
    /// Whose it is. `None`: everything that there is.
    pub(super) audience: Option<Audience>,
    /// The catalogs of those who may not use everything.
    pub(super) audiences: Audiences,
}

impl Lineup {
    /// `upstreams` are those of `config`, in its order.
    pub(super) fn new(config: Arc<McpConfig>, upstreams: Arc<[Arc<Upstream>]>) -> Self {
        let globs = config.upstreams.iter().map(|upstream| (glob_set(&upstream.expose), glob_set(&upstream.hide))).collect();
        let takes_callers_tokens = config.upstreams.iter().any(UpstreamConfig::takes_callers_token);
        let mut forwarded: Vec<HeaderName> = config.upstreams.iter().flat_map(UpstreamConfig::forwarded_headers).cloned().collect();
        forwarded.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        forwarded.dedup();
        let access = Arc::new(Access::new(config.upstreams.iter().map(|upstream| &upstream.access)));
        Self { config, upstreams, takes_callers_tokens, forwarded: forwarded.into(), access, globs }
    }

    /// The same with other upstreams in the same places.
    pub(super) fn with(&self, upstreams: Arc<[Arc<Upstream>]>) -> Self {
        let Self { config, upstreams: _, takes_callers_tokens, forwarded, access, globs } = self;
        Self {
            config: Arc::clone(config),
            upstreams,
            takes_callers_tokens: *takes_callers_tokens,
            forwarded: Arc::clone(forwarded),
            access: Arc::clone(access),
            globs: Arc::clone(globs),
        }
    }

    /// With a single upstream that passes its names through, everything it says is relayed as it is, unless some may not see
    /// some of it.
    pub(super) fn is_transparent(&self) -> bool {
        let passes = !self.config.tools.lists_own() && self.access.is_open();
        passes && matches!(&self.config.upstreams[..], [only] if only.prefix.is_empty())
    }

    /// Each upstream with how it is shown.
    pub(super) fn shown(&self) -> impl Iterator<Item = Shown<'_>> {
        let both = self.upstreams.iter().zip(&self.config.upstreams).zip(&self.globs[..]);
        both.map(|((upstream, config), (expose, hide))| Shown { upstream, config, expose, hide })
    }
}

/// One upstream, and how it is shown.
pub(super) struct Shown<'a> {
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) config: &'a UpstreamConfig,
    pub(super) expose: &'a GlobSet,
    pub(super) hide: &'a GlobSet,
}

impl View {
    pub(super) fn new(lineup: Arc<Lineup>, catalog: Arc<Catalog>, parts: Arc<[Part]>) -> Self {
        Self { lineup, catalog, parts, audience: None, audiences: Audiences::of_many() }
    }

    /// The same with upstreams that are one principal's own.
    pub(super) fn personal(lineup: Arc<Lineup>, catalog: Arc<Catalog>, parts: Arc<[Part]>) -> Self {
        Self { audiences: Audiences::of_one(), ..Self::new(lineup, catalog, parts) }
    }

    /// Whether something of the upstream at this place exists for those whose view it is.
    pub(super) fn sees(&self, upstream: usize, wanted: Wanted<'_>) -> bool {
        self.audience.as_ref().is_none_or(|audience| self.lineup.access.sees(audience, upstream, wanted))
    }

    /// Whether anything of it does.
    pub(super) fn reaches(&self, upstream: usize) -> bool {
        self.audience.as_ref().is_none_or(|audience| self.lineup.access.reaches(audience, upstream))
    }

    /// The upstreams of which anything exists for those whose view it is.
    pub(super) fn reached(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams().iter().enumerate().filter(|(index, _)| self.reaches(*index)).map(|(_, upstream)| upstream)
    }

    /// The place of the upstream of this name.
    pub(super) fn place_of(&self, name: &UpstreamName) -> Option<usize> {
        self.upstreams().iter().position(|upstream| upstream.name() == name)
    }

    pub(super) fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.lineup.upstreams
    }

    /// Whether every upstream was tried to the end once.
    pub(super) fn all_tried(&self) -> bool {
        self.upstreams().iter().all(|upstream| upstream.status().borrow().tried)
    }
}

fn glob_set(patterns: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        // The configuration was checked; a pattern that fails all the same matches nothing.
        if let Ok(glob) = Glob::new(pattern) {
            set.add(glob);
        }
    }
    set.build().unwrap_or_else(|_| GlobSet::empty())
}
