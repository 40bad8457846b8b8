//! The configuration file as editors and mounts save it, brought into force without a command (CF9).

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use super::Story;
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("cf9_a_saved_file_comes_into_force_and_a_bad_one_does_not", missing("curl"), saved),
        trial("cf9_without_being_asked_to_a_process_takes_no_saved_file", missing("curl"), unasked),
    ]
}

fn site(upstream: &Upstream) -> tests::gateway::Builder {
    let to = format!("http://{}", upstream.address);
    Gateway::build().service("site", &[]).route("site", "site", "{ path = \"/\" }", &to)
}

fn saved() -> Result {
    let (one, two) = (Upstream::echo(), Upstream::echo());
    let story = Story::start(site(&one).section("reload = \"saved\"").start()?)?;
    let (tls, path) = (story.gateway.identity()?, story.gateway.dir().join("portcullis.toml"));
    let other = story.with(&one.address.to_string(), &two.address.to_string())?;
    let calls = |at: &Upstream| -> Result {
        let before = at.calls();
        check!(story.gateway.curl(&tls, "/", &[])?.0 == 200, "refused");
        check!(at.calls() == before + 1, "it went to the other");
        Ok(())
    };
    let in_force = |what: &str| story.until(what, |standing| standing["in_force"] == standing["on_disk"]);
    calls(&one)?;
    story.write(&other)?;
    in_force("written over")?;
    calls(&two)?;

    // As editors do.
    let beside = story.gateway.dir().join(".portcullis.toml.swp");
    fs::write(&beside, &story.text)?;
    fs::rename(&beside, &path)?;
    in_force("renamed over")?;
    calls(&one)?;

    // As mounts of Kubernetes do: the file is a link through a link, which is replaced.
    let mounted = |name: &str, text: &str| -> Result {
        let dir = story.gateway.dir().join(name);
        fs::create_dir(&dir)?;
        fs::write(dir.join("portcullis.toml"), text)?;
        symlink(name, story.gateway.dir().join("..data_tmp"))?;
        Ok(fs::rename(story.gateway.dir().join("..data_tmp"), story.gateway.dir().join("..data"))?)
    };
    mounted("..first", &other)?;
    symlink("..data/portcullis.toml", &beside)?;
    fs::rename(&beside, &path)?;
    in_force("a link")?;
    calls(&two)?;
    mounted("..second", &story.text)?;
    in_force("another link")?;
    calls(&one)?;

    // A bad one changes nothing, is shown, and is tried once.
    let before = story.standing()?;
    fs::remove_file(&path)?;
    story.write(&story.with("service = \"site\"", "service = \"sitte\"")?)?;
    let standing = story.until("refused", |standing| standing["last_reload"]["result"] == "failed")?;
    check!(
        standing["in_force"] == before["in_force"] && standing["errors"][0]["code"] == "PC0105",
        "{standing}"
    );
    calls(&one)?;
    let (_, metrics) = story.gateway.http("/metrics")?;
    let line = "portcullis_config_reloads_total{result=\"failed\"} 1";
    check!(metrics.contains(line), "no `{line}` in {metrics}");

    // Many saves at a time are one.
    for number in 0..20 {
        story.write(&format!("# {number}\n{other}"))?;
    }
    in_force("the last of many")?;
    calls(&two)?;
    let records = story.gateway.records("kind=administration")?;
    let reloads = records.iter().filter(|record| record.to_string().contains("config.reload")).count();
    check!((6..=8).contains(&reloads), "{reloads} reloads on record: {records:?}");
    Ok(())
}

fn unasked() -> Result {
    let (one, two) = (Upstream::echo(), Upstream::echo());
    let story = Story::start(site(&one).start()?)?;
    story.write(&story.with(&one.address.to_string(), &two.address.to_string())?)?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let standing = story.standing()?;
        check!(
            standing["in_force"] != standing["on_disk"] && standing["last_reload"].is_null(),
            "{standing}"
        );
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}
