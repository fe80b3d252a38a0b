//! `moat sandbox …` for people and scripts: sandboxes that stay, their files, terminals and ports.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stdout, reason = "says what it skips")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;
#[path = "sandbox/terminal.rs"]
mod terminal;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::time::Duration;

use lab::{Done, Lab, Running, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};
use terminal::Terminal;

fn exit(done: &Done, code: i32) -> &Done {
    assert_eq!(done.code, Some(code), "{done}");
    done
}

/// A lab with one sandbox `lab` in it, which is removed at the end.
struct Made(Lab);

impl Made {
    fn new(args: &[&str]) -> Self {
        let lab = Lab::new();
        let done = lab.ok(&[&["sandbox", "create", "--name", "lab"], args].concat());
        assert_eq!(done.out, "lab\n");
        Self(lab)
    }

    fn sandbox(&self, args: &[&str]) -> Done {
        self.0.moat(&[&["sandbox"], args].concat())
    }

    /// What a script says that has to succeed.
    fn sh(&self, script: &str) -> String {
        let done = self.sandbox(&["exec", "lab", "--", "sh", "-c", script]);
        exit(&done, 0).out.clone()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.0.moat(&["sandbox", "rm", "--all"]);
    }
}

#[test]
fn a_sandbox_stays_until_it_is_removed() {
    let made = Made::new(&["--keep", "10m", "--env", "WHO=agent of mine"]);
    made.sh("echo kept > file; (sleep 300 &) >/dev/null 2>&1");
    assert_eq!(
        made.sh("cat file; echo $WHO; ps -e -o args | grep -c '^[s]leep 300'"),
        "kept\nagent of mine\n1\n"
    );
    let listed = made.0.json(&["sandbox", "ls", "--json"]);
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    assert_eq!((&listed[0]["name"], &listed[0]["keep_seconds"]), (&json!("lab"), &json!(600)));
    assert!(exit(&made.sandbox(&["ls"]), 0).out.contains("lab"));
    // The record is the owner's only, and says nothing of the environment.
    let record = made.0.data.join(format!("sandbox-records/{id}.json"));
    assert_eq!(record.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!std::fs::read_to_string(&record).unwrap().contains("of mine"));
    let stats: Value =
        serde_json::from_str(&exit(&made.sandbox(&["stats", "lab", "--json"]), 0).out).unwrap();
    assert_eq!((&stats["v"], &stats["id"]), (&json!(1), &json!(id)));
    // Its id and the beginning of it do as well.
    assert_eq!(exit(&made.sandbox(&["exec", &id[..6], "--", "cat", "file"]), 0).out, "kept\n");
    let again = made.sandbox(&["create", "--name", "lab"]);
    assert!(exit(&again, 2).err.contains("already"), "{again}");

    exit(&made.sandbox(&["rm", "lab"]), 0);
    for args in [["exec", "lab", "--", "true"].as_slice(), &["rm", "lab"], &["stats", "lab"]] {
        let done = made.sandbox(args);
        assert!(exit(&done, 2).err.contains("no sandbox `lab`"), "{done}");
    }
    assert_eq!(made.0.json(&["sandbox", "ls", "--json"]), json!([]));
    let left = std::fs::read_dir(made.0.data.join("sandboxes/sandboxes")).unwrap().count();
    assert_eq!((left, record.exists()), (0, false));
}

#[test]
fn one_that_ended_is_named_and_forgotten() {
    let made = Made::new(&["--keep", "1s"]);
    let id = made.0.json(&["sandbox", "ls", "--json"])[0]["id"].as_str().unwrap().to_owned();
    let record = made.0.data.join(format!("sandbox-records/{id}.json"));
    let lives = || !made.0.json(&["sandbox", "ls", "--json"]).as_array().unwrap().is_empty();
    // Looking at the list does not lengthen its life.
    wait_until("the sandbox's end", || !lives());
    assert!(!record.exists());
}

