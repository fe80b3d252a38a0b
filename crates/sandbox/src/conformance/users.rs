use std::collections::BTreeMap;

use moat_core::{Epoch, RunId};

use super::Verdict;
use super::bench::{Bench, LONG, Lab, Problem};
use crate::{
    Accounts, ApplyEntry, ApplyNode, Command, GuestError, ProcessEvent, Root, SandboxError,
    SandboxSpec, UserAccount,
};

/// A sandbox with two users and a group of one of them, where the provider can make one: it says
/// that it cannot by the error that is for this.
async fn with_users(bench: &Bench<'_>, run_as: Option<&str>) -> Result<Option<Lab>, Problem> {
    let user = |name: &str, uid| UserAccount { name: name.to_owned(), uid };
    let accounts = Accounts {
        users: vec![user("alice", Some(1501)), user("bob", None)],
        groups: BTreeMap::from([("team".to_owned(), vec!["bob".to_owned(), "agent".to_owned()])]),
        run_as: run_as.map(str::to_owned),
        as_root: false,
    };
    let spec = SandboxSpec {
        orphan_grace: LONG,
        accounts,
        ..SandboxSpec::new(RunId::generate(), Epoch(1))
    };
    match bench.make(&spec).await {
        Ok(lab) => Ok(Some(lab)),
        Err(SandboxError::Guest(GuestError::Unsupported(_))) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a script says that somebody runs.
async fn ask_as(lab: &Lab, user: &str, script: &str) -> Result<(i32, String), Problem> {
    let command = Command { user: Some(user.to_owned()), ..lab.shell(script) };
    let finished = lab.finish(&command).await?;
    Ok((finished.exit.code, finished.text()))
}

pub(super) async fn each_is_himself(bench: &Bench<'_>) -> Verdict {
    let Some(lab) = with_users(bench, None).await? else { return Ok(()) };
    let who = "echo $(id -un) $(id -gn) $HOME $USER; touch ~/mine && ls -A ~";
    for (user, said) in [
        ("alice", "alice alice /home/alice alice\nmine\n"),
        ("bob", "bob bob /home/bob bob\nmine\n"),
        ("agent", "agent agent /home/agent agent\nmine\n"),
    ] {
        let (_, heard) = ask_as(&lab, user, who).await?;
        // A home may have more in it than what was just made.
        let (first, rest) = heard.split_once('\n').unwrap_or_default();
        let holds = said.starts_with(first) && rest.lines().any(|name| name == "mine");
        ensure!(holds, "{user} is {heard:?}");
    }
    let (_, uid) = ask_as(&lab, "alice", "id -u").await?;
    ensure!(uid == "1501\n", "alice has the number {uid:?}");
    let (_, groups) = ask_as(&lab, "bob", "id -Gn").await?;
    ensure!(groups == "bob team\n", "bob's groups are {groups:?}");
    let (_, groups) = ask_as(&lab, "alice", "id -Gn").await?;
    ensure!(groups == "alice\n", "alice's groups are {groups:?}");
    let own = lab.ask("id -un; id -Gn").await?;
    ensure!(own == "agent\nagent team\n", "a command of nobody is {own:?}'s");
    Ok(())
}

pub(super) async fn modes_hold_between_them(bench: &Bench<'_>) -> Verdict {
    let Some(lab) = with_users(bench, None).await? else { return Ok(()) };
    lab.ask("chmod 1777 . && umask 077 && echo agents > agent").await?;
    let make = "umask 077; echo $USER > $USER; umask 027; echo shared > shared-$USER; \
                chgrp team shared-$USER 2>/dev/null; chmod 640 shared-$USER";
    for user in ["alice", "bob"] {
        let (code, said) = ask_as(&lab, user, make).await?;
        ensure!(code == 0, "{user} cannot write: {said}");
    }
    for (user, script, holds) in [
        ("alice", "cat alice", true),
        ("alice", "cat bob || cat agent || cat /home/bob/x || ls /home/bob", false),
        ("alice", "rm -f bob || mv bob x || echo x > bob || chmod 666 bob", false),
        ("bob", "cat alice || ls /home/alice || ls /home/agent/.hidden", false),
        ("agent", "cat alice || cat bob || kill -0 1", false),
        // Members of a group share what is the group's.
        ("agent", "cat shared-bob", true),
        ("alice", "cat shared-bob", false),
        ("bob", "su alice -c true || setpriv --reuid 1501 true", false),
    ] {
        let (code, said) = ask_as(&lab, user, script).await?;
        ensure!((code == 0) == holds, "{user}: `{script}` ended with {code}: {said}");
    }
    // What a checkpoint has to have is read whoever closed it, and keeps its owner.
    let alice = lab.read(Root::Workspace, "alice").await?;
    ensure!(alice == b"alice\n", "a closed file is read as {alice:?}");
    Ok(())
}

pub(super) async fn processes_are_their_owners(bench: &Bench<'_>) -> Verdict {
    let Some(lab) = with_users(bench, None).await? else { return Ok(()) };
    let script = "trap 'echo signalled; exit 3' TERM; echo $$; while :; do sleep 0.05; done";
    let command = Command { user: Some("alice".to_owned()), ..lab.shell(script) };
    lab.guest.start(&command).await?;
    let mut events = lab.guest.attach(command.key, 0).await?;
    let Some(ProcessEvent::Output { bytes, .. }) = events.recv().await else {
        return Err(Problem("nothing is heard of alice".to_owned()));
    };
    let pid = String::from_utf8_lossy(&bytes).trim().to_owned();
    let attack = format!("kill -9 {pid} || cat /proc/{pid}/environ");
    let (code, said) = ask_as(&lab, "bob", &attack).await?;
    ensure!(code != 0, "bob reaches alice's process: {said}");
    // Whoever owns the sandbox reaches them all.
    lab.guest.signal(command.key, 15).await?;
    let finished = lab.collect(command.key, 0).await?;
    ensure!(finished.exit.code == 3, "alice's command ended with {:?}", finished.exit);
    Ok(())
}

pub(super) async fn none_without_being_asked_for(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let command = Command { user: Some("no-such-user".to_owned()), ..lab.shell("id -u") };
    match lab.guest.start(&command).await {
        Err(GuestError::Unsupported(_)) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Problem("a command runs as somebody whom nobody named".to_owned())),
    }
}

pub(super) async fn commands_of_nobody_are_somebodys(bench: &Bench<'_>) -> Verdict {
    let Some(lab) = with_users(bench, Some("bob")).await? else { return Ok(()) };
    let said = lab.ask("id -un; echo x > made; stat -c %U made; touch ~/mine; echo $HOME").await?;
    ensure!(said == "bob\nbob\n/home/agent\n", "it says {said:?}");
    lab.guest.write(Root::Workspace, std::path::Path::new("written"), b"y", 0o600).await?;
    let owner = lab.ask("stat -c %U written; cat written").await?;
    ensure!(owner == "bob\ny", "what is written for him is {owner:?}");
    Ok(())
}

/// What a checkpoint says about owners is what there is after it was restored.
pub(super) async fn owners_come_back(bench: &Bench<'_>) -> Verdict {
    let Some(lab) = with_users(bench, None).await? else { return Ok(()) };
    let entry = |path: &str, node, mode, owner| ApplyEntry {
        path: path.into(),
        node,
        mode,
        owner,
        mtime_ns: 1_000_000_000_500_000_000,
        xattrs: BTreeMap::new(),
    };
    let file = || ApplyNode::File { size: 2, content: Some(b"x\n".to_vec()) };
    let (alice, agent) = ((1501, 1501), (1000, 1000));
    let link = ApplyNode::Symlink("nowhere".into());
    let mut entries = [
        entry("hers", ApplyNode::Dir, 0o2755, alice),
        entry("hers/closed", file(), 0o600, alice),
        entry("hers/link", link, 0o777, alice),
        entry("hers/agents", file(), 0o644, agent),
    ];
    lab.guest.apply(Root::Workspace, &entries).await?;
    // A folder after what is in it.
    entries.reverse();
    lab.guest.finish(Root::Workspace, &entries).await?;
    let look = "cd hers && stat -c '%n %U %G %a %Y' . closed link agents && cat closed";
    let (code, said) = ask_as(&lab, "alice", look).await?;
    let expected = ". alice alice 2755 1000000000\nclosed alice alice 600 1000000000\n\
        link alice alice 777 1000000000\nagents agent agent 644 1000000000\nx\n";
    ensure!(code == 0 && said == expected, "it is {said:?}");
    let (code, said) = ask_as(&lab, "bob", "cat hers/closed").await?;
    ensure!(code != 0, "bob reads {said:?}");
    Ok(())
}
