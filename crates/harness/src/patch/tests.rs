use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use proptest::prelude::*;

use super::*;

/// Files in memory; a `None` content is a folder.
#[derive(Default)]
struct Memory(BTreeMap<String, Vec<u8>>);

#[async_trait]
impl FileSource for Memory {
    async fn stat(&self, path: &Path) -> Result<Option<FileNode>, SourceError> {
        let path = path.to_str().unwrap();
        if let Some(content) = self.0.get(path) {
            return Ok(Some(FileNode::File { mode: 0o755, size: content.len() as u64 }));
        }
        let below = format!("{path}/");
        Ok(self.0.keys().any(|name| name.starts_with(&below)).then_some(FileNode::Dir))
    }

    async fn read_at(&self, path: &Path, offset: u64, length: u32) -> Result<Vec<u8>, SourceError> {
        let content = &self.0[path.to_str().unwrap()];
        let rest = &content[(offset as usize).min(content.len())..];
        Ok(rest[..rest.len().min(length as usize)].to_vec())
    }
}

fn memory(files: &[(&str, &str)]) -> Memory {
    Memory(files.iter().map(|(path, text)| (path.to_string(), text.as_bytes().to_vec())).collect())
}

fn run(files: &[(&str, &str)], patch: &str) -> Result<Plan, PatchError> {
    let operations = parse(patch)?;
    let source = memory(files);
    match futures_util::FutureExt::now_or_never(plan(&operations, Path::new(""), &source)).unwrap()
    {
        Ok(plan) => Ok(plan),
        Err(PlanError::Rejected(error)) => Err(error),
        Err(PlanError::Source(error)) => panic!("{error}"),
    }
}

fn text_after<'a>(plan: &'a Plan, path: &str) -> &'a str {
    let change = plan.changes.iter().find(|change| change.path == Path::new(path)).unwrap();
    std::str::from_utf8(&change.after.as_ref().unwrap().0).unwrap()
}

fn update(hunks: &str) -> String {
    format!("*** Begin Patch\n*** Update File: a\n{hunks}*** End Patch\n")
}

#[test]
fn an_error_names_the_hunk_the_line_of_the_patch_and_the_closest_place() {
    let file = "fn one() {\n    1\n}\n\nfn two() {\n    2\n}\n";
    let patch = update("@@\n-    1\n+    one\n@@\n fn two() {\n-    two\n+    2\n }\n");
    let error = run(&[("a", file)], &patch).unwrap_err();
    assert_eq!(error.class, PatchErrorClass::Context);
    assert_eq!(
        error.message,
        "`a`, line 6 of the patch: hunk 2 of 2 does not fit: its 3 lines are not in the file from \
         line 3 on. The closest place is line 5, where 2 of 3 lines agree; line 6 is `    2` and \
         the patch has `    two`. Read the file again and send the hunk as the file is now"
    );
}

#[test]
fn hunks_out_of_order_are_named_as_such() {
    let patch = update("@@\n-three\n+3\n@@\n-one\n+1\n");
    let error = run(&[("a", "one\ntwo\nthree\n")], &patch).unwrap_err();
    assert!(error.message.contains("They stand at line 1"), "{}", error.message);
    assert!(error.reply().starts_with("apply_patch failed and changed nothing: `a`"));
}

#[test]
fn a_line_that_is_nearly_there_is_shown() {
    let error =
        run(&[("a", "let total = count + 1;\n")], &update("@@\n-let total = count - 1;\n+x\n"));
    let message = error.unwrap_err().message;
    assert!(message.contains("line 1: `let total = count + 1;`"), "{message}");
}

/// What comes first is what is wrong: a header's line that is nowhere before a line that no hunk has,
/// and a hunk that ends at `***` before what follows it.
#[test]
fn of_two_faults_the_first_is_named() {
    let class = |hunks: &str| run(&[("a", "x\n")], &update(hunks)).unwrap_err().class;
    assert_eq!(class("@@ gone\n@@\n x\n***bad\n"), PatchErrorClass::Context);
    assert_eq!(class("@@ x\n@@\n+y\n***bad\n"), PatchErrorClass::Diff);
    assert_eq!(class("@@\n-gone\n***\n"), PatchErrorClass::Context);
    assert_eq!(class("@@\n-x\n***\n"), PatchErrorClass::Diff);
}

