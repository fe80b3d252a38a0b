use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine as _;
use moat_harness::patch::{
    FileNode, FileSource, PatchError, Plan, PlanError, SourceError, parse, plan,
};
use serde_json::{Map, Value, json};

use crate::cases::{Format, expect_equal, run_all};

#[test]
fn apply_patch_vectors() {
    run_all(&Format { prefix: "apply_patch", recognises, run });
}

fn recognises(case: &Value) -> bool {
    case["input"].get("patch").is_some() && case["input"].get("files").is_some()
}

fn run(case: &Value) -> Result<(), String> {
    let input = &case["input"];
    let mut files = Files::read(&input["files"]);
    let cwd = input["cwd"].as_str().unwrap_or_default();
    let got = match planned(input["patch"].as_str().unwrap(), cwd, &files) {
        Ok(plan) => {
            let output = plan.output.clone();
            files.commit(plan);
            json!({ "ok": true, "output": output, "files": files.show() })
        }
        Err(error) => {
            if error.message.trim().is_empty() || error.message.lines().count() > 1 {
                return Err(format!("not one line: {}", error.message));
            }
            let class = error.class.as_str();
            let error = json!({ "class": class, "op": error.operation });
            json!({ "ok": false, "error": error, "files": files.show() })
        }
    };
    expect_equal(&got, &case["expect"])
}

fn planned(patch: &str, cwd: &str, files: &Files) -> Result<Plan, PatchError> {
    let operations = parse(patch)?;
    let future = plan(&operations, Path::new(cwd), files);
    match futures_util::FutureExt::now_or_never(future).unwrap() {
        Ok(plan) => Ok(plan),
        Err(PlanError::Rejected(error)) => Err(error),
        Err(PlanError::Source(error)) => panic!("{error}"),
    }
}

enum Node {
    Content(Vec<u8>),
    Link(PathBuf),
}

struct Files(BTreeMap<PathBuf, Node>);

impl Files {
    fn read(files: &Value) -> Self {
        let node = |value: &Value| match value {
            Value::String(text) => Node::Content(text.clone().into_bytes()),
            value => match value["link"].as_str() {
                Some(target) => Node::Link(target.into()),
                None => Node::Content(engine().decode(value["b64"].as_str().unwrap()).unwrap()),
            },
        };
        let files = files.as_object().unwrap().iter();
        Self(files.map(|(path, value)| (path.into(), node(value))).collect())
    }

    /// Does what `Guest::commit` does, with its checks.
    fn commit(&mut self, plan: Plan) {
        for link in &plan.unlinked {
            assert!(matches!(self.0.remove(link), Some(Node::Link(_))));
        }
        for change in plan.changes {
            let before = match self.0.get(&change.path) {
                Some(Node::Content(content)) => Some(moat_core::Hash::of(content)),
                Some(Node::Link(_)) => panic!("{:?} is a link", change.path),
                None => None,
            };
            assert_eq!(before, change.before, "{:?}", change.path);
            match change.after {
                Some((content, _)) => self.0.insert(change.path, Node::Content(content)),
                None => self.0.remove(&change.path),
            };
        }
    }

    fn show(&self) -> Value {
        let show = |node: &Node| match node {
            Node::Link(target) => json!({ "link": target }),
            Node::Content(content) => match std::str::from_utf8(content) {
                Ok(text) => json!(text),
                Err(_) => json!({ "b64": engine().encode(content) }),
            },
        };
        let files = self.0.iter().map(|(path, node)| (path.display().to_string(), show(node)));
        Value::Object(files.collect::<Map<_, _>>())
    }
}

fn engine() -> base64::engine::GeneralPurpose {
    base64::engine::general_purpose::STANDARD
}

#[async_trait]
impl FileSource for Files {
    async fn stat(&self, path: &Path) -> Result<Option<FileNode>, SourceError> {
        let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        for parent in parents {
            assert!(!self.0.contains_key(parent), "asked for {path:?} below {parent:?}");
        }
        Ok(match self.0.get(path) {
            Some(Node::Content(content)) => {
                Some(FileNode::File { mode: 0o644, size: content.len() as u64 })
            }
            Some(Node::Link(target)) => Some(FileNode::Symlink(target.clone())),
            None => self.0.keys().any(|name| name.starts_with(path)).then_some(FileNode::Dir),
        })
    }

    async fn read_at(&self, path: &Path, offset: u64, length: u32) -> Result<Vec<u8>, SourceError> {
        match self.0.get(path) {
            Some(Node::Content(content)) => {
                let rest = content.iter().skip(offset as usize);
                Ok(rest.take(length as usize).copied().collect())
            }
            _ => Err(SourceError::Refused("no such file".into())),
        }
    }
}
