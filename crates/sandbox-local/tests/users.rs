//! Users of sandboxes of an ordinary user: ids that the host lends him, in slices, of which nothing
//! stays behind. Without them a clear error.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::print_stdout, reason = "says what it skips")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moat_blobs::{FolderObjects, PackedBlobs, PackedOptions};
use moat_core::{CallKey, Epoch, RunId, SealingKey, Seq, TenantKey};
use moat_sandbox::checkpoint::{Checkpointer, SkipRules};
use moat_sandbox::{
    Accounts, Command, Guest, GuestError, ProcessEvent, Provider as _, Sandbox, SandboxError,
    SandboxSpec, UserAccount,
};
use moat_sandbox_local::{LocalOptions, LocalProvider, UsersState};
use moat_snapshot::Snapshots;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn with_subuids<F: Future<Output = ()>>(name: &str, body: impl FnOnce() -> F) {
    support::as_user_with_subuids(name, || runtime().block_on(body()));
}

/// Two users, one of whom has a number larger than the lent ids are many, and a group of one.
fn spec() -> SandboxSpec {
    let user = |name: &str, uid| UserAccount { name: name.to_owned(), uid };
    SandboxSpec {
        orphan_grace: Duration::from_secs(60),
        accounts: Accounts {
            users: vec![user("alice", None), user("bob", Some(50_000))],
            groups: BTreeMap::from([(
                "team".to_owned(),
                vec!["bob".to_owned(), "agent".to_owned()],
            )]),
            ..Accounts::default()
        },
        ..SandboxSpec::new(RunId::generate(), Epoch(1))
    }
}

/// Starts a script of somebody.
async fn start(guest: &dyn Guest, user: &str, script: &str) -> CallKey {
    let number = guest.processes().await.unwrap().len() as u64 + 1;
    let key = CallKey { run: RunId::generate(), seq: Seq(number), index: 0, attempt: 1 };
    let command = Command {
        key,
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: PathBuf::from("/workspace"),
        environment: BTreeMap::new(),
        tty: None,
        user: Some(user.to_owned()),
    };
    guest.start(&command).await.unwrap();
    key
}

/// The end of it, and what it said.
async fn ask(guest: &dyn Guest, user: &str, script: &str) -> (i32, String) {
    let key = start(guest, user, script).await;
    let mut events = guest.attach(key, 0).await.unwrap();
    let mut said = String::new();
    loop {
        match events.recv().await.unwrap() {
            ProcessEvent::Output { bytes, .. } => said.push_str(&String::from_utf8_lossy(&bytes)),
            ProcessEvent::Exited(exit) => return (exit.code, said),
            ProcessEvent::Disconnected => panic!("the guest is gone"),
        }
    }
}

async fn must(guest: &dyn Guest, user: &str, script: &str) -> String {
    let (code, said) = ask(guest, user, script).await;
    assert_eq!(code, 0, "{user}: `{script}` said {said}");
    said
}

fn state_of(process: &str, field: &str) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

fn first_process(sandbox: &dyn Sandbox) -> String {
    sandbox.handle()["process"]["pid"].to_string()
}

fn folders(top: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(support::state_folder(top).join("sandboxes")).unwrap();
    folders.map(|folder| folder.unwrap().path()).collect()
}

#[test]
fn others_are_ids_that_the_host_lends_as_user_with_subuids() {
    with_subuids("others_are_ids_that_the_host_lends_as_user_with_subuids", others_are_lent);
}

