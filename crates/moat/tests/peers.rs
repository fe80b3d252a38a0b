//! The command against a Responses server that is not ours: long loops of tool calls, streamed and
//! not, and requests that pass oracles that are not ours either.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stdout, reason = "says what it skips")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lab::{Lab, wait_until};
use serde_json::{Value, json};

const TURNS: usize = 50;

struct Peer {
    process: Child,
    python: PathBuf,
    log: PathBuf,
    url: String,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn shared() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("MOAT_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from)
}

/// The Python of the peers, or the reason why there is none.
fn python() -> Result<PathBuf, String> {
    let server = shared().join("peers/responses_server.py");
    if !server.is_file() {
        return Err(format!("{} is not there; MOAT_SHARED names its folder", server.display()));
    }
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/setup/peers.sh");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let done = Command::new("sh").arg(setup).env("CARGO_TARGET_DIR", target).output().unwrap();
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned());
    }
    Ok(PathBuf::from(String::from_utf8(done.stdout).unwrap().trim()))
}

impl Peer {
    fn start(lab: &Lab, test: &str) -> Option<Self> {
        let python = match python() {
            Ok(python) => python,
            Err(reason) => {
                println!("SKIP {test}: {reason}");
                return None;
            }
        };
        let script = lab.write("script.json", script().to_string());
        let port =
            std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let log = lab.path("log.jsonl");
        let process = Command::new(&python)
            .arg(shared().join("peers/responses_server.py"))
            .args(["--port", &port.to_string(), "--chunk", "7"])
            .arg("--script")
            .arg(script)
            .arg("--log")
            .arg(&log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let peer = Self { process, python, log, url: format!("http://127.0.0.1:{port}/v1") };
        wait_until("the peer", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(peer)
    }

    /// The requests that it saw so far, checked by both oracles.
    fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let done = Command::new(&self.python)
            .arg(shared().join("peers/validate_request.py"))
            .args(["--kind", "request"])
            .arg(self.telling(&text))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && !said.is_empty(), "{said}{errors}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The last request of a conversation holds the items of all before it, so of each conversation
    /// the first, the second and the last are looked at.
    fn telling(&self, log: &str) -> PathBuf {
        let lines: Vec<_> = log.lines().collect();
        let chosen = lines.chunks(TURNS).flat_map(|run| [0, 1, run.len() - 1].map(|at| run[at]));
        let file = self.log.with_extension("chosen");
        std::fs::write(&file, chosen.collect::<Vec<_>>().join("\n")).unwrap();
        file
    }
}

/// Fifty turns, one call each but the last: the peer counts outputs to know where it is.
fn script() -> Value {
    let turn = |turn: usize| match turn % 4 {
        0 => json!([
            {"type": "reasoning", "summary": format!("thinking about {turn}")},
            {"type": "function_call", "name": "exec_command",
             "arguments": {"cmd": format!("echo {turn} >> log.txt"), "login": false}}]),
        1 => json!([
            {"type": "message", "text": format!("Turn {turn}, with \u{1F980} and \"quotes\".")},
            {"type": "custom_tool_call", "name": "apply_patch",
             "input": format!("*** Begin Patch\n*** Add File: f{turn}\n+{turn}\n*** End Patch")}]),
        2 => json!([{"type": "function_call", "name": "exec_command",
                     "arguments": {"cmd": "cat log.txt; exit 1", "login": false}}]),
        _ => json!([{"type": "function_call", "name": "no_such_tool", "arguments": "{}"}]),
    };
    let mut turns: Vec<_> = (0..TURNS - 1).map(turn).collect();
    turns.push(json!([{"type": "message", "text": "Done after {turn} outputs."}]));
    json!({ "long": turns })
}

fn expected_log() -> String {
    (0..TURNS - 1).filter(|turn| turn % 4 == 0).map(|turn| format!("{turn}\n")).collect()
}

#[test]
fn fifty_turns_against_a_peer() {
    let lab = Lab::new();
    let Some(peer) = Peer::start(&lab, "fifty_turns_against_a_peer") else { return };
    lab.write("agent/AGENT.md", "---\nname: Peer\nmodel: long\n---\nDo what you are asked.\n");
    let agent = lab.path("agent");
    let agent = agent.to_str().unwrap();
    let exec = ["exec", "--model", "long", "--write"];
    for (round, (args, stream)) in [
        (exec.as_slice(), true),
        (&["exec", "--model", "long", "--no-stream"], false),
        (&["run", agent], true),
        (&["run", agent, "--no-stream"], false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut command = lab.command(args);
        command.args(["--json", "Go."]).env("OPENAI_BASE_URL", &peer.url);
        command.env("OPENAI_API_KEY", "sk-test-f00dfeed");
        let done = lab.start(command).finish();
        assert_eq!(done.code, Some(0), "{args:?}: {done}");
        let result = done.line("result");
        assert_eq!(result["output"], "Done after 49 outputs.", "{result}");
        assert_eq!(result["turns"], TURNS);
        assert!(result["usage"]["input_tokens"].as_u64().unwrap() > 1000, "{result}");
        let requests = peer.requests();
        assert_eq!(requests.len(), (round + 1) * TURNS);
        let bodies: Vec<_> = requests[round * TURNS..].iter().map(|line| &line["body"]).collect();
        assert!(bodies.iter().all(|body| body["stream"].as_bool().unwrap_or(false) == stream));
        // What was sent once is sent again unchanged: the prefix that caches key on.
        for pair in bodies.windows(2) {
            let input = |body: &Value| body["input"].as_array().unwrap().clone();
            assert!(input(pair[1]).starts_with(&input(pair[0])));
            assert_eq!(pair[0]["instructions"], pair[1]["instructions"]);
            assert_eq!(pair[0]["tools"], pair[1]["tools"]);
        }
        if args == exec {
            assert_eq!(std::fs::read_to_string(lab.work.join("log.txt")).unwrap(), expected_log());
            assert_eq!(std::fs::read_to_string(lab.work.join("f1")).unwrap(), "1\n");
            // The next runs start from an empty folder again.
            std::fs::remove_dir_all(&lab.work).unwrap();
            std::fs::create_dir(&lab.work).unwrap();
        }
    }
    assert_eq!(lab.json(&["verify", "--json"])["sound"], true);
}
