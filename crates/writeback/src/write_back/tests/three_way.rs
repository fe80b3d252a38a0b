//! Whatever the run and the user do to the same files: the run's changes arrive where the user left
//! things alone, the user's stay everywhere else, and an undo brings back exactly what he had.

use proptest::prelude::*;

use super::*;

const PATHS: [&str; 6] = ["a", "b", "c", "d/x", "d/y", "e"];

/// What is at a path: nothing, a file, or a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Nothing,
    File { text: &'static str, executable: bool },
    Link(&'static str),
}

type State = [Thing; PATHS.len()];

fn thing() -> impl Strategy<Value = Thing> {
    let text = prop_oneof![Just("one"), Just("two"), Just("three")];
    prop_oneof![
        2 => Just(Thing::Nothing),
        5 => (text, any::<bool>()).prop_map(|(text, executable)| Thing::File { text, executable }),
        // Names that are nothing here: a link to another link is refused where it might lead out.
        1 => prop_oneof![Just("w"), Just("z")].prop_map(Thing::Link),
    ]
}

fn state() -> impl Strategy<Value = State> {
    proptest::array::uniform6(thing())
}

/// Mostly as before, so that clean changes and conflicts both come up.
fn edits() -> impl Strategy<Value = [Option<Thing>; PATHS.len()]> {
    proptest::array::uniform6(proptest::option::weighted(0.4, thing()))
}

fn edited(state: &State, edits: &[Option<Thing>; PATHS.len()]) -> State {
    std::array::from_fn(|place| edits[place].unwrap_or(state[place]))
}

fn make(folder: &Path, state: &State) {
    fs::create_dir_all(folder.join("d")).unwrap();
    for (path, thing) in PATHS.iter().zip(state) {
        fs::remove_file(folder.join(path)).ok();
        match thing {
            Thing::Nothing => {}
            Thing::File { text, executable } => {
                put(folder, path, text);
                set_mode(folder, path, if *executable { 0o755 } else { 0o644 });
            }
            Thing::Link(target) => symlink(target, folder.join(path)).unwrap(),
        }
    }
}

/// The rule, path by path; links through `d` stay inside, so none is refused.
fn merged(base: &State, run: &State, user: &State) -> (State, usize) {
    let mut conflicts = 0;
    let merged = std::array::from_fn(|place| {
        let (base, run, user) = (base[place], run[place], user[place]);
        match () {
            () if run == base || run == user => user,
            () if user == base => run,
            () => {
                conflicts += 1;
                user
            }
        }
    });
    (merged, conflicts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_rule_holds(base in state(), by_run in edits(), by_user in edits()) {
        let (run, user) = (edited(&base, &by_run), edited(&base, &by_user));
        let (expected, conflicts) = merged(&base, &run, &user);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let here = place();
            make(&here.host(), &base);
            let start = here.start().await;
            make(&here.work(), &run);
            let end = here.snapshot().await;
            make(&here.host(), &user);
            let before = picture(&here.host());
            let write_back = here.write_back(start, end);
            let plan = write_back.plan().await.unwrap();
            prop_assert_eq!(plan.conflicts.len(), conflicts, "{:?}", plan.conflicts);
            write_back.apply(&plan).await.unwrap();
            let after = picture(&here.host());
            let wanted = here.dir.path().join("wanted");
            make(&wanted, &expected);
            prop_assert_eq!(after, picture(&wanted));
            write_back.undo().await.unwrap();
            prop_assert_eq!(picture(&here.host()), before);
            Ok(())
        })?;
    }
}
