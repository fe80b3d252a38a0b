//! Real clients in a sandbox with a network: they use a token that they never have.
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
use lab::{Done, Lab};
use serde_json::Value;
use transcript::{exec, say, transcript};

const TOKEN: &str = "tok-planted-7f3a9c51e2";
const RULES: [&str; 8] = [
    "--net",
    "api.example.com",
    "--net",
    "git.example.com",
    "--secret",
    "TOKEN=env:REAL_TOKEN@api.example.com,git.example.com",
    "--quiet",
    "--",
];

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

    /// One command in a fresh sandbox that may reach two hosts.
    fn run(&self, before: &[&str], argv: &[&str]) -> Done {
        let args = [&["sandbox", "run"], before, &RULES, argv].concat();
        self.lab.start(self.command(&args)).finish()
    }

    /// Seen from inside there is no token, seen from outside it was there.
    fn check_swapped(&self, done: &Done, before: usize) {
        assert_eq!(done.code, Some(0), "{done}");
        assert!(!format!("{done}").contains(TOKEN), "the token came in: {done}");
        let seen = self.internet.seen();
        let new = seen.get(before..).unwrap();
        assert!(!new.is_empty(), "no request arrived: {done}");
        let carried = new.iter().any(|request| request.to_string().contains(TOKEN));
        assert!(carried, "the token was not put in: {new:?}");
    }
}

fn has(program: &str) -> bool {
    let there = ["/usr/bin", "/bin", "/usr/local/bin"];
    there.iter().any(|folder| Path::new(folder).join(program).exists())
}

fn skip(name: &str, program: &str) -> bool {
    let missing = !has(program);
    if missing {
        println!("SKIP {name}: `{program}` is not installed for all users");
    }
    missing
}

#[test]
fn curl_has_a_token_that_it_never_sees() {
    if skip("curl_has_a_token_that_it_never_sees", "curl") {
        return;
    }
    let stage = Stage::new();
    let script = "curl -sS --fail-with-body -H \"Authorization: Bearer $TOKEN\" \
                  https://api.example.com/v1/echo";
    for variables in ["", "unset HTTPS_PROXY https_proxy HTTP_PROXY http_proxy ALL_PROXY; "] {
        let before = stage.internet.seen().len();
        let done = stage.run(&[], &["sh", "-c", &format!("{variables}{script}")]);
        stage.check_swapped(&done, before);
        let echoed: Value = serde_json::from_str(&done.out).unwrap();
        let header = echoed["headers"]["authorization"].as_str().unwrap();
        assert!(header.starts_with("Bearer moatsecret"), "{header}");
    }
}

#[test]
fn what_is_refused_says_what_would_allow_it() {
    if skip("what_is_refused_says_what_would_allow_it", "curl") {
        return;
    }
    let stage = Stage::new();
    let before = stage.internet.seen().len();
    let script = "curl -sS https://other.example.org/; curl -sS http://other.example.org/; \
                  curl -sS -H \"X: $TOKEN\" https://other.example.org/";
    let done = stage.run(&[], &["sh", "-c", script]);
    assert!(done.out.contains("--net other.example.org"), "{done}");
    assert_eq!(stage.internet.seen().len(), before, "a request got out");
}

#[test]
fn git_clones_with_a_token_that_it_never_sees() {
    if skip("git_clones_with_a_token_that_it_never_sees", "git") {
        return;
    }
    let stage = Stage::new();
    let site = stage.lab.path("sites");
    let script = format!(
        "set -e; mkdir -p '{0}'; cd '{0}'; git init -q project; cd project; echo hello > file; \
         git add file; git -c user.name=n -c user.email=e commit -q -m first; cd ..; \
         git clone -q --bare project project.git; git -C project.git update-server-info",
        site.display()
    );
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    let clone = "git clone -q \"https://token:$TOKEN@git.example.com/project.git\" p && cat p/file";
    let done = stage.run(&[], &["sh", "-c", clone]);
    stage.check_swapped_login(&done);
    assert_eq!(done.out, "hello\n");
}

impl Stage {
    /// A login is encoded, so that the token does not stand there as it is.
    fn check_swapped_login(&self, done: &Done) {
        assert_eq!(done.code, Some(0), "{done}");
        assert!(!format!("{done}").contains(TOKEN), "the token came in: {done}");
    }
}

#[test]
fn python_node_and_java_have_a_token_that_they_never_see() {
    let stage = Stage::new();
    let urllib = "import os, urllib.request as u\n\
        r = u.Request('https://api.example.com/', headers={'Authorization': os.environ['TOKEN']})\n\
        print(u.urlopen(r).read().decode())";
    let node = "fetch('https://api.example.com/', {headers: {authorization: process.env.TOKEN}})\
        .then(r => r.text()).then(console.log)";
    let java = "import java.net.URI;import java.net.http.*;class M{public static void main(String[] a)\
        throws Exception{System.out.println(HttpClient.newHttpClient().send(HttpRequest.newBuilder(\
        URI.create(\"https://api.example.com/\")).header(\"Authorization\",System.getenv(\"TOKEN\"))\
        .build(),HttpResponse.BodyHandlers.ofString()).body());}}";
    let java = format!("cat > M.java <<'E'\n{java}\nE\njava M.java");
    let cases: [(&str, Vec<&str>); 3] = [
        ("python3", vec!["/usr/bin/python3", "-c", urllib]),
        ("node", vec!["env", "-u", "HTTPS_PROXY", "-u", "https_proxy", "node", "-e", node]),
        ("javac", vec!["sh", "-c", &java]),
    ];
    for (program, argv) in cases {
        if skip(&format!("python_node_and_java:{program}"), program) {
            continue;
        }
        let before = stage.internet.seen().len();
        let done = stage.run(&[], &argv);
        stage.check_swapped(&done, before);
    }
}

#[test]
fn a_run_records_what_its_network_did_and_teaches_the_model() {
    let stage = Stage::new();
    let turns = [
        vec![exec("curl -sS -H \"Authorization: Bearer $TOKEN\" https://api.example.com/v1/a")],
        vec![exec("curl -sS https://other.example.org/x || true")],
        vec![say("done")],
    ];
    let replay = stage.lab.write("t.jsonl", transcript(&turns));
    let args = [
        "exec",
        "--json",
        "--replay",
        replay.to_str().unwrap(),
        "--net",
        "api.example.com",
        "--secret",
        "TOKEN=env:REAL_TOKEN@api.example.com",
        "Go.",
    ];
    let done = stage.lab.start(stage.command(&args)).finish();
    assert_eq!(done.code, Some(0), "{done}");
    let shown = stage.lab.json(&["show", "--last", "--json"]);
    let decisions: Vec<&Value> = shown["turns"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|turn| turn["network"].as_array().unwrap())
        .collect();
    let allowed = decisions.iter().find(|one| one["allowed"] == true && one["path"] == "/v1/a");
    assert_eq!(allowed.unwrap()["secrets"], serde_json::json!(["TOKEN"]), "{decisions:?}");
    let denied = decisions.iter().find(|one| one["allowed"] == false).unwrap();
    assert_eq!(denied["host"], "other.example.org");
    let output = shown["turns"][1]["calls"][0]["output"].as_str().unwrap();
    assert!(output.contains("Network denied: ") && output.contains("--net other.example.org"));
    let all = format!("{}{}{shown}", done.out, done.err);
    assert!(!all.contains(TOKEN), "the token is in the journal or the output");
}
