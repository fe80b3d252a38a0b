//! Where the kernel's control groups are, and which of them the caller is in.

use std::path::{Path, PathBuf};

/// One hierarchy of control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Where it is mounted.
    pub(super) top: PathBuf,
    /// The group of the caller, beneath it.
    pub(super) own: PathBuf,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first version, with these controllers.
    First(Vec<String>),
    /// The second.
    Second,
}

impl Hierarchy {
    /// The caller's group and those that it is in, the innermost first.
    pub(super) fn own_and_above(&self) -> impl Iterator<Item = &Path> {
        self.own.ancestors().take_while(|path| path.starts_with(&self.top))
    }
}

/// All hierarchies, by what `/proc/self/mountinfo` and `/proc/self/cgroup` say.
pub(super) fn hierarchies(mountinfo: &str, cgroups: &str) -> Vec<Hierarchy> {
    mountinfo.lines().filter_map(|line| hierarchy(line, cgroups)).collect()
}

fn hierarchy(line: &str, cgroups: &str) -> Option<Hierarchy> {
    let (place, system) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, top) = (unescape(place.next()?), PathBuf::from(unescape(place.next()?)));
    let mut system = system.split(' ');
    let (name, options) = (system.next()?, system.nth(1)?);
    let (kind, path) = match name {
        "cgroup2" => (Kind::Second, own_path(cgroups, |controllers| controllers.is_empty())?),
        "cgroup" => {
            let names: Vec<String> = options.split(',').map(str::to_owned).collect();
            let mounted = |controllers: &str| {
                !controllers.is_empty()
                    && controllers.split(',').all(|one| names.iter().any(|name| name == one))
            };
            let path = own_path(cgroups, mounted)?;
            (Kind::First(names), path)
        }
        _ => return None,
    };
    // A container may be shown only its own part. What lies outside of it is not there.
    let beneath = Path::new(path).strip_prefix(&root).unwrap_or(Path::new(""));
    let plain = beneath.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let own = if plain { top.join(beneath) } else { top.clone() };
    Some(Hierarchy { top, own, kind })
}

/// Lines are `number:controllers:path`.
fn own_path(cgroups: &str, is_it: impl Fn(&str) -> bool) -> Option<&str> {
    cgroups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        is_it(controllers).then_some(path)
    })
}

/// Blanks and backslashes are written as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                plain.push(char::from(code));
                plain.push_str(rest);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let mountinfo = "30 24 0:26 / /sys/fs/cgroup ro shared:4 - tmpfs tmpfs ro,mode=755\n\
            31 30 0:27 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw,nsdelegate\n\
            32 30 0:28 / /sys/fs/cgroup/memory rw shared:6 - cgroup cgroup rw,memory\n\
            33 30 0:29 /docker/ab /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let cgroups = "5:memory:/user/x\n4:cpu,cpuacct:/docker/ab/inner\n1:name=systemd:/\n0::/a\n";
        let found = hierarchies(mountinfo, cgroups);
        let own: Vec<_> = found.iter().map(|one| one.own.to_str().unwrap()).collect();
        assert_eq!(
            own,
            [
                "/sys/fs/cgroup/unified/a",
                "/sys/fs/cgroup/memory/user/x",
                "/sys/fs/cgroup/cpu,cpuacct/inner"
            ]
        );
        assert_eq!(found[0].kind, Kind::Second);
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_the_mounts_top() {
        let mountinfo = "31 30 0:27 /a /cg rw - cgroup2 cgroup2 rw\n";
        assert_eq!(hierarchies(mountinfo, "0::/../b\n")[0].own, Path::new("/cg"));
        let odd = "31 30 0:27 / /my\\040cg rw - cgroup2 cgroup2 rw\n";
        assert_eq!(hierarchies(odd, "0::/\n")[0].top, Path::new("/my cg"));
    }
}
