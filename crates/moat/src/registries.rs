//! Logins at registries of images, from where `docker login` leaves them: `config.json` of Docker's
//! configuration folder, and the programs that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use moat_core::Secret;
use moat_sandbox_docker::{
    DEFAULT_REGISTRY, DEFAULT_REGISTRY_URL, Proof, RegistryLogin, RegistryLogins,
};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use crate::config::variable;

/// Bytes of the file.
const MAX_FILE: u64 = 1 << 20;
/// Bytes that a program may answer.
const MAX_ANSWER: u64 = 64 << 10;
/// How long a program may take: some ask a person, or a server.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user that a program names whose secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Docker's configuration folder.
#[derive(Clone, Debug)]
pub(crate) struct DockerLogins {
    folder: Option<PathBuf>,
}

/// What of the file is of use here.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Auth>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

/// A login in the file.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// What a program answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Docker's configuration folder, where the environment or the home folder says.
pub(crate) fn docker_folder(user_home: Option<&Path>) -> Option<PathBuf> {
    let named = variable("DOCKER_CONFIG").map(PathBuf::from);
    named.or_else(|| user_home.map(|home| home.join(".docker")))
}

impl DockerLogins {
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }
}

#[async_trait]
impl RegistryLogins for DockerLogins {
    async fn find(&self, registry: &str) -> Result<Option<RegistryLogin>, String> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let path = folder.join("config.json");
        let Some(file) = read(&path).await? else { return Ok(None) };
        let address = if registry == DEFAULT_REGISTRY { DEFAULT_REGISTRY_URL } else { registry };
        let of_registry = file.cred_helpers.iter().find(|(name, _)| host(name) == host(address));
        let program = of_registry.map(|(_, program)| program.as_str());
        let program = program.or(Some(file.creds_store.as_str()).filter(|name| !name.is_empty()));
        if let Some(program) = program {
            return ask(program, address).await;
        }
        let exact = file.auths.get(address);
        let mut others = file.auths.iter().filter(|(name, _)| host(name) == host(address));
        let Some(auth) = exact.or_else(|| others.next().map(|(_, auth)| auth)) else {
            return Ok(None);
        };
        of_file(auth, &path)
    }
}

/// `None`: there is none.
async fn read(path: &Path) -> Result<Option<File>, String> {
    let cannot = |why: String| format!("`{}`: {why}", path.display());
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error.to_string())),
    };
    let text = bounded(file, MAX_FILE).await.map_err(|error| cannot(error.to_string()))?;
    // What it says where is not told: its values are secrets.
    let parsed = serde_json::from_str(&text)
        .map_err(|error| cannot(format!("line {} is not as Docker writes it", error.line())))?;
    Ok(Some(parsed))
}

async fn bounded(from: impl AsyncRead + Unpin, limit: u64) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    from.take(limit + 1).read_to_string(&mut text).await?;
    match text.len() as u64 > limit {
        true => Err(std::io::Error::other(format!("it is longer than {limit} bytes"))),
        false => Ok(text),
    }
}

fn of_file(auth: &Auth, path: &Path) -> Result<Option<RegistryLogin>, String> {
    let from = format!("`{}`", path.display());
    let mut user = auth.username.clone();
    let mut password = Zeroizing::new(auth.password.clone());
    if !auth.auth.is_empty() {
        let bytes = STANDARD.decode(&auth.auth).map(Zeroizing::new).ok();
        let text = bytes.and_then(|bytes| {
            let text = std::str::from_utf8(&bytes).ok()?;
            let (user, password) = text.split_once(':')?;
            Some((user.to_owned(), Zeroizing::new(password.trim_end_matches('\0').to_owned())))
        });
        (user, password) = text.ok_or(format!("{from}: a value of `auth` is not USER:PASSWORD"))?;
    }
    let proof = if !auth.identitytoken.is_empty() {
        Proof::IdentityToken(Secret::new(auth.identitytoken.as_str()))
    } else if !auth.registrytoken.is_empty() {
        Proof::RegistryToken(Secret::new(auth.registrytoken.as_str()))
    } else if password.is_empty() {
        return Ok(None);
    } else {
        Proof::Password(Secret::new(password.as_str()))
    };
    Ok(Some(RegistryLogin { user, proof, from }))
}

/// Has a program of the kind `docker-credential-NAME` tell a login.
async fn ask(name: &str, address: &str) -> Result<Option<RegistryLogin>, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err("Docker's config.json names a credential program that cannot be one".to_owned());
    }
    ask_program(&format!("docker-credential-{name}"), address).await
}

