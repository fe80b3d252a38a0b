use std::path::{Path, PathBuf};

use serde_json::Value;

/// How cases of one format are found and run.
pub(crate) struct Format {
    /// Files whose name begins so hold this format.
    pub(crate) prefix: &'static str,
    /// Whether the first case of a file with another name looks like this format.
    pub(crate) recognises: fn(&Value) -> bool,
    /// Runs one case; the error says what differs.
    pub(crate) run: fn(&Value) -> Result<(), String>,
}

/// Runs all cases of a format and fails with the ids of those that do not pass.
pub(crate) fn run_all(format: &Format) {
    let Some(folder) = folder() else { return };
    let mut total = 0;
    let mut failures = Vec::new();
    for file in files(&folder) {
        let cases = read_cases(&file);
        if !holds(format, &file, &cases) {
            continue;
        }
        let before = failures.len();
        for case in &cases {
            if let Err(difference) = (format.run)(case) {
                failures.push(format!("{}: {difference}", case["id"].as_str().unwrap_or("?")));
            }
        }
        let passed = cases.len() - (failures.len() - before);
        println!("{}: {passed} of {} cases passed", file.display(), cases.len());
        total += cases.len();
    }
    assert!(total > 0, "no {} cases below {}", format.prefix, folder.display());
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
}

/// Compares what was got with what a case expects.
pub(crate) fn expect_equal(got: &Value, expected: &Value) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("\n  expected {expected}\n       got {got}")) }
}

/// The folder with the cases. A folder that was asked for must be there; without the default one
/// the test has nothing to run, and says so.
fn folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("MOAT_VECTORS") {
        return Some(PathBuf::from(folder));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = root.canonicalize().unwrap_or(root).join("../shared/vectors");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no vectors at {}; set MOAT_VECTORS", folder.display());
    None
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}")) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "jsonl") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read_cases(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    // Other formats may hold what is no JSON for serde (lone surrogates); they are not ours.
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn holds(format: &Format, file: &Path, cases: &[Value]) -> bool {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    stem.starts_with(format.prefix) || cases.first().is_some_and(format.recognises)
}
