//! The network of runs: what a policy lets through and refuses stands in the journal, is told to
//! the model, and a token never comes in.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stdout, reason = "says what it skips")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/internet.rs"]
mod internet;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/transcript.rs"]
mod transcript;

use std::path::Path;
use std::process::Command;

use internet::Internet;
use lab::Lab;
use serde_json::Value;
use transcript::{exec, say, transcript};

const TOKEN: &str = "tok-planted-7f3a9c51e2";
const SECRET: &str = "TOKEN=env:REAL_TOKEN@api.example.com";

struct Stage {
    lab: Lab,
    internet: Internet,
}

impl Stage {
    fn new() -> Self {
        let lab = Lab::new();
        let internet = Internet::start(lab.path("sites"), TOKEN);
        let authority = lab.write("authority.pem", &internet.authority);
        lab.write("config/config.toml", format!("ca_file = {:?}\n", authority.to_str().unwrap()));
        Self { lab, internet }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(args);
        command.env("HTTPS_PROXY", &self.internet.proxy).env("REAL_TOKEN", TOKEN);
        command
    }
}

#[test]
fn a_run_records_what_its_network_did_and_teaches_the_model() {
    if !Path::new("/usr/bin/curl").exists() {
        println!("SKIP a_run_records_what_its_network_did_and_teaches_the_model: no curl");
        return;
    }
    let stage = Stage::new();
    let turns = [
        vec![exec("curl -sS -H \"Authorization: Bearer $TOKEN\" https://api.example.com/v1/a")],
        vec![exec("curl -sS https://other.example.org/x || true")],
        vec![say("done")],
    ];
    let replay = stage.lab.write("t.jsonl", transcript(&turns));
    let replay = replay.to_str().unwrap();
    let args = [
        "exec",
        "--json",
        "--replay",
        replay,
        "--net",
        "api.example.com",
        "--secret",
        SECRET,
        "Go.",
    ];
    let done = stage.lab.start(stage.command(&args)).finish();
    assert_eq!(done.code, Some(0), "{done}");
    let shown = stage.lab.json(&["show", "--last", "--json"]);
    let turns = shown["turns"].as_array().unwrap().iter();
    let decisions: Vec<&Value> =
        turns.flat_map(|turn| turn["network"].as_array().unwrap()).collect();
    let allowed = decisions.iter().find(|one| one["allowed"] == true && one["path"] == "/v1/a");
    assert_eq!(allowed.unwrap()["secrets"], serde_json::json!(["TOKEN"]), "{decisions:?}");
    let denied = decisions.iter().find(|one| one["allowed"] == false).unwrap();
    assert_eq!(denied["host"], "other.example.org");
    let output = shown["turns"][1]["calls"][0]["output"].as_str().unwrap();
    assert!(output.contains("Network denied: ") && output.contains("--net other.example.org"));
    // The server saw the token and sent it back; nothing on this side has it.
    assert!(stage.internet.seen().iter().any(|request| request.to_string().contains(TOKEN)));
    let all = format!("{}{}{shown}", done.out, done.err);
    assert!(!all.contains(TOKEN), "the token is in the journal or the output");
    let mut kept = std::fs::read_dir(stage.lab.data.join("authorities")).unwrap();
    assert!(kept.next().is_none(), "the authority of a run that ended is still there");
    let suggested = stage.lab.ok(&["policy", "suggest", "--last"]);
    assert!(suggested.out.contains("other.example.org"), "{suggested}");
}

#[test]
fn what_widens_a_higher_level_is_refused_with_both_rules() {
    let stage = Stage::new();
    stage.lab.write("config/network.toml", "allow = [\"*.example.com\"]\n");
    let refused = stage.lab.moat(&["sandbox", "run", "--net", "evil.example.org", "--", "true"]);
    assert_eq!(refused.code, Some(2), "{refused}");
    for word in ["evil.example.org", "*.example.com", "organisation"] {
        assert!(refused.err.contains(word), "{word}: {refused}");
    }
    stage.lab.ok(&["sandbox", "run", "--net", "api.example.com", "--", "true"]);
}

#[test]
fn an_agent_gets_a_secret_of_this_machine_only_from_the_person() {
    let stage = Stage::new();
    let agent = format!(
        "---\nname: a\nnetwork:\n  allow: [api.example.com]\n  secrets: ['{SECRET}']\n---\nGo.\n"
    );
    stage.lab.write("agent/AGENT.md", agent);
    let replay = stage.lab.write("t.jsonl", transcript(&[vec![say("done")]]));
    let agent = stage.lab.path("agent");
    let mut args =
        vec!["run", agent.to_str().unwrap(), "Go.", "--replay", replay.to_str().unwrap()];
    let refused = stage.lab.start(stage.command(&args)).finish();
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.err.contains(&format!("--secret '{SECRET}'")), "{refused}");
    args.extend(["--secret", SECRET]);
    let done = stage.lab.start(stage.command(&args)).finish();
    assert_eq!(done.code, Some(0), "{done}");
}
