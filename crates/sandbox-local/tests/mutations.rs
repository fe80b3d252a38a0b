//! Every property of the containment suite fails once the fences that it relies on are left out:
//! the suite could tell.
//!
//! Needs the feature `mutations`, which only builds for tests may have.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use moat_core::SandboxLimits;
use moat_sandbox::Provider as _;
use moat_sandbox_local::LeftOut;

use support::inside::Inside;
use support::suite::{self, Property, Suite};

#[test]
fn properties_fail_without_their_fences_as_root() {
    const NAME: &str = "properties_fail_without_their_fences_as_root";
    support::as_root(NAME, || suite::on_terminal(NAME, || mutate(&AS_ROOT, false)));
}

#[test]
fn properties_fail_without_their_fences_as_ordinary_user() {
    const NAME: &str = "properties_fail_without_their_fences_as_ordinary_user";
    support::as_ordinary_user(NAME, || suite::on_terminal(NAME, || mutate(&AS_USER, true)));
}

/// What nothing on some hosts makes fail, and why.
const AS_ROOT: [(&str, &str); 3] = [
    ("disk-made", NO_DEVICE),
    ("disks", NO_DEVICE),
    ("kernel-memory", "some kernels are built without it"),
];

const NO_DEVICE: &str = "a host that is a container may read no disk";

/// The same for an ordinary user, beside what takes root of the host whatever is left out.
const AS_USER: [(&str, &str); 3] = [
    ("socket-among-programs", "he may put none there"),
    ("setuid", "his own id is the only one in his user namespace"),
    ("setgid", "his own id is the only one in his user namespace"),
];

const USER: &str = "user-namespace";

/// Leaves out every set of fences of the list, each in a sandbox of its own.
fn mutate(not_shown: &[(&str, &str)], ordinary: bool) {
    let mut sets: BTreeMap<Vec<&str>, Vec<Property>> = BTreeMap::new();
    for property in suite::properties() {
        let mut set = property.fences.clone();
        set.retain(|fence| !ordinary || *fence != USER);
        set.sort_unstable();
        sets.entry(set).or_default().push(property);
    }
    let suite = Suite::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut wrong = Vec::new();
    let mut shown = 0;
    for (set, properties) in &sets {
        let names: Vec<&str> = properties.iter().map(|property| property.name).collect();
        let verdicts = runtime.block_on(without(&suite, set, &names));
        for property in properties {
            let (verdict, detail) = verdicts.get(property.name).cloned().unwrap_or_default();
            println!("{:26} without {:60} {verdict} ({detail})", property.name, set.join(" "));
            let excused = not_shown.iter().find(|(name, _)| *name == property.name);
            let needs_root = ordinary && property.fences.contains(&USER);
            match (verdict.as_str(), excused) {
                // Absent: the request came to the kernel, as it does not with the fences (the
                // containment test has it that it is refused before), and the kernel has no such
                // thing.
                ("escaped" | "absent", _) => shown += 1,
                (_, Some((name, reason))) => println!("NOT SHOWN {name}: {reason}"),
                _ if needs_root => println!("NOT SHOWN {}: takes root", property.name),
                _ => wrong.push(format!("{}: {verdict} {detail}, without {set:?}", property.name)),
            }
        }
    }
    let all = suite::properties().len();
    println!("{shown} of {all} properties fail without their fences, {} sets of these", sets.len());
    assert!(wrong.is_empty(), "they hold without what they rely on:\n{}", wrong.join("\n"));
}

async fn without(suite: &Suite, fences: &[&str], names: &[&str]) -> suite::Verdicts {
    let limits = fences.contains(&"limits");
    // The host's `/tmp` would count as memory of the sandbox.
    let memory = fences.contains(&"files").then_some(1 << 46);
    let made = Inside::with(
        |options| options.left_out = LeftOut::new(fences.iter().copied()),
        |spec| {
            spec.limits.memory_bytes = memory;
            if limits {
                let wide = SandboxLimits {
                    pids: Some(1 << 20),
                    tmp_bytes: Some(1 << 40),
                    ..SandboxLimits::default()
                };
                spec.limits = wide;
            }
        },
    );
    let inside = made.await.unwrap_or_else(|error| panic!("without {fences:?}: {error}"));
    let (verdicts, code) = suite.try_in(&inside, names).await;
    assert_eq!(code, 0, "without {fences:?} the probe does not run");
    inside.provider.destroy(&inside.sandbox.handle()).await.unwrap();
    verdicts
}
