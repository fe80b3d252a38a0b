//! The recorded run: its transcript, and what is looked at when it has ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::lab::{Done, Lab};
use crate::transcript::{Turn, exec, exec_with, patch, say, transcript, type_into};

/// Places among the turns, counted from 0.
pub(crate) const PARALLEL_TURN: usize = 1;
pub(crate) const TERMINAL_TURN: usize = 3;
pub(crate) const PATCH_TURN: usize = 5;
/// The file that only what is typed into a session changes.
pub(crate) const TYPED: &str = "typed.txt";
/// Lines that commands append to `log.txt`, one each.
const LINES: usize = 17;

pub(crate) fn is_full() -> bool {
    std::env::var_os("MOAT_TEST_FULL").is_some()
}

pub(crate) fn expected_log() -> String {
    (1..=LINES).map(|line| format!("line-{line}\n")).collect()
}

/// Thirty turns. `word` begins each line that is appended.
fn turns(word: &str) -> Vec<Turn> {
    let mut line = 0;
    let mut append = || {
        line += 1;
        exec(&format!("echo {word}-{line} >> log.txt"))
    };
    let mut turns = vec![
        vec![json!({"type": "reasoning", "summary": "I look around."}), append()],
        // Side by side, each with a file of its own; one of them is slow.
        vec![
            exec("echo a >> side/a; sleep 0.2; echo a2 >> side/a"),
            exec("echo b >> side/b"),
            patch("*** Add File: side/c\n+c"),
        ],
        vec![append()],
        // A program that asks.
        vec![exec_with(json!({
            "cmd": "echo begun >> began.txt; echo ready; while read word; do echo got $word; \
                    echo $word >> typed.txt; done",
            "tty": true, "login": false, "yield_time_ms": 400}))],
        vec![append()],
        vec![patch("*** Add File: new/one.txt\n+one\n+two\n+three")],
        vec![type_into(5, "first\n", 400)],
        vec![patch("*** Update File: new/one.txt\n@@\n one\n-two\n+2\n three")],
        vec![append(), exec("cat log.txt | wc -l > /dev/null")],
        vec![patch("*** Update File: new/one.txt\n*** Move to: new/moved.txt\n@@\n-one\n+1\n 2")],
        // More than is shown, and more than is held in memory.
        vec![exec("seq 1 60000")],
        vec![patch("*** Delete File: old.txt")],
        vec![type_into(5, "second\n", 400)],
        // In the background, to the end of the run.
        vec![exec_with(json!({"cmd": "echo up >> up.txt; sleep 600", "login": false,
                              "yield_time_ms": 250}))],
        // Many files in one patch, and one that fails as a whole.
        vec![patch(
            "*** Add File: p/1\n+1\n*** Add File: p/2\n+2\n*** Update File: new/moved.txt\n@@\n 1\n-2\n+two",
        )],
        vec![patch("*** Add File: p/3\n+3\n*** Update File: absent\n@@\n-x\n+y")],
        vec![append(), exec("mkdir -p d/e && echo deep >> d/e/f && ln -s e d/link && chmod 750 d")],
        vec![exec("rm -r side && exit 3")],
    ];
    while turns.len() < 30 {
        turns.push(vec![append()]);
        if turns.len() % 3 == 0 {
            let name = format!("echo {0} > n{0}.txt", turns.len());
            turns.last_mut().unwrap().push(exec(&name));
        }
    }
    turns.push(vec![say(&format!("{word}: done"))]);
    turns
}

/// The folders of one run.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) transcript: PathBuf,
    pub(crate) other_transcript: PathBuf,
}

/// What is there when the run has ended.
pub(crate) struct End {
    pub(crate) turns: usize,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) items: Vec<ItemText>,
    pub(crate) journal: String,
    pub(crate) events: Vec<Value>,
}

