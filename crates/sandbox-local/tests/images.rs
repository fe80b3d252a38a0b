//! Sandboxes on images, as root, as an ordinary user, and as one whom the host lends ids.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

#[path = "../../image/tests/support/builder.rs"]
#[expect(dead_code, reason = "also used by others")]
mod builder;
mod support;

use std::path::Path;
use std::sync::Arc;

use builder::{Built, Entry, Tar};
use moat_core::{Epoch, RunId};
use moat_image::{Image, ImageCache, ImageError, ImageReference, Unpack as _};
use moat_sandbox::{Accounts, Provider as _, RootFilesystem, SandboxNote, SandboxSpec};
use moat_sandbox_local::LocalProvider;
use support::inside::Inside;

/// A static shell with the usual small programs.
const BUSYBOX: &str = "/bin/busybox";

/// Runs a test as somebody.
type As = fn(&str, &mut dyn FnMut());

fn run_as(name: &str, somebody: As, body: impl AsyncFn()) {
    if !Path::new(BUSYBOX).exists() {
        support::skip(name, "needs /bin/busybox (Debian: busybox-static)");
        return;
    }
    let mut on_runtime = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(body());
    };
    somebody(name, &mut on_runtime);
}

macro_rules! as_both {
    ($($as_root:ident $as_user:ident $body:ident;)+) => { $(
        #[test]
        fn $as_root() {
            run_as(stringify!($as_root), |name, body| support::as_root(name, body), $body);
        }

        #[test]
        fn $as_user() {
            run_as(stringify!($as_user), |name, body| support::as_ordinary_user(name, body), $body);
        }
    )+ };
}

#[test]
fn an_image_is_the_root_as_user_with_subuids() {
    let name = "an_image_is_the_root_as_user_with_subuids";
    run_as(name, |name, body| support::as_user_with_subuids(name, body), an_image_is_the_root);
}

#[test]
fn commands_are_root_of_an_image_as_user_with_subuids() {
    let name = "commands_are_root_of_an_image_as_user_with_subuids";
    let body = commands_are_root_of_an_image;
    run_as(name, |name, body| support::as_user_with_subuids(name, body), body);
}

as_both! {
    an_image_is_the_root_as_root an_image_is_the_root_as_ordinary_user an_image_is_the_root;
    links_of_an_image_lead_nowhere_as_root links_of_an_image_lead_nowhere_as_ordinary_user
        links_of_an_image_lead_nowhere;
    what_is_written_over_an_image_is_the_sandboxes_own_as_root
        what_is_written_over_an_image_is_the_sandboxes_own_as_ordinary_user
        what_is_written_over_an_image_is_the_sandboxes_own;
    commands_are_root_of_an_image_as_root commands_are_root_of_an_image_as_ordinary_user
        commands_are_root_of_an_image;
    hostile_layers_are_refused_or_confined_as_root
        hostile_layers_are_refused_or_confined_as_ordinary_user
        hostile_layers_are_refused_or_confined;
    layers_are_applied_in_order_as_root layers_are_applied_in_order_as_ordinary_user
        layers_are_applied_in_order;
}

fn shell() -> Tar {
    let busybox = std::fs::read(BUSYBOX).unwrap();
    let program = Entry { mode: 0o755, content: &busybox, ..Entry::new("bin/busybox", b'0') };
    let mut tar = Tar::default().dir("./").dir("bin/").entry(&program);
    for name in [
        "sh", "cat", "ls", "id", "stat", "touch", "awk", "env", "rm", "mkdir", "mv", "chown",
        "chmod", "mount", "mknod", "su", "kill", "find", "ln", "hostname", "ip",
    ] {
        tar = tar.symlink(&format!("bin/{name}"), "/bin/busybox");
    }
    tar.dir("etc").dir("usr/lib").dir("var/lib")
}

async fn unpack(provider: &LocalProvider, top: &Path, built: &Built) -> Result<Image, ImageError> {
    let file = top.join("image.tar");
    std::fs::write(&file, built.docker_archive()).unwrap();
    let cache = ImageCache::new(top.join("cache"));
    let unpacker = Arc::new(provider.unpacker(&[]));
    cache.fetch(&ImageReference::DockerArchive(file), unpacker, Arc::new(|_| {})).await
}

