//! What `docker save` writes: `manifest.json`, a configuration, and the layers.

use std::path::Path;

use serde::Deserialize;

use crate::archive::Archive;
use crate::source::{Found, found};
use crate::{Digest, ImageError, ImageLimits};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

pub(crate) fn find(file: &Path, limits: &ImageLimits) -> Result<Found, ImageError> {
    const LIST: &str = "manifest.json";
    let archive = Archive::open(file)?;
    let list = archive.place(LIST)?.read(LIST, limits)?;
    let mut images: Vec<Saved> =
        serde_json::from_slice(&list).map_err(|error| ImageError::malformed(LIST, error))?;
    let Some(image) = images.pop().filter(|_| images.is_empty()) else {
        let tags = images.iter().filter_map(|image| image.repo_tags.as_ref()).flatten();
        let tags: Vec<&str> = tags.map(String::as_str).take(8).collect();
        let found = format!("{} there ({}, …)", images.len() + 1, tags.join(", "));
        return Err(ImageError::NotFound { wanted: "the only one".to_owned(), found });
    };
    let config = archive.place(&image.config)?.read("the image's configuration", limits)?;
    // The name has the digest in it; who made the archive could name anything, so this finds
    // damage, and the image is known by the digest of what is there.
    let digest = Digest::of(&config);
    let name = image.config.trim_end_matches(".json");
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    if let Ok(expected) = format!("sha256:{name}").parse::<Digest>() {
        expected.check(&config, "the image's configuration")?;
    }
    let layers = image.layers.iter().map(|layer| Ok((archive.place(layer)?, None)));
    found(digest, &config, layers.collect::<Result<_, ImageError>>()?, limits)
}
