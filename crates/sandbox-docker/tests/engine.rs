//! What is the engine's: images, hardening, reattaching, errors, the reaper.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use moat_core::{CallKey, Epoch, RunId, Seq};
use moat_sandbox::{
    Command, GuestError, ProcessEvent, Provider as _, Root, Sandbox, SandboxError, SandboxSpec,
};
use moat_sandbox_docker::{DockerError, Endpoint, PullPolicy};
use support::{EMPTY, SYSTEM};

fn spec() -> SandboxSpec {
    let orphan_grace = Duration::from_secs(60);
    SandboxSpec { orphan_grace, ..SandboxSpec::new(RunId::generate(), Epoch(1)) }
}

/// What a command says on both streams, and how it ends.
async fn run(sandbox: &dyn Sandbox, argv: &[&str]) -> (i32, String) {
    let key = CallKey { run: RunId::generate(), seq: Seq(1), index: 0, attempt: 1 };
    let command = Command {
        key,
        argv: argv.iter().map(|text| (*text).to_owned()).collect(),
        cwd: PathBuf::from("/workspace"),
        environment: BTreeMap::new(),
        tty: None,
        user: None,
    };
    let guest = sandbox.guest();
    guest.start(&command).await.unwrap();
    let mut events = guest.attach(key, 0).await.unwrap();
    let mut said = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            ProcessEvent::Output { bytes, .. } => said.extend(bytes),
            ProcessEvent::Exited(exit) => {
                return (exit.code, String::from_utf8_lossy(&said).into_owned());
            }
            ProcessEvent::Disconnected => panic!("the connection ended"),
        }
    }
    panic!("nothing more was heard");
}

async fn sh(sandbox: &dyn Sandbox, script: &str) -> (i32, String) {
    run(sandbox, &["/bin/sh", "-c", script]).await
}

#[tokio::test]
async fn an_image_without_a_shell_or_a_file() {
    let Some(endpoint) = support::engine("an_image_without_a_shell_or_a_file") else { return };
    support::images(&endpoint).await;
    let top = tempfile::tempdir().unwrap();
    for bridge in [false, true] {
        let provider =
            support::provider(&endpoint, top.path(), EMPTY, |options| options.bridge = bridge);
        let sandbox = provider.create(&spec()).await.unwrap();
        let guest = sandbox.guest();
        guest.write(Root::Workspace, Path::new("a/b"), b"content", 0o640).await.unwrap();
        let entries = guest.scan(Root::Workspace, &[]).await.unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.path.clone()).collect();
        assert_eq!(names, [Path::new(""), Path::new("a"), Path::new("a/b")]);
        assert_eq!(entries.last().unwrap().stat.uid, 1000);
        let (code, said) = run(&*sandbox, &["/bin/sh", "-c", "true"]).await;
        assert_eq!((code, said.contains("not found")), (127, true), "{said}");
        provider.destroy(&sandbox.handle()).await.unwrap();
    }
}

#[tokio::test]
async fn commands_have_nothing_that_they_do_not_need() {
    let test = "commands_have_nothing_that_they_do_not_need";
    let Some(endpoint) = support::engine(test) else { return };
    support::images(&endpoint).await;
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(&endpoint, top.path(), SYSTEM, |_| {});
    let sandbox = provider.create(&spec()).await.unwrap();
    let said = |script: &'static str| async { sh(&*sandbox, script).await };
    let (_, status) = said("cat /proc/self/status").await;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "Uid:\t1000\t1000\t1000\t1000",
    ] {
        assert!(status.contains(line), "`{line}` is not in {status}");
    }
    for (what, script) in [
        ("write the root", "touch /x || touch /etc/x || touch /usr/x || touch /home/x"),
        ("see what is the guest's", "ls /.moat || ls /moat/private || cat /moat/private/run/*"),
        ("write outputs", "touch /moat/outputs/x || touch /moat/x"),
        ("end the guest", "kill -9 1"),
        ("look into the guest", "cat /proc/1/environ || ls -l /proc/1/fd || cat /proc/1/mem"),
        ("change the kernel", "echo 1 > /proc/sys/vm/drop_caches || echo b > /proc/sysrq-trigger"),
    ] {
        let (code, heard) = sh(&*sandbox, &format!("( {script} ) 2>&1")).await;
        assert_ne!(code, 0, "a command can {what}: {heard}");
    }
    let (_, devices) = said("echo /sys/class/net/*").await;
    assert_eq!(devices.trim(), "/sys/class/net/lo");
    let (_, who) =
        said("id -un; id -gn; echo $HOME $USER; touch ~/x /tmp/x /var/tmp/x && echo ok").await;
    assert_eq!(who, "agent\nagent\n/home/agent agent\nok\n");
    let inspected = support::docker(&endpoint).await;
    let id = sandbox.handle()["id"].as_str().unwrap().to_owned();
    let found = inspected.inspect_container(&format!("moat-{id}"), None).await.unwrap();
    let environment = found.config.unwrap().env.unwrap_or_default();
    assert!(environment.iter().all(|variable| !variable.contains("MOAT")), "{environment:?}");
    provider.destroy(&sandbox.handle()).await.unwrap();
}