fn on(image: &Image, writable: bool) -> RootFilesystem {
    RootFilesystem::Image {
        folder: image.folder.clone(),
        environment: image.config.environment.clone(),
        writable,
    }
}

async fn an_image_is_the_root() {
    let top = tempfile::tempdir().unwrap();
    let www =
        Entry { owner: (33, 33), mode: 0o640, content: b"www", ..Entry::new("var/www", b'0') };
    let set_uid = Entry { mode: 0o4755, content: b"x", ..Entry::new("bin/su", b'0') };
    let built = Built {
        environment: vec!["PATH=/opt/bin:/bin".to_owned(), "FROM=image".to_owned()],
        ..Built::default()
    };
    let built = built
        .layer(
            shell()
                .file(
                    "etc/passwd",
                    b"root:x:0:0::/root:/bin/sh\nwww:x:33:33::/:/bin/sh\nagent:x:7:7::/:/\n",
                )
                .file("etc/os-release", b"ID=first\n")
                .file("usr/lib/gone", b"x")
                .entry(&www)
                .entry(&set_uid)
                .end(),
        )
        .layer(
            Tar::default()
                .file("etc/os-release", b"ID=second\n")
                .file("usr/lib/.wh.gone", b"")
                .end(),
        );
    let image = unpack(&support::provider(top.path()), top.path(), &built).await.unwrap();
    let inside = Inside::new(|spec| spec.root = on(&image, false)).await;
    let is_root = rustix::process::geteuid().is_root();
    let owner = if is_root { "33:33" } else { "1000:1000" };
    for (script, said) in [
        ("cat /etc/os-release", "ID=second\n"),
        ("ls /usr/lib", ""),
        (
            "echo $FROM $HOME $PATH",
            "image /home/agent /home/agent/.local/bin:/home/agent/.cargo/bin:/opt/bin:/bin\n",
        ),
        ("id -u", "1000\n"),
        ("awk -F: '{print $1, $3}' /etc/passwd", "agent 1000\nroot 0\nwww 33\nnobody 65534\n"),
        ("stat -c %u:%g /var/www", &format!("{owner}\n")),
        ("stat -c %a /bin/su", "4755\n"),
        (
            "touch /x || touch /etc/x || touch /bin/x || touch /moat/x || touch /home/x || touch /usr/lib/x",
            "",
        ),
        ("touch /workspace/w /home/agent/h /tmp/t /dev/shm/s && echo made", "made\n"),
        ("awk '{print $5, $6}' /proc/self/mountinfo | awk '!/nosuid/'", ""),
        ("ls /", "bin\ndev\netc\nhome\nmoat\nproc\nsys\ntmp\nusr\nvar\nworkspace\n"),
        ("ls /etc", "group\nhostname\nhosts\nmtab\nos-release\npasswd\nresolv.conf\n"),
        ("cat /var/tmp/../../etc/resolv.conf", ""),
    ] {
        let (code, heard) = inside.sh(script).await;
        assert_eq!(heard, said, "`{script}` ended with {code}");
        if script.starts_with("touch /x") {
            assert_ne!(code, 0, "the image can be written");
        }
    }
    inside.provider.destroy(&inside.sandbox.handle()).await.unwrap();
    let unpacker = inside.provider.unpacker(&[]);
    unpacker.remove(&image.folder).unwrap();
    assert!(!image.folder.exists());
}

async fn links_of_an_image_lead_nowhere() {
    let top = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("passwd"), "host").unwrap();
    let link = outside.path().to_str().unwrap();
    // Wherever the sandbox mounts something, the image has a link out.
    let mut tar = shell();
    for name in ["proc", "dev", "tmp", "workspace", "home", "moat", "sys", "etc"] {
        tar = tar.symlink(name, link);
    }
    let image =
        unpack(&support::provider(top.path()), top.path(), &Built::default().layer(tar.end()))
            .await
            .unwrap();
    let inside = Inside::new(|spec| spec.root = on(&image, false)).await;
    let (code, said) =
        inside.sh("cat /etc/passwd /proc/self/comm; touch /workspace/w /home/agent/h").await;
    assert_eq!(code, 0);
    assert!(said.starts_with("agent:") && said.ends_with("cat\n"), "{said}");
    let left: Vec<_> = std::fs::read_dir(outside.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["passwd"]);
    inside.provider.destroy(&inside.sandbox.handle()).await.unwrap();
}

