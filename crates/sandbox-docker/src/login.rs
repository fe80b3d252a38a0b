//! Who says to registries that he may have an image.
//!
//! The engine fetches images, and is told the login with the request; nobody else is, and nothing
//! of it is kept.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bollard::BollardRequest;
use bollard::auth::DockerCredentials;
use hyper::header::HeaderValue;
use moat_core::Secret;

/// The registry of images whose name tells none.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// What [`DEFAULT_REGISTRY`] is called towards engines, and in Docker's own files.
pub const DEFAULT_REGISTRY_URL: &str = "https://index.docker.io/v1/";

/// The header that a login is told in.
const HEADER: &str = "x-registry-auth";

/// A login at a registry.
#[derive(Clone, Debug)]
pub struct RegistryLogin {
    /// The user; empty with a token that says who it is of.
    pub user: String,
    /// What proves it.
    pub proof: Proof,
    /// Where it was found, for errors: such as a path.
    pub from: String,
}

/// What proves who somebody is. Not shown in any text.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A password, or a token that stands for one.
    Password(Secret),
    /// A token that the registry's authority exchanges for others.
    IdentityToken(Secret),
    /// A token for the registry itself.
    RegistryToken(Secret),
}

/// Knows logins at registries.
#[async_trait]
pub trait RegistryLogins: Send + Sync {
    /// The login at a registry, `HOST[:PORT]` or [`DEFAULT_REGISTRY`]; `None`: there is none, and
    /// the image has to be a public one. Asked when an image is fetched, and not before.
    ///
    /// # Errors
    /// Why it cannot be told, for people.
    async fn find(&self, registry: &str) -> Result<Option<RegistryLogin>, String>;
}

/// Somebody who knows logins.
pub(crate) type Logins = Arc<dyn RegistryLogins>;

/// The registry that an image is in.
pub(crate) fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some(("index.docker.io", _)) => DEFAULT_REGISTRY,
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => DEFAULT_REGISTRY,
    }
}

/// As an engine wants to be told.
pub(crate) fn told(registry: &str, login: &RegistryLogin) -> DockerCredentials {
    let is_default = registry == DEFAULT_REGISTRY;
    let address = if is_default { DEFAULT_REGISTRY_URL } else { registry };
    let mut told = DockerCredentials {
        username: Some(login.user.clone()),
        serveraddress: Some(address.to_owned()),
        ..DockerCredentials::default()
    };
    let (field, secret) = match &login.proof {
        Proof::Password(secret) => (&mut told.password, secret),
        Proof::IdentityToken(secret) => (&mut told.identitytoken, secret),
        Proof::RegistryToken(secret) => (&mut told.registrytoken, secret),
    };
    *field = Some(secret.expose().to_owned());
    told
}

/// The client writes a login in base64's usual alphabet, and engines read the one for addresses:
/// what has a `+` or `/` in it they take for no login at all.
pub(crate) fn readable(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut(HEADER) {
        let letters = value.as_bytes().iter().map(|letter| match letter {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        });
        if let Ok(mut readable) = HeaderValue::from_bytes(&letters.collect::<Vec<_>>()) {
            readable.set_sensitive(true);
            *value = readable;
        }
    }
    request
}

/// Who was said to be asking, for errors.
pub(crate) struct Asked<'a> {
    pub(crate) registry: &'a str,
    pub(crate) login: Option<&'a RegistryLogin>,
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, login } = self;
        match login {
            Some(RegistryLogin { user, from, .. }) if user.is_empty() => {
                write!(f, "asked with the token for {registry} in {from}")
            }
            Some(RegistryLogin { user, from, .. }) => {
                write!(f, "asked as `{user}`, the login for {registry} in {from}")
            }
            None => write!(f, "asked without a login: `docker login {registry}` makes one"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_its_registry() {
        for (image, registry) in [
            ("debian:12", DEFAULT_REGISTRY),
            ("library/debian", DEFAULT_REGISTRY),
            ("docker.io/library/debian", DEFAULT_REGISTRY),
            ("index.docker.io/library/debian", DEFAULT_REGISTRY),
            ("localhost/a", "localhost"),
            ("localhost:5000/a/b:1", "localhost:5000"),
            ("ghcr.io/a/b@sha256:00", "ghcr.io"),
        ] {
            assert_eq!(registry_of(image), registry, "{image}");
        }
    }

    #[test]
    fn nothing_of_a_login_is_shown() {
        let proof = Proof::Password(Secret::new("hunter2-hunter2"));
        let (user, from) = ("ada".to_owned(), "a file".to_owned());
        let login = RegistryLogin { user, proof, from };
        let asked = Asked { registry: "r.example", login: Some(&login) };
        let shown = format!("{login:?} {asked}");
        assert!(shown.contains("ada") && !shown.contains("hunter2"), "{shown}");
        assert_eq!(told("r.example", &login).password.as_deref(), Some("hunter2-hunter2"));
    }
}
