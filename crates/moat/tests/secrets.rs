//! Planted secrets appear nowhere: not in the journal, blobs, errors, output, or any process of a
//! sandbox; not as they are, and not in base64 or hexadecimal.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/server.rs"]
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{Done, Lab, wait_until};
use server::{call, error, message, response, serve};

const KEY: &str = "sk-planted-9fK2mQ7xVb4Tz8Lw";
/// The same, put together in the sandbox by somebody who knows it from elsewhere.
const SAYS_KEY: &str = "printf '%s%s' sk-planted-9fK2 mQ7xVb4Tz8Lw";
const DOT_ENV: &str = "dotenv-planted-Zr5Np1Hs6Yd3";
const GIT_TOKEN: &str = "ghp_plantedA1b2C3d4E5f6G7h8I9j0K1l2M3n4";
/// Looks wherever a process can look, then waits to be looked at.
const SEARCH: &str = "env; cat .env .git/config; cat /proc/*/environ /proc/*/cmdline; \
    cat ~/.config/*/* /root/.config/moat/* \"$MOAT_CONFIG_DIR\"/*; ls /proc/1/fd; \
    grep -rs planted /workspace /home /tmp /etc /run /moat /root | head -c 20000; sleep 1.0625";

/// The value and what it becomes when somebody encodes it, at each of the three alignments.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![value.as_bytes().to_vec(), hex.to_uppercase().into_bytes(), hex.into()];
    for shift in 0..3 {
        let encoded = base64(&[vec![b' '; shift], value.as_bytes().to_vec()].concat());
        // The first and the last digits also depend on what is beside the value.
        forms.push(encoded[4..encoded.len() - 4].to_vec());
    }
    forms
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |chunk: &[u8]| {
        let word = (0..3).fold(0, |word, at| word << 8 | usize::from(*chunk.get(at).unwrap_or(&0)));
        [18, 12, 6, 0].map(|bits| DIGITS[word >> bits & 63])
    };
    bytes.chunks(3).flat_map(digits).collect()
}

struct Search {
    forms: Vec<Vec<u8>>,
    looked_at: usize,
}

impl Search {
    fn new(values: &[&str]) -> Self {
        Self { forms: values.iter().flat_map(|value| forms(value)).collect(), looked_at: 0 }
    }

    fn look(&mut self, place: &str, bytes: &[u8]) {
        self.looked_at += 1;
        for form in &self.forms {
            let found = bytes.windows(form.len()).any(|window| window == form);
            assert!(!found, "`{}` is in {place}", String::from_utf8_lossy(form));
        }
    }

    fn look_at_done(&mut self, place: &str, done: &Done) {
        self.look(place, done.out.as_bytes());
        self.look(place, done.err.as_bytes());
    }

    fn look_below(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => self.look_below(&path),
                kind if kind.is_file() => {
                    self.look(&path.display().to_string(), &std::fs::read(&path).unwrap());
                }
                _ => {}
            }
        }
    }

    /// Everything that a lab kept and would show.
    fn look_at_all(&mut self, lab: &Lab) {
        self.look_below(&lab.data);
        self.look_below(&lab.config.join("anchors"));
        for args in [
            ["show", "--last"].as_slice(),
            &["show", "--last", "--json"],
            &["logs", "--last", "--json"],
            &["runs", "--json"],
            &["diff", "--last"],
            &["record", "--last"],
            &["doctor"],
        ] {
            self.look_at_done(args[0], &lab.moat(args));
        }
    }
}

