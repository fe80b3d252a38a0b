//! Who there is in a sandbox: who commands run as, the users and groups that are asked for, and
//! those of the image; and the `passwd` and `group` that name them all.

mod files;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use moat_guest::GuestUser;

use crate::Accounts;
use files::{Group, Person, ROOT, merge};

/// The user and group that commands run as, as seen inside.
pub const AGENT: u32 = 1000;

/// Users and groups that can be asked for.
const MAX_ACCOUNTS: usize = 200;

/// Numbers that can be given out: the rest of the range is the guest's and the system's.
const LAST_NUMBER: u32 = 60_000;

/// Where the user's home is whom commands run as.
const HOME: &str = "/home/agent";

/// Why a sandbox cannot have the users that are asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RosterError(String);

/// Everybody.
#[derive(Clone, Debug)]
pub struct Roster {
    /// `/etc/passwd`
    pub passwd: String,
    /// `/etc/group`
    pub group: String,
    /// Who commands run as.
    pub default: GuestUser,
    /// Who else they can be run as.
    pub users: BTreeMap<String, GuestUser>,
    /// Those who were asked for and do not have the sandbox's own home.
    homes: Vec<(String, u32)>,
}

/// What an image says about users.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageAccounts<'a> {
    /// Its `/etc/passwd`.
    pub passwd: &'a str,
    /// Its `/etc/group`.
    pub group: &'a str,
}

impl Roster {
    /// Checks what is asked for, and gives out numbers. `one_user`: nobody but the sandbox's own
    /// user can be anybody.
    ///
    /// # Errors
    /// What is asked for makes no sense.
    pub fn new(
        accounts: &Accounts,
        one_user: bool,
        image: ImageAccounts<'_>,
        shell: &str,
    ) -> Result<Self, RosterError> {
        check(accounts)?;
        // An image may say anything: numbers that no sandbox has are nobody's.
        let mut theirs = files::people(image.passwd);
        theirs.retain(|person| is_anybody(person.uid) && is_anybody(person.gid));
        let mut people = vec![Person::new("agent", AGENT, HOME, shell)];
        let mut taken: BTreeSet<u32> = theirs.iter().map(|person| person.uid).collect();
        taken.extend([AGENT]);
        taken.extend(accounts.users.iter().filter_map(|user| user.uid));
        for user in &accounts.users {
            let uid = match user.uid {
                Some(uid) => uid,
                None => next_free(&mut taken)?,
            };
            people.push(Person::new(&user.name, uid, &format!("/home/{}", user.name), shell));
        }
        let groups = groups(accounts, &people, image.group)?;
        let chosen = accounts.run_as.as_deref().unwrap_or("agent");
        if accounts.as_root {
            people.push(Person { home: HOME.to_owned(), ..Person::new(ROOT, 0, HOME, shell) });
        } else if let Some(person) = people.iter_mut().find(|person| person.name == chosen) {
            HOME.clone_into(&mut person.home);
        }
        let asked_for: Vec<_> = people.iter().skip(1).map(|person| person.name.clone()).collect();
        let everybody = merge(people, theirs);
        let mut all_groups = files::with_theirs(&groups, image.group);
        all_groups.retain(|group| is_anybody(group.gid));
        let guest_user = |person: &Person| person.to_guest(&all_groups);
        let chosen = if accounts.as_root { ROOT } else { chosen };
        let default = everybody.iter().find(|person| person.name == chosen).map(guest_user);
        let default = default
            .ok_or_else(|| wrong(format!("nobody is called `{}`", chosen.escape_default())))?;
        if default.uid == 0 && !accounts.as_root {
            let chosen = chosen.escape_default();
            return Err(wrong(format!("`{chosen}` is root in the image, which takes `as_root`")));
        }
        // An image's own users are known as well, but root only where commands are he.
        let others = everybody.iter().filter(|person| {
            let possible = !one_user || person.uid == default.uid;
            possible && (person.uid != 0 || accounts.as_root)
        });
        let users: BTreeMap<_, _> =
            others.map(|person| (person.name.clone(), guest_user(person))).collect();
        let homes = asked_for.iter().filter_map(|name| {
            let user = users.get(name).filter(|_| name != chosen && name != ROOT)?;
            Some((name.clone(), user.uid))
        });
        Ok(Self {
            passwd: files::passwd(&everybody),
            group: files::group(&all_groups),
            homes: homes.collect(),
            default,
            users,
        })
    }

