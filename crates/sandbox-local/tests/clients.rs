//! Programs that people use reach a host with a token that they never have: through the proxy's
//! variables and without them, with the certificate authority that the sandbox trusts.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

#[path = "clients/host.rs"]
mod host;
#[path = "clients/packages.rs"]
mod packages;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use host::{Host, VALUE};
use moat_core::{EgressDecision, Secret};
use moat_egress::policy::{Level, NetworkPolicy, Policy};
use moat_egress::secret::{LineageKey, SecretSet};
use moat_egress::{
    AddressRange, Authority, Egress, EgressOptions, EgressSockets, Upstream, UpstreamOptions,
    addresses_of,
};
use moat_sandbox::{NetworkSpec, Provider as _, Root};
use support::inside::Inside;

#[test]
fn clients_use_a_token_that_they_do_not_have_as_root() {
    let name = "clients_use_a_token_that_they_do_not_have_as_root";
    support::as_root(name, || on_runtime(clients(name)));
}

#[test]
fn clients_use_a_token_that_they_do_not_have_as_ordinary_user() {
    let name = "clients_use_a_token_that_they_do_not_have_as_ordinary_user";
    support::as_ordinary_user(name, || on_runtime(clients(name)));
}

fn on_runtime(body: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body);
}

/// How each program asks for `https://api.test/NAME` with the token, ignoring proxies. The first
/// word that is looked for says whether the program is there.
const DIRECT: &[(&str, &str, &str)] = &[
    (
        "curl",
        "command -v curl",
        "curl -sS --noproxy '*' -H \"Authorization: Bearer $TOKEN\" https://api.test/curl",
    ),
    (
        "curl-http1",
        "command -v curl",
        "curl -sS --http1.1 --noproxy '*' -H \"Authorization: Bearer $TOKEN\" \
         https://api.test/curl-http1",
    ),
    (
        "urllib",
        "python3 --version",
        "python3 -c 'import os, urllib.request as r\n\
         q = r.Request(\"https://api.test/urllib\", headers={\"Authorization\": \"Bearer \" + os.environ[\"TOKEN\"]})\n\
         print(r.build_opener(r.ProxyHandler({})).open(q, timeout=20).read().decode())'",
    ),
    (
        "requests",
        "PYTHONPATH=/workspace/site python3 -c 'import requests'",
        "PYTHONPATH=/workspace/site python3 -c 'import os, requests\n\
         s = requests.Session(); s.trust_env = False; s.verify = os.environ[\"REQUESTS_CA_BUNDLE\"]\n\
         print(s.get(\"https://api.test/requests\", timeout=20, headers={\"Authorization\": \"Bearer \" + os.environ[\"TOKEN\"]}).text)'",
    ),
    (
        "node",
        "node --version",
        "env -u HTTP_PROXY -u HTTPS_PROXY -u http_proxy -u https_proxy node -e '\
         fetch(\"https://api.test/node\", {headers: {authorization: \"Bearer \" + process.env.TOKEN}})\
         .then(r => r.text()).then(t => console.log(t), e => { console.log(e); process.exit(1) })'",
    ),
    ("java", "command -v javac", "java /workspace/Fetch.java 2>&1"),
];

/// The same through the proxy's variables.
const PROXIED: &[(&str, &str, &str)] = &[
    (
        "curl",
        "command -v curl",
        "curl -sS -H \"Authorization: Bearer $TOKEN\" https://api.test/curl",
    ),
    (
        "urllib",
        "python3 --version",
        "python3 -c 'import os, urllib.request as r\n\
         q = r.Request(\"https://api.test/urllib\", headers={\"Authorization\": \"Bearer \" + os.environ[\"TOKEN\"]})\n\
         print(r.urlopen(q, timeout=20).read().decode())'",
    ),
    (
        "requests",
        "PYTHONPATH=/workspace/site python3 -c 'import requests'",
        "PYTHONPATH=/workspace/site python3 -c 'import os, requests\n\
         print(requests.get(\"https://api.test/requests\", timeout=20, headers={\"Authorization\": \"Bearer \" + os.environ[\"TOKEN\"]}).text)'",
    ),
];

