//! Whether a routed request may go to its upstream now.

use super::{Gateway, GatewayError, route::Route};
use crate::{auth::Caller, limits::Admission, mcp::Method};

impl Gateway {
    /// Admits a caller's request. Charged here and nowhere else, so that a call is charged once however often it is sent.
    ///
    /// # Errors
    /// [`GatewayError::Limited`]; nothing is charged then.
    pub(super) async fn admit(&self, caller: &Caller, method: Method, route: &Route) -> Result<Admission, GatewayError> {
        if let Some(left) = route.upstream.closed_for()
            && self.limiter.is_enabled()
        {
            return Err(self.limiter.refuse_for_upstream(left).into());
        }
        let config = route.view.lineup.config.upstreams.get(route.index);
        let limits = config.and_then(|config| config.rate_limits.as_deref());
        let tool = (method == Method::ToolsCall).then_some(&*route.name);
        Ok(self.limiter.admit(caller, limits, tool).await?)
    }
}
