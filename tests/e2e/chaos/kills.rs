//! kill -9 at rest and at points all over an upgrade, of the old process and of the new one, below a stand-in for the service
//! manager that holds the sockets and starts what crashed again (UP-04).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::{Gateway, Result, check};

use super::load::Load;
use super::origin::{Arrived, Origin};
use super::{KINDS, account, part_of, policy};

/// Between two points of an upgrade at which a process is killed.
const STEP: Duration = Duration::from_millis(60);

/// Holds sockets, runs what follows `--`, hears which process is the main one, and starts it again, a
/// tenth of a second later, when it did not end well (Restart=on-failure).
/// Its first word is where it listens for that; then `NAME=tcp:PORT` or `NAME=udp:PORT`.
const MANAGER: &str = r#"
import ctypes, os, socket, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
at = sys.argv.index("--")
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.bind(sys.argv[1])
told.setblocking(False)
held, names = [], []
for word in sys.argv[2:at]:
    name, place = word.split("=", 1)
    kind, port = place.split(":", 1)
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", int(port)))
    if kind == "tcp":
        made.listen(4096)
    held.append(made)
    names.append(name)
def start():
    child = os.fork()
    if child:
        return child
    high = [os.dup(each.fileno()) for each in held]
    while min(high) < 3 + len(high):
        high = [os.dup(each) for each in high]
    for number, each in enumerate(high):
        os.dup2(each, 3 + number, inheritable=True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=":".join(names), NOTIFY_SOCKET=sys.argv[1])
    os.execv(sys.argv[at + 1], sys.argv[at + 1:])
main = start()
while True:
    time.sleep(0.003)
    try:
        while True:
            for line in told.recv(4096).decode().splitlines():
                if line.startswith("MAINPID="):
                    main = int(line.split("=", 1)[1])
    except BlockingIOError:
        pass
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            sys.exit(0)
        if not ended:
            break
        if ended == main:
            if status == 0:
                sys.exit(0)
            time.sleep(0.1)
            main = start()
"#;

pub(super) fn all() -> Result {
    let arrived = Arrived::default();
    let origin = Origin::start(&arrived)?;
    let mut site =
        Gateway::build().policy(&policy(true, 0)).quic().run(&["--drain-grace", "4s"]).service("site", &[]);
    for kind in KINDS {
        let (name, to) = (kind.path.trim_start_matches('/'), format!("http://{}", origin.address));
        site = site.route(name, "site", &format!("{{ path = \"{}\" }}", kind.path), &to);
    }
    let manager = tempfile::tempdir()?;
    let told = manager.path().join("notify").display().to_string();
    let gateway = site.listener("profile = \"mesh\"").start_below(|gateway| {
        let port = gateway.address.port();
        let mut words: Vec<String> = ["python3", "-c", MANAGER].map(str::to_owned).to_vec();
        words.extend([
            told.clone(),
            format!("public=tcp:{port}"),
            format!("public=udp:{port}"),
            "--".to_owned(),
        ]);
        words
    })?;
    let flips = BTreeMap::from([(gateway.policies_version()?, true)]);
    let load = Load::of(KINDS, gateway.address, &gateway.identity()?)?;
    std::thread::sleep(Duration::from_secs(1));
    load.expects_kills(true);
    let killed = kill_all(&gateway);
    // Calls that were under way are made again.
    std::thread::sleep(Duration::from_secs(5));
    load.expects_kills(false);
    std::thread::sleep(Duration::from_secs(1));
    let seen = load.stop()?;
    killed.and_then(|()| account(&gateway, &arrived, &seen, &flips))
}

fn kill_all(gateway: &Gateway) -> Result {
    let points = part_of(20).max(3);
    let mut back = Vec::new();
    for point in 0..points {
        let serving = gateway.serving()?;
        let after = STEP * u32::try_from(point)?;
        let victim = match point % 3 {
            0 => Some(serving),
            1 => {
                signal("USR2", serving)?;
                std::thread::sleep(after);
                Some(serving)
            }
            _ => {
                signal("USR2", serving)?;
                std::thread::sleep(after);
                children(serving).into_iter().next()
            }
        };
        let begun = Instant::now();
        if let Some(victim) = victim {
            signal("KILL", victim)?;
        }
        let status = gateway
            .until(|status| status["ready"] == true && status["pid"].as_u64() != victim.map(u64::from))?;
        back.push((point, begun.elapsed()));
        check!(status["policies"]["version"].is_u64(), "{status}");
        // What an upgrade began may still be under way.
        std::thread::sleep(Duration::from_millis(1500));
    }
    println!("{points} kills; until the command line saw it ready again: {back:.0?}");
    Ok(())
}

/// Processes that it started.
fn children(of: u32) -> BTreeSet<u32> {
    let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let tasks = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let all = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    all.chain([text])
        .flat_map(|text| text.split(' ').filter_map(|pid| pid.trim().parse().ok()).collect::<Vec<u32>>())
        .collect()
}

fn signal(name: &str, pid: u32) -> Result {
    // One that has just ended needs none.
    Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
    Ok(())
}
