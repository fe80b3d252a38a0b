//! What commands used, and stopping them: from version 2 of the protocol on.

use moat_core::Metered;
use moat_guest::{Reply, Request};

use super::{Exchange, GuestClient, QUICK, convert};
use crate::GuestError;

/// The version with which these requests came. An older guest takes an unknown one for a breach of
/// the protocol.
const SINCE: u32 = 2;

impl GuestClient {
    /// What all commands used since the guest began.
    ///
    /// # Errors
    /// [`GuestError::Unsupported`] if the guest is too old, and those of every request.
    pub async fn metered(&self) -> Result<Metered, GuestError> {
        self.needs("say what it used")?;
        match self.ask(Request::Meter, &[], QUICK).await?.reply {
            Reply::Metered(metered) => Ok(convert::metered(metered)),
            _ => Err(Exchange::mismatch("a reading").into()),
        }
    }

    /// Stops all commands until [`GuestClient::resume`], whatever becomes of this connection.
    ///
    /// # Errors
    /// As [`GuestClient::metered`]; and if something does not stop.
    pub async fn pause(&self) -> Result<(), GuestError> {
        self.needs("be paused")?;
        match self.ask(Request::Pause, &[], QUICK).await?.reply {
            Reply::Frozen(_) => Ok(()),
            _ => Err(Exchange::mismatch("a pause").into()),
        }
    }

    /// Lets commands go on.
    ///
    /// # Errors
    /// As [`GuestClient::metered`].
    pub async fn resume(&self) -> Result<(), GuestError> {
        self.needs("be resumed")?;
        Ok(self.tell(Request::Resume, &[], QUICK).await?)
    }

    fn needs(&self, what: &str) -> Result<(), GuestError> {
        if self.version >= SINCE {
            return Ok(());
        }
        Err(GuestError::Unsupported(format!("{what}: its guest is of an older version")))
    }
}
