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
use lab::{Done, Lab, wait_until};

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

/// The level of the call: what one command may reach is narrowed, never widened, and what was
/// refused is told by whoever served the network.
#[test]
fn a_call_narrows_the_network_of_a_sandbox_that_stays() {
    if !Path::new("/usr/bin/curl").exists() {
        println!("SKIP a_call_narrows_the_network_of_a_sandbox_that_stays: needs curl");
        return;
    }
    let stage = Stage::new();
    let moat = |args: &[&str]| stage.lab.start(stage.command(args));
    let create =
        [&["sandbox", "create", "--net", "other.example.org/v1"], RULES.as_slice()].concat();
    assert_eq!(moat(&create).finish().code, Some(0));
    let ask = "curl -s -o /dev/null -w '%{http_code} ' https://api.example.com/v1/a \
               https://other.example.org/v1/b -o /dev/null || true";
    let call = |rules: &[&str]| {
        moat(&[&["sandbox", "exec", "lab"], rules, &["--", "sh", "-c", ask]].concat()).finish()
    };
    assert_eq!(call(&[]).out, "200 200 ");
    let narrowed = call(&["--net", "GET api.example.com/v1", "--net", "!other.example.org"]);
    assert_eq!(narrowed.out, "200 000 ", "{narrowed}");
    assert!(narrowed.err.contains("denied: other.example.org"), "{narrowed}");
    let widened = call(&["--net", "example.net"]);
    assert_eq!(widened.code, Some(2), "{widened}");
    for word in ["example.net", "call", "run"] {
        assert!(widened.err.contains(word), "{word}: {widened}");
    }
    let taken = call(&["--secret", "TOKEN=env:HOME@api.example.com"]);
    assert!(taken.code == Some(2) && taken.err.contains("a call nothing"), "{taken}");

    // While another one serves it, it cannot be narrowed, and that one tells what was refused.
    let exposing = moat(&["sandbox", "expose", "lab", "8000"]);
    exposing.wait_for_output("token=");
    let refused = call(&["--net", "api.example.com"]);
    assert!(refused.code == Some(5) && refused.err.contains("serves the network"), "{refused}");
    let curl = ["sandbox", "exec", "lab", "--", "curl", "-sS", "https://other.example.net/"];
    assert!(moat(&curl).finish().code != Some(0));
    exposing.signal(rustix::process::Signal::INT);
    let told = exposing.finish();
    assert!(told.code == Some(0) && told.err.contains("denied: other.example.net"), "{told}");

    assert_eq!(moat(&["sandbox", "create", "--name", "quiet"]).finish().code, Some(0));
    let none = moat(&["sandbox", "exec", "quiet", "--net", "a.test", "--", "true"]).finish();
    assert!(none.code == Some(2) && none.err.contains("without a network"), "{none}");
    assert_eq!(moat(&["sandbox", "rm", "--all"]).finish().code, Some(0));
    let mut kept = std::fs::read_dir(stage.lab.data.join("authorities")).unwrap();
    assert!(kept.next().is_none(), "an authority is left");
}

/// What a command of a narrowed network left running does not go on under a wider one.
#[test]
fn what_a_narrowed_command_leaves_running_ends_with_it() {
    let stage = Stage::new();
    let moat = |args: &[&str]| stage.lab.start(stage.command(args));
    let create = [&["sandbox", "create"], RULES.as_slice()].concat();
    assert_eq!(moat(&create).finish().code, Some(0));
    let exec = |rules: &[&str], script: &str| {
        moat(&[&["sandbox", "exec", "lab"], rules, &["--", "sh", "-c", script]].concat())
    };
    let narrow = ["--net", "GET api.example.com/v1"];
    // Nobody's child, in a session of its own.
    let leave = |seconds: u32| format!("(setsid sleep {seconds} > /dev/null 2>&1 &); echo left");
    let look = "for each in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $each; echo; done 2> /dev/null";
    let runs = |seconds: u32| {
        let seen = exec(&[], look).finish();
        assert_eq!(seen.code, Some(0), "{seen}");
        seen.out.lines().any(|line| line.trim() == format!("sleep {seconds}"))
    };
    assert_eq!(exec(&[], &leave(7001)).finish().code, Some(0));
    assert_eq!(exec(&narrow, &leave(7002)).finish().code, Some(0));
    // Killed it is; the kernel may take a moment.
    let ends = |seconds: u32| wait_until("end of what was left", || !runs(seconds));
    ends(7002);
    assert!(runs(7001), "that of another command does not go on");

    // Nobody is there to end it: whoever comes next does.
    let killed = exec(&narrow, &format!("{}; exec sleep 7004", leave(7003)));
    killed.wait_for_output("left");
    killed.signal(rustix::process::Signal::KILL);
    assert_eq!(killed.finish().code, None);
    ends(7003);
    ends(7004);
    assert!(runs(7001));
    assert_eq!(moat(&["sandbox", "rm", "lab"]).finish().code, Some(0));
}