async fn others_are_lent() {
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(top.path());
    assert_eq!(provider.users().unwrap().state, UsersState::Lent);
    let lent = support::own_range().unwrap();
    let own = rustix::process::geteuid().as_raw();
    let sandbox = provider.create(&spec()).await.unwrap();
    let guest = sandbox.guest();

    // Root inside, who is the guest, is neither the host's nor the caller.
    let first = state_of(&first_process(&*sandbox), "Uid:");
    assert!(first.iter().all(|uid| lent.contains(uid)), "the guest is {first:?}");
    // Three times that no other test sleeps.
    let time = format!("8{}", std::process::id());
    let mut seen = BTreeMap::new();
    for user in ["alice", "bob", "agent"] {
        start(&*guest, user, &format!("exec sleep {time}")).await;
        let pid = eventually(|| sleepers(&time).into_iter().find(|pid| !seen.contains_key(pid)));
        let pid = pid.await;
        let (uids, groups) = (state_of(&pid, "Uid:"), state_of(&pid, "Groups:"));
        let expected = if user == "agent" { uids == [own; 4] } else { lent.contains(&uids[1]) };
        assert!(expected, "{user} is {uids:?}");
        assert_eq!(groups.len(), usize::from(user != "alice"), "{user} has the groups {groups:?}");
        assert!(groups.iter().all(|gid| lent.contains(gid)), "{groups:?}");
        seen.insert(pid, uids[1]);
    }
    let mut different: Vec<_> = seen.values().collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 3);

    // What one of them closes is closed to the caller himself: it is the kernel's mode.
    must(&*guest, "agent", "chmod 1777 .").await;
    must(&*guest, "alice", "umask 077; echo hers > hers").await;
    must(&*guest, "bob", "umask 027; echo ours > ours; chgrp team ours").await;
    let (code, said) = ask(&*guest, "bob", "cat hers").await;
    assert!(code != 0 && !said.contains("hers\n"), "{said}");
    assert_ne!(ask(&*guest, "agent", "cat hers").await.0, 0);
    assert_ne!(ask(&*guest, "alice", "cat ours").await.0, 0);
    assert_eq!(must(&*guest, "agent", "cat ours").await, "ours\n");
    let folder = folders(top.path()).remove(0);
    let kind = std::fs::read(folder.join("workspace/hers")).unwrap_err().kind();
    assert_eq!(kind, std::io::ErrorKind::PermissionDenied);

    // Another sandbox has other ids, and whom its commands run as is the caller.
    let mut other = spec();
    other.accounts.run_as = Some("bob".to_owned());
    let other = provider.create(&other).await.unwrap();
    assert_ne!(state_of(&first_process(&*other), "Uid:"), first);
    assert_eq!(
        must(&*other.guest(), "bob", "id -u; echo x > file; stat -c %U file").await,
        "50000\nbob\n"
    );
    for sandbox in [sandbox, other] {
        provider.destroy(&sandbox.handle()).await.unwrap();
    }
    assert!(folders(top.path()).is_empty());
}

#[test]
fn owners_come_back_as_user_with_subuids() {
    with_subuids("owners_come_back_as_user_with_subuids", owners_come_back);
}

async fn owners_come_back() {
    const LOOK: &str = "cd /workspace; find . | sort | xargs stat -c '%n %U %G %a'";
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(top.path());
    let before = provider.create(&spec()).await.unwrap();
    let guest = before.guest();
    must(&*guest, "agent", "chmod 1777 .; echo a > agents").await;
    must(&*guest, "alice", "mkdir -m 700 hers; echo x > hers/file; chmod 0 hers/file").await;
    must(&*guest, "bob", "mkdir ours; chgrp team ours; chmod 2770 ours; echo y > ours/file").await;
    must(&*guest, "agent", "echo z > ours/agents").await;
    // Somebody who may look everywhere: nobody inside may.
    let look = async |guest: &dyn Guest| {
        let parts = ["agent", "alice", "bob"].map(|user| ask(guest, user, LOOK));
        let mut lines = Vec::new();
        for part in parts {
            lines
                .extend(part.await.1.lines().filter(|line| !line.contains(':')).map(str::to_owned));
        }
        lines.sort();
        lines.dedup();
        lines
    };
    let lines = look(&*guest).await;
    assert!(lines.contains(&"./hers/file alice alice 0".to_owned()), "{lines:?}");
    assert!(lines.contains(&"./ours bob team 2770".to_owned()), "{lines:?}");
    assert!(lines.contains(&"./ours/agents agent team 644".to_owned()), "{lines:?}");

    let key = TenantKey::new([1; 32]);
    let options =
        PackedOptions { sealing: Some(SealingKey::new(&[2; 32])), ..PackedOptions::default() };
    let objects = Arc::new(FolderObjects::new(top.path().join("store")));
    let blobs = Arc::new(PackedBlobs::new(objects, *Snapshots::blob_key(&key), options));
    let snapshots = Snapshots::new(blobs, &key);
    let taken =
        Checkpointer::new(guest, snapshots.clone(), SkipRules::default()).checkpoint().await;
    let snapshot = taken.unwrap().snapshot;
    // Only now, so that the other has other ids.
    let after = provider.create(&spec()).await.unwrap();
    provider.destroy(&before.handle()).await.unwrap();
    let mut restored = Checkpointer::new(after.guest(), snapshots.clone(), SkipRules::default());
    restored.restore(snapshot).await.unwrap();
    assert_eq!(look(&*after.guest()).await, lines);
    let mut again = Checkpointer::new(after.guest(), snapshots, SkipRules::default());
    assert_eq!(again.checkpoint().await.unwrap().snapshot, snapshot);
    provider.destroy(&after.handle()).await.unwrap();
    assert!(folders(top.path()).is_empty());
}

