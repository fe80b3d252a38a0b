use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Digest, ImageError};

/// Where an image is.
///
/// ```
/// use moat_image::ImageReference;
///
/// for text in ["docker-archive:app.tar", "oci:build/layout:latest", "./tree", "debian:12"] {
///     text.parse::<ImageReference>()?;
/// }
/// # Ok::<(), moat_image::ImageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageReference {
    /// `docker-archive:FILE`: what `docker save` or `podman save` wrote, with one image in it.
    DockerArchive(PathBuf),
    /// `oci:FOLDER[:TAG]`: a folder in the OCI image layout.
    Layout {
        /// The folder.
        folder: PathBuf,
        /// Which of its images; `None`: it has one.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`: the same as a tar archive.
    LayoutArchive {
        /// The archive.
        file: PathBuf,
        /// Which of its images; `None`: it has one.
        tag: Option<String>,
    },
    /// `dir:FOLDER`, or a path that begins with `/`, `./` or `../`: a folder that is the root.
    Folder(PathBuf),
    /// `[REGISTRY/]NAME[:TAG][@DIGEST]`.
    Registry(RegistryName),
}

/// An image of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryName {
    /// The registry's host, with its port if it has one.
    pub registry: String,
    /// The repository there.
    pub repository: String,
    /// The tag; `latest` if neither tag nor digest was named.
    pub tag: Option<String>,
    /// The digest of the manifest or index.
    pub digest: Option<Digest>,
}

/// What one says to a registry to be let in. Not shown in any text.
#[derive(Clone)]
pub struct RegistryPassword {
    /// The user.
    pub user: String,
    /// The password, or a token that stands for one.
    pub password: String,
}

impl fmt::Debug for RegistryPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryPassword").field("user", &self.user).finish_non_exhaustive()
    }
}

const DEFAULT_REGISTRY: &str = "docker.io";

impl RegistryName {
    /// Whether the registry is on this machine: only then is plain HTTP spoken.
    pub fn is_loopback(&self) -> bool {
        let host = match self.registry.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.registry,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if let Some(tag) = &tag
            && !is_tag(tag)
        {
            return Err(format!("`{tag}` is no tag"));
        }
        let (registry, name) = match rest.split_once('/') {
            Some((first, name)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, name.to_owned())
            }
            _ => (DEFAULT_REGISTRY, rest.to_owned()),
        };
        let is_default = matches!(registry, DEFAULT_REGISTRY | "index.docker.io");
        let name = if is_default && !name.contains('/') { format!("library/{name}") } else { name };
        if name.len() > 255 || !name.split('/').all(is_name_part) {
            return Err(format!("`{name}` is no name of an image"));
        }
        let is_host = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']')
        };
        if registry.len() > 255 || !registry.bytes().all(is_host) {
            return Err(format!("`{registry}` is no name of a registry"));
        }
        let tag = if tag.is_none() && digest.is_none() { Some("latest".to_owned()) } else { tag };
        Ok(Self { registry: registry.to_owned(), repository: name, tag, digest })
    }
}

fn is_name_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    part.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-'))
        && part.bytes().next().is_some_and(plain)
        && part.bytes().next_back().is_some_and(plain)
}

fn is_tag(tag: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'-'))
        && tag.bytes().next().is_some_and(plain)
}

impl FromStr for ImageReference {
    type Err = ImageError;
    fn from_str(text: &str) -> Result<Self, ImageError> {
        let wrong = |reason: String| ImageError::Reference { text: shown(text), reason };
        let nonempty = |path: &str| {
            if path.is_empty() {
                return Err(wrong("a path is missing".to_owned()));
            }
            Ok(PathBuf::from(path))
        };
        if let Some(file) = text.strip_prefix("docker-archive:") {
            return nonempty(file).map(Self::DockerArchive);
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, tag) = with_tag(rest);
            return Ok(Self::LayoutArchive { file: nonempty(path)?, tag });
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = with_tag(rest);
            return Ok(Self::Layout { folder: nonempty(path)?, tag });
        }
        if let Some(folder) = text.strip_prefix("dir:") {
            return nonempty(folder).map(Self::Folder);
        }
        if ["/", "./", "../"].iter().any(|start| text.starts_with(start)) || text == "." {
            return nonempty(text).map(Self::Folder);
        }
        let name = text.strip_prefix("docker://").unwrap_or(text);
        RegistryName::parse(name).map(Self::Registry).map_err(wrong)
    }
}

/// A tag stands behind the last colon; a path with colons of its own needs one at its end.
fn with_tag(text: &str) -> (&str, Option<String>) {
    match text.rsplit_once(':') {
        Some((path, "")) => (path, None),
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
        _ => (text, None),
    }
}

/// Text from outside, cut to what an error shows.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tagged = |f: &mut fmt::Formatter<'_>, kind, path: &PathBuf, tag: &Option<String>| {
            write!(f, "{kind}:{}", path.display())?;
            tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
        };
        match self {
            Self::DockerArchive(file) => write!(f, "docker-archive:{}", file.display()),
            Self::Layout { folder, tag } => tagged(f, "oci", folder, tag),
            Self::LayoutArchive { file, tag } => tagged(f, "oci-archive", file, tag),
            Self::Folder(folder) => write!(f, "dir:{}", folder.display()),
            Self::Registry(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_meant() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        for (text, meant) in [
            ("debian", "docker.io/library/debian:latest".to_owned()),
            ("debian:12", "docker.io/library/debian:12".to_owned()),
            ("docker.io/library/debian:12", "docker.io/library/debian:12".to_owned()),
            ("docker://ghcr.io/a/b", "ghcr.io/a/b:latest".to_owned()),
            ("127.0.0.1:5000/x:y", "127.0.0.1:5000/x:y".to_owned()),
            ("localhost/x", "localhost/x:latest".to_owned()),
            (&format!("a/b@{digest}"), format!("docker.io/a/b@{digest}")),
            ("./tree", "dir:./tree".to_owned()),
            ("dir:tree", "dir:tree".to_owned()),
            ("oci:f/g:1.0", "oci:f/g:1.0".to_owned()),
            ("oci:f/g", "oci:f/g".to_owned()),
            ("oci:f:g:", "oci:f:g".to_owned()),
            ("oci-archive:/a.tar:t", "oci-archive:/a.tar:t".to_owned()),
            ("docker-archive:a:b.tar", "docker-archive:a:b.tar".to_owned()),
        ] {
            assert_eq!(text.parse::<ImageReference>().unwrap().to_string(), meant, "{text}");
        }
        for text in ["", "A", "a//b", "a:b:c", "-a", "a@sha256:12", "x y", "oci:", "a:!", "é"] {
            text.parse::<ImageReference>().unwrap_err();
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        let name = |text: &str| RegistryName::parse(text).unwrap();
        for text in ["127.0.0.1:5000/x", "localhost:1/x", "127.9.9.9:5000/x", "[::1]:80/x"] {
            assert!(name(text).is_loopback(), "{text}");
        }
        for text in ["debian", "10.0.0.1:5000/x", "localhost.example.com/x", "127.0.0.1.nip.io/x"] {
            assert!(!name(text).is_loopback(), "{text}");
        }
    }
}
