use super::*;

fn touch(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
}

fn paths(found: &Toolchains) -> Vec<PathBuf> {
    let place = |shown: &Shown| match shown {
        Shown::Bound { path, .. } | Shown::Link { path, .. } => path.clone(),
    };
    found.shown().iter().map(place).collect()
}

/// A home outside the folders that the sandbox has itself.
fn home() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}

#[test]
fn credentials_beside_a_toolchain_are_not_shown() {
    let home = home();
    for name in [
        ".cargo/bin/cargo",
        ".cargo/credentials.toml",
        ".cargo/config.toml",
        ".rustup/toolchains/stable/bin/rustc",
        ".rustup/settings.toml",
        ".npmrc",
        ".nvm/versions/node/v20.1.0/bin/node",
        ".nvm/versions/node/v9.0.0/bin/node",
    ] {
        touch(&home.path().join(name));
    }
    let found = Toolchains::find(Some(home.path()), &BTreeMap::new());
    assert_eq!(found.names(), ["rustup", "cargo", "nvm"]);
    let secret = |path: &PathBuf| {
        [".cargo/credentials.toml", ".cargo/config.toml", ".npmrc"]
            .iter()
            .any(|name| home.path().join(name).starts_with(path))
    };
    assert!(!paths(&found).iter().any(secret), "{:?}", paths(&found));
    let newest = home.path().join(".nvm/versions/node/v20.1.0/bin");
    assert!(found.path().contains(&newest.to_str().unwrap().to_owned()), "{:?}", found.path());
}

#[test]
fn a_variable_moves_a_root_and_cannot_show_what_is_not_a_toolchain_folder() {
    let home = home();
    touch(&home.path().join("rust/toolchains/stable/bin/rustc"));
    let variable = |value: &Path| {
        BTreeMap::from([("RUSTUP_HOME".to_owned(), value.to_str().unwrap().to_owned())])
    };
    let moved = home.path().join("rust");
    let found = Toolchains::find(None, &variable(&moved));
    assert_eq!(paths(&found), [moved.join("toolchains")]);
    for taken in ["/", "/etc", "/workspace/x", "relative/path"] {
        assert_eq!(Toolchains::find(None, &variable(Path::new(taken))), Toolchains::default());
    }
}

#[test]
fn what_the_caller_fetched_is_in_the_way_of_fetching() {
    let home = home();
    touch(&home.path().join(".cargo/bin/cargo"));
    touch(&home.path().join(".cargo/registry/cache/index/itoa-1.0.0.crate"));
    let found = Toolchains::find(Some(home.path()), &BTreeMap::new());
    let links =
        |online| found.home_links(online).map(|(link, _)| link.as_path()).collect::<Vec<_>>();
    assert_eq!(links(false), [Path::new(".cargo/registry")]);
    assert!(links(true).is_empty());
}
