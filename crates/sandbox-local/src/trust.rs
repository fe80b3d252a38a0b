//! The host's certificate authorities.
//!
//! The sandbox's bundle lies in its folder and is shown read-only at a path of ours, and over each
//! bundle of the host's that is shown inside.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use moat_sandbox::trust::{BUNDLES, Bundle, MAX_BUNDLE, Trust};

use crate::launcher::StepFailed;

/// What the host trusts.
#[derive(Debug, Default)]
pub(crate) struct HostTrust {
    trust: Trust,
    /// Bundles on the host, without links on the way.
    places: BTreeSet<PathBuf>,
}

impl HostTrust {
    /// Reads the host's bundle. A host without one trusts nobody.
    pub(crate) fn find() -> Self {
        let places: Vec<_> =
            BUNDLES.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        let pem = places.iter().find_map(|path| read(path).ok()).unwrap_or_default();
        Self { trust: Trust::new(pem), places: places.into_iter().collect() }
    }

    /// The host's bundles, which the sandbox's is shown over.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Path> {
        self.places.iter().map(PathBuf::as_path)
    }

    /// Everything that is trusted inside: the host's authorities and these.
    pub(crate) fn with(&self, authority: &[u8]) -> Result<Bundle, StepFailed> {
        let bundle = self.trust.with(authority);
        bundle.map_err(|error| StepFailed::new("trust the sandbox's authority", error))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BUNDLE).read_to_end(&mut bytes)?;
    Ok(bytes)
}