async fn what_is_written_over_an_image_is_the_sandboxes_own() {
    let top = tempfile::tempdir().unwrap();
    // As an ordinary user all files are his; as root an image has a folder for everyone.
    let open = Entry { mode: 0o777, ..Entry::new("srv", b'5') };
    let theirs = Entry { owner: (1000, 1000), content: b"old", ..Entry::new("srv/file", b'0') };
    let built = Built::default().layer(shell().entry(&open).entry(&theirs).end());
    let image = unpack(&support::provider(top.path()), top.path(), &built).await.unwrap();
    let first = Inside::new(|spec| spec.root = on(&image, true)).await;
    let second = Inside::new(|spec| spec.root = on(&image, true)).await;
    let script = "echo new > /srv/file && mkdir /srv/d && mv /srv/file /srv/d/ && ls /srv && cat /srv/d/file";
    assert_eq!(first.sh(script).await, (0, "d\nnew\n".to_owned()));
    assert_eq!(second.sh("cat /srv/file; ls /srv").await, (0, "oldfile\n".to_owned()));
    let is_root = rustix::process::geteuid().is_root();
    let (code, _) = first.sh("touch /bin/x").await;
    assert_eq!(code != 0, is_root, "modes of the image do not hold");
    let mounts = "awk '$5 == \"/\" {print $6}' /proc/self/mountinfo";
    let (_, said) = first.sh(mounts).await;
    assert!(said.contains("nosuid") && said.contains("nodev"), "{said}");
    for inside in [first, second] {
        inside.provider.destroy(&inside.sandbox.handle()).await.unwrap();
        let state = support::state_folder(inside.top()).join("sandboxes");
        assert_eq!(std::fs::read_dir(state).unwrap().count(), 0);
    }
    assert_eq!(std::fs::read(image.folder.join("srv/file")).unwrap(), b"old");
}

async fn commands_are_root_of_an_image() {
    let top = tempfile::tempdir().unwrap();
    let built = Built::default().layer(shell().file("etc/passwd", b"daemon:x:2:2::/:/\n").end());
    let image = unpack(&support::provider(top.path()), top.path(), &built).await.unwrap();
    let inside = Inside::new(|spec| {
        spec.root = on(&image, true);
        spec.accounts.as_root = true;
    })
    .await;
    let is_root = rustix::process::geteuid().is_root();
    // Whether there is anybody beside the one that commands run as.
    let has_others = is_root || support::own_range().is_some();
    let notes = if is_root {
        vec![SandboxNote::CommandsAreRoot]
    } else {
        vec![SandboxNote::CommandsAreRoot, SandboxNote::OneOwner]
    };
    assert_eq!(inside.sandbox.notes(), notes);
    let again =
        inside.provider.reattach(&inside.sandbox.handle(), Epoch(2)).await.unwrap().unwrap();
    assert_eq!(again.notes(), notes);
    drop(again);
    let inside = Inside::new(|spec| {
        spec.root = on(&image, true);
        spec.accounts.as_root = true;
    })
    .await;
    for (script, holds) in [
        ("test $(id -u) = 0 && test $(id -g) = 0 && test $USER = root", true),
        ("touch /bin/new && rm /bin/new && echo x:x:9:9::/:/ >> /etc/passwd", true),
        ("touch /etc/f && chmod 4755 /etc/f && chown 0:0 /etc/f", true),
        ("touch /workspace/w /home/agent/h", true),
        ("touch /f && chown 2:2 /f && chmod 600 /f && cat /f", has_others),
        // Nothing that reaches beyond the image.
        ("mount -t tmpfs x /srv || mount -o remount,rw /proc/sys || mknod /d b 8 0", false),
        ("hostname other || ip link set lo down", false),
        ("cat /proc/1/environ || cat /proc/1/mem", false),
        ("echo 1 > /proc/sys/kernel/panic || echo x > /moat/outputs/x || touch /moat/x", false),
        ("kill -9 1; kill -0 1 && exit 1; exit 1", false),
        ("chmod 777 /proc/1/oom_score_adj; echo -1000 > /proc/1/oom_score_adj", false),
    ] {
        let (code, said) = inside.sh(script).await;
        assert_eq!(code == 0, holds, "`{script}` ended with {code}: {said}");
    }
    let (_, masks) = inside.sh("awk '/^Cap(Prm|Eff|Bnd)/ {print $2}' /proc/self/status").await;
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID; a lone user has less to do.
    let expected = if has_others { "00000000000000fb\n" } else { "0000000000000002\n" };
    assert_eq!(masks, expected.repeat(3));
    let (_, rest) = inside
        .sh("awk '/^(CapInh|CapAmb|NoNewPrivs|Seccomp):/ {print $2}' /proc/self/status")
        .await;
    assert_eq!(rest, "0000000000000000\n0000000000000000\n1\n2\n");
    inside.provider.destroy(&inside.sandbox.handle()).await.unwrap();
    assert!(!image.folder.join("etc/f").exists());

    let read_only = on(&image, false);
    let provider = support::provider(top.path());
    let spec = SandboxSpec {
        root: read_only,
        accounts: Accounts { as_root: true, ..Accounts::default() },
        ..SandboxSpec::new(RunId::generate(), Epoch(1))
    };
    let Err(refused) = provider.create(&spec).await else { panic!("root of what is shared") };
    assert!(refused.to_string().contains("may be written"), "{refused}");
}

