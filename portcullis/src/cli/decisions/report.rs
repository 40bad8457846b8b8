//! What `decisions verify` found, for people (in the form of decisions.md 10) and for programs.

use std::path::Path;

use base_ports::UnixTime;
use policies_decisions::{Boot, Verified};
use serde_json::{Value, json};

use super::recompute::Recomputed;

/// What the report says besides what was found.
#[derive(Debug, Default)]
pub(super) struct Given<'a> {
    /// The kept checkpoint.
    pub(super) since: Option<&'a Path>,
    /// The authorities.
    pub(super) bundle: Option<&'a Path>,
    /// What stock Cedar said of the sample.
    pub(super) recomputed: Option<&'a Recomputed>,
}

/// The report for people.
pub(super) fn told(found: &Verified, given: &Given<'_>) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| lines.push(format!("{name:<12}{text}"));
    let at = found.time.map(|time| format!(", the last of {time}")).unwrap_or_default();
    if found.size > 0 {
        line("tree", format!("{} records{at}, signed by {}", spaced(found.size), found.origin));
    }
    if found.first > 0 {
        line("kept", format!("from index {} on; below it nothing is expected", spaced(found.first)));
    }
    if found.uncovered > 0 {
        line(
            "uncovered",
            format!("{} records behind the checkpoint are not proved", spaced(found.uncovered)),
        );
    }
    if let (Some(size), Some(path)) = (found.since, given.since) {
        line("consistent", format!("with {} (size {})", path.display(), spaced(size)));
    }
    let (enforcers, streams, gaps) = (found.enforcers, found.streams, found.gaps.len());
    let running = found.heartbeats.running.len();
    line("complete", format!("{enforcers} enforcers, {streams} streams, {running} running, {gaps} gaps"));
    found.gaps.iter().for_each(|gap| line("", gap.to_string()));
    found.quarantined.iter().for_each(|aside| line("quarantine", aside.to_string()));
    for (boot, lane, first, last) in &found.unplaced {
        line("", format!("{boot} lane {lane}: what was set aside may be the numbers {first}-{last}"));
    }
    heartbeats(found, given.bundle, &mut line);
    for change in &found.keys {
        let until = change.until;
        line(
            "key",
            format!(
                "{} since {}; {} signs until {until}",
                change.new.id_hex(),
                change.at,
                change.old.id_hex()
            ),
        );
    }
    if let Some((low, high)) = found.versions {
        let range = if low == high { format!("v{low}") } else { format!("v{low}-v{high}") };
        line("versions", format!("policies {range}"));
    }
    if let Some(recomputed) = given.recomputed {
        line("recomputed", recomputed.told(found.decisions));
    }
    found.faults.iter().for_each(|fault| line("wrong", fault.to_string()));
    line("result", result(found).to_owned());
    lines.join("\n")
}

fn heartbeats(found: &Verified, bundle: Option<&Path>, line: &mut impl FnMut(&str, String)) {
    let told = &found.heartbeats;
    if told.signed + told.unsigned + told.unchecked > 0 {
        let chains = match bundle {
            Some(path) if told.is_anchored => format!("which lead to {}", path.display()),
            _ => "not compared with any authority (--bundle)".to_owned(),
        };
        line("heartbeats", format!("{} signed by {} SVIDs, {chains}", spaced(told.signed), told.svids));
    }
    if told.unsigned > 0 {
        line("", format!("{} made without an SVID, signed by nobody", spaced(told.unsigned)));
    }
    if told.unchecked > 0 {
        line("", format!("{} not checked: the record of their SVID is not kept", spaced(told.unchecked)));
    }
    told.running.iter().for_each(|(boot, heard)| line("running", format!("{boot}, last heard {heard}")));
    let since = "nothing is known of it since";
    told.open_ended.iter().for_each(|(boot, heard)| line("open-ended", format!("{boot}: {since} {heard}")));
    told.silences.iter().for_each(|(boot, from, to)| line("silent", format!("{boot} from {from} to {to}")));
    if told.is_anchored {
        told.unvouched
            .iter()
            .for_each(|boot| line("unvouched", format!("{boot}: its last word is unsigned")));
    }
}

