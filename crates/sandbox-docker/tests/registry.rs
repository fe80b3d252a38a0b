//! The engine is told a login when it fetches an image, and errors say as whom it asked.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use moat_core::{Epoch, RunId, Secret};
use moat_sandbox::{Provider as _, SandboxSpec};
use moat_sandbox_docker::{Proof, PullPolicy, RegistryLogin, RegistryLogins};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// `ada:` and a password with everything that base64's two alphabets differ in.
const PASSWORD: &str = "~~~>>>???\u{e9}~?>";
const AUTHORIZATION: &str = "Basic YWRhOn5+fj4+Pj8/P8Opfj8+";

/// Logins of a test, which notes what it was asked for.
struct Logins {
    login: Result<Option<&'static str>, &'static str>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl RegistryLogins for Logins {
    async fn find(&self, registry: &str) -> Result<Option<RegistryLogin>, String> {
        self.asked.lock().unwrap().push(registry.to_owned());
        let login = self.login.map_err(str::to_owned)?;
        Ok(login.map(|password| RegistryLogin {
            user: "ada".to_owned(),
            proof: Proof::Password(Secret::new(password)),
            from: "`a test`".to_owned(),
        }))
    }
}

/// A registry that has nothing, and says so to those who log in.
async fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut may = false;
        let mut asked = String::new();
        if stream.read_line(&mut asked).await? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            match line.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                    may |= value == AUTHORIZATION;
                }
                Some(_) => {}
                None => break,
            }
        }
        let (status, code) = if may {
            ("404 Not Found", "MANIFEST_UNKNOWN")
        } else {
            ("401 Unauthorized", "UNAUTHORIZED")
        };
        // Whoever asks for the head of something gets no body.
        let body = match asked.starts_with("HEAD") {
            true => String::new(),
            false => format!(r#"{{"errors":[{{"code":"{code}","message":"said so"}}]}}"#),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nWWW-Authenticate: Basic realm=\"test\"\r\n\
             Docker-Distribution-Api-Version: registry/2.0\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await?;
    }
}

#[tokio::test]
async fn the_engine_asks_registries_with_the_login_that_is_there() {
    let test = "the_engine_asks_registries_with_the_login_that_is_there";
    let Some(endpoint) = support::engine(test) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(answer(stream));
        }
    });
    let top = tempfile::tempdir().unwrap();
    let fails = async |login, pull| {
        let logins = Arc::new(Logins { login, asked: Mutex::default() });
        let image = format!("{registry}/team/secret:1");
        let provider = support::provider(&endpoint, top.path(), &image, |options| {
            options.pull = pull;
            options.logins = Some(logins.clone());
        });
        let spec = SandboxSpec::new(RunId::generate(), Epoch(1));
        let error = provider.create(&spec).await.err().unwrap().to_string();
        assert!(!error.contains(PASSWORD), "{error}");
        let asked = std::mem::take(&mut *logins.asked.lock().unwrap());
        assert!(asked.iter().all(|asked| *asked == registry), "{asked:?}");
        (error, asked.len())
    };
    for pull in [PullPolicy::Missing, PullPolicy::Always] {
        let (let_in, asked) = fails(Ok(Some(PASSWORD)), pull).await;
        assert!(let_in.contains("manifest unknown") && let_in.contains("`ada`"), "{let_in}");
        let (wrong, _) = fails(Ok(Some("wrong")), pull).await;
        let names_it = format!("asked as `ada`, the login for {registry} in `a test`");
        assert!(wrong.contains("unauthorized") && wrong.contains(&names_it), "{wrong}");
        let (without, _) = fails(Ok(None), pull).await;
        assert!(without.contains(&format!("`docker login {registry}` makes one")), "{without}");
        let (unknown, _) = fails(Err("the file is broken"), pull).await;
        assert!(unknown.contains(&registry) && unknown.contains("the file is broken"), "{unknown}");
        assert_eq!(asked, 1);
    }
    // Where nothing is fetched, nobody is asked.
    let (never, asked) = fails(Ok(Some(PASSWORD)), PullPolicy::Never).await;
    assert!(never.contains("pull=never") && asked == 0, "{never}");
    serving.abort();
}
