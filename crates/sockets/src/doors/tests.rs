use std::time::Instant;

use super::*;

/// Runs an accept at one socket as if it had been told of a connection that somebody else took.
fn is_made_to_wait(tcp: Vec<TcpListener>, local: Option<UnixListener>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _runtime = runtime.enter();
    let listeners = Arc::new(Listeners { tcp, local });
    let (doors, porter, _arrivals) = Doors::begin(&listeners).unwrap();
    drop(listeners);
    // The sockets wait, as they do when somebody else has undone `O_NONBLOCK`.
    let thread = std::thread::spawn(move || matches!(porter.look(0), Looked::Pause));
    std::thread::sleep(Duration::from_millis(100));
    assert!(doors.state.entered.load(Ordering::SeqCst) && !thread.is_finished());
    let start = Instant::now();
    drop(doors);
    assert!(start.elapsed() < Duration::from_millis(100), "dropping waits as well");
    assert!(thread.join().unwrap());
}

#[test]
fn an_accept_that_is_made_to_wait_ends_with_the_doors() {
    is_made_to_wait(vec![TcpListener::bind("127.0.0.1:0").unwrap()], None);
    let folder = tempfile::tempdir().unwrap();
    is_made_to_wait(Vec::new(), Some(UnixListener::bind(folder.path().join("socket")).unwrap()));
}

#[test]
fn nothing_is_accepted_after_the_end() {
    let state = State {
        wake: eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
        stopped: true.into(),
        entered: false.into(),
    };
    assert!(state.enter(|| ()).is_none());
}
