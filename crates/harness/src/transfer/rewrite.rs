//! What in an event names a stored content.

use moat_core::EventBody;

use super::TransferError;
use super::copy::Copier;

impl Copier {
    /// The event with every name as it is in the other store.
    pub(super) async fn rewrite(&mut self, body: EventBody) -> Result<EventBody, TransferError> {
        Ok(match body {
            EventBody::Checkpointed(mut checkpoint) => {
                checkpoint.snapshot = self.snapshot(checkpoint.snapshot).await?;
                checkpoint.into()
            }
            EventBody::RunStarted(mut started) => {
                if let Some(ephemeral) = &mut started.sandbox.ephemeral {
                    ephemeral.snapshot = self.snapshot(ephemeral.snapshot).await?;
                }
                started.into()
            }
            EventBody::SandboxRehydrated(mut rehydrated) => {
                rehydrated.snapshot = self.snapshot(rehydrated.snapshot).await?;
                rehydrated.into()
            }
            EventBody::CallFinished(mut finished) => {
                if let Some(output) = &mut finished.report.output
                    && let Some(blob) = output.blob
                {
                    output.blob = Some(self.output(blob).await?);
                }
                finished.into()
            }
            other => other,
        })
    }
}