async fn layers_are_applied_in_order() {
    let top = tempfile::tempdir().unwrap();
    let keep = Entry { mode: 0o2755, ..Entry::new("kept", b'5') };
    let first = shell()
        .symlink("lib", "usr/lib")
        .file("opaque/old", b"")
        .file("opaque/sub/old", b"")
        .file("gone/deep/er", b"")
        .file("file-to-folder", b"")
        .file("folder-to-file/x", b"")
        .symlink("link-to-folder", "/etc")
        .entry(&keep)
        .file("kept/f", b"1")
        .dir("dated")
        .file("dated/f", b"1")
        .file("hard", b"linked")
        .hardlink("hard2", "/hard");
    let long = "l".repeat(200);
    let second = Tar::default()
        .file("opaque/sub/new", b"")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"")
        .file(".wh.gone", b"")
        .file("gone/again", b"")
        .dir("file-to-folder")
        .file("file-to-folder/x", b"")
        .file("folder-to-file", b"f")
        .dir("link-to-folder")
        .file("link-to-folder/x", b"")
        .file("lib/through-a-link", b"")
        .file("/absolute", b"")
        .file(&format!("kept/{long}"), b"")
        .file("twice", b"1")
        .file("twice", b"2")
        .entry(&Entry::new("pipe", b'6'))
        .entry(&Entry::new("device", b'3'))
        .end();
    let built = Built::default().layer(first.end()).layer(second);
    let image = unpack(&support::provider(top.path()), top.path(), &built).await.unwrap();
    assert_eq!(image.devices, 1);
    let inside = Inside::new(|spec| spec.root = on(&image, false)).await;
    let list = "cd /; find opaque gone file-to-folder folder-to-file link-to-folder usr/lib kept absolute \
                twice pipe device hard hard2 2>/dev/null | while read f; do echo $f; done; \
                stat -c '%a %Y' dated hard; stat -c %a kept; stat -c %h hard; cat twice; stat -c %F pipe; ls -A etc | grep -c ^x$";
    let (_, said) = inside.sh(list).await;
    let mut lines: Vec<_> = said.lines().collect();
    let tail = lines.split_off(lines.iter().position(|line| line.ends_with("1000000000")).unwrap());
    lines.sort_unstable();
    let long = format!("kept/{long}");
    let mut expected = vec![
        "opaque",
        "opaque/sub",
        "opaque/sub/new",
        "opaque/new",
        "gone",
        "gone/again",
        "file-to-folder",
        "file-to-folder/x",
        "folder-to-file",
        "link-to-folder",
        "link-to-folder/x",
        "usr/lib",
        "usr/lib/through-a-link",
        "kept",
        "kept/f",
        &long,
        "absolute",
        "twice",
        "pipe",
        "hard",
        "hard2",
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
    assert_eq!(tail, ["755 1000000000", "644 1000000000", "2755", "2", "2fifo", "0"]);
    inside.provider.destroy(&inside.sandbox.handle()).await.unwrap();
}

