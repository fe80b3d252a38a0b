use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Digest, ImageError};

/// An image, ready to be the root of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration; `None`: a folder that is nobody's image.
    pub digest: Option<Digest>,
    /// The folder that is its root. Shared; not to be written.
    pub folder: PathBuf,
    /// What it asks for.
    pub config: ImageConfig,
    /// Devices of its layers, which were left out.
    pub devices: u64,
}

/// What an image asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// Who its programs run as: a name or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where they start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_folder: Option<String>,
    /// What it runs, before the arguments.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// What it runs, or the arguments, unless others are given.
    #[serde(default)]
    pub command: Vec<String>,
}

/// The part of an image's configuration that is used here.
#[derive(Debug, Deserialize)]
struct Stored {
    architecture: String,
    os: String,
    #[serde(default)]
    config: Option<StoredConfig>,
    rootfs: StoredRoot,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StoredConfig {
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    working_dir: Option<String>,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct StoredRoot {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// Reads a configuration: what the image asks for, and the digests of its decompressed layers.
pub(crate) fn parse(bytes: &[u8]) -> Result<(ImageConfig, Vec<Digest>), ImageError> {
    let what = "the image's configuration";
    let stored: Stored =
        serde_json::from_slice(bytes).map_err(|error| ImageError::malformed(what, error))?;
    let (os, architecture) = platform();
    if (stored.os.as_str(), stored.architecture.as_str()) != (os, architecture) {
        return Err(ImageError::NotFound {
            wanted: format!("for {os}/{architecture}"),
            found: format!("one for {}/{}", short(&stored.os), short(&stored.architecture)),
        });
    }
    let config = stored.config.unwrap_or_default();
    let mut environment = BTreeMap::new();
    for pair in config.env.unwrap_or_default() {
        match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() && !pair.contains('\0') => {
                environment.insert(name.to_owned(), value.to_owned());
            }
            _ => return Err(ImageError::malformed(what, "a variable has no name or no value")),
        }
    }
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let config = ImageConfig {
        environment,
        user: given(config.user),
        working_folder: given(config.working_dir),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
    };
    Ok((config, stored.rootfs.diff_ids))
}

/// This machine, as images name it.
pub(crate) fn platform() -> (&'static str, &'static str) {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    ("linux", architecture)
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
