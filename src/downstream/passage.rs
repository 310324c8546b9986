//! The way in of one request: what it owes for it, and that this is paid.

use std::{net::IpAddr, sync::Arc};

use tokio::runtime::Handle;

use super::{
    rescue::{Rescued, rescue_at_door},
    streamable_http::Answer,
};
use crate::{auth::Toll, gateway::Gateway, limits::Limited};

/// A request whose way in is paid with its call, or else by whoever finds out that there will be none: at the latest when this is
/// dropped, so that who breaks off has not been here for nothing.
pub(super) struct Passage(Option<(Arc<Gateway>, Arc<Toll>)>);

impl Passage {
    /// # Errors
    /// [`Limited`] by everything together, or by what comes from that address.
    pub(super) async fn begin(gateway: &Arc<Gateway>, address: Option<IpAddr>) -> Result<Self, Limited> {
        let toll = gateway.limiter().knock(address).await?;
        Ok(Self(toll.map(|toll| (Arc::clone(gateway), toll))))
    }

    /// Of what comes from a process, which has no door.
    pub(super) fn free() -> Self {
        Self(None)
    }

    /// What goes with the request.
    pub(super) fn toll(&self) -> Option<Arc<Toll>> {
        self.0.as_ref().map(|(_, toll)| Arc::clone(toll))
    }

    /// Pays what is still owed.
    ///
    /// # Errors
    /// As [`Passage::begin`].
    pub(super) async fn pay(&self) -> Result<(), Limited> {
        match &self.0 {
            Some((gateway, toll)) => gateway.limiter().pay(toll).await,
            None => Ok(()),
        }
    }

    /// The answer, for which nothing is owed any more; or, where nobody has paid until now, that there is none.
    pub(super) async fn ends(self, answer: Answer) -> Answer {
        match self.pay().await {
            Ok(()) => answer,
            Err(limited) => Err(rescue_at_door(&limited)),
        }
    }
}

impl From<Limited> for Rescued {
    fn from(limited: Limited) -> Self {
        rescue_at_door(&limited)
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let Some((gateway, toll)) = self.0.take() else { return };
        // What is left of the process does not count any more.
        if toll.is_owed() && !gateway.limiter().pay_at_once(&toll) && Handle::try_current().is_ok() {
            let payer = Arc::clone(&gateway);
            gateway.spawn(async move {
                // Counted, if it was refused; there is nobody to be told.
                let _ = payer.limiter().pay(&toll).await;
            });
        }
    }
}
