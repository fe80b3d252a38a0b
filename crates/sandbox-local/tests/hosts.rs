//! What differs between hosts: the fences that they have, and the toolchains in their homes.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use moat_core::{CallKey, Epoch, RunId, Seq};
use moat_sandbox::{Command, ProcessEvent, Provider as _, SandboxError, SandboxSpec};
use moat_sandbox_local::{Fence, FenceState, LocalOptions, LocalProvider, TOOLCHAIN_VARIABLES};

#[test]
fn fences_stand_as_root() {
    support::as_root("fences_stand_as_root", fences_stand);
}

#[test]
fn fences_stand_as_ordinary_user() {
    support::as_ordinary_user("fences_stand_as_ordinary_user", fences_stand);
}

/// A host on which the other tests of this crate pass has all of them.
fn fences_stand() {
    let top = tempfile::tempdir().unwrap();
    let provider =
        LocalProvider::new(LocalOptions::new(support::state_folder(top.path()))).unwrap();
    let statuses = provider.fences().unwrap();
    assert_eq!(statuses.len(), Fence::ALL.len());
    for status in statuses {
        assert_ne!(status.state, FenceState::Missing, "{}: {}", status.name, status.detail);
        assert_eq!(status.detail.is_empty(), status.state == FenceState::Hard, "{}", status.name);
        assert_eq!(status.name.parse::<Fence>().unwrap(), status.fence);
    }
}

#[test]
fn a_fence_that_does_not_exist_cannot_be_allowed_to_be_missing() {
    let top = tempfile::tempdir().unwrap();
    let provider = LocalProvider::new(LocalOptions::new(top.path())).unwrap();
    let spec = SandboxSpec { allow_missing: vec!["moat".to_owned()], ..spec() };
    let made = runtime().block_on(provider.create(&spec));
    let Err(SandboxError::Setup { message, .. }) = made else { panic!("it was made") };
    assert!(message.contains("`moat`"), "{message}");
}

#[test]
fn a_fence_that_stands_is_not_left_out_though_it_may_be() {
    let top = tempfile::tempdir().unwrap();
    let provider = LocalProvider::new(LocalOptions::new(top.path())).unwrap();
    let allow_missing = Fence::ALL.map(|fence| fence.name().to_owned()).to_vec();
    let spec = SandboxSpec { allow_missing, ..spec() };
    runtime().block_on(async {
        let sandbox = provider.create(&spec).await.unwrap();
        assert!(sandbox.missing_fences().is_empty(), "{:?}", sandbox.missing_fences());
        provider.destroy(&sandbox.handle()).await.unwrap();
    });
}

#[test]
fn a_masked_proc_is_a_missing_fence_that_may_be_allowed() {
    const NAME: &str = "a_masked_proc_is_a_missing_fence_that_may_be_allowed";
    // As container engines do it.
    on_a_lesser_host(NAME, "mount --bind /dev/null /proc/version", || {
        assert_missing("private-proc", "systempaths=unconfined|/proc/self/mountinfo");
        let top = tempfile::tempdir().unwrap();
        let provider = LocalProvider::new(LocalOptions::new(top.path())).unwrap();
        let allow_missing = vec!["private-proc".to_owned()];
        let spec = SandboxSpec { allow_missing, ..spec() };
        runtime().block_on(async {
            let sandbox = provider.create(&spec).await.unwrap();
            assert_eq!(sandbox.missing_fences(), ["private-proc"]);
            let again = provider.reattach(&sandbox.handle(), Epoch(2)).await.unwrap().unwrap();
            assert_eq!(again.missing_fences(), ["private-proc"]);
            provider.destroy(&sandbox.handle()).await.unwrap();
        });
    });
}

#[test]
fn namespaces_that_are_switched_off_are_named_with_their_switch() {
    const NAME: &str = "namespaces_that_are_switched_off_are_named_with_their_switch";
    on_a_lesser_host(NAME, "echo 0 > /proc/sys/user/max_net_namespaces", || {
        assert_missing("network-namespace", "user.max_net_namespaces");
    });
}