/// What the caller can neither read nor remove by himself.
const CLOSED: &str = "mkdir -p d/e/f && echo x > d/e/f/g && ln -s /etc d/link && \
    chmod 0 d/e/f d/e && mkdir h && chmod 500 h && chmod 0 d && echo x > ~/mine && chmod 4755 ~/mine";

#[test]
fn what_others_closed_is_removed_as_user_with_subuids() {
    with_subuids("what_others_closed_is_removed_as_user_with_subuids", removed);
}

async fn removed() {
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(top.path());
    let sandbox = provider.create(&spec()).await.unwrap();
    must(&*sandbox.guest(), "agent", "chmod 777 .").await;
    must(&*sandbox.guest(), "alice", CLOSED).await;
    let folder = folders(top.path()).remove(0);
    assert!(std::fs::read_dir(folder.join("workspace/d")).is_err(), "it is not closed");
    assert!(std::fs::read_dir(folder.join("homes/alice")).is_err(), "it is not closed");
    provider.destroy(&sandbox.handle()).await.unwrap();
    assert!(folders(top.path()).is_empty(), "{:?}", folders(top.path()));
}

/// A reaper that made no sandbox does not know yet what its host lacks.
#[test]
fn what_others_closed_is_removed_on_a_host_that_lacks_a_fence() {
    const NAME: &str = "what_others_closed_is_removed_on_a_host_that_lacks_a_fence";
    support::where_this_was_done(NAME, "echo 0 > /proc/sys/user/max_net_namespaces", || {
        with_subuids(NAME, || async {
            let top = tempfile::tempdir().unwrap();
            let allow_missing = vec!["network-namespace".to_owned()];
            let spec = SandboxSpec { allow_missing, ..spec() };
            let sandbox = support::provider(top.path()).create(&spec).await.unwrap();
            assert_eq!(sandbox.missing_fences(), ["network-namespace"]);
            must(&*sandbox.guest(), "agent", "chmod 777 .").await;
            must(&*sandbox.guest(), "alice", CLOSED).await;
            support::provider(top.path()).destroy(&sandbox.handle()).await.unwrap();
            assert!(folders(top.path()).is_empty(), "{:?}", folders(top.path()));
        });
    });
}

/// Where a child is to make its sandbox.
const STATE: &str = "MOAT_TEST_USERS";

#[test]
fn a_killed_harness_leaves_nothing_as_user_with_subuids() {
    const NAME: &str = "a_killed_harness_leaves_nothing_as_user_with_subuids";
    support::as_user_with_subuids(NAME, || match std::env::var_os(STATE) {
        Some(top) => runtime().block_on(die_beside(Path::new(&top))),
        None => killed(NAME),
    });
}

async fn die_beside(top: &Path) {
    let provider = support::provider(top);
    let spec = SandboxSpec { orphan_grace: Duration::from_millis(200), ..spec() };
    let sandbox = provider.create(&spec).await.unwrap();
    must(&*sandbox.guest(), "agent", "chmod 777 .").await;
    must(&*sandbox.guest(), "alice", CLOSED).await;
    start(&*sandbox.guest(), "bob", "setsid sleep 1000 & exec sleep 1000").await;
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
}

fn killed(name: &str) {
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(top.path());
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(STATE, top.path())
        .status()
        .unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    assert_eq!(folders(top.path()).len(), 1);
    // While it lives it is left alone; then one pass takes everything.
    let start = Instant::now();
    while provider.reap().unwrap() == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "it does not end, or is not removed");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(folders(top.path()).is_empty());
}

#[test]
fn users_without_ids_are_refused_with_what_to_do_as_ordinary_user() {
    const NAME: &str = "users_without_ids_are_refused_with_what_to_do_as_ordinary_user";
    support::as_ordinary_user(NAME, || {
        runtime().block_on(async {
            let top = tempfile::tempdir().unwrap();
            let options = LocalOptions::new(support::state_folder(top.path()));
            let lent = support::own_range().is_some();
            let options = LocalOptions { subordinate_ids: !lent, ..options };
            let provider = LocalProvider::new(options).unwrap();
            assert_eq!(provider.users().unwrap().state, UsersState::One);
            let said = refusal(&provider).await;
            let names = ["/etc/subuid", "newuidmap", "usermod --add-subuids"];
            assert!(lent || names.iter().all(|name| said.contains(name)), "{said}");
            assert!(folders(top.path()).is_empty());
        });
    });
}

#[test]
fn ids_that_are_refused_are_given_up_as_user_with_subuids() {
    with_subuids("ids_that_are_refused_are_given_up_as_user_with_subuids", given_up);
}