#[test]
fn blank_lines_behind_the_end_of_a_patch_in_json_mean_nothing() {
    let json = r#"{"type":"update_file","path":"a","diff":"@@\n-x\n+y\n*** End Patch\n\n"}"#;
    assert_eq!(text_after(&run(&[("a", "x\n")], json).unwrap(), "a"), "y\n");
}

#[test]
fn typographic_punctuation_counts_only_where_nothing_else_fits() {
    let plan =
        run(&[("a", "say “hi”\u{a0}– now\n")], &update("@@\n-say \"hi\" - now\n+bye\n")).unwrap();
    assert_eq!(text_after(&plan, "a"), "bye\n");
    let both = "“x”\n\"x\"\n";
    let plan = run(&[("a", both)], &update("@@\n-\"x\"\n+y\n")).unwrap();
    assert_eq!(text_after(&plan, "a"), "“x”\ny\n");
}

#[test]
fn modes_stay_on_update_and_move_and_new_files_are_plain() {
    let patch = "*** Begin Patch\n*** Update File: run.sh\n*** Move to: bin/run.sh\n@@\n-a\n+b\n\
                 *** Add File: x\n+x\n*** End Patch\n";
    let plan = run(&[("run.sh", "a\n")], patch).unwrap();
    let after: Vec<_> = plan
        .changes
        .iter()
        .map(|change| (change.path.to_str().unwrap(), change.after.as_ref().map(|a| a.1.unwrap())))
        .collect();
    assert_eq!(after, [("run.sh", None), ("bin/run.sh", Some(0o755)), ("x", Some(0o644))]);
    assert_eq!(plan.changes[0].before, Some(moat_core::Hash::of(b"a\n")));
    assert_eq!(plan.output, "Updated run.sh\nMoved run.sh to bin/run.sh\nCreated x");
}

#[test]
fn a_file_can_make_room_for_a_folder_and_back_to_nothing_is_no_change() {
    let patch = "*** Begin Patch\n*** Delete File: a\n*** Add File: a/b\n+x\n\
                 *** Add File: c\n+c\n*** Delete File: c\n*** End Patch\n";
    let plan = run(&[("a", "1\n")], patch).unwrap();
    assert_eq!(plan.changed_paths(), ["a", "a/b"]);
    assert_eq!(plan.changes[1].before, None);
}

#[test]
fn a_large_file_with_many_hunks_and_anchors_is_rewritten_in_linear_time() {
    let line = |n: usize| format!("    let value_{n} = compute({n}, \"some argument\");\n");
    let file: String = (0..10_000).map(line).collect();
    let hunk = |n: usize| {
        format!(
            "@@ let value_{} = compute({0}, \"some argument\");\n {}-{}+    changed();\n {}",
            n - 2,
            line(n - 1),
            line(n),
            line(n + 1)
        )
    };
    let patch = update(&(1..=100).map(|n| hunk(n * 99)).collect::<String>());
    let plan = run(&[("a", &file)], &patch).unwrap();
    assert_eq!(text_after(&plan, "a").matches("changed();").count(), 100);
    // All lines alike, and a context that fits only at the very end.
    let file = format!("{}end\n", "same\n".repeat(50_000));
    let patch = update(&format!("@@\n{}-end\n+END\n", " same\n".repeat(10_000)));
    assert!(text_after(&run(&[("a", &file)], &patch).unwrap(), "a").ends_with("same\nEND\n"));
}

