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

#[test]
fn names_of_one_file_are_tied_to_those_that_are_there() {
    let tied = |path: &str| Some(LinkGroup::of(Path::new(path)));
    let links = |listing: &Listing| -> Vec<_> {
        let link = |entry: &Entry| match entry.node {
            Node::File { link, .. } => Some((entry.path.to_str().unwrap().to_owned(), link)),
            _ => None,
        };
        listing.entries().iter().filter_map(link).collect()
    };
    let whole = vec![
        entry("a", Node::Dir),
        entry("a/1", file(1, tied("a/1"))),
        entry("b", file(1, tied("a/1"))),
        entry("c", file(1, tied("a/1"))),
    ];
    let whole = listing(whole).unwrap();
    assert_eq!(whole.only(|_| true).unwrap(), whole);
    let left = whole.only(|path| !path.starts_with("a")).unwrap();
    assert_eq!(links(&left), [("b".to_owned(), tied("b")), ("c".to_owned(), tied("b"))]);
    let left = whole.only(|path| path == Path::new("b")).unwrap();
    assert_eq!(links(&left), [("b".to_owned(), None)]);
    assert!(whole.only(|path| path != Path::new("a")).is_err(), "its folder is not there");

    // What is here already takes no name of the other's file with it.
    let own = listing(vec![entry("b", file(2, None)), entry("d", file(2, None))]).unwrap();
    let both = own.beside(&whole).unwrap();
    let expected = [("a/1", tied("a/1")), ("b", None), ("c", tied("a/1")), ("d", None)];
    assert_eq!(links(&both), expected.map(|(path, link)| (path.to_owned(), link)));
    let own = listing(vec![entry("a", file(2, None)), entry("b", file(2, None))]).unwrap();
    let both = own.beside(&whole).unwrap();
    let expected = [("a", None), ("b", None), ("c", None)];
    assert_eq!(links(&both), expected.map(|(path, link)| (path.to_owned(), link)));
}