const JAVA: &str = r#"
import java.net.*;
import java.net.http.*;
public class Fetch {
    public static void main(String[] args) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create("https://api.test/java"))
            .header("Authorization", "Bearer " + System.getenv("TOKEN")).build();
        HttpClient client = HttpClient.newBuilder().proxy(HttpClient.Builder.NO_PROXY).build();
        System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
}
"#;

async fn clients(name: &str) {
    let files = tempfile::tempdir().unwrap();
    let has_git = repository(files.path());
    packages::publish(files.path());
    let host = Host::start(files.path().to_owned()).await;
    let document = NetworkPolicy {
        secrets: vec!["TOKEN=env:TOKEN@api.test,git.test".parse().unwrap()],
        ..NetworkPolicy::allowing(["api.test", "git.test", "tunnel.test"]).unwrap()
    };
    let policy = Policy::compose([(Level::Run, document)]).unwrap();
    let values = BTreeMap::from([("TOKEN".to_owned(), Secret::new(VALUE))]);
    let secrets = SecretSet::new(policy.secrets(), &LineageKey::new([3; 32]), values).unwrap();
    let authority = Arc::new(Authority::generate().unwrap());
    let plan = policy.ports();
    let addresses = addresses_of(AddressRange::SYNTHETIC, &plan.single).unwrap();
    let trusted = authority.certificate_pem().into_bytes();
    let made = Inside::with(
        // Whose tool chains are shown: Cargo is in a home.
        |options| options.home = std::env::var_os("HOME").map(PathBuf::from),
        |spec| {
            spec.environment = secrets.environment();
            spec.network = Some(NetworkSpec {
                ports: plan.every.into_iter().collect(),
                addresses,
                authority: Some(trusted),
                ssh_agent: false,
            });
        },
    );
    let inside = made.await.unwrap();
    let egress = start(&inside, &host, policy, secrets.clone(), authority).await;
    inside
        .guest
        .write(Root::Workspace, Path::new("Fetch.java"), JAVA.as_bytes(), 0o644)
        .await
        .unwrap();

    bring_requests(&inside).await;

    for (client, probe, script) in DIRECT {
        fetches(name, &inside, &host, client, probe, script).await;
    }
    for (client, probe, script) in PROXIED {
        fetches(name, &inside, &host, client, probe, script).await;
    }
    if has_git {
        clones(&inside).await;
    } else {
        support::skip(name, "this host has no git");
    }
    for manager in &packages::MANAGERS {
        packages::installs(name, &inside, manager).await;
    }
    tunnels(&inside, &host).await;
    is_refused(&inside).await;
    check(&egress.take_decisions().decisions);
    inside.provider.destroy(&inside.sandbox.handle()).await.unwrap();
}

/// Copies Python's `requests` from where this host's own Python has it, which the sandbox need not
/// see.
async fn bring_requests(inside: &Inside) {
    let script = "import requests, urllib3, idna, certifi, charset_normalizer as c\n\
        for m in (requests, urllib3, idna, certifi, c): print(m.__path__[0])";
    let Ok(found) = Command::new("python3").args(["-c", script]).output() else { return };
    for package in String::from_utf8_lossy(&found.stdout).lines() {
        let package = Path::new(package);
        let mut folders = vec![package.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let extension = path.extension().and_then(|extension| extension.to_str());
                if path.is_dir() {
                    folders.push(path);
                } else if matches!(extension, Some("py" | "pem" | "json")) {
                    let inner = path.strip_prefix(package.parent().unwrap()).unwrap();
                    let content = std::fs::read(&path).unwrap();
                    let to = Path::new("site").join(inner);
                    inside.guest.write(Root::Workspace, &to, &content, 0o644).await.unwrap();
                }
            }
        }
    }
}

async fn start(
    inside: &Inside,
    host: &Host,
    policy: Policy,
    secrets: SecretSet,
    authority: Arc<Authority>,
) -> Egress {
    let extra_ca = Some(host.authority.clone());
    let options = UpstreamOptions { extra_ca, ..UpstreamOptions::default() };
    let upstream = Upstream::with_reach(&options, host.reach()).unwrap();
    let handed = inside.sandbox.network().await.unwrap();
    let sockets = EgressSockets { tcp: handed.tcp, dns: handed.dns, ssh_agent: handed.ssh_agent };
    let options = EgressOptions { secrets, ..EgressOptions::new(policy, authority, upstream) };
    Egress::start(sockets, options).unwrap()
}

