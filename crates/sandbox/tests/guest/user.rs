//! Commands run as somebody else than the guest, as in a sandbox that root made.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use moat_sandbox::plain::PlainProvider;
use moat_sandbox::{Command, GuestError, ProcessEvent, Root};

use crate::bench::{Bench, next, until};

const AGENT: u32 = 1000;

/// A guest of root with commands of another user; without root there is no such guest.
macro_rules! bench_of_root {
    () => {
        match Bench::with_other_user(AGENT).await {
            Some(bench) => bench,
            None => {
                println!("skipped: only root can give commands another user");
                return;
            }
        }
    };
}

fn denied(error: &GuestError) -> bool {
    matches!(error, GuestError::Os { errno: 1 | 13, .. })
}

#[tokio::test]
async fn commands_are_the_other_user_for_good() {
    let bench = bench_of_root!();
    let script = "id -u; id -g; id -G; grep -c '^Cap...:.0*$' /proc/self/status; \
                  grep NoNewPrivs /proc/self/status; cat /proc/$PPID/limits >/dev/null && \
                  kill -9 $PPID; cat /proc/$PPID/environ; echo survived";
    let heard = bench.run(1, script).await;
    let expected = "1000\n1000\n1000\n5\nNoNewPrivs:\t1\nsurvived\n";
    assert_eq!(heard.text(), expected, "{}", String::from_utf8_lossy(&heard.stderr));
    // A terminal is theirs as well, also by its name.
    let tty = Command {
        tty: Some((24, 80)),
        ..bench.shell(2, "echo named > $(tty) && stat -c %u $(tty); read x")
    };
    bench.guest.start(&tty).await.unwrap();
    let mut events = bench.guest.attach(tty.key, 0).await.unwrap();
    until(&mut events, "named\r\n1000").await;
    bench.guest.write_stdin(tty.key, bench.key(3), b"\n").await.unwrap();
    while let Some(event) = next(&mut events).await {
        assert!(!matches!(&event, ProcessEvent::Exited(exit) if exit.code != 0), "{event:?}");
    }
}

#[tokio::test]
async fn files_are_theirs_and_only_what_they_may_touch_is_touched() {
    let bench = bench_of_root!();
    let guest = &bench.guest;
    let (workspace, path) = (Root::Workspace, Path::new("d/f"));
    guest.write(workspace, path, b"x", 0o600).await.unwrap();
    for made in ["d", "d/f"] {
        let stat = std::fs::metadata(bench.workspace().join(made)).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (AGENT, AGENT), "{made}");
    }
    // Root's file in the workspace stays closed, though the guest is root.
    bench.put("secret", b"root");
    let closed = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(bench.workspace().join("secret"), closed).unwrap();
    let secret = Path::new("secret");
    assert!(denied(&guest.read_at(workspace, secret, 0, 9).await.unwrap_err()));
    assert!(denied(&guest.write_at(workspace, secret, 0, b"y").await.unwrap_err()));
    // Their own file that they closed is read all the same, and stays closed.
    bench.run(1, "printf mine > closed; chmod 0 closed").await;
    assert_eq!(guest.read_at(workspace, Path::new("closed"), 0, 9).await.unwrap(), b"mine");
    let mode = std::fs::metadata(bench.workspace().join("closed")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0);
}

#[tokio::test]
async fn outputs_are_read_by_commands_and_written_by_the_guest() {
    let bench = bench_of_root!();
    bench.guest.write(Root::Outputs, Path::new("call/out"), b"whole", 0o644).await.unwrap();
    let outputs = PlainProvider::root(&bench.handle, Root::Outputs).unwrap();
    let script = format!("cd {}; cat call/out; echo x > call/out; rm -rf call", outputs.display());
    assert_eq!(bench.run(1, &script).await.stdout, b"whole");
    assert_eq!(std::fs::read(outputs.join("call/out")).unwrap(), b"whole");
}
