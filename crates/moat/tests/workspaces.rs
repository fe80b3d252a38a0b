//! Workspaces that others cannot bring back, brought back where nothing is left of the sandbox and of
//! the machine: only the store of blobs, the journal and the key.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stdout, reason = "says what it skips")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/transcript.rs"]
mod transcript;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::Lab;
use serde_json::json;
use transcript::{Turn, exec_with, say, transcript};

/// One command, with the time that an installation takes on a machine that does other things too:
/// beyond 30 s it goes on beside the run, and its end is waited for.
fn long(script: &str) -> Vec<Turn> {
    let call =
        |cmd: &str| vec![exec_with(json!({"cmd": cmd, "login": false, "yield_time_ms": 30000}))];
    let mut turns = vec![call(script)];
    turns.extend((0..6).map(|_| call(WAIT)));
    turns.push(vec![say("done")]);
    turns
}

/// Waits until no installation runs any more.
const WAIT: &str = "while [ -e .busy ]; do sleep 0.1; done";

/// A run that does this and then checks it again where it was brought back.
fn brought_back(lab: &Lab, make: &str, check: &str) -> PathBuf {
    let make =
        format!("touch .busy; (set -e; {make}) > made.txt 2>&1; echo $? >> made.txt; rm .busy");
    let check = format!(
        "touch .busy; (set -e; {check}) > checked.txt 2>&1; echo $? >> checked.txt; rm .busy"
    );
    let turns = [long(&make), long(&check)].concat();
    let replay = lab.write("t.jsonl", transcript(&turns)).to_str().unwrap().to_owned();
    let run = lab.ok(&["exec", "--json", "--replay", &replay, "Make it."]).run();

    // What another machine would be given: packs, blobs, the journal's database.
    let elsewhere = lab.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    for entry in std::fs::read_dir(&lab.data).unwrap().flatten() {
        let name = entry.file_name();
        let kept = entry.path().is_file() || name == "snapshots" || name == "blobs";
        if kept {
            let copied = Command::new("cp").arg("-a").arg(entry.path()).arg(&elsewhere).status();
            assert!(copied.unwrap().success());
        }
    }
    std::fs::remove_dir_all(&lab.data).unwrap();
    let there = |args: &[&str]| {
        let mut command = lab.command(args);
        command.env("MOAT_DATA_DIR", &elsewhere);
        let done = lab.start(command).finish();
        assert_eq!(done.code, Some(0), "{done}");
    };
    there(&["continue", &run, "Check it.", "--replay", &replay]);
    let out = lab.path("out");
    there(&["restore", &run, out.to_str().unwrap()]);
    out
}

/// What a script said, its end included, which has to be a success.
fn said(out: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(out.join(name)).unwrap();
    text.strip_suffix("0\n").unwrap_or_else(|| panic!("{name}: {text}")).to_owned()
}

/// Makes a package with a program.
const WHEEL: &str = r#"
import zipfile
info = 'hello-1.dist-info/'
files = {
    'hello.py': 'import sys\ndef main():\n    print("hello from", sys.prefix)\n',
    info + 'METADATA': 'Metadata-Version: 2.1\nName: hello\nVersion: 1\n',
    info + 'WHEEL': 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
    info + 'entry_points.txt': '[console_scripts]\nhello = hello:main\n',
}
files[info + 'RECORD'] = ''.join(name + ',,\n' for name in [*files, info + 'RECORD'])
with zipfile.ZipFile('hello-1-py3-none-any.whl', 'w') as wheel:
    for name, text in files.items():
        wheel.writestr(name, text)
"#;

#[test]
fn a_python_environment_works_where_it_comes_back() {
    let ready = Command::new("/usr/bin/python3").args(["-c", "import venv, ensurepip"]).status();
    if !ready.is_ok_and(|status| status.success()) {
        println!("SKIP a_python_environment: needs /usr/bin/python3 with venv");
        return;
    }
    let lab = Lab::new();
    lab.write("work/wheel.py", WHEEL);
    let make = "/usr/bin/python3 -m venv venv; /usr/bin/python3 wheel.py; \
                venv/bin/pip install --quiet --no-index ./hello-1-py3-none-any.whl; \
                venv/bin/hello; readlink venv/bin/python3; readlink venv/lib64";
    let check = "venv/bin/hello; readlink venv/bin/python3; readlink venv/lib64; \
                 venv/bin/pip --version | cut -d' ' -f1; . venv/bin/activate; python3 -c 'import hello'";
    let out = brought_back(&lab, make, check);
    let links = "/usr/bin/python3\nlib\n";
    assert_eq!(said(&out, "checked.txt"), format!("hello from /workspace/venv\n{links}pip\n"));
    assert!(said(&out, "made.txt").ends_with(&format!("hello from /workspace/venv\n{links}")));
}

/// The folder of pnpm, or the reason why there is none.
fn pnpm() -> Result<PathBuf, String> {
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/setup/pnpm.sh");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let done = Command::new("sh").arg(setup).env("CARGO_TARGET_DIR", target).output().unwrap();
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned());
    }
    Ok(PathBuf::from(String::from_utf8(done.stdout).unwrap().trim()))
}