async fn ask_program(program: &str, address: &str) -> Result<Option<RegistryLogin>, String> {
    let (done, text) = tokio::time::timeout(PATIENCE, run(program, address))
        .await
        .map_err(|_| format!("`{program}` took longer than {} s", PATIENCE.as_secs()))?
        .map_err(|error| format!("`{program}`, which Docker's config.json names: {error}"))?;
    if !done {
        // The protocol has no other way to say it.
        if text.contains("credentials not found") {
            return Ok(None);
        }
        let said: String = text.trim().chars().take(300).collect();
        return Err(format!("`{program} get` failed: {said}"));
    }
    let answer: Answer = serde_json::from_str(&text)
        .map_err(|_| format!("`{program} get` answered something else than a login"))?;
    let secret = Secret::new(answer.secret);
    let (user, proof) = match answer.username == TOKEN_USER {
        true => (String::new(), Proof::IdentityToken(secret)),
        false => (answer.username, Proof::Password(secret)),
    };
    Ok(Some(RegistryLogin { user, proof, from: format!("`{program}`") }))
}

/// Whether it succeeded, and what it printed.
async fn run(program: &str, address: &str) -> std::io::Result<(bool, Zeroizing<String>)> {
    let mut command = tokio::process::Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read needs nothing to be told.
        let _ = input.write_all(format!("{address}\n").as_bytes()).await;
    }
    let text = match child.stdout.take() {
        Some(printed) => bounded(printed, MAX_ANSWER).await?,
        None => Zeroizing::default(),
    };
    Ok((child.wait().await?.success(), text))
}

/// `https://HOST/v1/` without what is around the host.
fn host(address: &str) -> &str {
    let rest = ["https://", "http://"].iter().find_map(|scheme| address.strip_prefix(scheme));
    rest.unwrap_or(address).split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    async fn found(config: &str, registry: &str) -> Result<Option<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let login = DockerLogins::new(Some(folder.path().to_owned())).find(registry).await?;
        Ok(login.map(|login| match login.proof {
            Proof::Password(secret) => format!("{}:{}", login.user, secret.expose()),
            Proof::IdentityToken(secret) => format!("{}:identity {}", login.user, secret.expose()),
            Proof::RegistryToken(secret) => format!("{}:registry {}", login.user, secret.expose()),
        }))
    }

    #[tokio::test]
    async fn a_login_is_found_as_docker_finds_it() {
        let config = r#"{ "auths": {
            "https://index.docker.io/v1/": { "auth": "aHViOnBhc3M6d29yZA==" },
            "r.example:5000": { "auth": "YWRhOng=" },
            "https://old.example/v2/": { "username": "old", "password": "p" },
            "token.example": { "auth": "dTpw", "identitytoken": "i" },
            "empty.example": {}, "broken.example": { "auth": "?!" }
        }, "HttpHeaders": {} }"#;
        for (registry, login) in [
            (DEFAULT_REGISTRY, Some("hub:pass:word")),
            ("r.example:5000", Some("ada:x")),
            ("r.example", None),
            ("old.example", Some("old:p")),
            ("token.example", Some("u:identity i")),
            ("empty.example", None),
        ] {
            assert_eq!(found(config, registry).await, Ok(login.map(str::to_owned)), "{registry}");
        }
        assert!(found(config, "broken.example").await.unwrap_err().contains("USER:PASSWORD"));
        let broken = found("{ \"auths\": { \"a\": { \"auth\": 7seven", "a").await.unwrap_err();
        assert!(broken.contains("line 1") && !broken.contains("seven"), "{broken}");
        assert_eq!(DockerLogins::new(None).find("a").await.unwrap().map(|login| login.user), None);
    }

    #[tokio::test]
    async fn a_program_tells_logins_and_why_it_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("docker-credential-moat-test");
        let script = "#!/bin/sh\nread server\ncase $server in\n\
            good) echo '{\"ServerURL\":\"good\",\"Username\":\"ada\",\"Secret\":\"s\"}';;\n\
            token) echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}';;\n\
            none) echo 'credentials not found in native keychain'; exit 1;;\n\
            odd) echo secret-of-somebody;;\n\
            *) echo locked; exit 1;; esac\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = program.to_str().unwrap();
        let asked = async |server| ask_program(program, server).await;
        let good = asked("good").await.unwrap().unwrap();
        assert!(
            good.user == "ada" && matches!(good.proof, Proof::Password(s) if s.expose() == "s")
        );
        let token = asked("token").await.unwrap().unwrap();
        assert!(matches!(token.proof, Proof::IdentityToken(token) if token.expose() == "t"));
        assert!(asked("none").await.unwrap().is_none());
        assert!(asked("closed").await.unwrap_err().contains("locked"));
        let odd = asked("odd").await.unwrap_err();
        assert!(odd.contains("something else") && !odd.contains("secret-of"), "{odd}");
        let absent = ask("moat-test-absent", "a").await.unwrap_err();
        assert!(absent.contains("docker-credential-moat-test-absent"), "{absent}");
        let escaping = found(r#"{ "credsStore": "../../bin/sh" }"#, "a").await.unwrap_err();
        assert!(escaping.contains("cannot be one"), "{escaping}");
    }
}