fn result(found: &Verified) -> &'static str {
    match (found.is_intact(), found.is_complete()) {
        (false, _) => "tampered or inconsistent",
        (true, false) if !found.quarantined.is_empty() => "intact, with records set aside",
        (true, false) if found.gaps.is_empty() => "intact, not complete",
        (true, false) => "intact, not gap-free",
        (true, true) => "intact and complete",
    }
}

/// Digits in groups of three.
fn spaced(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

pub(super) fn json(found: &Verified, given: &Given<'_>) -> Value {
    let faults = found.faults.iter().map(|fault| {
        json!({
            "index": fault.index.map(|index| index.to_string()), "file": fault.file,
            "offset": fault.offset.map(|offset| offset.to_string()), "what": fault.what,
        })
    });
    let gaps = found.gaps.iter().map(|gap| {
        json!({
            "instance": gap.instance, "lane": gap.lane, "cause": gap.cause.as_str(), "exact": gap.exact,
            "count": gap.count, "first": gap.range.map(|(first, _)| first.to_string()),
            "last": gap.range.map(|(_, last)| last.to_string()),
        })
    });
    let quarantined = found.quarantined.iter().map(|aside| {
        json!({
            "first": aside.first.to_string(), "last": aside.last.to_string(), "file": aside.file,
            "offset": aside.offset.to_string(), "bytes": aside.bytes.to_string(), "why": aside.why,
        })
    });
    let unplaced = found.unplaced.iter().map(|(boot, lane, first, last)| {
        json!({ "boot": boot, "lane": lane, "first": first.to_string(), "last": last.to_string() })
    });
    let told = &found.heartbeats;
    let heard = |boots: &[(Boot, UnixTime)]| {
        let shown = boots.iter().map(|(of, heard)| with(boot(of), &[("heard", heard.to_string())]));
        shown.collect::<Vec<_>>()
    };
    let silences = told
        .silences
        .iter()
        .map(|(of, from, to)| with(boot(of), &[("from", from.to_string()), ("to", to.to_string())]));
    json!({
        "result": result(found), "origin": found.origin, "size": found.size.to_string(),
        "time": found.time.map(|time| time.to_string()), "first": found.first.to_string(),
        "read": found.read.to_string(), "uncovered": found.uncovered.to_string(),
        "since": found.since.map(|size| size.to_string()), "enforcers": found.enforcers, "streams": found.streams,
        "heartbeats": {
            "signed": told.signed.to_string(), "unsigned": told.unsigned.to_string(),
            "unchecked": told.unchecked.to_string(), "svids": told.svids, "anchored": told.is_anchored,
        },
        "running": heard(&told.running), "open_ended": heard(&told.open_ended),
        "silent": silences.collect::<Vec<_>>(), "unvouched": told.unvouched.iter().map(boot).collect::<Vec<_>>(),
        "key_changes": found.keys.iter().map(|change| json!({
            "old": change.old.to_string(), "new": change.new.to_string(), "at": change.at.to_string(),
            "until": change.until.to_string(),
        })).collect::<Vec<_>>(),
        "recomputed": given.recomputed.map(Recomputed::json),
        "versions": found.versions.map(|(low, high)| [low, high]),
        "gaps": gaps.collect::<Vec<_>>(), "quarantined": quarantined.collect::<Vec<_>>(),
        "unplaced": unplaced.collect::<Vec<_>>(), "faults": faults.collect::<Vec<_>>(),
    })
}

fn boot(boot: &Boot) -> Value {
    let id: String = boot.boot.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "instance": boot.instance, "enforcer": boot.enforcer, "boot": id })
}