#[tokio::test]
async fn a_bridge_is_no_command() {
    let Some(endpoint) = support::engine("a_bridge_is_no_command") else { return };
    support::images(&endpoint).await;
    let top = tempfile::tempdir().unwrap();
    let provider =
        support::provider(&endpoint, top.path(), SYSTEM, |options| options.bridge = true);
    let sandbox = provider.create(&spec()).await.unwrap();
    // Freezing everything and killing everything leaves the way here.
    sandbox.pause().await.unwrap();
    sandbox.resume().await.unwrap();
    assert!(!sandbox.guest().freeze().await.unwrap());
    sandbox.guest().thaw().await.unwrap();
    let key = CallKey { run: RunId::generate(), seq: Seq(9), index: 0, attempt: 1 };
    let forever = Command {
        key,
        argv: ["/bin/sh", "-c", "(sleep 300 &) ; sleep 300"].map(str::to_owned).into(),
        cwd: PathBuf::from("/"),
        environment: BTreeMap::new(),
        tty: None,
        user: None,
    };
    sandbox.guest().start(&forever).await.unwrap();
    assert!(sandbox.guest().freeze().await.unwrap());
    sandbox.guest().thaw().await.unwrap();
    sandbox.guest().release(key).await.unwrap();
    let (code, said) = sh(&*sandbox, "kill -9 -1; echo alive").await;
    assert_eq!((code, said.as_str()), (0, "alive\n"));
    assert_eq!(sh(&*sandbox, "echo well").await, (0, "well\n".to_owned()));
    provider.destroy(&sandbox.handle()).await.unwrap();
}

