//! Lines that say themselves who made them are found where they say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moat_blobs::FolderBlobs;
use moat_core::{RunId, Seq, TenantKey};
use moat_snapshot::{Entry, Listing, Meta, Node, Snapshots, Tree};
use proptest::prelude::*;

use super::*;

/// What a step does to the lines.
#[derive(Clone, Debug)]
enum Edit {
    Insert(prop::sample::Index, usize),
    Remove(prop::sample::Index),
    Swap(prop::sample::Index),
    Rename,
    Elsewhere,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        (any::<prop::sample::Index>(), 1_usize..4).prop_map(|(at, n)| Edit::Insert(at, n)),
        any::<prop::sample::Index>().prop_map(Edit::Remove),
        any::<prop::sample::Index>().prop_map(Edit::Swap),
        Just(Edit::Rename),
        Just(Edit::Elsewhere),
    ];
    prop::collection::vec(edit, 1..12)
}

/// The file after every step; each line is `step.number`, by the step that wrote it.
fn texts(edits: &[Edit]) -> Vec<(PathBuf, Vec<String>)> {
    let mut path = PathBuf::from("a/file0");
    let mut lines: Vec<String> = (0..5).map(|number| format!("0.{number}")).collect();
    let mut all = vec![(path.clone(), lines.clone())];
    for (step, edit) in edits.iter().enumerate() {
        let step = step + 1;
        match edit {
            Edit::Insert(at, count) => {
                let at = at.index(lines.len() + 1);
                let new: Vec<_> = (0..*count).map(|number| format!("{step}.{number}")).collect();
                lines.splice(at..at, new);
            }
            Edit::Remove(at) if lines.len() > 1 => {
                lines.remove(at.index(lines.len()));
            }
            Edit::Swap(at) => {
                let at = at.index(lines.len());
                lines[at] = format!("{step}.0");
            }
            Edit::Rename => {
                path = PathBuf::from(format!("a/file{step}"));
                lines.push(format!("{step}.0"));
            }
            Edit::Remove(_) | Edit::Elsewhere => {}
        }
        all.push((path.clone(), lines.clone()));
    }
    all
}

async fn moments(snapshots: &Snapshots, texts: &[(PathBuf, Vec<String>)]) -> Vec<Moment> {
    let mut moments: Vec<Moment> = Vec::new();
    for (step, (path, lines)) in texts.iter().enumerate() {
        let put = snapshots.put((lines.join("\n") + "\n").into_bytes()).await.unwrap();
        let other = snapshots.put(step.to_string().into_bytes()).await.unwrap();
        let entry = |path: PathBuf, node| Entry { path, meta: Meta::with_mode(0o644), node };
        let file = |put: &moat_snapshot::Put| Node::File {
            content: put.content,
            size: put.size,
            link: None,
        };
        let entries = vec![
            entry("a".into(), Node::Dir),
            entry(path.clone(), file(&put)),
            entry("other".into(), file(&other)),
        ];
        let workspace = Listing::from_entries(Meta::folder(), entries).unwrap();
        let tree = Tree { workspace, home: Listing::new(Meta::folder()) };
        let snapshot = snapshots.commit(&tree).await.unwrap().snapshot;
        moments.push(Moment {
            run: RunId::from_bytes([1; 16]),
            seq: Seq(step as u64 + 1),
            at: 0,
            snapshot,
            before: moments.last().map(|moment| moment.snapshot),
            changed: None,
            calls: Vec::new(),
        });
    }
    moments
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_line_is_followed_to_the_step_that_wrote_it(edits in edits()) {
        let texts = texts(&edits);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let key = TenantKey::new([1; 32]);
            let blobs = FolderBlobs::new(dir.path().join("store"), *Snapshots::blob_key(&key));
            let snapshots = Snapshots::new(Arc::new(blobs), &key);
            let moments = moments(&snapshots, &texts).await;
            let (path, lines) = texts.last().unwrap();
            for (number, line) in lines.iter().enumerate() {
                let found = blame(&snapshots, &moments, path, number + 1).await.unwrap();
                let step: usize = line.split('.').next().unwrap().parse().unwrap();
                let wanted = match step {
                    0 => Blame::Start,
                    step => Blame::Made {
                        moment: step, path: texts[step].0.clone(), line: line.clone(),
                    },
                };
                assert_eq!(found, wanted, "line {number} `{line}` of {texts:?}");
            }
            let past = blame(&snapshots, &moments, path, lines.len() + 1).await;
            assert!(matches!(past, Err(BlameError::NoLine { .. })));
            // What lies elsewhere changed at every step, this file only when its text or name did.
            assert_eq!(touched(&snapshots, &moments, Path::new("other")).await.unwrap().len(), texts.len());
        });
    }
}

fn made(name: &str, written: (&str, &str), changed: &[&str]) -> MadeCall {
    let item = serde_json::json!({ "type": name, "call_id": name, written.0: written.1 });
    MadeCall {
        run: RunId::generate(),
        of: Seq(1),
        index: 0,
        turn: 1,
        item: serde_json::from_value(item).unwrap(),
        reasoning: Vec::new(),
        report: CallReport {
            changed: changed.iter().map(|path| (*path).to_owned()).collect(),
            ..CallReport::default()
        },
    }
}

/// A patch that ran beside a command is not named for what the command wrote.
#[test]
fn a_call_is_named_for_a_line_only_if_it_can_have_written_it() {
    let patch = |text: &str, path: &str| made("custom_tool_call", ("input", text), &[path]);
    let moment = Moment {
        run: RunId::generate(),
        seq: Seq(9),
        at: 0,
        snapshot: SnapshotId([0; 32]),
        before: None,
        changed: None,
        calls: vec![
            made("function_call", ("arguments", "{}"), &[]),
            patch("*** Update File: a\n@@\n+eins\n zwei\n", "a"),
            patch("*** Add File: b\n+drei\n", "b"),
        ],
    };
    let places = |path: &str, line: Option<&str>| -> Vec<usize> {
        let makers = moment.makers(Path::new(path), line);
        let place = |call: &&MadeCall| moment.calls.iter().position(|c| std::ptr::eq(c, *call));
        makers.iter().filter_map(place).collect()
    };
    assert_eq!(places("a", Some("eins")), [1]);
    // Not in the patch: the command, or the patch in a way that its text does not show.
    assert_eq!(places("a", Some("zwei")), [0, 1]);
    assert_eq!(places("c", Some("x")), [0]);
    assert_eq!(places("b", None), [2]);
    assert_eq!(places("c", None), [0]);
}
