use super::*;

fn entry(path: &str, node: Node) -> Entry {
    Entry { path: path.into(), meta: Meta::with_mode(0o644), node }
}

fn file(content: u8, link: Option<LinkGroup>) -> Node {
    Node::File { content: BlobId([content; 32]), size: 1, link }
}

fn listing(entries: Vec<Entry>) -> Result<Listing, InvalidTree> {
    Listing::from_entries(Meta::folder(), entries)
}

#[test]
fn a_folder_stands_before_what_is_in_it_and_after_it_comes_its_sibling() {
    let paths = ["a.b", "a/z", "a", "a/b/c", "a/b", "A", "a-"];
    let entries = paths.map(|path| {
        let is_dir = matches!(path, "a" | "a/b");
        entry(path, if is_dir { Node::Dir } else { file(1, None) })
    });
    let listing = listing(entries.to_vec()).unwrap();
    let sorted: Vec<_> = listing.entries().iter().map(|e| e.path.to_str().unwrap()).collect();
    assert_eq!(sorted, ["A", "a", "a/b", "a/b/c", "a/z", "a-", "a.b"]);
    assert!(paths.iter().all(|path| listing.get(Path::new(path)).is_some()));
}

#[test]
fn refuses_what_no_folder_can_hold() {
    for path in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b"] {
        let refused = listing(vec![entry("a", Node::Dir), entry(path, file(1, None))]);
        assert!(refused.is_err(), "{path:?}");
    }
    let twice = listing(vec![entry("a", file(1, None)), entry("a", Node::Dir)]);
    assert!(matches!(twice, Err(InvalidTree::Duplicate { .. })));
    let orphan = listing(vec![entry("a", file(1, None)), entry("a/b", file(1, None))]);
    assert!(matches!(orphan, Err(InvalidTree::NoParent { .. })));
    let far = listing(vec![entry("a", Node::Dir), entry("b/c", file(1, None))]);
    assert!(matches!(far, Err(InvalidTree::NoParent { .. })));
}

#[test]
fn names_of_one_file_have_to_agree() {
    let group = Some(LinkGroup::of(Path::new("a")));
    assert!(listing(vec![entry("a", file(1, group)), entry("b", file(1, group))]).is_ok());
    for wrong in [
        vec![entry("a", file(1, group)), entry("b", file(2, group))],
        vec![entry("a", file(1, group))],
    ] {
        assert!(matches!(listing(wrong), Err(InvalidTree::Links { .. })));
    }
}
