//! The JSON texts by which an image's parts name each other.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::platform;
use crate::{Digest, ImageError};

/// The name that `oci:FOLDER:TAG` looks for.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Indexes within indexes that are followed.
pub(crate) const MAX_INDEX_DEPTH: usize = 4;

/// Points at some content.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Descriptor {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// One image, or several to choose from.
#[derive(Debug)]
pub(crate) enum Manifest {
    Image { config: Descriptor, layers: Vec<Descriptor> },
    Index(Vec<Descriptor>),
}

/// Both have been seen without their media type, so their members tell which it is.
#[derive(Deserialize)]
struct Either {
    #[serde(rename = "schemaVersion")]
    version: u32,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Manifest, ImageError> {
    let either: Either =
        serde_json::from_slice(bytes).map_err(|error| ImageError::malformed(what, error))?;
    if either.version != 2 {
        let reason = format!("it is of version {}, and only 2 is known here", either.version);
        return Err(ImageError::malformed(what, reason));
    }
    match (either.config, either.layers, either.manifests) {
        (Some(config), Some(layers), None) => Ok(Manifest::Image { config, layers }),
        (None, None, Some(manifests)) => Ok(Manifest::Index(manifests)),
        _ => Err(ImageError::malformed(what, "it is neither an image nor an index")),
    }
}

/// Chooses from an index: what is for this machine, and by the tag if one is wanted.
pub(crate) fn choose(all: Vec<Descriptor>, tag: Option<&str>) -> Result<Descriptor, ImageError> {
    let (os, architecture) = platform();
    let named =
        |one: &Descriptor| one.annotations.as_ref().and_then(|all| all.get(REF_NAME)).cloned();
    let found = || {
        let names = all.iter().map(|one| {
            let place = one.platform.as_ref().map_or("no platform".to_owned(), |platform| {
                format!("{}/{}", platform.os, platform.architecture)
            });
            named(one).map_or_else(|| place.clone(), |name| format!("`{name}` ({place})"))
        });
        let names: Vec<String> = names.take(8).collect();
        let text = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        text.chars().take(400).collect()
    };
    let fits = |one: &&Descriptor| {
        let tagged = tag.is_none_or(|tag| named(one).as_deref() == Some(tag));
        let here = one
            .platform
            .as_ref()
            .is_none_or(|platform| platform.os == os && platform.architecture == architecture);
        tagged && here
    };
    let mut fitting = all.iter().filter(fits);
    let wanted = || match tag {
        Some(tag) => format!("{tag} for {os}/{architecture}"),
        None => format!("for {os}/{architecture}"),
    };
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one.clone()),
        // Variants of one architecture stand in the order in which they are preferred.
        (Some(one), Some(_)) if one.platform.is_some() => Ok(one.clone()),
        (Some(_), Some(_)) => {
            let wanted = format!("{}; several fit, name one by its tag", wanted());
            Err(ImageError::NotFound { wanted, found: found() })
        }
        (None, _) => Err(ImageError::NotFound { wanted: wanted(), found: found() }),
    }
}