#[tokio::test]
async fn ports_are_reached_through_a_bridge() {
    let Some(endpoint) = support::engine("ports_are_reached_through_a_bridge") else { return };
    support::images(&endpoint).await;
    let top = tempfile::tempdir().unwrap();
    let provider =
        support::provider(&endpoint, top.path(), SYSTEM, |options| options.bridge = true);
    let sandbox = provider.create(&spec()).await.unwrap();
    let refused = sandbox.connect(1).await.err();
    let is_refusal = matches!(
        &refused,
        Some(SandboxError::Guest(GuestError::Os { errno: 111, path, .. })) if path == "127.0.0.1:1"
    );
    assert!(is_refusal, "{refused:?}");
    let network = sandbox.network().await.err();
    let is_unsupported = matches!(network, Some(SandboxError::Guest(GuestError::Unsupported(_))));
    assert!(is_unsupported, "{network:?}");
    provider.destroy(&sandbox.handle()).await.unwrap();
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let Some(endpoint) = support::engine("errors_say_what_to_do") else { return };
    support::images(&endpoint).await;
    let top = tempfile::tempdir().unwrap();
    let refused = |provider: moat_sandbox_docker::DockerProvider| async move {
        provider.create(&spec()).await.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let missing = support::provider(&endpoint, top.path(), "moat-test-absent:1", |_| {});
    let said = refused(missing).await;
    assert!(said.contains("docker pull moat-test-absent:1"), "{said}");

    let pulled = support::provider(&endpoint, top.path(), "127.0.0.1:1/absent:1", |options| {
        options.pull = PullPolicy::Missing;
    });
    let said = refused(pulled).await;
    assert!(said.contains("cannot fetch the image `127.0.0.1:1/absent:1`"), "{said}");

    let strange = support::provider(&endpoint, top.path(), SYSTEM, |options| {
        options.runtime = Some("no-such-runtime".to_owned());
    });
    let said = refused(strange).await;
    assert!(said.contains("no runtime `no-such-runtime`") && said.contains("runc"), "{said}");

    let nobody = Endpoint::Unix(top.path().join("no.sock"));
    let nobody = support::provider(&nobody, top.path(), SYSTEM, |_| {});
    assert!(matches!(nobody.facts().await, Err(DockerError::NoEngine { .. })));
    assert!(refused(nobody).await.contains("DOCKER_HOST"));
    let silent = top.path().join("silent.sock");
    drop(std::os::unix::net::UnixListener::bind(&silent).unwrap());
    let silent = support::provider(&Endpoint::Unix(silent), top.path(), SYSTEM, |_| {});
    assert!(matches!(silent.facts().await, Err(DockerError::NoEngine { .. })));
}

#[tokio::test]
async fn a_maker_that_died_leaves_nothing_for_long_and_others_are_left_alone() {
    let test = "a_maker_that_died_leaves_nothing_for_long_and_others_are_left_alone";
    let Some(endpoint) = support::engine(test) else { return };
    support::images(&endpoint).await;
    let (top, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let provider = support::provider(&endpoint, top.path(), SYSTEM, |_| {});
    let stranger = support::provider(&endpoint, other.path(), SYSTEM, |_| {});
    let mine = provider.create(&spec()).await.unwrap();
    // Neither ended by another folder's reaper nor found by its provider.
    assert_eq!(stranger.reap().await.unwrap(), 0);
    assert!(stranger.reattach(&mine.handle(), Epoch(2)).await.unwrap().is_none());
    stranger.destroy(&mine.handle()).await.unwrap();
    assert_eq!(sh(&*mine, "echo well").await.1, "well\n");
    assert!(provider.is_alive(&mine.handle()).await.unwrap());
    // The machine goes, and with it all containers: nothing of them is left.
    let id = mine.handle()["id"].as_str().unwrap().to_owned();
    let docker = support::docker(&endpoint).await;
    let found = docker.inspect_container(&format!("moat-{id}"), None).await.unwrap();
    let volumes: Vec<_> = found.mounts.unwrap().into_iter().filter_map(|m| m.name).collect();
    assert_eq!(volumes.len(), 3, "{volumes:?}");
    docker.kill_container(&format!("moat-{id}"), None).await.unwrap();
    let start = std::time::Instant::now();
    while provider.is_alive(&mine.handle()).await.unwrap() {
        assert!(start.elapsed() < Duration::from_secs(10), "it lives on");
    }
    assert!(provider.reattach(&mine.handle(), Epoch(2)).await.unwrap().is_none());
    provider.destroy(&mine.handle()).await.unwrap();
    for volume in volumes {
        let start = std::time::Instant::now();
        while docker.inspect_volume(&volume).await.is_ok() {
            assert!(start.elapsed() < Duration::from_secs(10), "the volume {volume} is left");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn an_engine_over_tcp_with_tls_on_both_sides() {
    let test = "an_engine_over_tcp_with_tls_on_both_sides";
    let Some(Endpoint::Unix(socket)) = support::engine(test) else { return };
    let folder = socket.parent().unwrap();
    let Ok(address) = std::fs::read_to_string(folder.join("tcp")) else {
        println!("SKIP {test}: the tests' engine listens at no address (it needs openssl)");
        return;
    };
    support::images(&Endpoint::Unix(socket.clone())).await;
    let host = format!("tcp://{}", address.trim());
    let remote = Endpoint::parse(Some(&host), Some(&folder.join("certs")), true).unwrap();
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(&remote, top.path(), SYSTEM, |_| {});
    let sandbox = provider.create(&spec()).await.unwrap();
    let nonce = sandbox.guest().nonce().clone();
    assert_eq!(sandbox.handle()["bridged"], true);
    assert_eq!(sh(&*sandbox, "echo there").await, (0, "there\n".to_owned()));
    let handle = sandbox.handle();
    drop(sandbox);
    let sandbox = provider.reattach(&handle, Epoch(2)).await.unwrap().unwrap();
    assert_eq!(*sandbox.guest().nonce(), nonce);
    provider.destroy(&handle).await.unwrap();

    // Whose certificate is no client's is not let in, and no file is no certificate.
    let Endpoint::Tcp { address, tls: Some(mut tls) } = remote else { panic!("no TLS") };
    tls.key = folder.join("certs/server-key.pem");
    tls.certificate = folder.join("certs/server-cert.pem");
    let stranger = Endpoint::Tcp { address: address.clone(), tls: Some(tls.clone()) };
    let stranger = support::provider(&stranger, top.path(), SYSTEM, |_| {});
    assert!(stranger.facts().await.is_err());
    tls.ca = folder.join("certs/absent.pem");
    let nothing = Endpoint::Tcp { address, tls: Some(tls) };
    let nothing = support::provider(&nothing, top.path(), SYSTEM, |_| {});
    assert!(matches!(nothing.facts().await, Err(DockerError::Certificates { .. })));
}
