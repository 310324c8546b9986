//! How long a credential is good for.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// The clock of the machine may be set: it is looked at this often.
const LOOK: Duration = Duration::from_secs(15);

/// Until when a credential is good. Absent parts: for ever.
#[derive(Clone, Debug, Default)]
pub struct Term {
    /// Since 1970.
    pub(super) until: Option<Duration>,
    /// Cancelled when a key goes with which such credentials were verified.
    pub(super) withdrawn: Option<CancellationToken>,
}

impl Term {
    /// Waits until it is over. Cancel-safe.
    pub async fn ended(&self, clock: &dyn Clock) {
        let over = async {
            let Some(until) = self.until else { return std::future::pending().await };
            loop {
                let left = until.saturating_sub(clock.now());
                if left.is_zero() {
                    return;
                }
                sleep(left.min(LOOK)).await;
            }
        };
        let withdrawn = async {
            match &self.withdrawn {
                Some(withdrawn) => withdrawn.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => {}
            () = withdrawn => {}
        }
    }
}
