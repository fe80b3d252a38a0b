//! The containment suite: its list, its probe, and what the probe must not reach.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use moat_sandbox::Root;

use super::MARKER;
use super::inside::Inside;

/// One line of the list.
#[derive(Clone, Debug)]
pub(crate) struct Property {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) fences: Vec<&'static str>,
}

/// The list.
pub(crate) fn properties() -> Vec<Property> {
    let mut group = "";
    let mut all = Vec::new();
    for line in include_str!("../containment/properties.txt").lines() {
        if let Some(name) = line.strip_prefix('[') {
            group = name.trim_end_matches(']');
        }
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [name, fences, _what] = parts[..]
            && !line.starts_with('#')
        {
            all.push(Property { group, name, fences: fences.split(' ').collect() });
        }
    }
    all
}

/// What the probe said of each property: a verdict and an explanation.
pub(crate) type Verdicts = BTreeMap<String, (String, String)>;

/// The built probe, and what `probe host` made. What was made is gone when this is dropped.
pub(crate) struct Suite {
    folder: tempfile::TempDir,
    program: Vec<u8>,
    host: Child,
    input: Option<ChildStdin>,
    made: Vec<String>,
}

impl Suite {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let program = build(folder.path());
        let made = folder.path().join("host");
        std::fs::create_dir(&made).unwrap();
        let mut host = Command::new(&program)
            .args(["host", made.to_str().unwrap(), MARKER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = host.stdin.take();
        let lines = BufReader::new(host.stdout.take().unwrap()).lines().map(Result::unwrap);
        let made: Vec<String> = lines.take_while(|line| line != "ready").collect();
        assert!(made.iter().any(|line| line.starts_with("private=")), "{made:?}");
        Self { program: std::fs::read(program).unwrap(), folder, host, input, made }
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.folder.path().join("probe")
    }

    /// Tries these properties, or all, in the sandbox.
    pub(crate) async fn try_in(&self, inside: &Inside, only: &[&str]) -> (Verdicts, i32) {
        let path = Path::new("probe");
        inside.guest.write(Root::Workspace, path, &self.program, 0o755).await.unwrap();
        let mut argv = vec!["/workspace/probe".to_owned()];
        argv.extend(self.made.iter().cloned());
        if !only.is_empty() {
            argv.push(format!("only=,{},", only.join(",")));
        }
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let (code, said) = inside.run(&argv).await;
        let verdicts = said.lines().filter_map(|line| {
            let (name, rest) = line.split_once(' ')?;
            let (verdict, detail) = rest.split_once(' ')?;
            Some((name.to_owned(), (verdict.to_owned(), detail.to_owned())))
        });
        (verdicts.collect(), code)
    }

    /// What programs need and do not get.
    pub(crate) async fn lacking(&self, inside: &Inside) -> Vec<String> {
        let path = Path::new("probe");
        inside.guest.write(Root::Workspace, path, &self.program, 0o755).await.unwrap();
        let (code, said) = inside.run(&["/workspace/probe", "needs"]).await;
        assert_eq!(code, 0);
        assert!(said.lines().count() > 10, "{said}");
        said.lines().filter(|line| !line.contains(" works")).map(str::to_owned).collect()
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        // The end of its input is its sign to clean up.
        drop(self.input.take());
        let _ = self.host.wait();
    }
}

/// Static: it runs wherever a process runs.
pub(crate) fn build(folder: &Path) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/containment/probe");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(sources).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    let program = folder.join("probe");
    let built = Command::new("cc")
        .args(["-static", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&program)
        .args(files)
        .arg("-lrt")
        .status()
        .unwrap();
    assert!(built.success(), "the probe cannot be built");
    program
}

/// Runs `body` in a process of its own that has a controlling terminal, as the shell of a person
/// has.
pub(crate) fn on_terminal(name: &str, body: impl FnOnce()) {
    const MARK: &str = "MOAT_TEST_TERMINAL";
    if std::env::var_os(MARK).is_some() {
        body();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(build(folder.path()))
        .arg("terminal")
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name}: {status}");
}