#[test]
fn commands_end_as_they_end() {
    let made = Made::new(&["--keep", "10m"]);
    let exec = |script: &str| made.sandbox(&["exec", "lab", "--", "sh", "-c", script]);
    let done = exec("echo out; echo err >&2; exit 42");
    assert_eq!((exit(&done, 42).out.as_str(), done.err.as_str()), ("out\n", "err\n"));
    exit(&exec("kill -9 $$"), 137);
    exit(&made.sandbox(&["exec", "lab", "--", "no-such-program"]), 127);
    let args = [
        "exec",
        "lab",
        "-C",
        "/tmp",
        "-e",
        "A=b",
        "--json",
        "--",
        "sh",
        "-c",
        "pwd; echo $A; kill -15 $$",
    ];
    let done = made.sandbox(&args);
    assert_eq!(exit(&done, 143).out, "/tmp\nb\n");
    let said: Value = serde_json::from_str(done.err.trim()).unwrap();
    assert_eq!(
        (&said["type"], &said["exit_code"], &said["signal"]),
        (&json!("exit"), &json!(143), &json!(15))
    );
    // An interrupt reaches the command, which may have its own word for it.
    let script = "trap 'echo bye; exit 7' INT; echo ready; while :; do sleep 0.05; done";
    let running =
        made.0.start(made.0.command(&["sandbox", "exec", "lab", "--", "sh", "-c", script]));
    running.wait_for_output("ready");
    running.signal(Signal::INT);
    assert_eq!(exit(&running.finish(), 7).out, "ready\nbye\n");
    for args in [
        ["exec", "lab"].as_slice(),
        &["exec", "lab", "-e", "1 2", "--", "x"],
        &["shell", "lab"],
        &["create", "--name", "a/b"],
        &["create", "--keep", "1w"],
        &["cp", "a", "b"],
        &["expose", "lab", "0"],
        &["rm"],
    ] {
        let done = made.sandbox(args);
        assert!(!exit(&done, 2).err.is_empty() && done.out.is_empty(), "{args:?}: {done}");
    }
}

