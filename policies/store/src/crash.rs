//! SIGKILL at random moments of committing and activating, with a real process and a real disk (PS7).

use crate::{
    Change, Edit, NewChange, NonePinned, PolicyStore, Stage, Standing, StoreConfig, Unguarded, Unrecorded,
    VersionInfo,
    testing::{shop, signer},
    verify,
};
use base_ports::{Rng, SystemClock, SystemDisk, SystemRng};
use base_store::Embedded;
use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

const CHILD: &str = "POLICIES_STORE_KILL_CHILD";

async fn open(dir: &Path) -> Arc<PolicyStore> {
    let clock = Arc::new(SystemClock);
    let store = Embedded::open(dir, Arc::new(SystemDisk), clock.clone()).unwrap();
    let config = StoreConfig {
        dir: None,
        store,
        clock,
        signer: signer(),
        saves: Arc::new(Unguarded),
        activations: Arc::new(Unrecorded),
        pinned: Arc::new(NonePinned),
    };
    PolicyStore::open(config).await.unwrap()
}

/// What version `number` consists of.
fn text(number: u64) -> String {
    format!("// this is version {number}\n")
}

/// The child of the test below: makes versions for ever, puts every second one into force, and says what is done.
#[tokio::test]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let store = open(Path::new(&dir)).await;
    store.set_entities(shop(), [1; 32]).await;
    loop {
        let next = store.versions().unwrap()[0].policies + 1;
        let edits = vec![Edit { file: "a.cedar".to_owned(), text: Some(text(next)) }];
        let change = store.draft(NewChange { edits, ..NewChange::default() }).await.unwrap();
        store.check_change(change.id).await.unwrap();
        let change = store.change(change.id).unwrap();
        println!("committed {} end", store.commit(change.id, change.revision, "me").await.unwrap().policies);
        if next.is_multiple_of(2) {
            println!("active {} end", store.activate(next, "me").await.unwrap().policies);
        }
    }
}

#[tokio::test]
async fn ps7_no_acknowledged_version_is_lost_to_sigkill_and_none_is_half_there() {
    let scale: u64 =
        std::env::var("PORTCULLIS_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1);
    let dir = tempfile::tempdir().unwrap();
    let (mut committed, mut active) = (0, 0);
    for round in 0..40 * scale {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child", "--exact", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = said(child.stdout.take().unwrap());
        // Some die while they start, most between two of their first commits.
        for _ in 0..SystemRng.u64() % 4 {
            let (what, number) = said.recv_timeout(Duration::from_secs(60)).unwrap();
            let newest = if what == "active" { &mut active } else { &mut committed };
            *newest = number.max(*newest);
        }
        std::thread::sleep(Duration::from_micros(SystemRng.u64() % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        for (what, number) in said {
            let newest = if what == "active" { &mut active } else { &mut committed };
            *newest = number.max(*newest);
        }
        look(&*open(dir.path()).await, committed, active, round);
    }
    assert!(committed > 10, "versions were made: {committed}");
}

/// Everything acknowledged is there, and everything that is there is whole.
fn look(store: &PolicyStore, committed: u64, active: u64, round: u64) {
    let versions = store.versions().unwrap();
    let newest = versions.first().map_or(0, |version| version.policies);
    assert!(newest >= committed, "round {round}: v{committed} was acknowledged, v{newest} is there");
    let in_force = versions.iter().find(|version| version.standing == Standing::Active);
    let in_force = in_force.map_or(0, |version| version.policies);
    assert!(in_force >= active, "round {round}: v{active} was in force, v{in_force} is");
    let changes = store.changes().unwrap();
    for (at, version) in versions.iter().enumerate() {
        let VersionInfo { policies, snapshot, change, note, .. } = version;
        assert_eq!(versions.get(at + 1).map_or(1, |before| before.policies + 1), *policies, "round {round}");
        let signed = store.archive.signed(*snapshot).unwrap();
        verify(note.as_ref().unwrap(), &signed.bytes, &store.verifiers()).unwrap();
        let files = store.files(*policies).unwrap();
        match change {
            None => assert!(files.is_empty(), "round {round}: the shipped ones"),
            Some(change) => {
                assert_eq!((files.len(), &*files[0].1), (1, text(*policies).as_str()), "round {round}");
                let change = changes.iter().find(|known| known.id == *change);
                assert!(change.is_none_or(|change| change.version == Some(*policies)), "round {round}");
            }
        }
    }
    let half = changes.iter().find(|Change { stage, version, .. }| {
        let is_version = matches!(stage, Stage::Committed | Stage::Activated);
        is_version != version.is_some_and(|number| number <= newest)
    });
    assert_eq!(half, None, "round {round}");
}

/// What the child says, until it is gone.
fn said(out: impl Read + Send + 'static) -> Receiver<(String, u64)> {
    let (say, heard) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // A line that the kill cut short is no acknowledgement that anybody read.
            let Some(line) = line.strip_suffix(" end") else { continue };
            let Some((what, number)) = line.rsplit_once(' ') else { continue };
            let what = what.rsplit(' ').next().unwrap_or_default().to_owned();
            if number.parse().is_ok_and(|number| say.send((what, number)).is_err()) {
                return;
            }
        }
    });
    heard
}
