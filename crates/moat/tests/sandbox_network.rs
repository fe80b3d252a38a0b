//! The network of a sandbox that stays: served while a command of ours uses it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stdout, reason = "says what it skips")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/internet.rs"]
mod internet;
#[path = "support/lab.rs"]
mod lab;

use std::path::Path;
use std::process::Command;

use internet::Internet;
use lab::{Done, Lab};

const TOKEN: &str = "tok-planted-7f3a9c51e2";
const RULES: [&str; 6] = [
    "--net",
    "api.example.com",
    "--secret",
    "TOKEN=env:REAL_TOKEN@api.example.com",
    "--name",
    "lab",
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

    /// Seen from inside there is no token, seen from outside it was there.
    fn check_swapped(&self, done: &Done, before: usize) {
        assert_eq!(done.code, Some(0), "{done}");
        assert!(!format!("{done}").contains(TOKEN), "the token came in: {done}");
        let seen = self.internet.seen();
        let new = seen.get(before..).unwrap();
        let carried = new.iter().any(|request| request.to_string().contains(TOKEN));
        assert!(carried, "the token was not put in: {new:?}");
    }
}

/// A sandbox that stays has its network while one of its commands runs, whichever it is.
#[test]
fn a_sandbox_that_stays_has_its_network_while_it_is_used() {
    if !Path::new("/usr/bin/curl").exists() {
        println!("SKIP a_sandbox_that_stays_has_its_network_while_it_is_used: needs curl");
        return;
    }
    let stage = Stage::new();
    let moat = |args: &[&str]| stage.lab.start(stage.command(args));
    let create = [&["sandbox", "create"], RULES.as_slice()].concat();
    assert_eq!(moat(&create).finish().code, Some(0));
    let record = std::fs::read_dir(stage.lab.data.join("sandbox-records")).unwrap().flatten();
    for file in record {
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains(TOKEN), "the record has the token");
    }
    let ask = "curl -sS --fail-with-body -H \"Authorization: Bearer $TOKEN\" \
               https://api.example.com/v1/echo";
    let exec = |script: &str| moat(&["sandbox", "exec", "lab", "--", "sh", "-c", script]);
    let before = stage.internet.seen().len();
    stage.check_swapped(&exec(ask).finish(), before);
    // The second of two is served by the first, and goes on when that one has ended.
    let first = exec("echo on; sleep 1.5");
    first.wait_for_output("on");
    let before = stage.internet.seen().len();
    let second = exec(&format!("set -e; {ask}; sleep 3; {ask}"));
    stage.check_swapped(&second.finish(), before);
    assert_eq!(stage.internet.seen().len(), before + 2);
    assert_eq!(first.finish().code, Some(0));
    let refused = exec("curl -sS https://other.example.org/").finish();
    assert!(
        refused.err.contains("denied: ") && refused.err.contains("--net other.example.org"),
        "{refused}"
    );
    assert_eq!(moat(&["sandbox", "rm", "lab"]).finish().code, Some(0));
}