#[test]
fn files_go_in_and_come_out_as_they_are() {
    let made = Made::new(&["--keep", "10m"]);
    let lab = &made.0;
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    lab.write("work/tree/sub/large", &large);
    let script = lab.write("work/tree/run.sh", "#!/bin/sh\necho ran\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o4755)).unwrap();
    std::fs::create_dir(lab.path("work/tree/empty")).unwrap();
    symlink("sub/large", lab.path("work/tree/link")).unwrap();
    symlink("/etc/hostname", lab.path("work/tree/out")).unwrap();
    exit(&made.sandbox(&["cp", "tree", "lab:"]), 0);
    exit(&made.sandbox(&["cp", "tree/run.sh", "lab:/home/agent/bin/other"]), 0);
    assert_eq!(
        made.sh("cd tree; ./run.sh; stat -c '%a %U' run.sh empty; readlink link out; \
        cmp link sub/large && ~/bin/other"),
        "ran\n755 agent\n755 agent\nsub/large\n/etc/hostname\nran\n"
    );

    // A second time over what is there, into a name that is not.
    exit(&made.sandbox(&["cp", "tree", "lab:copy"]), 0);
    exit(&made.sandbox(&["cp", "tree", "lab:"]), 0);
    made.sh("cd tree; mkfifo pipe; ln -s ../../.. up; ln -s sub/../../.. trick; ln -s .. parent; \
        chmod 500 sub; touch -d @1000000000 run.sh; chmod 4711 run.sh; \
        truncate -s 1G holes; printf end >> holes");
    let done = made.sandbox(&["cp", "lab:tree", "back"]);
    for left in ["tree/out", "tree/pipe", "tree/up", "tree/trick", "tree/parent"] {
        assert!(exit(&done, 0).err.contains(left), "{left}: {done}");
        assert!(lab.path(&format!("work/back/{left}")).symlink_metadata().is_err());
    }
    let back = |name: &str| lab.path(&format!("work/back/{name}"));
    assert_eq!(std::fs::read(back("sub/large")).unwrap(), large);
    assert_eq!(std::fs::read_link(back("link")).unwrap().to_str(), Some("sub/large"));
    let stat = back("run.sh").metadata().unwrap();
    assert_eq!(stat.permissions().mode() & 0o7777, 0o711);
    let modified = stat.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(modified.as_secs(), 1_000_000_000);
    assert_eq!(back("sub").metadata().unwrap().permissions().mode() & 0o777, 0o500);
    assert!(back("empty").is_dir());
    let holes = back("holes").metadata().unwrap();
    assert_eq!(holes.len(), (1 << 30) + 3);
    assert!(holes.blocks() < 2048, "{} blocks are written", holes.blocks());
    std::fs::set_permissions(back("sub"), std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn what_comes_out_follows_nothing_here() {
    let made = Made::new(&["--keep", "10m"]);
    let lab = &made.0;
    let outside = lab.write("outside/file", "mine\n");
    std::fs::create_dir_all(lab.path("work/copy")).unwrap();
    made.sh("mkdir -p copy/dir; echo theirs > copy/dir/file; echo theirs > copy/file");
    symlink(lab.path("outside"), lab.path("work/copy/dir")).unwrap();
    let done = made.sandbox(&["cp", "lab:copy", "."]);
    assert_eq!(done.code, Some(5), "{done}");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "mine\n");
    // A file takes the place of a link, and what the link led to stays.
    std::fs::remove_file(lab.path("work/copy/dir")).unwrap();
    let _ = std::fs::remove_file(lab.path("work/copy/file"));
    symlink(&outside, lab.path("work/copy/file")).unwrap();
    exit(&made.sandbox(&["cp", "lab:copy", "."]), 0);
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "mine\n");
    assert_eq!(std::fs::read_to_string(lab.path("work/copy/file")).unwrap(), "theirs\n");
    for bad in ["lab:/etc/passwd", "lab:../x", "lab:no/such/file"] {
        assert_eq!(made.sandbox(&["cp", bad, "."]).code, Some(2), "{bad}");
    }
}

#[test]
fn a_shell_is_a_terminal() {
    let made = Made::new(&["--keep", "10m"]);
    let mut command = made.0.command(&["sandbox", "shell", "lab"]);
    command.env("TERM", "xterm-256color");
    let terminal = Terminal::start(command, 33, 101);
    let before = terminal.settings_before();
    terminal.until("lab");
    terminal.enter("stty size; echo \"$TERM-$NO_COLOR-$PAGER\"");
    terminal.until("33 101");
    terminal.until("xterm-256color--");
    terminal.resize(44, 55);
    terminal.enter("sleep 0.2; stty size");
    terminal.until("44 55");
    // Ctrl-C ends what runs inside, not the terminal.
    terminal.enter("echo be''gun; sleep 600; echo code $?");
    terminal.until("begun");
    terminal.type_in("\u{3}");
    terminal.enter("echo st''ill here");
    terminal.until("still here");
    terminal.enter("exit 3");
    assert_eq!(terminal.finish(), Some(3));
    assert_eq!(terminal.settings(), before, "the terminal was not set back");

    // It ends with its window as well.
    let command =
        made.0.command(&["sandbox", "shell", "lab", "--", "sh", "-c", "echo on; exec sleep 31999"]);
    let terminal = Terminal::start(command, 24, 80);
    terminal.until("on");
    terminal.signal(Signal::TERM);
    terminal.finish();
    assert_eq!(terminal.settings(), before);
    let left = made.sh("ps -e -o args | grep -c '^[s]leep 31999' || true");
    assert_eq!(left, "0\n");
}

/// A small server inside, started in the background. Skips where there is nothing to make one with.
fn serve(made: &Made, name: &str) -> bool {
    let server = r#"
import socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", 8000)); s.listen(8)
while True:
    c, _ = s.accept(); data = b""
    while b"\r\n\r\n" not in data and b"\n" not in data[:5]:
        part = c.recv(4096)
        if not part: break
        data += part
    if data.startswith((b"GET", b"POST")):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(data) + data)
    else:
        c.sendall(b"echo " + data)
    c.close()
"#;
    let python = std::path::Path::new("/usr/bin/python3");
    if !python.exists() {
        println!("SKIP {name}: needs /usr/bin/python3");
        return false;
    }
    made.0.write("work/server.py", server);
    exit(&made.sandbox(&["cp", "server.py", "lab:"]), 0);
    made.sh("nohup /usr/bin/python3 server.py >/dev/null 2>&1 & sleep 0.1");
    true
}

/// Starts `expose` and gives what it said as JSON.
fn expose(made: &Made, more: &[&str]) -> (Running, u16, String) {
    let args = [&["sandbox", "expose", "lab", "8000", "--json"], more].concat();
    let running = made.0.start(made.0.command(&args));
    running.wait_for_output("token");
    let said: Value =
        serde_json::from_str(&std::fs::read_to_string(&running.out).unwrap()).unwrap();
    let port = said["host_port"].as_u64().unwrap().try_into().unwrap();
    (running, port, said["token"].as_str().unwrap().to_owned())
}

