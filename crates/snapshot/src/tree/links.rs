//! Names of one file.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Entry, Node};
use crate::InvalidTree;

/// Ties the names of one file together. Derived from the first of them, so that it does not change
/// when other files come or go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkGroup(pub [u8; 16]);

impl LinkGroup {
    /// The group whose first name, in the order of a listing, is `path`.
    pub fn of(path: &Path) -> Self {
        let mut group = [0; 16];
        blake3::Hasher::new_derive_key("moat 2026 hardlink groups v1")
            .update(path.as_os_str().as_bytes())
            .finalize_xof()
            .fill(&mut group);
        Self(group)
    }
}

/// The names of one file agree about everything, and there is more than one.
pub(super) fn validate(entries: &[Entry]) -> Result<(), InvalidTree> {
    let mut groups: HashMap<LinkGroup, (&Entry, usize)> = HashMap::new();
    for entry in entries {
        let Node::File { link: Some(group), .. } = &entry.node else { continue };
        let (first, names) = groups.entry(*group).or_insert((entry, 0));
        if first.meta != entry.meta || first.node != entry.node {
            return Err(InvalidTree::Links { path: entry.path.clone() });
        }
        *names += 1;
    }
    match groups.values().find(|(_, names)| *names < 2) {
        Some((entry, _)) => Err(InvalidTree::Links { path: entry.path.clone() }),
        None => Ok(()),
    }
}

/// Ties names together as if there were no others than these, which are in the order of a listing:
/// a group has the name of the first of them, and one name alone is no group.
pub(super) fn retie(entries: &mut [Entry]) {
    let mut groups: HashMap<LinkGroup, (LinkGroup, usize)> = HashMap::new();
    for entry in entries.iter() {
        let Node::File { link: Some(group), .. } = &entry.node else { continue };
        groups.entry(*group).or_insert_with(|| (LinkGroup::of(&entry.path), 0)).1 += 1;
    }
    for entry in entries {
        let Node::File { link, .. } = &mut entry.node else { continue };
        let tied = link.and_then(|group| groups.get(&group));
        *link = tied.filter(|(_, names)| *names > 1).map(|(group, _)| *group);
    }
}
