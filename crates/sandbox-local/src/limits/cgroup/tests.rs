//! The second version on a tree of ordinary files, as the kernel would show it.

use super::*;

/// A group of a tree that is none of the kernel's.
fn group(path: &Path, controllers: &str, enabled: &str) {
    fs::create_dir_all(path).unwrap();
    for (file, text) in [
        ("cgroup.controllers", controllers),
        ("cgroup.subtree_control", enabled),
        ("cgroup.procs", ""),
    ] {
        fs::write(path.join(file), text).unwrap();
    }
}

#[test]
fn limits_of_the_second_version_are_written_as_the_kernel_documents_them() {
    let top = tempfile::tempdir().unwrap();
    let parent = Parent { path: top.path().join("user@1.service"), version: Version::Second };
    let [memory, pids, cpu] = [(); 3].map(|()| Some(parent.clone()));
    let cgroups = Cgroups { memory, pids, cpu, lacking: String::new() };
    let folder = top.path().join("0123456789abcdef");
    fs::create_dir(&folder).unwrap();
    let made = parent.path.join("moat-0123456789abcdef");
    fs::create_dir_all(&made).unwrap();
    for file in ["memory.max", "memory.swap.max", "memory.peak", "pids.max", "cpu.max"] {
        fs::write(made.join(file), "").unwrap();
    }
    let limits = SandboxLimits {
        memory_bytes: Some(64 << 20),
        swap_bytes: Some(1 << 20),
        pids: Some(64),
        cpu_millis: Some(1500),
        ..SandboxLimits::default()
    };
    let mut group = Group::default();
    cgroups.set(&mut group, "moat-0123456789abcdef", &limits).unwrap();
    let text = |file: &str| fs::read_to_string(made.join(file)).unwrap();
    assert_eq!(text("memory.max"), "67108864");
    assert_eq!(text("memory.swap.max"), "1048576");
    assert_eq!(text("pids.max"), "65");
    assert_eq!(text("cpu.max"), "150000 100000");
    assert!(group.holds_memory());
    assert_eq!(group.counters().memory_events, Some(made.join("memory.events")));
    assert_eq!(group.counters().memory_peak, Some(made.join("memory.peak")));
    assert_eq!(group.counters().pids_events, None);
    assert!(cgroups.has_leftovers("0123456789abcdef") && !cgroups.has_leftovers("0123"));
}

#[test]
fn the_nearest_ancestor_that_may_be_written_and_has_the_controller_is_taken() {
    let top = tempfile::tempdir().unwrap();
    let all = "cpu memory pids";
    let (slice, own) = (top.path().join("slice"), top.path().join("slice/own.scope"));
    group(top.path(), all, all);
    group(&slice, all, "memory pids");
    group(&own, "memory pids", "");
    let hierarchy = Hierarchy { top: top.path().to_owned(), own: own.clone(), kind: Kind::Second };
    // On ordinary files a group has no limits of its own, so every place is refused; the first
    // that is named is the nearest.
    let refused = place(&hierarchy, "memory", &|_| "memory.max").unwrap_err().unwrap();
    assert_eq!(refused.0, own);
    assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control")).unwrap(), "+memory");
    assert_eq!(fs::read_to_string(slice.join("cgroup.subtree_control")).unwrap(), "memory pids");
    assert!(place(&hierarchy, "io", &|_| "io.max").unwrap_err().is_none());
    let left: Vec<_> =
        fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(PREFIX)), "{left:?}");
}

#[test]
fn only_groups_that_bear_the_sandboxs_name_are_removed() {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("0123456789abcdef");
    let (own, other) = (top.path().join("moat-0123456789abcdef"), top.path().join("moat-other"));
    for path in [&folder, &own, &other] {
        fs::create_dir(path).unwrap();
    }
    fs::write(folder.join(RECORD), serde_json::to_vec(&[&own, &other]).unwrap()).unwrap();
    remove_recorded(&folder).unwrap();
    assert!(!own.exists() && other.exists());
    remove_recorded(&folder).unwrap();
    fs::write(folder.join(RECORD), "[\"/half").unwrap();
    remove_recorded(&folder).unwrap();
}
