#![expect(clippy::single_range_in_vec_init, reason = "lists of ranges of which there is one")]

use std::ops::Range;

use proptest::prelude::*;

use super::map::{self, has};
use super::table::{Found, Owner, name_of, parse, usable};
use super::*;

const TESTER: Owner<'_> = Owner { uid: 1001, name: Some("tester") };

fn found(table: &str) -> Found {
    parse(table.as_bytes(), TESTER)
}

#[test]
fn ranges_are_found_by_name_and_by_number() {
    let table = "# of adduser\nroot:1000:1\ntester:100000:65536\n\n1001:300000:10\nother:1:2\n";
    assert_eq!(found(table).ranges, [100_000..165_536, 300_000..300_010]);
    assert_eq!(found(table).odd, Vec::<usize>::new());
    let nameless = parse(table.as_bytes(), Owner { uid: 1001, name: None });
    assert_eq!(nameless.ranges, [300_000..300_010]);
}

#[test]
fn lines_without_sense_are_left_out_and_named() {
    let table = "tester\ntester:1\ntester:-1:5\ntester:+1:5\ntester:9:0\ntester:1:2:3\n\
        tester:99999999999:1\n:1:2\ntester:70000:3000\n\u{fffd}tester:1:x\n";
    let found = found(table);
    assert_eq!(found.ranges, [70_000..73_000]);
    assert_eq!(found.odd, [1, 2, 3, 4, 5, 6, 7, 8, 10]);
    assert_eq!(parse(b"\xff:1:2\n", TESTER).odd, [1]);
}

#[test]
fn what_is_the_hosts_own_is_never_used() {
    let whole = usable(&[0..u64::from(u32::MAX) + 5], 70_000);
    assert_eq!(whole, [65_536..70_000, 70_001..u32::MAX]);
    assert_eq!(usable(&[0..65_536, 65_530..65_540, 65_540..65_550], 1001), [65_536..65_550]);
    assert_eq!(count(&usable(&[100_000..100_000 + u64::from(SLICE) - 1], 1001)), 0);
}

#[test]
fn names_come_from_the_table_of_users() {
    let passwd = b"root:x:0:0::/root:/bin/sh\n\xff\nbroken\ntester:x:1001:1001::/:/bin/sh\n";
    assert_eq!(name_of(1001, passwd).as_deref(), Some("tester"));
    assert_eq!(name_of(1002, passwd), None);
}

#[test]
fn every_remedy_names_the_tables_and_the_programs() {
    let table = GIDS;
    for why in [
        NoIds::RootOfContainer,
        NoIds::NoRange { table, user: "u".to_owned(), found: "too few ids", odd: String::new() },
        NoIds::NoProgram { name: "newgidmap", problem: "is not installed".to_owned() },
        NoIds::Refused { name: "newuidmap", said: "no".to_owned() },
    ] {
        let said = format!("{why}. {}", why.remedy());
        for named in ["/etc/subuid", "newuidmap", "newgidmap"] {
            assert!(said.contains(named), "{said}");
        }
        assert!(!said.contains('\n'), "{said}");
    }
}

fn ids(slices: u32) -> SubordinateIds {
    let ranges = vec![100_000..100_000 + slices * SLICE];
    let programs = Arc::new(Programs::none());
    SubordinateIds { uid: 1001, gid: 1001, uids: ranges.clone(), gids: ranges, programs }
}

#[test]
fn one_slice_is_for_all_and_each_other_for_one() {
    for slices in [1, 2, 32] {
        let ids = ids(slices);
        let common = ids.common();
        assert_eq!(common.is_some(), slices > 1);
        for beginning in [0, 1, 30, 31, 32, u32::MAX] {
            let own: std::collections::HashSet<Slice> = ids.own(beginning).collect();
            assert_eq!(own.len(), ids.own_slices() as usize);
            assert_eq!(own.len() + usize::from(common.is_some()), slices as usize);
            assert!(common.is_none_or(|common| !own.contains(&common)));
        }
    }
}