/// The program gets its answer, the host got the value, and the program did not see it.
async fn fetches(
    name: &str,
    inside: &Inside,
    host: &Host,
    client: &str,
    probe: &str,
    script: &str,
) {
    if inside.sh(&format!("{probe} >/dev/null 2>&1")).await.0 != 0 {
        support::skip(name, &format!("there is no {client} inside"));
        return;
    }
    host.seen.lock().unwrap().clear();
    let started = std::time::Instant::now();
    let (code, said) = inside.sh(&format!("{script} 2>&1")).await;
    assert!(
        code == 0 && said.contains(&format!("hello /{client} Bearer moat")),
        "{client}: {said}"
    );
    assert!(!said.contains(VALUE), "{client} saw the value: {said}");
    let seen = host.seen.lock().unwrap().clone();
    assert_eq!(seen, [(format!("/{client}"), format!("Bearer {VALUE}"))], "{client}");
    println!("ok {client}: {} ms", started.elapsed().as_millis());
}

/// A repository as files that git fetches one by one.
fn repository(files: &Path) -> bool {
    let git = |folder: &Path, arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(folder).args(["-c", "user.name=x", "-c", "user.email=x@x.test"]);
        git.args(arguments).output().is_ok_and(|output| output.status.success())
    };
    let work: PathBuf = files.join("work");
    std::fs::create_dir(&work).unwrap();
    git(&work, &["init", "-q"])
        && std::fs::write(work.join("file"), "content\n").is_ok()
        && git(&work, &["add", "file"])
        && git(&work, &["commit", "-qm", "one"])
        && git(files, &["clone", "-q", "--bare", "work", "repository.git"])
        && git(&files.join("repository.git"), &["update-server-info"])
}

async fn clones(inside: &Inside) {
    let script = "cd /workspace && git clone -q https://user:$TOKEN@git.test/files/repository.git \
        cloned 2>&1 && cat cloned/file";
    let (code, said) = inside.sh(script).await;
    assert!(code == 0 && said.ends_with("content\n"), "git: {said}");
    println!("ok git clone");
}

/// A host without secrets is not opened: the program sees the host's own certificate, which it does
/// not know here.
async fn tunnels(inside: &Inside, host: &Host) {
    host.seen.lock().unwrap().clear();
    let (code, said) = inside.sh("curl -sS --noproxy '*' https://tunnel.test/x 2>&1").await;
    assert!(code == 60, "{code} {said}");
    let (code, said) = inside.sh("curl -sSk --noproxy '*' https://tunnel.test/x 2>&1").await;
    assert!(code == 0 && said.contains("hello /x"), "{code} {said}");
}

async fn is_refused(inside: &Inside) {
    let (code, said) = inside.sh("curl -sS --noproxy '*' https://denied.test/x 2>&1").await;
    assert!(
        code == 0 && said.contains("denied: denied.test; allow with `--net denied.test`"),
        "{said}"
    );
    let (code, said) = inside.sh("curl -sS https://denied.test/x 2>&1").await;
    assert!(code != 0 && said.contains("403"), "{code} {said}");
    let (code, said) = inside.sh("curl -sS http://denied.test/x 2>&1").await;
    assert!(code == 0 && said.contains("allow with `--net denied.test`"), "{said}");
    let (code, said) = inside.sh("curl -sS -m 5 --noproxy '*' http://93.184.216.34/ 2>&1").await;
    assert!(code == 7, "{code} {said}");
}

fn check(decisions: &[EgressDecision]) {
    let text = format!("{decisions:?}");
    assert!(!text.contains(VALUE), "a value stands in a decision: {text}");
    let is_decided = |host: &str, allowed: bool| {
        decisions.iter().any(|one| one.host == host && one.allowed == allowed)
    };
    assert!(is_decided("api.test", true) && is_decided("denied.test", false), "{text}");
    let with_secret = decisions.iter().filter(|one| one.secrets == ["TOKEN"]);
    assert!(with_secret.count() >= 2, "{text}");
}