/// Two packages, one of which needs the other and has a program.
fn packages(lab: &Lab) {
    let package = |name: &str, files: &[(&str, &str)]| {
        for (file, content) in files {
            lab.write(&format!("packages/{name}/package/{file}"), content);
        }
        let program = lab.path(&format!("packages/{name}/package/cli.js"));
        if program.exists() {
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let (archive, folder) = (lab.work.join(format!("{name}.tgz")), format!("packages/{name}"));
        let mut pack = Command::new("tar");
        pack.arg("-czf").arg(archive).arg("-C").arg(lab.path(&folder)).arg("package");
        assert!(pack.status().unwrap().success());
    };
    let right = r#"{"name":"right","version":"1.0.0","bin":{"right":"cli.js"}}"#;
    let program = "#!/usr/bin/env node\nconsole.log(require('./index.js')())\n";
    let files =
        [("package.json", right), ("index.js", "module.exports = () => 41\n"), ("cli.js", program)];
    package("right", &files);
    let left =
        r#"{"name":"left","version":"1.0.0","dependencies":{"right":"file:/workspace/right.tgz"}}"#;
    let index = "module.exports = () => require('right')() + 1\n";
    package("left", &[("package.json", left), ("index.js", index)]);
    let app =
        r#"{"name":"app","dependencies":{"left":"file:./left.tgz","right":"file:./right.tgz"}}"#;
    lab.write("work/package.json", app);
}

#[test]
fn a_farm_of_links_by_pnpm_works_where_it_comes_back() {
    let pnpm = match pnpm() {
        Ok(pnpm) => pnpm,
        Err(reason) => {
            println!("SKIP a_farm_of_links_by_pnpm: {reason}");
            return;
        }
    };
    let lab = Lab::new();
    packages(&lab);
    // Without what builds programs in C, which is the largest part of it.
    let tool = lab.work.join(".pnpm");
    std::fs::create_dir_all(tool.join("dist")).unwrap();
    for part in ["package.json", "bin", "dist/pnpm.cjs", "dist/worker.js"] {
        let parent = tool.join(part).parent().unwrap().to_owned();
        let copied = Command::new("cp").arg("-r").arg(pnpm.join(part)).arg(parent).status();
        assert!(copied.unwrap().success());
    }
    let make = "node .pnpm/bin/pnpm.cjs install --offline --store-dir /workspace/.store --package-import-method hardlink";
    // Names of a file of the store, and that it is one file.
    let check = "node -e 'console.log(require(\"left\")())'; node_modules/.bin/right; \
                 readlink node_modules/left; \
                 file=$(find node_modules/.pnpm -path '*right/index.js' -type f); \
                 stat -c %h $file; find .store -type f -samefile $file | wc -l; \
                 node .pnpm/bin/pnpm.cjs install --offline --frozen-lockfile --store-dir /workspace/.store > again.txt";
    let out = brought_back(&lab, make, check);
    said(&out, "made.txt");
    let expected = "42\n41\n.pnpm/left@file+left.tgz/node_modules/left\n2\n1\n";
    assert_eq!(said(&out, "checked.txt"), expected);
}

#[test]
fn a_local_clone_and_a_sparse_file_come_back() {
    const SIZE: u64 = 2 << 30;
    let lab = Lab::new();
    let make = "git init -q -b main one; cd one; git config user.name T; git config user.email t@e; \
                for i in 1 2 3 4 5; do echo $i > $i; git add .; git commit -qm $i; done; cd ..; \
                git clone -q --local one two; \
                test $(find two/.git/objects -type f ! -links 2 | wc -l) = 0; \
                truncate -s 2G sparse; printf middle | dd of=sparse bs=1 seek=1G conv=notrunc status=none; \
                find one/.git/objects two/.git/objects -type f | wc -l";
    let check = "for repository in one two; do git -C $repository fsck --strict; \
                 git -C $repository status --porcelain; git -C $repository log --format=%s | tr '\\n' ' '; done; \
                 find two/.git/objects -type f ! -links 2 | wc -l; \
                 find one/.git/objects two/.git/objects -type f | wc -l; \
                 stat -c %s sparse; test $(stat -c %b sparse) -lt 4096; \
                 tail -c +1073741825 sparse | head -c 6; echo; cd two; git pull -q; echo 6 > 6; git add 6; \
                 git -c user.name=T -c user.email=t@e commit -qm 6; git rev-list --count HEAD";
    let out = brought_back(&lab, make, check);
    let objects = said(&out, "made.txt");
    let expected =
        format!("5 4 3 2 1 5 4 3 2 1 0\n{objects}{SIZE}\nmiddle\n6\n", objects = objects);
    let checked = said(&out, "checked.txt");
    assert_eq!(checked.replace("notice: HEAD points to an unborn branch\n", ""), expected);
    // On the host as well.
    let sparse = out.join("sparse").metadata().unwrap();
    assert_eq!(sparse.len(), SIZE);
    assert!(sparse.blocks() < 4096, "{} blocks", sparse.blocks());
}
