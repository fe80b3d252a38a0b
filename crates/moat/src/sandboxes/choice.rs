//! `--sandbox local|docker:IMAGE[?…]`

use std::str::FromStr;

/// Which sandbox is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Local,
    Docker(DockerChoice),
}

/// What is said about one of Docker's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DockerChoice {
    pub(crate) image: String,
    pub(crate) runtime: Option<String>,
    pub(crate) pull: Pull,
    /// Never the socket that engine and harness may share.
    pub(crate) bridge: bool,
}

/// When an image is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pull {
    Always,
    #[default]
    Missing,
    Never,
}

const FORMS: &str = "write `local` or `docker:IMAGE`, as in `docker:debian:12?runtime=runsc`; after \
                     `?`, joined by `&`: runtime=NAME, pull=always|missing|never, reach=bridge";

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == super::LOCAL {
            return Ok(Self::Local);
        }
        let rest = text.strip_prefix("docker:");
        let rest = rest.ok_or_else(|| format!("`{text}` is no sandbox: {FORMS}"))?;
        let (image, options) = rest.split_once('?').unwrap_or((rest, ""));
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?&#\\\"'".contains(&byte);
        if image.is_empty() || image.len() > 500 || !image.bytes().all(plain) {
            return Err(format!("`{text}` names no image: {FORMS}"));
        }
        let mut choice = DockerChoice { image: image.to_owned(), ..DockerChoice::default() };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("runtime", name)) if is_name(name) => choice.runtime = Some(name.to_owned()),
                Some(("pull", "always")) => choice.pull = Pull::Always,
                Some(("pull", "missing")) => choice.pull = Pull::Missing,
                Some(("pull", "never")) => choice.pull = Pull::Never,
                Some(("reach", "bridge")) => choice.bridge = true,
                _ => return Err(format!("`{option}` says nothing about a sandbox: {FORMS}")),
            }
        }
        Ok(Self::Docker(choice))
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=100).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandboxes_are_named_by_provider_and_image() {
        assert_eq!("local".parse(), Ok(Choice::Local));
        let parsed = "docker:registry.example.com:5000/a/b@sha256:00?runtime=runsc&pull=never";
        let wanted = DockerChoice {
            image: "registry.example.com:5000/a/b@sha256:00".to_owned(),
            runtime: Some("runsc".to_owned()),
            pull: Pull::Never,
            bridge: false,
        };
        assert_eq!(parsed.parse(), Ok(Choice::Docker(wanted)));
        for bad in [
            "",
            "docker",
            "docker:",
            "docker:?pull=never",
            "podman:x",
            "docker:a b",
            "docker:a\u{1b}",
            "docker:x?pull=maybe",
            "docker:x?runtime=",
            "docker:x?runtime=a/b",
            "docker:x?y",
            "Local",
        ] {
            let refused = bad.parse::<Choice>().unwrap_err();
            assert!(refused.contains("docker:IMAGE"), "{bad}: {refused}");
        }
    }
}
