//! Against a Responses server that is not ours, as a real process, with its requests checked by
//! two oracles that are not ours either.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use moat_core::{Item, Secret};
use moat_model::{
    Delta, DeltaKind, Model, ModelErrorClass, ModelRequest, ModelResponse, ReplayModel,
    ReplayServer, ResponsesModel, ResponsesOptions, StaticKey, Transcript,
};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const KEY: &str = "sk-test-f00dfeed";
const TURNS: usize = 50;

struct Peer {
    process: Child,
    folder: tempfile::TempDir,
    python: PathBuf,
    port: u16,
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
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/setup/peers.sh");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let done = Command::new("sh").arg(setup).env("CARGO_TARGET_DIR", target).output().unwrap();
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned());
    }
    Ok(PathBuf::from(String::from_utf8(done.stdout).unwrap().trim()))
}

impl Peer {
    fn start(test: &str, script: &Value) -> Option<Self> {
        let server = shared().join("peers/responses_server.py");
        let python = if server.is_file() {
            python()
        } else {
            Err(format!("{} is not there; MOAT_SHARED names its folder", server.display()))
        };
        let python = match python {
            Ok(python) => python,
            Err(reason) => {
                println!("SKIP {test}: {reason}");
                return None;
            }
        };
        let folder = tempfile::tempdir().unwrap();
        let script_file = folder.path().join("script.json");
        std::fs::write(&script_file, script.to_string()).unwrap();
        let port = free_port();
        let process = Command::new(&python)
            .arg(server)
            .args(["--port", &port.to_string(), "--chunk", "7", "--script"])
            .arg(script_file)
            .arg("--log")
            .arg(folder.path().join("log.jsonl"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let peer = Self { process, folder, python, port };
        peer.wait();
        Some(peer)
    }

    fn wait(&self) {
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("the peer does not listen");
    }

    fn model(&self) -> ResponsesModel {
        let mut options = ResponsesOptions::new(format!("http://127.0.0.1:{}/v1", self.port));
        options.key = Arc::new(StaticKey::new(Secret::new(KEY)));
        ResponsesModel::new(options).unwrap()
    }

    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("log.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs both oracles over requests that the peer saw.
    fn validate(&self, requests: &[&Value]) {
        let lines: Vec<_> = requests.iter().map(|request| request.to_string()).collect();
        let file = self.folder.path().join("requests.jsonl");
        std::fs::write(&file, lines.join("\n")).unwrap();
        self.oracles("request", &file);
    }

    fn oracles(&self, kind: &str, file: &Path) {
        let done = Command::new(&self.python)
            .arg(shared().join("peers/validate_request.py"))
            .args(["--kind", kind])
            .arg(file)
            .output()
            .unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success() && !out.is_empty(), "{out}{err}");
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Fifty turns that between them hold every kind of item that a local agent meets. The peer picks
/// the turn by the number of tool outputs, so each turn has one call.
fn long_script() -> Value {
    let call = |turn: usize| match turn % 3 {
        0 => json!([
            {"type": "reasoning", "summary": format!("thinking about {turn}")},
            {"type": "function_call", "name": "exec_command", "arguments": {"cmd": "echo hi"}}]),
        1 => json!([
            {"type": "message", "text": format!("Now turn {turn}, with \u{1F980} and \"quotes\".")},
            {"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin Patch\n*** End Patch"}]),
        _ => {
            json!([{"type": "function_call", "name": "exec_command", "arguments": "{\"cmd\": \"x\"}"}])
        }
    };
    let mut turns: Vec<_> = (0..TURNS - 1).map(call).collect();
    turns.push(json!([{"type": "message", "text": "Done after {turn}: {last_output}"}]));
    json!({ "long": turns })
}

fn request(model: &str, stream: bool) -> ModelRequest {
    ModelRequest {
        model: model.to_owned(),
        instructions: Some("Be brief.".to_owned()),
        input: vec![Item::user_message("Go.")],
        tools: vec![
            json!({"type": "function", "name": "exec_command", "description": "d", "strict": false,
                   "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}}}),
            json!({"type": "custom", "name": "apply_patch", "description": "d"}),
        ],
        settings: Map::new(),
        stream,
        cache_key: Some("run-1".to_owned()),
    }
}

/// The output that a harness would give to each call of an answer.
fn outputs(answer: &ModelResponse) -> Vec<Item> {
    let output = |item: &Item| {
        let fields = item.fields();
        let kind = match fields.kind.as_deref()? {
            "function_call" => "function_call_output",
            "custom_tool_call" => "custom_tool_call_output",
            _ => return None,
        };
        Some(Item::from_value(&json!({"type": kind, "call_id": fields.call_id, "output": "hi\n"})))
    };
    answer.output.iter().filter_map(output).collect()
}

async fn converse(model: &ResponsesModel, request: &mut ModelRequest) -> Vec<ModelResponse> {
    let mut answers = Vec::new();
    loop {
        let answer = model.respond(request, &|_| {}).await.unwrap();
        let results = outputs(&answer);
        request.input.extend(answer.output.iter().cloned());
        let finished = results.is_empty();
        request.input.extend(results);
        answers.push(answer);
        if finished {
            return answers;
        }
    }
}

#[tokio::test]
async fn fifty_turns_with_and_without_a_stream_pass_the_oracles() {
    let Some(peer) = Peer::start("fifty_turns", &long_script()) else { return };
    let model = peer.model();
    for stream in [false, true] {
        let mut conversation = request("long", stream);
        let answers = converse(&model, &mut conversation).await;
        assert_eq!(answers.len(), TURNS, "stream: {stream}");
        let last = answers.last().unwrap();
        assert_eq!(last.output[0].message_text().unwrap(), "Done after 49: hi\n");
        assert!(last.usage.input_tokens > 1_000 && last.usage.requests == 1, "{last:?}");
        assert!(last.first_output.is_some() && last.id.is_some() && last.cost.is_none());
    }
    let log = peer.log();
    assert_eq!(log.len(), 2 * TURNS);
    // A conversation's last request holds all the items of those before it.
    let telling = [1, TURNS - 1, 2 * TURNS - 1];
    peer.validate(&telling.map(|index| &log[index]));

    // What the peer sent is what it got back: each turn's input is the beginning of the next's.
    let bodies: Vec<_> = log.iter().map(|line| &line["body"]).collect();
    for pair in bodies.windows(2).take(TURNS - 1) {
        let (before, after) = (pair[0]["input"].as_array(), pair[1]["input"].as_array());
        assert!(after.unwrap().starts_with(before.unwrap()));
    }
}

#[tokio::test]
async fn deltas_add_up_to_the_items() {
    let Some(peer) = Peer::start("deltas", &long_script()) else { return };
    let heard = Mutex::new(Vec::<Delta>::new());
    let mut request = request("long", true);
    for call in ["call_1", "call_2"] {
        let json = json!({"type": "function_call_output", "call_id": call, "output": "hi"});
        request.input.push(Item::from_value(&json));
    }
    request.input.truncate(2);
    let answer =
        peer.model().respond(&request, &|delta| heard.lock().unwrap().push(delta)).await.unwrap();
    let heard = heard.into_inner().unwrap();
    let text = |item: u32, kind| {
        let mut text = String::new();
        for delta in heard.iter().filter(|delta| (delta.item, delta.kind) == (item, kind)) {
            assert_eq!(delta.offset, text.len() as u64);
            text.push_str(&delta.text);
        }
        text
    };
    assert_eq!(text(0, DeltaKind::Text), answer.output[0].message_text().unwrap());
    assert_eq!(text(1, DeltaKind::Arguments), answer.output[1].fields().input.unwrap());
}

#[tokio::test]
async fn errors_of_the_peer_are_told_as_it_tells_them() {
    let script = json!({"busy": [{"error": {"status": 429, "code": "rate_limit_exceeded",
        "message": "slow down", "headers": {"retry-after-ms": "5"}, "times": 1}}]});
    let Some(peer) = Peer::start("errors", &script) else { return };
    let model = peer.model();
    let error = model.respond(&request("busy", true), &|_| {}).await.unwrap_err();
    assert_eq!((error.class, error.status), (ModelErrorClass::Status, Some(429)));
    assert_eq!(error.retry_after, Some(Duration::from_millis(5)));
    assert!(error.message.contains("slow down (rate_limit_exceeded)"), "{error}");
    let answer = model.respond(&request("busy", true), &|_| {}).await.unwrap();
    assert_eq!(answer.output[0].message_text().unwrap(), "recovered");

    let mut keyless = ResponsesOptions::new(format!("http://127.0.0.1:{}/v1/", peer.port));
    keyless.key = Arc::new(moat_model::NoKey);
    let model = ResponsesModel::new(keyless).unwrap();
    let error = model.respond(&request("busy", false), &|_| {}).await.unwrap_err();
    assert_eq!(error.status, Some(401));
    assert!(error.message.contains("didn't provide an API key"), "{error}");
}

/// The replay server's own answers, streamed and whole, pass the oracles too: whoever can talk to a
/// provider can talk to a replay.
#[tokio::test]
async fn what_a_replay_says_passes_the_oracles() {
    let Some(peer) = Peer::start("replay_oracles", &json!({})) else { return };
    let transcript = "turns: [{output: [{type: reasoning, summary: hm}, {type: message, text: hi}, \
        {type: function_call, name: f, arguments: {a: 1}}, \
        {type: custom_tool_call, name: p, input: x}]}]";
    let server = ReplayServer::start(Transcript::parse(transcript).unwrap()).await.unwrap();
    let url: &str = server.base_url();
    let address = url.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    for (kind, stream) in [("response", false), ("event", true)] {
        let body = json!({"model": "m", "input": "go", "stream": stream}).to_string();
        let request = format!(
            "POST /v1/responses HTTP/1.0\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
            server.key().expose(),
            body.len(),
        );
        let mut connection = tokio::net::TcpStream::connect(&address).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let lines: Vec<_> = match stream {
            true => body.lines().filter_map(|line| line.strip_prefix("data: ")).collect(),
            false => vec![body],
        };
        assert!(lines.len() == 1 || lines.len() > 15, "{answer}");
        let file = peer.folder.path().join(kind);
        std::fs::write(&file, lines.join("\n")).unwrap();
        peer.oracles(kind, &file);
    }
}

/// What a call costs on this side, beyond the server's own time. Not a timed test: it prints.
#[tokio::test]
#[ignore = "measures"]
async fn overhead_per_call() {
    let transcript = "turns: [{output: [{type: message, text: Hello from the replay.}]}]";
    let replay = ReplayModel::start(Transcript::parse(transcript).unwrap()).await.unwrap();
    measure("replay", &replay).await;
    let Some(peer) = Peer::start("overhead", &json!({})) else { return };
    measure("peer", &peer.model()).await;
}

async fn measure(name: &str, model: &dyn Model) {
    for stream in [false, true] {
        let request = request("echo", stream);
        let mut times = Vec::new();
        for _ in 0..500 {
            let start = std::time::Instant::now();
            model.respond(&request, &|_| {}).await.unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        println!("{name}, stream {stream}: p50 {:?}, p99 {:?}", times[250], times[495]);
    }
}
