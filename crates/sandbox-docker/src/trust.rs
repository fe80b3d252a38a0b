//! Whom programs of a sandbox with a network trust: the authorities of its image, and its own.

use moat_sandbox::trust::{BUNDLES, Bundle, MAX_BUNDLE, Trust};
use moat_sandbox::{SandboxError, SandboxSpec};

use crate::archive;
use crate::engine::Engine;

/// The bundle, if the sandbox has an authority of its own. `container` was made and not started.
pub(crate) async fn of(
    engine: &Engine,
    container: &str,
    spec: &SandboxSpec,
) -> Result<Option<Bundle>, SandboxError> {
    let authority = spec.network.as_ref().and_then(|network| network.authority.as_deref());
    let Some(authority) = authority else { return Ok(None) };
    let mut pem = String::new();
    for path in BUNDLES {
        if let Some(text) = archive::read(engine, container, path, MAX_BUNDLE).await? {
            pem = text;
            break;
        }
    }
    let bundle = Trust::new(pem.into_bytes()).with(authority);
    bundle.map(Some).map_err(|error| SandboxError::Setup {
        step: "trust the sandbox's authority".to_owned(),
        message: error.to_string(),
    })
}
