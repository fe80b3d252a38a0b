use super::*;
use moat_core::{Epoch, RunId};

#[test]
fn thin() {
    let state = tempfile::tempdir().unwrap();
    let options = LocalOptions { home: Some("/root".into()), ..LocalOptions::new(state.path()) };
    let prepared = Prepared::new(&options).unwrap();
    let sandboxes = state.path().join("s");
    let r = state.path().join("r");
    std::fs::create_dir(&sandboxes).unwrap();
    std::fs::create_dir(&r).unwrap();
    let ranges = Ranges::new(r);
    let root = rustix::process::geteuid().is_root();
    let place = Place { options: &options, sandboxes: &sandboxes, ranges: root.then_some(&ranges), prepared: &prepared };
    let spec = SandboxSpec { run: RunId::generate(), epoch: Epoch(1), orphan_grace: std::time::Duration::from_secs(5), environment: Default::default(), allow_missing: vec![] };
    let t = std::time::Instant::now();
    let born = create(&place, &spec, &BTreeSet::new()).unwrap();
    println!("{:?} {:?}", t.elapsed(), born);
    if let Ok(x) = std::env::var("PEEK") {
        let pid: serde_json::Value = serde_json::to_value(born.process()).unwrap();
        let o = std::process::Command::new("nsenter").args(["-t", &pid["pid"].to_string(), "-a", "/bin/sh", "-c", &x]).output().unwrap();
        println!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    }
}