/// Nothing but one link, by its target.
struct OneLink(&'static str);

#[async_trait]
impl FileSource for OneLink {
    async fn stat(&self, path: &Path) -> Result<Option<FileNode>, SourceError> {
        Ok((path == Path::new("ln")).then(|| FileNode::Symlink(self.0.into())))
    }

    async fn read_at(&self, _: &Path, _: u64, _: u32) -> Result<Vec<u8>, SourceError> {
        Err(SourceError::Refused("not a file".into()))
    }
}

#[test]
fn links_that_go_in_circles_or_out_are_refused_and_others_are_followed() {
    let operations = parse("*** Begin Patch\n*** Add File: ln/x\n+1\n*** End Patch").unwrap();
    let planned = |target| {
        let source = OneLink(target);
        let future = plan(&operations, Path::new(""), &source);
        match futures_util::FutureExt::now_or_never(future).unwrap() {
            Ok(plan) => plan.changed_paths().join(" "),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(planned("./ln"), "`ln/x` leads through too many links");
    assert_eq!(planned("d/../../etc"), "`ln/x` leads outside the workspace through `ln`");
    assert_eq!(planned("/workspace2"), "`ln/x` leads outside the workspace through `ln`");
    assert_eq!(planned("/workspace/d/../e"), "e/x");
}

/// A file, and the same file after some of its lines were replaced, with the hunks between them.
fn edited_file() -> impl Strategy<Value = (String, String, String)> {
    let line = prop_oneof!["[a-c]{0,2}", "[ +@*-]{0,3}[a-z]{0,3}", "\\PC{0,6}"];
    let change = prop_oneof![6 => Just(None), 1 => prop::collection::vec("[a-z é]{0,4}", 0..3).prop_map(Some)];
    let last_newline = any::<bool>();
    (prop::collection::vec((line, change), 1..40), last_newline).prop_map(|(lines, newline)| {
        let mut before = String::new();
        let mut after = String::new();
        let mut diff = String::from("@@\n");
        for (index, (line, change)) in lines.iter().enumerate() {
            // A number makes each line unique, so that there is one right place for each hunk.
            let line = format!("{line}{index}").replace('\r', "");
            before += &format!("{line}\n");
            match change {
                None => {
                    diff += &format!(" {line}\n");
                    after += &format!("{line}\n");
                }
                Some(with) => {
                    diff += &format!("-{line}\n");
                    for new in with {
                        diff += &format!("+{new}\n");
                        after += &format!("{new}\n");
                    }
                    diff += "@@\n";
                }
            }
        }
        let diff = diff.strip_suffix("@@\n").unwrap_or(&diff).to_owned();
        if newline {
            return (before, after, diff);
        }
        let cut = |text: &str| text.strip_suffix('\n').unwrap_or(text).to_owned();
        (cut(&before), cut(&after), diff)
    })
}

proptest! {
    #[test]
    fn a_diff_of_a_file_gives_the_other_file((before, after, diff) in edited_file()) {
        let plan = run(&[("a", &before)], &update(&diff)).map_err(|e| TestCaseError::fail(e.message))?;
        let got = plan.changes.first().map_or(before.as_str(), |_| text_after(&plan, "a"));
        prop_assert_eq!(got, after);
    }

    #[test]
    fn any_text_is_read_without_panic(
        lines in prop::collection::vec(prop_oneof![
            Just("*** Begin Patch".to_owned()), Just("*** End Patch".to_owned()),
            Just("*** Update File: a".to_owned()), Just("*** Add File: b".to_owned()),
            Just("*** Delete File: a".to_owned()), Just("*** Move to: ../c".to_owned()),
            Just("*** End of File".to_owned()), Just("@@".to_owned()), Just("@@ x".to_owned()),
            Just("<<EOF".to_owned()), Just("EOF".to_owned()), Just(" x".to_owned()),
            Just("-x".to_owned()), Just("+x\r".to_owned()), Just(String::new()), "\\PC{0,12}",
        ], 0..14),
        wrapped in any::<bool>(),
    ) {
        let body = lines.join("\n");
        let patch = if wrapped { format!("*** Begin Patch\n{body}\n*** End Patch") } else { body };
        let _ = run(&[("a", "x\ny\n"), ("d/e", "")], &patch);
    }
}