#[test]
fn ids_are_given_up_only_when_all_are_refused() {
    let why = || NoIds::Refused { name: "newuidmap", said: "no".to_owned() };
    let refused = || StepFailed { no_ids: Some(Box::new(why())), ..StepFailed::new("map", "no") };
    let lending = Lending { found: Ok(ids(2)), refused: OnceLock::new() };
    assert!(!lending.were_refused(|| Ok(())));
    assert!(!lending.were_refused(|| Err(StepFailed::new("map", "it takes too long"))));
    assert!(lending.ids().is_ok());
    assert!(lending.were_refused(|| Err(refused())));
    assert_eq!(lending.ids(), Err(&why()));
    // What was made with them is removed with them.
    assert!(lending.found().is_ok());
}

/// What the kernel asks of a map: no number twice, neither inside nor outside, and 340 lines.
fn is_map(lines: &[Line]) -> Result<(), TestCaseError> {
    prop_assert!(lines.len() <= 340);
    let apart = |pick: fn(&Line) -> u32| {
        let mut ranges: Vec<Range<u64>> = lines
            .iter()
            .map(|line| u64::from(pick(line))..u64::from(pick(line)) + u64::from(line.count))
            .collect();
        ranges.sort_by_key(|range| range.start);
        ranges.windows(2).all(|pair| matches!(pair, [one, next] if one.end <= next.start))
    };
    prop_assert!(lines.iter().all(|line| line.count > 0));
    prop_assert!(apart(|line| line.inside) && apart(|line| line.outside), "{lines:?}");
    Ok(())
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0..200_000_u64, any::<u64>(), Just(4_294_967_295_u64)];
    let owner = prop_oneof!["tester", "1001", "root", "[a-z]{0,3}"];
    prop_oneof![
        4 => (owner, number.clone(), number).prop_map(|(o, a, b)| format!("{o}:{a}:{b}").into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    /// Whatever a table holds, what is used of it is the owner's, apart, and nobody's whom the host
    /// has; each slice of it lies in it, and no two share an id.
    #[test]
    fn any_table_gives_only_what_is_lent(
        lines in proptest::collection::vec(line(), 0..40),
        own in 0..200_000_u32,
    ) {
        let found = parse(&lines.join(&b'\n'), TESTER);
        let ranges = usable(&found.ranges, own);
        for range in &ranges {
            prop_assert!(range.start >= 65_536 && range.start < range.end && !range.contains(&own));
            let last = u64::from(range.end) - 1;
            for id in [u64::from(range.start), last] {
                prop_assert!(found.ranges.iter().any(|lent| lent.contains(&id)));
            }
        }
        prop_assert!(ranges.windows(2).all(|pair| matches!(pair, [one, next] if one.end < next.start)));
        is_map(&map::all(own, &ranges))?;
        let mut starts: Vec<u32> = (0..count(&ranges).min(500)).map(|n| nth(&ranges, n)).collect();
        for start in &starts {
            prop_assert!(ranges.iter().any(|r| r.start <= *start && start + (SLICE - 1) < r.end));
        }
        starts.sort_unstable();
        prop_assert!(starts.windows(2).all(|pair| matches!(pair, [one, next] if one + SLICE <= *next)));
    }

    /// Whoever is in a sandbox, its map is one, stays in its slice, and only one is the caller.
    #[test]
    fn any_people_have_a_map(
        inside in prop_oneof![Just(0_u32), Just(1000), 0..65_536_u32],
        others in proptest::collection::vec(0..65_536_u32, 0..500),
    ) {
        let (base, caller) = (1_000_000, 1001);
        let lines = map::lines(base, (inside, caller), &others);
        is_map(&lines)?;
        let slice = base..base + SLICE;
        for line in &lines {
            let is_own = line.inside == inside && line.outside == caller && line.count == 1;
            let last = line.outside + (line.count - 1);
            prop_assert!(is_own || slice.contains(&line.outside) && slice.contains(&last));
        }
        prop_assert!([0, inside, 1000, 65_534].iter().all(|number| has(&lines, *number)));
        prop_assert!(others.iter().take(200).all(|number| has(&lines, *number)));
    }
}
