//! What deploy/ ships, held against the binary: units of systemd, checked by its own tools and started by a stand-in that
//! speaks its protocol.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use libtest_mimic::Trial;
use tests::peers::{absent, missing, program};
use tests::port::free_port;
use tests::{Result, binary, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("ho2_the_units_are_sound_and_their_sandbox_is_tight", missing("systemd-analyze"), units),
        trial("the_package_ships_files_that_are_there", None, package),
        trial("ob7_alerts_pass_promtool_and_name_commands_that_exist", absent("promtool"), alerts),
        trial("ob7_dashboards_are_what_their_generator_writes", missing("python3"), dashboards),
        trial("the_example_of_a_gateway_runs", missing("curl").or_else(|| missing("python3")), || {
            example("gateway")
        }),
        trial("the_example_of_sidecars_runs", missing("curl").or_else(|| missing("python3")), || {
            example("sidecars")
        }),
        trial(
            "qs8_from_observing_to_enforcing_by_what_is_suggested_from_the_record",
            missing("curl").or_else(|| missing("python3")),
            || example("observe-to-enforce"),
        ),
        trial(
            "the_example_of_an_envoy_fleet_runs",
            missing("curl").or_else(|| missing("python3")).or_else(|| absent("envoy")),
            || example("envoy"),
        ),
        trial("ho1_a_manager_starts_reloads_and_stops_the_service_by_its_unit", None, service),
    ]
}

/// Where the binary of a package is.
const INSTALLED: &str = "/usr/bin/portcullis";
/// Exposure as `systemd-analyze security` counts it.
const MOST_EXPOSED: f64 = 2.0;

fn deploy(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(below)
}

fn shipped() -> PathBuf {
    deploy("systemd")
}

/// What `deploy/package` puts into the Debian package, as far as it does not make it itself.
fn package() -> Result {
    let folder = deploy("../portcullis");
    let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
    let sources: Vec<_> =
        manifest.lines().filter_map(|line| line.trim().strip_prefix("[\"../")?.split('"').next()).collect();
    check!(sources.len() > 10, "{sources:?}");
    for source in sources.iter().filter(|source| !source.starts_with("target/")) {
        let path = deploy("..").join(source);
        let is_there = match path.file_name().and_then(|name| name.to_str()) {
            Some("*.json") => path.parent().is_some_and(|folder| folder.join("gateway.json").is_file()),
            _ => path.is_file(),
        };
        check!(is_there, "the package ships `{source}`, which is not there");
    }
    for script in ["postinst", "prerm", "postrm"] {
        let checked = Command::new("sh").arg("-n").arg(deploy("debian").join(script)).output()?;
        check!(checked.status.success(), "{script}: {checked:?}");
    }
    Ok(())
}

fn alerts() -> Result {
    let file = deploy("alerts/portcullis.yaml");
    let checked = Command::new(program("promtool").ok_or("no promtool")?)
        .args(["check", "rules"])
        .arg(&file)
        .output()?;
    check!(checked.status.success(), "{checked:?}");
    let text = fs::read_to_string(&file)?;
    let told = text.lines().filter_map(|line| line.trim().strip_prefix("description: "));
    let commands: Vec<Vec<&str>> = told
        .flat_map(|told| told.split("portcullis ").skip(1))
        .map(|command| {
            let words = command.split([' ', ',', '"', ':']);
            words
                .take_while(|word| word.chars().all(|letter| letter.is_ascii_lowercase()))
                .filter(|word| !word.is_empty())
                .collect()
        })
        .collect();
    check!(commands.len() > 10, "{commands:?}");
    for words in commands {
        let outcome = Command::new(binary::portcullis()).args(&words).arg("--help").output()?;
        check!(
            !words.is_empty() && outcome.status.success(),
            "an alert says `portcullis {}`",
            words.join(" ")
        );
    }
    Ok(())
}

fn dashboards() -> Result {
    let checked = Command::new("python3").arg(deploy("dashboards/generate.py")).arg("--check").output()?;
    check!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    for name in ["gateway", "decisions", "ledger", "processes"] {
        let board: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(deploy(&format!("dashboards/{name}.json")))?)?;
        check!(board["panels"].as_array().is_some_and(|panels| panels.len() > 5), "{name} shows little");
    }
    Ok(())
}

fn units() -> Result {
    let dir = tempfile::tempdir()?;
    let mut units = Vec::new();
    for file in fs::read_dir(shipped())? {
        let path = file?.path();
        let is_unit = path
            .extension()
            .is_some_and(|kind| ["service", "socket", "timer"].iter().any(|unit| kind == *unit));
        let Some(name) = path.file_name().filter(|_| is_unit) else { continue };
        // `verify` looks for the programs.
        let text = fs::read_to_string(&path)?.replace(INSTALLED, &binary::portcullis().display().to_string());
        fs::write(dir.path().join(name), text)?;
        units.push(dir.path().join(name));
    }
    check!(units.iter().any(|unit| unit.ends_with("portcullis.service")), "{units:?}");
    let verified = Command::new("systemd-analyze").arg("verify").args(&units).output()?;
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    check!(verified.status.success() && !said.contains("portcullis"), "{said}");
    for service in units.iter().filter(|unit| unit.extension().is_some_and(|kind| kind == "service")) {
        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(service)
            .output()?;
        let said = String::from_utf8_lossy(&judged.stdout).into_owned();
        let exposure = said
            .lines()
            .find_map(|line| line.split_once("Overall exposure level for ")?.1.split_once(": "))
            .and_then(|(_, level)| level.split(' ').next()?.parse::<f64>().ok())
            .ok_or_else(|| format!("no exposure of {}: {said}", service.display()))?;
        check!(exposure < MOST_EXPOSED, "{} is exposed by {exposure}:\n{said}", service.display());
    }
    Ok(())
}

