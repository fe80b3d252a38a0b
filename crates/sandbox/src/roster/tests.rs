use super::*;
use crate::UserAccount;

fn user(name: &str, uid: Option<u32>) -> UserAccount {
    UserAccount { name: name.to_owned(), uid }
}

fn roster(accounts: &Accounts, image: ImageAccounts<'_>) -> Result<Roster, RosterError> {
    Roster::new(accounts, false, image, "/bin/sh")
}

#[test]
fn everybody_gets_a_number_and_his_groups() {
    let accounts = Accounts {
        users: vec![user("alice", None), user("bob", Some(1001)), user("carol", None)],
        groups: [("team".to_owned(), vec!["alice".to_owned(), "agent".to_owned()])].into(),
        run_as: Some("bob".to_owned()),
        as_root: false,
    };
    let image = ImageAccounts {
        passwd: "root:x:0:0::/r:/bin/ash\nwww:x:33:33::/w:/bin/sh\nbob:x:9:9::/:/\nx:x:1002:5::/:/\n_apt:x:42:65534::/:/\nbig:x:60001:5::/:/\nbroken",
        group: "team:x:700:www\nstaff:x:50:\nbroken:x::",
    };
    let roster = roster(&accounts, image).unwrap();
    let uid = |name: &str| roster.users.get(name).map(|user| user.uid);
    assert_eq!((uid("alice"), uid("bob"), uid("carol")), (Some(1003), Some(1001), Some(1004)));
    assert_eq!((uid("www"), uid("agent"), uid("root")), (Some(33), Some(1000), None));
    for member in ["alice", "agent", "www"] {
        assert_eq!(roster.users[member].groups, [700], "{member}");
    }
    assert_eq!((roster.default.uid, roster.default.environment["HOME"].as_str()), (1001, HOME));
    assert_eq!(roster.homes().collect::<Vec<_>>(), [("alice", 1003), ("carol", 1004)]);
    assert!(roster.passwd.contains("root:x:0:0:root:/r:/bin/ash\n"), "{}", roster.passwd);
    assert!(!roster.passwd.contains("bob:x:9:"), "{}", roster.passwd);
    // Many of a system's own users have nobody's group.
    assert_eq!((uid("_apt"), uid("nobody"), uid("big")), (Some(42), Some(65_534), None));
    assert!(roster.group.contains("nogroup:x:65534:\n"), "{}", roster.group);
    assert!(roster.group.contains("team:x:700:alice,agent,www\n"), "{}", roster.group);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let users = |users: Vec<UserAccount>| Accounts { users, ..Accounts::default() };
    let group = |name: &str, member: &str| Accounts {
        groups: [(name.to_owned(), vec![member.to_owned()])].into(),
        ..Accounts::default()
    };
    let run_as = |name: &str, as_root| Accounts {
        run_as: Some(name.to_owned()),
        as_root,
        ..Accounts::default()
    };
    for (accounts, reason) in [
        (users(vec![user("Alice", None)]), "no name"),
        (users(vec![user("a:0:0:/:/bin/sh", None)]), "no name"),
        (users(vec![user("", None)]), "no name"),
        (users(vec![user("root", None)]), "twice"),
        (users(vec![user("a", None), user("a", None)]), "twice"),
        (users(vec![user("a", Some(0))]), "cannot be given"),
        (users(vec![user("a", Some(1000))]), "cannot be given"),
        (users(vec![user("a", Some(65_535))]), "cannot be given"),
        (users(vec![user("a", Some(5)), user("b", Some(5))]), "cannot be given"),
        (users((0..201).map(|n| user(&format!("u{n}"), None)).collect()), "more than"),
        (group("team", "nobody-here"), "is nobody"),
        (group("agent", "agent"), "name of a user"),
        (run_as("bob", false), "nobody is called"),
        (run_as("agent", true), "somebody else"),
    ] {
        let refused = roster(&accounts, ImageAccounts::default()).unwrap_err();
        assert!(refused.to_string().contains(reason), "{reason}: {refused:?}");
    }
}