async fn given_up() {
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(top.path());
    // Made before, by one for whom they go on being what they are: it can still be removed.
    let (say, told) = std::sync::mpsc::channel::<()>();
    let (ready, made) = std::sync::mpsc::channel();
    let theirs = provider.clone();
    let before = std::thread::spawn(move || {
        runtime().block_on(async {
            let sandbox = theirs.create(&spec()).await.unwrap();
            must(&*sandbox.guest(), "agent", "chmod 777 .").await;
            must(&*sandbox.guest(), "alice", CLOSED).await;
            ready.send(()).unwrap();
            told.recv().unwrap();
            theirs.destroy(&sandbox.handle()).await.unwrap();
        });
    });
    made.recv().unwrap();
    // From here on nothing that this thread starts gains anything from a set-user-id bit.
    rustix::thread::set_no_new_privs(true).unwrap();
    let said = refusal(&provider).await;
    assert!(said.contains("newuidmap") && said.contains("no_new_privs"), "{said}");
    let users = provider.users().unwrap();
    assert_eq!(users.state, UsersState::One);
    assert!(users.detail.contains("newuidmap"), "{users:?}");
    say.send(()).unwrap();
    before.join().unwrap();
    assert!(folders(top.path()).is_empty(), "{:?}", folders(top.path()));
    // Who asks for nobody else has a sandbox all the same.
    let sandbox = provider.create(&alone()).await.unwrap();
    assert_eq!(must(&*sandbox.guest(), "agent", "id -u").await, "1000\n");
    provider.destroy(&sandbox.handle()).await.unwrap();
    assert!(folders(top.path()).is_empty());
}

fn alone() -> SandboxSpec {
    SandboxSpec::new(RunId::generate(), Epoch(1))
}

#[test]
fn no_ids_are_shared_while_some_are_free_as_user_with_subuids() {
    with_subuids("no_ids_are_shared_while_some_are_free_as_user_with_subuids", shared_last);
}

async fn shared_last() {
    const SLICE: usize = 2048;
    let own = support::own_range().unwrap().len() / SLICE - 1;
    assert!(own < 100, "the user of tests has too many ids to use them all");
    let top = tempfile::tempdir().unwrap();
    let provider = support::provider(top.path());
    let users = provider.users().unwrap();
    assert!(users.detail.contains(&format!("ids for {own} sandboxes")), "{users:?}");
    let guest_of = |sandbox: &dyn Sandbox| state_of(&first_process(sandbox), "Uid:")[0];
    let mut sandboxes = BTreeMap::new();
    for number in 0..own {
        // Whoever comes first has ids of its own, whatever it asks for.
        let spec = if number % 2 == 0 { alone() } else { spec() };
        let sandbox = provider.create(&spec).await.unwrap();
        let known = sandboxes.insert(guest_of(&*sandbox), sandbox);
        assert!(known.is_none(), "two have the same");
    }
    let Err(refused) = provider.create(&spec()).await else { panic!("there was one more") };
    let refused = refused.to_string();
    assert!(refused.contains(&format!("ids for {own}")) && refused.contains("rm"), "{refused}");

    // Those with nobody else in them have the same, which nobody has for himself.
    let common =
        [provider.create(&alone()).await.unwrap(), provider.create(&alone()).await.unwrap()];
    let guests = common.each_ref().map(|sandbox| guest_of(&**sandbox));
    assert!(guests[0] == guests[1] && !sandboxes.contains_key(&guests[0]), "{guests:?}");

    // What becomes free is given before anything is shared, also if nobody cleared it away.
    let (guest, freed) = sandboxes.pop_first().unwrap();
    provider.destroy(&freed.handle()).await.unwrap();
    let next = provider.create(&alone()).await.unwrap();
    assert_eq!(guest_of(&*next), guest);
    let pid = first_process(&*next).parse().ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually(|| (!provider.is_alive(&next.handle()).unwrap()).then_some(())).await;
    let last = provider.create(&spec()).await.unwrap();
    assert_eq!(guest_of(&*last), guest);
    for sandbox in sandboxes.into_values().chain(common).chain([last]) {
        provider.destroy(&sandbox.handle()).await.unwrap();
    }
    assert!(folders(top.path()).is_empty(), "{:?}", folders(top.path()));
}

async fn refusal(provider: &LocalProvider) -> String {
    match provider.create(&spec()).await {
        Err(SandboxError::Guest(GuestError::Unsupported(said))) => said,
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("it was made"),
    }
}

/// Processes of the host that sleep for this long.
fn sleepers(time: &str) -> Vec<String> {
    let wanted = format!("sleep\0{time}\0");
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|text| text == wanted.as_bytes())
    })
    .map(|entry| entry.file_name().to_string_lossy().into_owned())
    .collect()
}

async fn eventually<T>(found: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it never came true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
