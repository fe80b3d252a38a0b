//! Sandboxes on images, as root and as an ordinary user.
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
use moat_image::{Image, ImageCache, ImageError, ImageReference, Unpack as _};
use moat_sandbox::{Provider as _, RootFilesystem};
use moat_sandbox_local::LocalProvider;
use support::inside::Inside;

/// A static shell with the usual small programs.
const BUSYBOX: &str = "/bin/busybox";

fn both(name: &str, root: bool, body: impl AsyncFnOnce()) {
    if !Path::new(BUSYBOX).exists() {
        support::skip(name, "needs /bin/busybox (Debian: busybox-static)");
        return;
    }
    let on_runtime = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(body());
    };
    if root {
        support::as_root(name, on_runtime);
    } else {
        support::as_ordinary_user(name, on_runtime);
    }
}

macro_rules! as_both {
    ($($as_root:ident $as_user:ident $body:ident;)+) => { $(
        #[test]
        fn $as_root() {
            both(stringify!($as_root), true, $body);
        }

        #[test]
        fn $as_user() {
            both(stringify!($as_user), false, $body);
        }
    )+ };
}

as_both! {
    an_image_is_the_root_as_root an_image_is_the_root_as_ordinary_user an_image_is_the_root;
    links_of_an_image_lead_nowhere_as_root links_of_an_image_lead_nowhere_as_ordinary_user
        links_of_an_image_lead_nowhere;
}

fn shell() -> Tar {
    let busybox = std::fs::read(BUSYBOX).unwrap();
    let program = Entry { mode: 0o755, content: &busybox, ..Entry::new("bin/busybox", b'0') };
    let mut tar = Tar::default().dir("./").dir("bin/").entry(&program);
    for name in ["sh", "cat", "ls", "id", "stat", "touch", "awk", "env", "rm", "mkdir", "readlink"]
    {
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
