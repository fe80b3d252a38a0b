use super::*;
use crate::folder::Folder;

/// Names are given again as soon as they are free: the folder that a name has may be another's
/// than the one whose process was ended.
#[test]
fn the_folder_of_another_sandbox_of_the_same_name_is_let_alone() {
    let top = tempfile::tempdir().unwrap();
    let provider = LocalProvider::new(LocalOptions::new(top.path())).unwrap();
    let id = "0123456789abcdef";
    let folder = Folder::create(&provider.shared.sandboxes, id).unwrap();
    let own = ProcessId::of(std::process::id() as i32).unwrap();
    let other = ProcessId::of(std::os::unix::process::parent_id() as i32).unwrap();
    folder.write_record(&Record { process: other }).unwrap();
    drop(folder);
    let ended = Handle::new(id, own.clone(), Vec::new());
    assert!(provider.shared.hold(&ended).unwrap().is_none());
    let folder = Folder::hold(&provider.shared.sandboxes.join(id)).unwrap().unwrap();
    folder.write_record(&Record { process: own }).unwrap();
    drop(folder);
    assert!(provider.shared.hold(&ended).unwrap().is_some());
}