fn ask(port: u16, bytes: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_port_is_there_for_whoever_has_the_token() {
    let made = Made::new(&["--keep", "10m"]);
    if !serve(&made, "a_port_is_there_for_whoever_has_the_token") {
        return;
    }
    let (running, port, token) = expose(&made, &[]);
    let get = |path: &str, headers: &str| {
        ask(
            port,
            &format!(
                "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}\r\n"
            ),
        )
    };
    for (path, headers) in [
        ("/", String::new()),
        ("/?token=wrong", String::new()),
        ("/", "Authorization: Bearer 00\r\n".to_owned()),
        ("/", format!("Cookie: moat-1={token}\r\n")),
        ("/", format!("Cookie: moat-{port}={}\r\n", &token[1..])),
    ] {
        let said = get(path, &headers);
        assert!(
            said.starts_with("HTTP/1.1 401") && !said.contains("OK"),
            "{path} {headers}: {said}"
        );
    }
    let bearer = get("/a?b=c", &format!("Authorization: Bearer {token}\r\nX-Mine: kept\r\n"));
    assert!(
        bearer.contains("200 OK") && bearer.contains("GET /a?b=c ") && bearer.contains("kept"),
        "{bearer}"
    );
    // A browser is led on without the token, with a cookie, and the sandbox sees neither.
    let welcome = get(&format!("/x?token={token}&y=1"), "");
    assert!(
        welcome.starts_with("HTTP/1.1 303") && welcome.contains("location: /x?y=1\r\n"),
        "{welcome}"
    );
    let cookie = format!("Cookie: a=b; moat-{port}={token}; c=d\r\n");
    let cookies = get("/", &cookie);
    assert!(cookies.contains("200 OK") && cookies.contains("a=b; c=d"), "{cookies}");
    for said in [&bearer, &cookies] {
        assert!(!said.contains(&token), "the sandbox was told the token: {said}");
    }
    // A page elsewhere that had its name lead here.
    let foreign = ask(
        port,
        &format!("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n{cookie}\r\n"),
    );
    assert!(foreign.starts_with("HTTP/1.1 421"), "{foreign}");

    let (raw, raw_port, raw_token) = expose(&made, &["--raw"]);
    assert_eq!(ask(raw_port, &format!("{raw_token}\nhi\n")), "echo hi\n");
    for wrong in [format!("{}\nhi\n", &raw_token[1..]), "\nhi\n".to_owned(), "x".repeat(200)] {
        assert_eq!(ask(raw_port, &wrong), "", "{wrong}");
    }
    // Nobody listens there.
    made.sh("pkill -f '[s]erver.py'");
    let gone = get("/", &format!("Authorization: Bearer {token}\r\n"));
    assert!(gone.starts_with("HTTP/1.1 502") && gone.contains("127.0.0.1:8000"), "{gone}");
    running.signal(Signal::INT);
    exit(&running.finish(), 0);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    // It ends with its sandbox.
    exit(&made.sandbox(&["rm", "lab"]), 0);
    let ended = raw.finish();
    assert!(exit(&ended, 1).err.contains("has ended"), "{ended}");
}

#[test]
fn limits_are_told_from_failures() {
    let lab = Lab::new();
    let run = |flags: &[&str], script: &str| {
        lab.moat(&[&["sandbox", "run"], flags, &["--", "sh", "-c", script]].concat())
    };
    let done = run(&["--timeout", "1", "--json"], "echo begun; sleep 600");
    assert_eq!(exit(&done, 137).out, "begun\n");
    let said: Value = serde_json::from_str(done.err.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&said["limit"]["limit"], &said["limit"]["allowed"]),
        (&json!("wall_time"), &json!(1000))
    );
    let done = run(&["--timeout", "1"], "sleep 600");
    assert!(exit(&done, 137).err.contains("wall_time limit of 1000 ms"), "{done}");
    // The same code without a limit says nothing of one.
    assert!(!exit(&run(&["--timeout", "60"], "kill -9 $$"), 137).err.contains("limit"));
    assert!(exit(&run(&["--as-root"], "true"), 2).err.contains("--image"));
    assert!(
        exit(&run(&["--image", "oci:no-such-folder"], "true"), 5).err.contains("no-such-folder")
    );
}

#[test]
fn a_paused_sandbox_stands_still() {
    let made = Made::new(&["--keep", "10m", "--memory", "512M"]);
    made.sh("(while :; do echo x >> ticks; sleep 0.02; done) >/dev/null 2>&1 &");
    let ticks = || {
        exit(&made.sandbox(&["cp", "lab:ticks", "ticks"]), 0);
        std::fs::metadata(made.0.path("work/ticks")).unwrap().len()
    };
    wait_until("the first ticks", || made.sandbox(&["cp", "lab:ticks", "ticks"]).code == Some(0));
    exit(&made.sandbox(&["pause", "lab"]), 0);
    let before = ticks();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(ticks(), before, "it went on");
    exit(&made.sandbox(&["resume", "lab"]), 0);
    wait_until("more ticks", || ticks() > before);
    let stats = exit(&made.sandbox(&["stats", "lab"]), 0).out.clone();
    assert!(stats.contains("of 512 MiB"), "{stats}");
}
