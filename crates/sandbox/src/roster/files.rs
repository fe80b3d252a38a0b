//! `passwd` and `group`: an image's are hostile, and what cannot be understood of them is left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use moat_guest::GuestUser;

pub(super) const ROOT: &str = "root";
/// The user and the group that every system has for nobody: larger than what is given out.
pub(super) const NOBODY: u32 = 65_534;

/// Bytes of each of the files; what an image has past that is left out.
const MAX_FILE: usize = 16 << 10;

/// A line of `passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
    pub(super) shell: String,
}

/// A line of `group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) gid: u32,
    pub(super) members: Vec<String>,
}

impl Person {
    pub(super) fn new(name: &str, uid: u32, home: &str, shell: &str) -> Self {
        let text = str::to_owned;
        Self { name: text(name), uid, gid: uid, home: text(home), shell: text(shell) }
    }

    pub(super) fn to_guest(&self, groups: &[Group]) -> GuestUser {
        let member = |group: &&Group| group.members.contains(&self.name) && group.gid != self.gid;
        let own = [("HOME", &self.home), ("USER", &self.name), ("LOGNAME", &self.name)];
        GuestUser {
            uid: self.uid,
            gid: self.gid,
            groups: groups.iter().filter(member).map(|group| group.gid).collect(),
            environment: own
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect::<BTreeMap<_, _>>(),
        }
    }
}

/// Those of the image whose lines make sense.
pub(super) fn people(passwd: &str) -> Vec<Person> {
    lines(passwd)
        .filter_map(|fields| match fields.as_slice() {
            [name, _, uid, gid, _, home, shell] if !name.is_empty() => Some(Person {
                name: (*name).to_owned(),
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                home: (*home).to_owned(),
                shell: (*shell).to_owned(),
            }),
            _ => None,
        })
        .collect()
}

pub(super) fn groups(group: &str) -> Vec<Group> {
    lines(group)
        .filter_map(|fields| match fields.as_slice() {
            [name, _, gid, members] if !name.is_empty() => Some(Group {
                name: (*name).to_owned(),
                gid: gid.parse().ok()?,
                members: members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect(),
            }),
            _ => None,
        })
        .collect()
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.contains(['\0', '\r'])).map(|line| line.split(':').collect())
}

/// The first, then those of the second with other names, then whom every system has.
pub(super) fn merge(mut ours: Vec<Person>, theirs: Vec<Person>) -> Vec<Person> {
    let login = "/usr/sbin/nologin";
    let nobody = Person::new("nobody", NOBODY, "/nonexistent", login);
    let system = [Person::new(ROOT, 0, "/root", login), nobody];
    for person in theirs.into_iter().chain(system) {
        if !ours.iter().any(|other| other.name == person.name) {
            ours.push(person);
        }
    }
    ours
}

/// The same for groups. One that is in both has the members of both.
pub(super) fn with_theirs(ours: &[Group], theirs: &str) -> Vec<Group> {
    let system = [(ROOT, 0), ("tty", 5), ("nogroup", NOBODY)];
    let system =
        system.map(|(name, gid)| Group { name: name.to_owned(), gid, members: Vec::new() });
    let mut all = ours.to_vec();
    for group in groups(theirs).into_iter().chain(system) {
        match all.iter_mut().find(|other| other.name == group.name) {
            Some(other) => {
                let more = group.members.into_iter().filter(|name| !other.members.contains(name));
                let more: Vec<_> = more.collect();
                other.members.extend(more);
            }
            None => all.push(group),
        }
    }
    all
}

pub(super) fn passwd(people: &[Person]) -> String {
    text(people.iter().map(|person| {
        let Person { name, uid, gid, home, shell } = person;
        format!("{name}:x:{uid}:{gid}:{name}:{home}:{shell}")
    }))
}

pub(super) fn group(groups: &[Group]) -> String {
    text(
        groups
            .iter()
            .map(|group| format!("{}:x:{}:{}", group.name, group.gid, group.members.join(","))),
    )
}

fn text(lines: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() < MAX_FILE {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}