/// An item of the conversation without what differs from time to time.
pub(crate) struct ItemText {
    pub(crate) text: String,
    pub(crate) is_of_session: bool,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let lab = Lab::new();
        let files =
            [("old.txt", "old\n"), ("side/keep", "k\n"), ("kept.txt", "kept\n"), (TYPED, "")];
        for (name, content) in files {
            lab.write(&format!("work/{name}"), content);
        }
        let transcript_file = lab.write("t.jsonl", transcript(&turns("line")));
        let other_transcript = lab.write("other.jsonl", transcript(&turns("other")));
        Self { lab, transcript: transcript_file, other_transcript }
    }

    pub(crate) fn exec(&self) -> Command {
        let replay = self.transcript.to_str().unwrap();
        self.lab.command(&["exec", "--json", "--write", "--replay", replay, "Do it."])
    }

    pub(crate) fn resume(&self, transcript: &Path) -> Done {
        let replay = transcript.to_str().unwrap();
        self.lab.moat(&["resume", "--last", "--json", "--write", "--replay", replay])
    }

    pub(crate) fn journal(&self) -> String {
        self.lab.ok(&["logs", "--last", "--json"]).out
    }

    pub(crate) fn end(&self) -> End {
        let journal = self.journal();
        let events: Vec<Value> =
            journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut files = BTreeMap::new();
        read_tree(&self.lab.work, "", &mut files);
        let answers = events.iter().filter(|event| event["kind"] == "model_answered");
        let items = answers.clone().flat_map(|answer| items_of(answer, &events)).collect();
        End { turns: answers.count(), files, items, journal, events }
    }
}

/// The items of one answer, then the outputs of its calls.
fn items_of(answer: &Value, events: &[Value]) -> Vec<ItemText> {
    let output = answer["body"]["output"].as_array().unwrap();
    let mut items: Vec<_> = output
        .iter()
        .map(|item| ItemText { text: item.to_string(), is_of_session: false })
        .collect();
    for (index, item) in output.iter().enumerate().filter(|(_, item)| item["call_id"].is_string()) {
        let of_call = |event: &&Value| {
            event["kind"] == "call_finished"
                && event["body"]["of"] == answer["seq"]
                && event["body"]["index"] == index
        };
        let finished = events.iter().find(of_call).unwrap();
        let text = without_times(finished["body"]["output"].to_string());
        items.push(ItemText { text, is_of_session: item["name"] == "write_stdin" });
    }
    items
}

/// How long something took is all that may differ.
fn without_times(mut text: String) -> String {
    let word = "Wall time: ";
    if let Some(from) = text.find(word).map(|at| at + word.len())
        && let Some(length) = text[from..].find(" seconds")
    {
        text.replace_range(from..from + length, "_");
    }
    text
}

/// Every call has one output, after its intent and before the next request; requests and answers
/// alternate.
pub(crate) fn check_history(events: &[Value], place: &str) {
    let mut open: Vec<(Value, Value)> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], at + 1, "{place}");
        let body = &event["body"];
        match event["kind"].as_str().unwrap() {
            "model_requested" => {
                assert!(open.is_empty(), "{place}: open calls at {}", event["seq"]);
            }
            "model_answered" => {
                assert!(open.is_empty(), "{place}");
                let calls = body["output"].as_array().unwrap().iter().enumerate();
                let calls = calls.filter(|(_, item)| item["call_id"].is_string());
                open = calls.map(|(index, _)| (event["seq"].clone(), json!(index))).collect();
            }
            "call_finished" => {
                let key = (body["of"].clone(), body["index"].clone());
                let found = open.iter().position(|call| *call == key);
                open.remove(
                    found.unwrap_or_else(|| panic!("{place}: an output too many: {event}")),
                );
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "{place}");
    assert_eq!(events.last().unwrap()["kind"], "run_finished", "{place}");
}

fn read_tree(folder: &Path, prefix: &str, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            into.insert(format!("{name}/"), Vec::new());
            read_tree(&entry.path(), &format!("{name}/"), into);
        } else if kind.is_symlink() {
            let target = std::fs::read_link(entry.path()).unwrap();
            into.insert(name, target.to_string_lossy().into_owned().into_bytes());
        } else {
            into.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}
