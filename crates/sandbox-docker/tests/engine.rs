//! What is the engine's: images, hardening, reattaching, errors, the reaper.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::query_parameters::{ListVolumesOptions, RemoveContainerOptions};
use moat_core::{CallKey, Epoch, RunId, Seq};
use moat_sandbox::{
    Command, GuestError, ProcessEvent, Provider as _, Root, Sandbox, SandboxError, SandboxSpec,
};
use moat_sandbox_docker::{DockerError, Endpoint, PullPolicy, Tls};
use support::{EMPTY, SYSTEM};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
async fn what_somebody_else_removed_is_gone_and_leaves_nothing() {
    let test = "what_somebody_else_removed_is_gone_and_leaves_nothing";
    let Some(endpoint) = support::engine(test) else { return };
    support::images(&endpoint).await;
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(&endpoint, top.path(), SYSTEM, |_| {});
    let (kept, removed) = (provider.create(&spec()).await, provider.create(&spec()).await);
    let (kept, removed) = (kept.unwrap(), removed.unwrap());
    let docker = support::docker(&endpoint).await;
    // As `docker rm -f` does it: with its volumes left behind.
    let id = removed.handle()["id"].as_str().unwrap().to_owned();
    let options = RemoveContainerOptions { force: true, ..RemoveContainerOptions::default() };
    docker.remove_container(&format!("moat-{id}"), Some(options)).await.unwrap();
    assert!(provider.reattach(&removed.handle(), Epoch(2)).await.unwrap().is_none());
    let volumes = async || {
        let filters = [("label".to_owned(), vec![format!("dev.moat.sandbox={id}")])];
        let options = ListVolumesOptions { filters: Some(filters.into()) };
        let listed = docker.list_volumes(Some(options)).await.unwrap();
        listed.volumes.unwrap_or_default().len()
    };
    assert_eq!(volumes().await, 3);
    provider.reap().await.unwrap();
    assert_eq!(volumes().await, 0);
    assert_eq!(sh(&*kept, "echo well > f; cat f").await, (0, "well\n".to_owned()));
    provider.destroy(&removed.handle()).await.unwrap();
    provider.destroy(&kept.handle()).await.unwrap();
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
    let host = found.host_config.unwrap();
    assert_eq!(host.network_mode.as_deref(), Some("none"));
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges:true".to_owned()]));
    assert_eq!((host.readonly_rootfs, host.privileged), (Some(true), Some(false)));
    assert!(host.memory > Some(0) && host.memory_swap == host.memory, "{host:?}");
    assert!(host.pids_limit > Some(0) && host.devices.unwrap_or_default().is_empty());
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

/// A certificate that vouches for nobody here.
fn other_authority(folder: &Path) -> PathBuf {
    let (key, path) = (folder.join("other-key.pem"), folder.join("other.pem"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=other", "-keyout"])
        .args([key.as_os_str(), "-out".as_ref(), path.as_os_str()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    path
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

    // Whoever is not proved is not spoken to, and it is said whose file is to be looked at.
    let Endpoint::Tcp { address, tls: Some(tls) } = remote else { panic!("no TLS") };
    let refused = async |address: &str, tls: Option<Tls>| {
        let endpoint = Endpoint::Tcp { address: address.to_owned(), tls };
        support::provider(&endpoint, top.path(), SYSTEM, |_| {}).facts().await.unwrap_err()
    };
    let file = |name: &str| folder.join("certs").join(name);
    let no_client =
        Tls { certificate: file("server-cert.pem"), key: file("server-key.pem"), ..tls.clone() };
    let stranger = Tls { ca: other_authority(top.path()), ..tls.clone() };
    let absent = Tls { certificate: file("absent.pem"), ..tls.clone() };
    let not_its_key = Tls { key: file("server-key.pem"), ..tls.clone() };
    for (tls, named) in [
        (no_client, "server-cert.pem"),
        (stranger, "other.pem"),
        (absent, "absent.pem"),
        (not_its_key, "it is not the key of"),
    ] {
        let error = refused(&address, Some(tls)).await;
        let is_named = error.to_string().contains(named);
        assert!(matches!(error, DockerError::Certificates { .. }) && is_named, "{error}");
    }
    let plain = refused(&address, None).await;
    assert!(matches!(plain, DockerError::WantsTls { .. }), "{plain}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = listener.local_addr().unwrap().to_string();
    let answer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        // Until the other side has gone, so that nothing is lost on the way.
        while stream.read(&mut [0; 512]).await.is_ok_and(|count| count > 0) {}
    });
    let strange = refused(&other, Some(tls)).await;
    assert!(matches!(strange, DockerError::NotAnEngine { .. }), "{strange}");
    answer.await.unwrap();
}