/// The value of a key of the unit.
fn value(unit: &str, key: &str) -> Result<String> {
    let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.map(str::to_owned).ok_or_else(|| format!("the unit has no {key}").into())
}

/// Runs an example as its README says, on ports that are free.
fn example(name: &str) -> Result {
    let ports = ["GATEWAY_PORT", "ADMIN_PORT", "SERVICE_PORT", "OUT_PORT", "IN_PORT"];
    let outcome = Command::new(deploy("examples").join(name).join("run"))
        .env("PORTCULLIS", binary::portcullis())
        .envs(program("envoy").map(|envoy| ("ENVOY", envoy)))
        .envs(ports.map(|port| (port, free_port().to_string())))
        .output()?;
    let told = String::from_utf8_lossy(&outcome.stdout).into_owned();
    check!(outcome.status.success(), "{told}\n{}", String::from_utf8_lossy(&outcome.stderr));
    check!(told.contains("\n403\n") && told.contains("DENY  "), "no refusal is explained: {told}");
    Ok(())
}

/// The service; it ends with the story.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // One that has ended needs no end.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

fn service() -> Result {
    let unit = fs::read_to_string(shipped().join("portcullis.service"))?;
    let dir = tempfile::tempdir()?;
    let (etc, state, run) = (dir.path().join("etc"), dir.path().join("state"), dir.path().join("run"));
    // What the manager makes of `StateDirectory` and `RuntimeDirectory`.
    for (made, mode) in
        [(&state, value(&unit, "StateDirectoryMode")?), (&run, value(&unit, "RuntimeDirectoryMode")?)]
    {
        fs::create_dir(made)?;
        fs::set_permissions(made, fs::Permissions::from_mode(u32::from_str_radix(&mode, 8)?))?;
    }
    let written = Command::new(binary::portcullis()).arg("init").arg(&etc).arg("--system").output()?;
    check!(written.status.success(), "{written:?}");
    let file = etc.join("portcullis.toml");
    let config = fs::read_to_string(&file)?
        .replace("/var/lib/portcullis", &state.display().to_string())
        .replace("/run/portcullis", &run.display().to_string())
        .replace("127.0.0.1:9443", &format!("127.0.0.1:{}", free_port()))
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{}", free_port()));
    fs::write(&file, config)?;

    let told = dir.path().join("notify");
    let manager = UnixDatagram::bind(&told)?;
    manager.set_read_timeout(Some(Duration::from_secs(60)))?;
    let until = |wanted: &str| -> Result {
        let mut bytes = [0; 512];
        loop {
            let length = manager.recv(&mut bytes).map_err(|silence| format!("no {wanted}: {silence}"))?;
            if String::from_utf8_lossy(&bytes[..length]).starts_with(wanted) {
                return Ok(());
            }
        }
    };
    let start =
        value(&unit, "ExecStart")?.replace("/etc/portcullis/portcullis.toml", &file.display().to_string());
    let words = start.strip_prefix(INSTALLED).ok_or("the unit starts something else")?.split_whitespace();
    let watchdog = value(&unit, "WatchdogSec")?.parse::<u64>()? * 1_000_000;
    check!(value(&unit, "Type")? == "notify", "{unit}");
    let log = fs::File::create(dir.path().join("journal"))?;
    let child = Command::new(binary::portcullis())
        .args(words)
        .env("NOTIFY_SOCKET", &told)
        .env("WATCHDOG_USEC", watchdog.to_string())
        .stderr(log)
        .spawn()?;
    let mut service = Service(child);
    until("READY=1")?;
    until("WATCHDOG=1")?;
    let pid = service.0.id();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
    check!(
        cores.split_whitespace().filter(|word| *word == "0").count() == 2,
        "it may dump its keys: {cores}"
    );
    check!(run.join("workload.sock").exists() && state.join("seal.key").exists(), "state is elsewhere");

    let reload = value(&unit, "ExecReload")?.replace("$MAINPID", &pid.to_string());
    let mut words = reload.split_whitespace();
    let reloaded = Command::new(words.next().unwrap_or_default()).args(words).status()?;
    check!(reloaded.success(), "{reload}: {reloaded}");
    until("RELOADING=1\nMONOTONIC_USEC=")?;
    until("READY=1")?;

    check!(Command::new("kill").arg(pid.to_string()).status()?.success(), "not told to end");
    until("STOPPING=1")?;
    let ended = service.0.wait()?;
    let journal = fs::read_to_string(dir.path().join("journal"))?;
    check!(ended.success(), "{ended}: {journal}");
    Ok(())
}
