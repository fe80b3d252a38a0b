//! What a test leaves out of sandboxes, to see that its checks can fail. Only a build with the
//! feature `mutations` can leave anything out; in any other, everything stands.

/// What contains a sandbox beside the [fences](crate::Fence) that a host may lack.
pub(crate) mod defence {
    /// Only chosen folders of the host are shown.
    pub(crate) const FILES: &str = "files";
    /// `/dev` holds only chosen devices.
    pub(crate) const DEVICES: &str = "devices";
    /// Limits on a process, and on what a sandbox takes of what the machine has little of.
    pub(crate) const LIMITS: &str = "limits";
}

/// Names of what is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(feature = "mutations"), expect(unreachable_pub, reason = "tests see it"))]
pub struct LeftOut {
    #[cfg(feature = "mutations")]
    names: std::collections::BTreeSet<String>,
}

impl LeftOut {
    /// Whether this is not left out.
    #[cfg(not(feature = "mutations"))]
    #[expect(clippy::unused_self, reason = "builds for tests ask it")]
    pub(crate) fn stands(&self, _defence: &str) -> bool {
        true
    }
}

#[cfg(feature = "mutations")]
mod mutations;