async fn hostile_layers_are_refused_or_confined() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "host").unwrap();
    let (out, secret) = (outside.path().to_str().unwrap(), secret.to_str().unwrap());
    let deep = "d/".repeat(2100);
    let long = "n".repeat(256);
    let far = Entry { owner: (70_000, 0), content: b"", ..Entry::new("far", b'0') };
    let is_root = rustix::process::geteuid().is_root();
    // (what, the member that is named; absent: it is unpacked, where it harms nobody, the layer)
    let cases: Vec<(&str, Option<&str>, Tar)> = vec![
        ("a parent", Some("../x"), Tar::default().file("../x", b"")),
        ("a parent within", Some("a/../../x"), Tar::default().file("a/../../x", b"")),
        ("a hard link to a parent", Some("h"), Tar::default().hardlink("h", "../secret")),
        ("a hard link outside", Some("h"), Tar::default().hardlink("h", secret)),
        (
            "a hard link through a link outside",
            Some("h"),
            Tar::default().symlink("l", out).hardlink("h", "l/secret"),
        ),
        (
            "writing through a link outside",
            Some("l/secret"),
            Tar::default().symlink("l", out).file("l/secret", b"harm"),
        ),
        (
            "writing through a link of a parent",
            Some("l/x"),
            Tar::default().symlink("l", "../../../../../../../../nowhere").file("l/x", b""),
        ),
        (
            "taking away through a link",
            Some("l/.wh.secret"),
            Tar::default().symlink("l", out).file("l/.wh.secret", b""),
        ),
        ("taking away the root", Some(".wh.."), Tar::default().file(".wh..", b"")),
        ("taking away a parent", Some(".wh..."), Tar::default().file("d/.wh...", b"")),
        ("a loop of links", Some("l/x"), Tar::default().symlink("l", "l").file("l/x", b"")),
        ("a folder behind a file", Some("f/x"), Tar::default().file("f", b"").file("f/x", b"")),
        ("the root as a link", Some("./"), Tar::default().symlink("./", out)),
        ("a name that is too long", Some("d/d/d"), Tar::default().file(&format!("{deep}x"), b"")),
        ("a part that is too long", Some("nnnn"), Tar::default().file(&long, b"")),
        ("huge extensions", Some("x"), Tar::default().extension(b'x', &vec![b'9'; 2 << 20])),
        ("an unknown kind", Some("z"), Tar::default().entry(&Entry::new("z", b'z'))),
        ("an owner of nobody", is_root.then_some("far"), Tar::default().entry(&far)),
        // Confined: it becomes a name from the root of the image on.
        ("an absolute name", None, Tar::default().file(secret, b"harm")),
        ("a link outside", None, Tar::default().symlink("l", secret)),
        ("a device", None, Tar::default().entry(&Entry::new("sda", b'4'))),
        (
            "replacing a link by a file",
            None,
            Tar::default().symlink("l", secret).file("l", b"harm"),
        ),
    ];
    let mut broken = Vec::new();
    for (what, member, tar) in cases {
        let top = tempfile::tempdir().unwrap();
        let provider = support::provider(top.path());
        let built = Built::default().layer(Tar::default().dir("usr").end()).layer(tar.end());
        match (unpack(&provider, top.path(), &built).await, member) {
            (Err(refused), Some(member)) => {
                let said = refused.to_string();
                if !said.starts_with("layer 2") || !said.contains(member) {
                    broken.push(format!("{what}: {said}"));
                }
            }
            (Ok(image), None) => provider.unpacker(&[]).remove(&image.folder).unwrap(),
            (outcome, _) => {
                broken.push(format!("{what}: {outcome:?}"));
                continue;
            }
        }
        let left: Vec<_> = std::fs::read_dir(top.path().join("cache/images"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| member.is_some() && !name.ends_with(".lock"))
            .collect();
        assert!(left.is_empty(), "{what} leaves {left:?}");
        assert_eq!(std::fs::read(secret).unwrap(), b"host", "{what}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{what}");
    }
    assert!(broken.is_empty(), "broken:\n{}", broken.join("\n"));
}
