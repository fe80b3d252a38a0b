use std::sync::Arc;

use crate::{Guest, GuestError};

/// A sandbox whose processes stand still until this goes.
pub(super) struct Frozen {
    guest: Option<Arc<dyn Guest>>,
}

impl Frozen {
    pub(super) async fn begin(guest: &Arc<dyn Guest>) -> Result<Self, GuestError> {
        // Made before the first byte is sent: whoever gives up in the middle thaws as well.
        // A guest without processes is thawed too: until then it starts none.
        let frozen = Self { guest: Some(Arc::clone(guest)) };
        guest.freeze().await?;
        Ok(frozen)
    }

    pub(super) async fn thaw(mut self) -> Result<(), GuestError> {
        if let Some(guest) = &self.guest {
            guest.thaw().await?;
        }
        self.guest = None;
        Ok(())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // The checkpoint failed or was given up. The task ends with the guest's own time-out, and
        // if there is no runtime any more, the guest thaws when its connection goes.
        if let (Some(guest), Ok(runtime)) =
            (self.guest.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                let _ = guest.thaw().await;
            });
        }
    }
}