    /// Leaves out the users and groups that no number of the host stands for; whom commands run as
    /// has one.
    pub fn keep(&mut self, user: impl Fn(u32) -> bool, group: impl Fn(u32) -> bool) {
        self.users.retain(|_, person| user(person.uid) && group(person.gid));
        for person in self.users.values_mut().chain([&mut self.default]) {
            person.groups.retain(|gid| group(*gid));
        }
        self.homes.retain(|(name, _)| self.users.contains_key(name));
    }

    /// Homes that have to be made, and whose they are.
    pub fn homes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.homes.iter().map(|(name, uid)| (name.as_str(), *uid))
    }
}

/// Whether a sandbox may have a user or group of this number.
fn is_anybody(number: u32) -> bool {
    number <= LAST_NUMBER || number == files::NOBODY
}

/// Whether somebody beside the sandbox's own user is asked for.
pub fn asks_for_others(accounts: &Accounts) -> bool {
    !accounts.users.is_empty()
        || !accounts.groups.is_empty()
        || accounts.run_as.as_deref().is_some_and(|name| name != "agent")
}

fn check(accounts: &Accounts) -> Result<(), RosterError> {
    if accounts.users.len() + accounts.groups.len() > MAX_ACCOUNTS {
        return Err(wrong(format!("more than {MAX_ACCOUNTS} users and groups")));
    }
    if accounts.as_root && accounts.run_as.as_deref().is_some_and(|name| name != ROOT) {
        return Err(wrong("commands run as root and as somebody else"));
    }
    let mut names = BTreeSet::from(["agent", ROOT]);
    let mut uids = BTreeSet::from([AGENT]);
    for user in &accounts.users {
        check_name(&user.name)?;
        if !names.insert(&user.name) {
            return Err(wrong(format!("`{}` is there twice, or always there", user.name)));
        }
        if let Some(uid) = user.uid
            && (uid == 0 || uid > LAST_NUMBER || !uids.insert(uid))
        {
            return Err(wrong(format!("the number {uid} of `{}` cannot be given", user.name)));
        }
    }
    for (name, members) in &accounts.groups {
        check_name(name)?;
        if names.contains(name.as_str()) {
            return Err(wrong(format!("the group `{name}` has the name of a user")));
        }
        if let Some(nobody) = members.iter().find(|member| !names.contains(member.as_str())) {
            let nobody: String = nobody.chars().take(80).collect();
            return Err(wrong(format!("`{nobody}`, a member of `{name}`, is nobody")));
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), RosterError> {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let rest = |byte: u8| first(byte) || byte.is_ascii_digit() || byte == b'-';
    let is_name = (1..=32).contains(&name.len())
        && name.bytes().next().is_some_and(first)
        && name.bytes().all(rest);
    if is_name {
        return Ok(());
    }
    let name: String = name.chars().take(80).collect();
    Err(wrong(format!("`{}` is no name of a user or group", name.escape_default())))
}

fn wrong(reason: impl ToString) -> RosterError {
    RosterError(reason.to_string())
}

fn next_free(taken: &mut BTreeSet<u32>) -> Result<u32, RosterError> {
    let free = (AGENT + 1..=LAST_NUMBER).find(|number| !taken.contains(number));
    let free = free.ok_or_else(|| wrong("no number is free"))?;
    taken.insert(free);
    Ok(free)
}

/// Each user's own group, and the ones that are asked for. One that the image has too has the
/// image's number.
fn groups(accounts: &Accounts, people: &[Person], theirs: &str) -> Result<Vec<Group>, RosterError> {
    let theirs = files::groups(theirs);
    let mut taken: BTreeSet<u32> = people.iter().map(|person| person.uid).collect();
    taken.extend(theirs.iter().map(|group| group.gid));
    let mut groups: Vec<Group> = people
        .iter()
        .map(|person| Group { name: person.name.clone(), gid: person.uid, members: Vec::new() })
        .collect();
    for (name, members) in &accounts.groups {
        let gid = match theirs.iter().find(|group| group.name == *name) {
            Some(group) => group.gid,
            None => next_free(&mut taken)?,
        };
        groups.push(Group { name: name.clone(), gid, members: members.clone() });
    }
    Ok(groups)
}
