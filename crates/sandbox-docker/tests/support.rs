//! The engine of the tests, and images for it.
#![allow(dead_code, reason = "not every test uses everything")]
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::Path;
use std::process::{Command, Stdio};

use bollard::Docker;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt as _;
use moat_sandbox_docker::{DockerOptions, DockerProvider, Endpoint, PullPolicy};

/// Programs that checks use, of this machine.
const PROGRAMS: [&str; 46] = [
    "bash", "sh", "cat", "ls", "mkdir", "rmdir", "rm", "cp", "mv", "ln", "chmod", "chown", "chgrp",
    "touch", "stat", "head", "tail", "wc", "tr", "sleep", "id", "echo", "printf", "env", "seq",
    "dd", "stty", "kill", "sort", "true", "false", "test", "readlink", "sync", "truncate",
    "mkfifo", "su", "setpriv", "pwd", "date", "grep", "sed", "find", "ps", "xargs", "setsid",
];

/// Programs that are busybox's, where there is one: those of newer systems ask kernels for what
/// gVisor's of 2022 does not know.
const OF_BUSYBOX: [&str; 2] = ["ls", "stat"];
const BUSYBOX: &str = "/bin/busybox";

/// An image with a shell and the usual small programs.
pub(crate) const SYSTEM: &str = "moat-test-system:4";
/// An image without anything.
pub(crate) const EMPTY: &str = "moat-test-empty:1";

/// Where the tests' engine is. Says that a test is skipped where there is none.
pub(crate) fn engine(test: &str) -> Option<Endpoint> {
    let Ok(host) = std::env::var("MOAT_TEST_DOCKER") else {
        println!("SKIP {test}: no Docker engine for tests (scripts/test starts one, as root)");
        return None;
    };
    Some(Endpoint::parse(Some(&host), None, false).unwrap())
}

/// The same with a runtime that it has.
pub(crate) async fn engine_with(test: &str, runtime: &str) -> Option<Endpoint> {
    let endpoint = engine(test)?;
    let top = tempfile::tempdir().unwrap();
    let facts = provider(&endpoint, top.path(), EMPTY, |_| {}).facts().await.unwrap();
    if facts.runtimes.contains(runtime) {
        return Some(endpoint);
    }
    println!("SKIP {test}: the engine has no runtime `{runtime}` (Debian: {runtime})");
    None
}

/// A provider of sandboxes on an image of the tests.
pub(crate) fn provider(
    endpoint: &Endpoint,
    state: &Path,
    image: &str,
    change: impl FnOnce(&mut DockerOptions),
) -> DockerProvider {
    let mut options = DockerOptions::new(endpoint.clone(), state.join("docker"), image);
    options.pull = PullPolicy::Never;
    change(&mut options);
    DockerProvider::new(options).unwrap()
}

/// The engine without the provider.
pub(crate) async fn docker(endpoint: &Endpoint) -> Docker {
    let Endpoint::Unix(path) = endpoint else { panic!("the tests' engine is on this machine") };
    let path = path.to_string_lossy();
    let docker = Docker::connect_with_unix(&path, 120, bollard::API_DEFAULT_VERSION).unwrap();
    docker.negotiate_version().await.unwrap()
}

/// Makes the images of the tests, where they are not there yet.
pub(crate) async fn images(endpoint: &Endpoint) {
    let docker = docker(endpoint).await;
    if docker.inspect_image(SYSTEM).await.is_err() {
        import(&docker, SYSTEM, pack(&system_files())).await;
    }
    if docker.inspect_image(EMPTY).await.is_err() {
        import(&docker, EMPTY, vec![0; 10_240]).await;
    }
}

async fn import(docker: &Docker, name: &str, archive: Vec<u8>) {
    let (repository, tag) = name.split_once(':').unwrap();
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(repository.to_owned()),
        tag: Some(tag.to_owned()),
        ..CreateImageOptions::default()
    };
    let body = bollard::body_full(archive.into());
    let mut progress = docker.create_image(Some(options), Some(body), None);
    while let Some(said) = progress.next().await {
        said.unwrap();
    }
}

/// The programs and the libraries that they need, below `/`.
fn system_files() -> Vec<String> {
    let mut files = std::collections::BTreeSet::new();
    let of_busybox = Path::new(BUSYBOX).exists();
    for program in PROGRAMS {
        if of_busybox && OF_BUSYBOX.contains(&program) {
            continue;
        }
        let Some(path) = ["bin", "usr/bin"]
            .map(|folder| format!("{folder}/{program}"))
            .into_iter()
            .find(|path| Path::new("/").join(path).exists())
        else {
            continue;
        };
        let told = Command::new("ldd").arg(format!("/{path}")).output().unwrap();
        for word in String::from_utf8_lossy(&told.stdout).split_whitespace() {
            if word.starts_with('/') && !word.ends_with(':') {
                files.insert(word.trim_start_matches('/').to_owned());
            }
        }
        files.insert(path);
    }
    for name in ["etc/passwd", "etc/group"] {
        files.insert(name.to_owned());
    }
    files.into_iter().collect()
}

/// Packs files of this machine, and those of busybox.
fn pack(files: &[String]) -> Vec<u8> {
    let top = tempfile::tempdir().unwrap();
    let tar = |arguments: &[&str], files: &[String]| {
        let packed = Command::new("tar").args(arguments).args(files).stderr(Stdio::null()).output();
        let packed = packed.unwrap();
        assert!(packed.status.success(), "tar cannot pack the programs of this machine");
        packed.stdout
    };
    let first = tar(&["-C", "/", "--dereference", "-cf", "-"], files);
    std::fs::write(top.path().join("all.tar"), first).unwrap();
    if Path::new(BUSYBOX).exists() {
        let folder = top.path().join("bin");
        std::fs::create_dir(&folder).unwrap();
        for name in OF_BUSYBOX {
            std::fs::copy(BUSYBOX, folder.join(name)).unwrap();
        }
        let (archive, top) = (top.path().join("all.tar"), top.path().to_str().unwrap());
        let archive = archive.to_str().unwrap();
        tar(&["-C", top, "-rf", archive, "bin"], &[]);
    }
    std::fs::read(top.path().join("all.tar")).unwrap()
}
