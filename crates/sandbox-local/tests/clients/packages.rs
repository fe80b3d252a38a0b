//! Package managers against registries of files that ask for the token.

use std::path::Path;
use std::process::Command;

use crate::host::VALUE;
use crate::support;
use crate::support::inside::Inside;

/// A package manager: its name, what says whether it is there, how it installs from a registry that
/// asks for the token, and what shows that it did.
pub(crate) struct Manager(&'static str, &'static str, &'static str, &'static str);

pub(crate) const MANAGERS: [Manager; 3] = [
    Manager(
        "pip",
        "python3 -m pip --version",
        "python3 -m pip install -q --no-deps --target pip --index-url \
         https://user:$TOKEN@git.test/files/simple/ moatpkg",
        "cat pip/moatpkg.py",
    ),
    Manager(
        "npm",
        "npm --version",
        "npm install --no-audit --no-fund --registry=https://git.test/files/npm/ \
         --//git.test/files/npm/:_authToken=$TOKEN moatpkg",
        "cat node_modules/moatpkg/index.js",
    ),
    Manager(
        "cargo",
        "cargo --version",
        "mkdir -p crate/src && cd crate && touch src/lib.rs && printf '[package]\\nname = \"x\"\\nedition = \"2021\"\\n\
         version = \"0.1.0\"\\n[dependencies]\\nmoatpkg = { version = \"1\", registry = \"corp\" }\\n' \
         > Cargo.toml && CARGO_REGISTRIES_CORP_TOKEN=$TOKEN \
         CARGO_REGISTRY_GLOBAL_CREDENTIAL_PROVIDERS=cargo:token \
         CARGO_REGISTRIES_CORP_INDEX=sparse+https://git.test/files/cargo/ cargo fetch",
        "cat ~/.cargo/registry/src/*/moatpkg-1.0.0/src/lib.rs",
    ),
];

/// Writes the registries. What a host has no program for is not there, as is what would ask for it.
pub(crate) fn publish(files: &Path) {
    let script = r##"set -e
        mkdir -p simple/moatpkg npm/package cargo/mo/at cargo/dl moatpkg-1.0.0/src
        printf '// installed\n' | tee moatpkg-1.0.0/src/lib.rs > npm/package/index.js
        printf '{"name": "moatpkg", "version": "1.0.0"}' > npm/package/package.json
        tar czf npm/moatpkg-1.0.0.tgz -C npm package
        printf '%s' '{"name": "moatpkg", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0":
            {"name": "moatpkg", "version": "1.0.0",
            "dist": {"tarball": "https://git.test/files/npm/moatpkg-1.0.0.tgz"}}}}' > npm/moatpkg
        printf '[package]\nname = "moatpkg"\nversion = "1.0.0"\n' > moatpkg-1.0.0/Cargo.toml
        tar czf cargo/dl/moatpkg.crate moatpkg-1.0.0
        printf '%s' '{"dl": "https://git.test/files/cargo/dl/{crate}.crate", "auth-required": true}' \
            > cargo/config.json
        printf '{"name":"moatpkg","vers":"1.0.0","deps":[],"cksum":"%s","features":{},"yanked":false}' \
            "$(sha256sum cargo/dl/moatpkg.crate | cut -d ' ' -f 1)" > cargo/mo/at/moatpkg
        printf '<a href="moatpkg-1.0-py3-none-any.whl">moatpkg-1.0-py3-none-any.whl</a>' \
            > simple/moatpkg/index.html
        ! command -v python3 > /dev/null || python3 - << 'END'
import zipfile
with zipfile.ZipFile("simple/moatpkg/moatpkg-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("moatpkg.py", "# installed\n")
    about = "moatpkg-1.0.dist-info/"
    wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: moatpkg\nVersion: 1.0\n")
    wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(about + "RECORD", "moatpkg.py,,\n")
END
"##;
    let done = Command::new("sh").args(["-c", script]).current_dir(files).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// It installs, and what it says and leaves behind has no value in it.
pub(crate) async fn installs(name: &str, inside: &Inside, manager: &Manager) {
    let Manager(program, probe, install, shown) = manager;
    if inside.sh(&format!("{probe} >/dev/null 2>&1")).await.0 != 0 {
        support::skip(name, &format!("there is no {program} inside"));
        return;
    }
    let (code, said) = inside.sh(&format!("cd /workspace && {install} 2>&1")).await;
    let (shows, installed) = inside.sh(&format!("cd /workspace && {shown} 2>&1")).await;
    assert!(code == 0 && shows == 0, "{program}: {said}\n{installed}");
    assert!(installed.contains("installed"), "{program}: {installed}");
    assert!(!said.contains(VALUE), "{program} saw the value: {said}");
    let (_, found) = inside.sh(&format!("grep -rlF '{VALUE}' /workspace ~ 2>/dev/null")).await;
    assert_eq!(found, "", "{program} kept the value");
    println!("ok {program} install");
}
