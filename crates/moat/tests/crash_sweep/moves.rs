//! The recorded run on its way between providers: begun here, killed, resumed in Docker, killed,
//! resumed here.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::engine::{self, SYSTEM};
use super::lab::{Change, Running};
use super::recorded::Stage;
use super::{STOP, check, compare, go_on};

/// Turns after which the run is killed and moves.
const MOVES: [usize; 2] = [10, 20];

/// Lets it go on from stop to stop until the journal has that many answers.
fn until_turn(stage: &Stage, mut running: Running, turns: usize) -> Running {
    loop {
        match running.next_stop() {
            Change::Ended(done) => panic!("it ended before turn {turns}: {done}"),
            Change::Stopped(stopped) => {
                if answers(&stage.journal()) >= turns {
                    return stopped;
                }
                stopped.signal(Signal::CONT);
                running = stopped;
            }
        }
    }
}

fn answers(journal: &str) -> usize {
    journal.lines().filter(|line| line.contains("\"kind\":\"model_answered\"")).count()
}

fn resume_in(stage: &Stage, place: &str, engine: &str) -> Command {
    let replay = stage.transcript.to_str().unwrap();
    let mut command = stage.lab.command(&[
        "resume",
        "--last",
        "--json",
        "--write",
        "--replay",
        replay,
        "--sandbox",
        place,
    ]);
    command.env("DOCKER_HOST", engine).env(STOP, "1");
    command
}

#[test]
fn a_run_that_moves_to_docker_and_back_ends_as_if_nothing_had_happened() {
    let name = "a_run_that_moves_to_docker_and_back_ends_as_if_nothing_had_happened";
    moves(name, false);
}

/// On the way back through a file into another data folder.
#[test]
fn a_run_that_moves_to_docker_and_to_another_machine_ends_as_if_nothing_had_happened() {
    let name = "a_run_that_moves_to_docker_and_to_another_machine_ends_as_if_nothing_had_happened";
    moves(name, true);
}

fn moves(name: &str, elsewhere: bool) {
    let Some(endpoint) = engine::engine(name) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(engine::images(&endpoint));
    let engine = endpoint.to_string();
    let docker = format!("docker:{SYSTEM}?pull=never");
    let mut stage = Stage::new();
    let mut first = stage.exec();
    first.env(STOP, "1");

    let here = until_turn(&stage, stage.lab.start(first), MOVES[0]);
    here.kill();
    let there = stage.lab.start(resume_in(&stage, &docker, &engine));
    let there = until_turn(&stage, there, MOVES[1]);
    there.kill();
    let mut before = stage.journal();
    let owner = std::fs::read_to_string(stage.lab.data.join("docker/owner")).unwrap();
    if elsewhere {
        let file = stage.lab.path("run.moat").to_string_lossy().into_owned();
        stage.lab.ok(&["export", "--last", "-o", &file, "--move"]);
        stage.lab.data = stage.lab.path("elsewhere");
        stage.lab.ok(&["import", &file, "--trust"]);
        // Contents have other names there.
        before = String::new();
    }
    let back = stage.lab.start(resume_in(&stage, "local", &engine));
    let done = go_on(match back.next_stop() {
        Change::Stopped(stopped) => stopped,
        Change::Ended(done) => panic!("it ended at once: {done}"),
    });

    let end = check(&stage, &before, &done, "moved twice");
    compare(&end, false, "moved twice");
    let of = |kind: &str| -> Vec<&Value> {
        end.events
            .iter()
            .filter(|event| event["kind"] == kind)
            .map(|event| &event["body"])
            .collect()
    };
    let providers: Vec<_> =
        of("sandbox_attached").iter().map(|body| body["provider"].clone()).collect();
    assert_eq!(providers, ["local", "docker", "local"]);
    let reasons: Vec<_> =
        of("sandbox_lost").iter().map(|body| body["reason"].to_string()).collect();
    assert!(reasons.len() == 2 && reasons[0].contains(&docker), "{reasons:?}");
    if elsewhere {
        // Nobody here knows the sandbox that was left there; it ends itself after its grace.
        return;
    }
    assert_eq!(of("sandbox_rehydrated").len(), 2);
    // Neither place has anything left of it.
    let label = format!("dev.moat.data-folder={}", owner.trim());
    let left = runtime.block_on(async {
        let docker = engine::docker(&endpoint).await;
        let options = bollard::query_parameters::ListContainersOptions {
            all: true,
            filters: Some([("label".to_owned(), vec![label])].into()),
            ..Default::default()
        };
        docker.list_containers(Some(options)).await.unwrap()
    });
    assert!(left.is_empty(), "{left:?}");
}
