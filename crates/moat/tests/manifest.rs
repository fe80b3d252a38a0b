//! Manifests from the command line: what a run finds in its workspace, and what is kept of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(dead_code, reason = "what is shared is not used by each test")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/transcript.rs"]
mod transcript;

use lab::Lab;
use serde_json::json;
use transcript::{exec, say, transcript};

const AGENT: &str = "---
name: Archivist
manifest:
  environment: { MODE: { value: quiet, description: How much is said } }
  entries:
    notes/a.txt: { type: file, content: \"first\\n\", permissions: '0600' }
    copied.txt: { type: local_file, src: own.txt, description: The host's own }
    cache: { type: dir, ephemeral: true, children: { seed: { type: file, content: seed } } }
    team: { type: shared_mount, name: team, sharing: lock, mount_path: /mnt/team }
---
Look after the notes.
";

#[test]
fn a_run_finds_what_its_manifest_says_and_keeps_what_it_should() {
    let lab = Lab::new();
    let agent = lab.write("agent/AGENT.md", AGENT);
    lab.write("agent/own.txt", "own\n");
    let agent = agent.parent().unwrap().to_str().unwrap();

    let checked = lab.json(&["agent", "check", agent, "--json"]);
    assert_eq!(checked["mounts"][0]["path"], "/mnt/team");
    let tree = checked["tree"].as_str().unwrap();
    assert!(tree.contains("copied.txt  # /workspace/copied.txt — The host's own"), "{tree}");
    assert!(lab.ok(&["schema", "--manifest"]).out.contains("urn:moat:schema:manifest:v1"));

    let look = "stat -c %a notes/a.txt; cat copied.txt cache/seed; echo $MODE; ls /mnt/team";
    let turns = [
        vec![exec(look)],
        vec![exec("echo mine > /mnt/team/note; echo hot > cache/hot; echo second > notes/b.txt")],
        vec![say("done")],
        vec![exec("cat /mnt/team/note; ls cache notes")],
        vec![say("again")],
    ];
    let replay = lab.write("t.jsonl", transcript(&turns));
    let replay = replay.to_str().unwrap();
    let done = lab.moat(&["run", agent, "--json", "--replay", replay, "Go."]);
    assert_eq!(done.code, Some(0), "{done}");
    let output = |turn: usize| {
        let shown = lab.json(&["show", "--last", "--json"]);
        shown["turns"][turn]["calls"][0]["output"].to_string()
    };
    assert!(output(0).contains("600\\nown\\nseedquiet\\n"), "{}", output(0));
    let diff = lab.ok(&["diff", "--last"]).out;
    assert!(diff.contains("notes/b.txt") && !diff.contains("cache"), "{diff}");

    // The sandbox of the first part is gone: what is ephemeral is as at the start, what was
    // written elsewhere is still there.
    let again = lab.moat(&["continue", "--last", "--json", "--replay", replay, "Again."]);
    assert_eq!(again.code, Some(0), "{again}");
    assert!(
        output(3).contains("mine\\ncache:\\nseed\\n\\nnotes:\\na.txt\\nb.txt"),
        "{}",
        output(3)
    );
    let left: Vec<_> = std::fs::read_dir(lab.path("data/mounts")).unwrap().collect();
    assert!(left.is_empty(), "what was mounted goes with the sandbox: {left:?}");

    // Elsewhere what is ephemeral is as at the start as well; what would act on that machine is not
    // taken over from a stranger, and that is said.
    let file = lab.path("run.moat");
    lab.ok(&["export", "--last", "-o", file.to_str().unwrap()]);
    let there = Lab::new();
    let told = there.json(&["import", file.to_str().unwrap(), "--json"]);
    assert_eq!(told["dropped"], json!(["mounts", "labels"]));
    let turns = there.write("t.jsonl", transcript(&turns.map(|_| vec![exec("cat cache/seed")])));
    let args = ["continue", "--last", "Look.", "--max-turns", "1", "--json", "--replay"];
    there.moat(&[&args[..], &[turns.to_str().unwrap()]].concat());
    let shown = there.json(&["show", "--last", "--json"]).to_string();
    assert!(shown.contains("Output:\\nseed"), "{shown}");

    lab.write("agent/AGENT.md", AGENT.replace("type: local_file", "type: local_fil"));
    let wrong = lab.moat(&["agent", "check", agent]);
    assert_eq!((wrong.code, json!(wrong.err.contains("local_file"))), (Some(2), json!(true)));
}