/// A folder with secrets in the places where people have them.
fn plant(lab: &Lab) {
    let git = |args: &[&str]| {
        let done = Command::new("git").args(args).current_dir(&lab.work).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    git(&["init", "-q"]);
    let url = format!("https://someone:{GIT_TOKEN}@github.com/someone/project.git");
    git(&["remote", "add", "origin", &url]);
    git(&["config", "http.extraHeader", &format!("Authorization: Bearer {GIT_TOKEN}")]);
    lab.write("work/.env", format!("TOKEN={DOT_ENV}\n"));
    lab.write("work/notes.txt", format!("The key is {KEY}, of course.\n"));
    lab.write("work/src/main.c", "int main(void) { return 0; }\n");
}

enum Given {
    Environment,
    Config,
    File,
    Command,
}

/// The key, given in one of the ways there are.
fn command(lab: &Lab, given: &Given, args: &[&str]) -> Command {
    let mut command = lab.command(args);
    let key_file = || lab.write("key", format!("{KEY}\n"));
    let config = |line: String| drop(lab.write("config/config.toml", line));
    match given {
        Given::Environment => {
            command.env("OPENAI_API_KEY", KEY);
        }
        Given::Config => config(format!("api_key = \"{KEY}\"\n")),
        Given::File => {
            command.arg("--api-key-file").arg(key_file());
        }
        Given::Command => {
            command.arg("--api-key-command").arg(format!("cat '{}'", key_file().display()));
        }
    }
    command
}

#[test]
fn keys_and_secrets_of_the_folder_appear_nowhere() {
    for given in [Given::Environment, Given::Config, Given::File, Given::Command] {
        let lab = Lab::new();
        plant(&lab);
        let url = serve(|asked| {
            assert_eq!(asked.authorization, format!("Bearer {KEY}"));
            match asked.outputs() {
                0 => response(0, call(0, SEARCH)),
                1 => response(1, call(1, SAYS_KEY)),
                _ => response(2, message("done")),
            }
        });
        let args =
            ["exec", "--json", "--no-stream", "--base-url", &url, "Look for secrets everywhere."];
        let running = lab.start(command(&lab, &given, &args));
        let mut search = Search::new(&[KEY, DOT_ENV, GIT_TOKEN]);
        wait_until("the search", || !processes_with("1.0625").is_empty());
        for process in inside_of_sandbox(&processes_with("1.0625")) {
            for file in ["environ", "cmdline"] {
                let bytes = std::fs::read(process.join(file)).unwrap_or_default();
                search.look(&process.join(file).display().to_string(), &bytes);
            }
        }
        assert!(search.looked_at >= 6, "too few processes were seen");
        let done = running.finish();
        assert_eq!(done.code, Some(0), "{done}");
        // It did run, and did get to see what is to be seen.
        assert!(done.out.contains("int main") || done.out.contains("[core]"), "{done}");
        assert!(done.out.contains("[redacted]"), "{done}");
        assert!(done.err.contains("left out: notes.txt"), "{done}");
        search.look_at_done("the output", &done);
        let files = search.looked_at;
        search.look_at_all(&lab);
        assert!(search.looked_at > files + 15, "{}", search.looked_at);
    }
}

/// Processes of this host with this argument.
fn processes_with(argument: &str) -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let matches = |path: &PathBuf| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|found| found == argument.as_bytes())
    };
    processes.filter(matches).collect()
}

/// All processes in the pid namespace of the given ones.
fn inside_of_sandbox(some: &[PathBuf]) -> Vec<PathBuf> {
    let namespace = |path: &Path| std::fs::read_link(path.join("ns/pid")).ok();
    let wanted: Vec<_> = some.iter().filter_map(|path| namespace(path)).collect();
    assert!(!wanted.contains(&namespace(Path::new("/proc/self")).unwrap()), "not in a sandbox");
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.filter(|path| namespace(path).is_some_and(|its| wanted.contains(&its))).collect()
}

#[test]
fn errors_do_not_repeat_the_key() {
    let echoes = serve(|asked| {
        let said = format!("Incorrect API key provided: {} (401)", asked.authorization);
        error(401, &asked.authorization, &said)
    });
    // Nobody listens there, and a name in the URL that nobody resolves.
    let closed = "http://127.0.0.1:9/v1".to_owned();
    for (url, code) in [(echoes, 6), (closed, 6)] {
        let lab = Lab::new();
        let args = ["exec", "--json", "--base-url", &url, "Go."];
        let running = lab.start(command(&lab, &Given::Environment, &args));
        let done = running.finish();
        assert_eq!(done.code, Some(code), "{url}: {done}");
        let mut search = Search::new(&[KEY]);
        search.look_at_done("the output", &done);
        search.look_at_all(&lab);
    }
    // A configuration that cannot be read is not quoted.
    let lab = Lab::new();
    lab.write("config/config.toml", format!("api_key = \"{KEY}\nmodel = 3\n"));
    let done = lab.moat(&["exec", "Go."]);
    assert_eq!(done.code, Some(5), "{done}");
    assert!(done.err.contains("config.toml:1:"), "{done}");
    Search::new(&[KEY]).look_at_done("the error", &done);
}

/// The search finds what is there: each form, wherever it stands.
#[test]
fn the_search_would_find_a_secret_in_each_form() {
    for form in forms(KEY) {
        let text = [b"before ".to_vec(), form, b" after".to_vec()].concat();
        let found = std::panic::catch_unwind(|| Search::new(&[KEY]).look("a text", &text));
        assert!(found.is_err());
    }
    let encoded = base64(format!("k={KEY}!").as_bytes());
    assert!(std::panic::catch_unwind(|| Search::new(&[KEY]).look("a text", &encoded)).is_err());
}