fn with(mut of: Value, members: &[(&str, String)]) -> Value {
    if let Some(object) = of.as_object_mut() {
        object.extend(members.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())));
    }
    of
}

#[cfg(test)]
mod tests {
    use policies_decisions::{Heartbeats, SetAside};

    use super::*;

    #[test]
    fn numbers_are_told_in_groups() {
        assert_eq!([0, 999, 1_000, 864_202].map(spaced), ["0", "999", "1 000", "864 202"]);
    }

    #[test]
    fn vf6_the_report_says_what_was_found() {
        let found =
            Verified { size: 1_204, origin: "example.org/decisions/main".to_owned(), ..Verified::default() };
        let recomputed =
            Recomputed { same: 998, undecided: [("cut".to_owned(), 2)].into(), different: Vec::new() };
        let found = Verified { decisions: 1_200, ..found };
        let text = told(&found, &Given { recomputed: Some(&recomputed), ..Given::default() });
        let line = "recomputed  1000 of 1200 decisions by stock Cedar, 998 as recorded, 2 undecided (2: cut)";
        assert!(text.contains(line), "{text}");
        assert!(
            text.starts_with("tree        1 204 records, signed by example.org/decisions/main\n"),
            "{text}"
        );
        assert!(text.ends_with("result      intact and complete"), "{text}");
    }

    #[test]
    fn vf6_the_report_names_what_was_set_aside() {
        let (file, why) = ("00000000000000000150.wal".to_owned(), "frame checksum is wrong".to_owned());
        let aside = SetAside { first: 170, last: 170, file, offset: 9_000, bytes: 312, why };
        let unplaced = vec![("gw-1 (boot 0707070707070707)".to_owned(), 1, 771, 771)];
        let found = Verified { quarantined: vec![aside], unplaced, ..Verified::default() };
        let text = told(&found, &Given::default());
        let named =
            "quarantine  index 170-170: `00000000000000000150.wal` at byte 9000, 312 bytes: frame checksum";
        assert!(
            text.contains(named) && text.contains("lane 1: what was set aside may be the numbers 771"),
            "{text}"
        );
        assert!(text.ends_with("result      intact, with records set aside"), "{text}");
        let shown = json(&found, &Given::default());
        assert_eq!(
            (&shown["quarantined"][0]["bytes"], &shown["unplaced"][0]["first"]),
            (&json!("312"), &json!("771"))
        );
    }

    #[test]
    fn sq4_sq5_the_report_names_who_was_not_heard_and_what_could_not_be_checked() {
        let gateway = Boot {
            instance: "gw-1".to_owned(),
            enforcer: "spiffe://example.org/gateway".to_owned(),
            boot: [7; 8],
        };
        let at = UnixTime::from_secs(1_795_330_800);
        let heartbeats = Heartbeats {
            signed: 8_640,
            unsigned: 2,
            svids: 3,
            open_ended: vec![(gateway.clone(), at)],
            unvouched: vec![gateway],
            ..Heartbeats::default()
        };
        let mut found = Verified { heartbeats, ..Verified::default() };
        let text = told(&found, &Given::default());
        assert!(
            text.contains("heartbeats  8 640 signed by 3 SVIDs, not compared with any authority"),
            "{text}"
        );
        assert!(text.contains("            2 made without an SVID"), "{text}");
        assert!(text.contains("open-ended  gw-1 (boot 0707070707070707): nothing is known"), "{text}");
        assert!(!text.contains("unvouched") && text.ends_with("intact, not complete"), "{text}");
        found.heartbeats.is_anchored = true;
        let text = told(&found, &Given { bundle: Some(Path::new("roots.pem")), ..Given::default() });
        assert!(text.contains("which lead to roots.pem") && text.contains("\nunvouched   gw-1"), "{text}");
        let shown = json(&found, &Given::default());
        assert_eq!(shown["open_ended"][0]["boot"], "0707070707070707");
        assert_eq!(shown["heartbeats"]["signed"], "8640");
    }
}