/// Making a sandbox is refused for want of this fence, with one of these in the remedy.
fn assert_missing(name: &str, remedies: &str) {
    let top = tempfile::tempdir().unwrap();
    let provider = LocalProvider::new(LocalOptions::new(top.path())).unwrap();
    match runtime().block_on(provider.create(&spec())) {
        Err(SandboxError::MissingFence { fence, remedy, .. }) => {
            assert_eq!(fence, name);
            assert!(remedies.split('|').any(|text| remedy.contains(text)), "{remedy}");
        }
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("it was made"),
    }
    let left = std::fs::read_dir(top.path().join("sandboxes")).unwrap().count();
    assert_eq!(left, 0, "a refused sandbox leaves something");
}

/// Runs `body` where `script` has taken something away; in namespaces, so that the host keeps it.
fn on_a_lesser_host(name: &str, script: &str, body: impl FnOnce()) {
    const MARK: &str = "MOAT_TEST_LESSER_HOST";
    if std::env::var_os(MARK).is_some() {
        body();
        return;
    }
    let made = std::process::Command::new("unshare")
        .args(["-Urpfm", "--mount-proc", "sh", "-c"])
        .arg(format!("{script} || exit 77; exec \"$0\" {name} --exact --nocapture"))
        .arg(std::env::current_exe().unwrap())
        .env(MARK, "1")
        .output();
    match made {
        Ok(output) if output.status.success() => {}
        Ok(output) if output.status.code() == Some(77) => {
            support::skip(name, "this host cannot be made lesser");
        }
        Ok(output) => {
            panic!("{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()))
        }
        Err(_) => support::skip(name, "needs the program `unshare`"),
    }
}

#[test]
fn a_crate_is_built_with_the_callers_toolchain_and_without_a_network() {
    const NAME: &str = "a_crate_is_built_with_the_callers_toolchain_and_without_a_network";
    let top = tempfile::tempdir().unwrap();
    let variables = TOOLCHAIN_VARIABLES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    let options = LocalOptions {
        home: std::env::var_os("HOME").map(PathBuf::from),
        toolchain_variables: variables,
        ..LocalOptions::new(top.path())
    };
    let provider = LocalProvider::new(options).unwrap();
    if !provider.toolchains().unwrap().contains(&"rustup") {
        support::skip(NAME, "no rustup in the home");
        return;
    }
    let script = "cargo new --quiet --vcs none hello && cd hello && cargo run --quiet && \
        ! touch \"$RUSTUP_HOME/toolchains/x\" 2>/dev/null";
    let (code, said) = runtime().block_on(run(&provider, script));
    assert_eq!(code, 0, "{said}");
    assert_eq!(said, "Hello, world!\n");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn spec() -> SandboxSpec {
    SandboxSpec { ..SandboxSpec::new(RunId::generate(), Epoch(1)) }
}

async fn run(provider: &LocalProvider, script: &str) -> (i32, String) {
    let spec = spec();
    let sandbox = provider.create(&spec).await.unwrap();
    let guest = sandbox.guest();
    let key = CallKey { run: spec.run, seq: Seq(1), index: 0, attempt: 1 };
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let cwd = PathBuf::from("/workspace");
    let command = Command { key, argv, cwd, environment: BTreeMap::new(), tty: None, user: None };
    guest.start(&command).await.unwrap();
    let mut events = guest.attach(key, 0).await.unwrap();
    let mut said = String::new();
    loop {
        match events.recv().await.unwrap() {
            ProcessEvent::Output { bytes, .. } => said.push_str(&String::from_utf8_lossy(&bytes)),
            ProcessEvent::Exited(exit) => {
                provider.destroy(&sandbox.handle()).await.unwrap();
                return (exit.code, said);
            }
            ProcessEvent::Disconnected => panic!("the guest is gone"),
        }
    }
}
