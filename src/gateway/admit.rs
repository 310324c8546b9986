//! Whether what a client asks for may go to an upstream now: a routed request, and whatever else goes up on its word.

use std::sync::Arc;

use super::{Gateway, GatewayError, LegacySession, handle::Reached, route::Route, view::View};
use crate::{
    auth::Caller,
    limits::{Admission, Charged, Limited, UpstreamLimits},
    mcp::Method,
    names::UpstreamName,
    upstream::Upstream,
};

impl Gateway {
    /// Pays what a caller's request owes for its way in. For one that goes nowhere, or not by itself.
    ///
    /// # Errors
    /// [`GatewayError::Limited`]
    pub(super) async fn pay(&self, caller: &Caller) -> Result<(), GatewayError> {
        match caller.toll() {
            Some(toll) => Ok(self.limiter.pay(toll).await?),
            None => Ok(()),
        }
    }

    /// Admits a caller's request, and what it owes for its way in. Charged here and nowhere else, so that a call is charged once
    /// however often it is sent.
    ///
    /// # Errors
    /// [`GatewayError::Limited`]; nothing is charged then.
    pub(super) async fn admit(&self, caller: &Caller, method: Method, route: &Route) -> Result<Admission, GatewayError> {
        self.is_open(caller, &route.upstream)?;
        let tool = (method == Method::ToolsCall).then_some(&*route.name);
        Ok(self.limiter.admit(caller, limits_of(&route.view, route.index), tool).await?)
    }

    /// Admits what a caller's request becomes at these upstreams: one request at each. All of them may go, or none.
    ///
    /// # Errors
    /// [`Limited`]; nothing is charged then.
    pub(super) async fn admit_all(&self, caller: &Caller, charged: Charged, view: &View, places: &[usize]) -> Result<(), Limited> {
        for upstream in places.iter().filter_map(|place| view.upstreams().get(*place)) {
            self.is_open(caller, upstream)?;
        }
        self.limiter.admit_all(caller, charged, places.iter().filter_map(|place| limits_of(view, *place))).await
    }

    /// Admits one request more at an upstream that goes there for a client whose own was admitted, and of which nobody knew then.
    ///
    /// # Errors
    /// [`Limited`]
    pub(super) async fn admit_further(&self, caller: &Caller, charged: Charged, upstream: &UpstreamName) -> Result<(), Limited> {
        let view = self.view_of(caller.principal());
        match view.place_of(upstream) {
            Some(place) => self.admit_all(caller, charged, &view, &[place]).await,
            None => Ok(()),
        }
    }

    /// Those of them to which a client's notification may go now: nobody could be told that it was too much.
    pub(super) async fn admitted(&self, session: &LegacySession, reached: Vec<Reached>) -> Vec<Reached> {
        let (caller, mut admitted) = (session.caller(), Vec::new());
        for one in reached {
            let charged = if admitted.is_empty() { Charged::ClientToo } else { Charged::UpstreamsAlone };
            match self.admit_further(&caller, charged, one.upstream.name()).await {
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
        let upstreams = view.upstreams().iter().enumerate();
        let new: Vec<usize> =
            upstreams.filter(|(index, up)| up.awaits_callers() && access.reaches(&audience, *index)).map(|(index, _)| index).collect();
        if !new.is_empty() {
            self.admit_all(caller, Charged::UpstreamsAlone, &view, &new).await?;
        }
        Ok(())
    }

    /// # Errors
    /// The upstream itself asked to wait.
    fn is_open(&self, caller: &Caller, upstream: &Upstream) -> Result<(), Limited> {
        match upstream.closed_for() {
            Some(left) if self.limiter.is_enabled() => Err(self.limiter.refuse_for_upstream(caller, left)),
            _ => Ok(()),
        }
    }
}

fn limits_of(view: &View, index: usize) -> Option<&UpstreamLimits> {
    view.lineup.config.upstreams.get(index)?.rate_limits.as_deref()
}
