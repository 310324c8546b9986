//! Whether what a client asks for may go to an upstream now: a routed request, and whatever else goes up on its word.

use std::sync::Arc;

use super::{Gateway, GatewayError, LegacySession, handle::Reached, route::Route, view::View};
use crate::{
    auth::Caller,
    limits::{Admission, Limited, UpstreamLimits},
    mcp::Method,
    names::UpstreamName,
    upstream::Upstream,
};

impl Gateway {
    /// Admits a caller's request. Charged here and nowhere else, so that a call is charged once however often it is sent.
    ///
    /// # Errors
    /// [`GatewayError::Limited`]; nothing is charged then.
    pub(super) async fn admit(&self, caller: &Caller, method: Method, route: &Route) -> Result<Admission, GatewayError> {
        self.is_open(&route.upstream)?;
        let tool = (method == Method::ToolsCall).then_some(&*route.name);
        Ok(self.limiter.admit(caller, limits_of(&route.view, route.index), tool).await?)
    }

    /// Admits what goes to the upstream at this place of the view, and is about no tool.
    ///
    /// # Errors
    /// [`Limited`]
    pub(super) async fn admit_at(&self, caller: &Caller, view: &View, index: usize) -> Result<(), Limited> {
        if let Some(upstream) = view.upstreams().get(index) {
            self.is_open(upstream)?;
        }
        self.limiter.admit(caller, limits_of(view, index), None).await.map(drop)
    }

    /// The same for a request that was admitted for its client already, and concerns several upstreams, or one several times.
    ///
    /// # Errors
    /// [`Limited`]
    pub(super) async fn admit_further(&self, caller: &Caller, view: &View, index: usize) -> Result<(), Limited> {
        if let Some(upstream) = view.upstreams().get(index) {
            self.is_open(upstream)?;
        }
        match limits_of(view, index) {
            Some(limits) => self.limiter.admit_further(caller, limits).await,
            None => Ok(()),
        }
    }

    /// Admits what one request of a client becomes at one of several upstreams: its client is charged with the first.
    ///
    /// # Errors
    /// [`Limited`]; what was charged for those before stays charged.
    pub(super) async fn admit_one_of_many(&self, caller: &Caller, view: &View, upstream: &UpstreamName, at: usize) -> Result<(), Limited> {
        let Some(index) = view.place_of(upstream) else { return Ok(()) };
        if at == 0 { self.admit_at(caller, view, index).await } else { self.admit_further(caller, view, index).await }
    }

    /// Those of them to which a client's notification may go now: nobody could be told that it was too much.
    pub(super) async fn admitted(&self, session: &LegacySession, reached: Vec<Reached>) -> Vec<Reached> {
        let (caller, view) = (session.caller(), self.view_of(&session.record.principal));
        let mut admitted = Vec::new();
        for one in reached {
            match self.admit_one_of_many(&caller, &view, one.upstream.name(), admitted.len()).await {
                Ok(()) => admitted.push(one),
                Err(limited) => tracing::debug!(upstream = %one.upstream.name(), %limited, "a notification was not passed on"),
            }
        }
        admitted
    }

    /// Charges what is brought up for somebody who is new to its upstreams. Anybody can invent tokens, so that this would be as
    /// much as anybody likes.
    ///
    /// # Errors
    /// [`GatewayError::Limited`]
    pub(super) async fn admit_newcomer(self: &Arc<Self>, caller: &Caller) -> Result<(), GatewayError> {
        if !caller.is_unproven() {
            return Ok(());
        }
        let view = self.view();
        if !view.lineup.takes_callers_tokens || self.persons.find(caller.principal()).is_some() {
            return Ok(());
        }
        let access = &view.lineup.access;
        let audience = access.audience(caller.groups().iter().map(|group| &**group));
        for (index, upstream) in view.upstreams().iter().enumerate() {
            if upstream.awaits_callers() && access.reaches(&audience, index) {
                self.admit_further(caller, &view, index).await?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// The upstream itself asked to wait.
    fn is_open(&self, upstream: &Upstream) -> Result<(), Limited> {
        match upstream.closed_for() {
            Some(left) if self.limiter.is_enabled() => Err(self.limiter.refuse_for_upstream(left)),
            _ => Ok(()),
        }
    }
}

fn limits_of(view: &View, index: usize) -> Option<&UpstreamLimits> {
    view.lineup.config.upstreams.get(index)?.rate_limits.as_deref()
}
