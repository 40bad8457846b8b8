//! How near this process is to what the kernel and the configuration allow it: memory and file descriptors.
//! Read from `/proc` and the control group ten times a second; what cannot be read presses nobody.

use std::fs;
use std::path::{Path, PathBuf};

use enforcer_proxy::Gauges;
use rustix::process::{Resource, getrlimit};

use super::cgroup::{self, Version};

/// Descriptors that are kept for administration, ledger and authority (OV-02).
const RESERVE: u64 = 256;

/// The gauges of the operating system.
#[derive(Debug)]
pub(super) struct SystemGauges {
    /// Bytes of memory that the configuration allows.
    most: Option<u64>,
    groups: Vec<Group>,
}

/// A control group with a limit of memory.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    limit: PathBuf,
    usage: PathBuf,
    stat: PathBuf,
    /// The kernel gives these back before it runs out: files that are read or written.
    files: [&'static str; 2],
}

impl SystemGauges {
    pub(super) fn new(most: Option<u64>) -> Self {
        Self { most, groups: groups_in(&cgroup::own(), Path::new(cgroup::ROOT)) }
    }
}

impl Gauges for SystemGauges {
    fn memory(&self) -> Option<f64> {
        let own = self.most.and_then(|most| Some(share(resident()?, most)));
        self.groups.iter().map(Group::share).chain([own]).flatten().reduce(f64::max)
    }

    fn descriptors(&self) -> Option<f64> {
        let limit = getrlimit(Resource::Nofile).current?;
        let ours = limit.saturating_sub(RESERVE).max(limit / 2);
        // Since Linux 6.2 the directory has as many bytes as entries.
        let open = match fs::metadata("/proc/self/fd").ok()?.len() {
            0 => fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            open => open,
        };
        Some(share(open, ours))
    }
}

impl Group {
    fn share(&self) -> Option<f64> {
        let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let (limit, usage) = (number(&self.limit)?, number(&self.usage)?);
        let stat = fs::read_to_string(&self.stat).ok()?;
        let files = stat.lines().filter_map(|line| line.split_once(' '));
        let files = files.filter(|(name, _)| self.files.contains(name));
        let files: u64 = files.filter_map(|(_, bytes)| bytes.parse::<u64>().ok()).sum();
        Some(share(usage.saturating_sub(files), limit))
    }
}

/// The groups with a limit of memory that this process is in.
fn groups_in(text: &str, root: &Path) -> Vec<Group> {
    let names = |version| match version {
        Version::Two => ["memory.max", "memory.current", "inactive_file", "active_file"],
        Version::One => {
            ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"]
        }
    };
    let found = cgroup::directories(text, root, "memory").into_iter().map(|(version, dir)| {
        let [limit, usage, inactive, active] = names(version);
        Group {
            limit: dir.join(limit),
            usage: dir.join(usage),
            stat: dir.join("memory.stat"),
            files: [inactive, active],
        }
    });
    found.filter(|group| group.limit.is_file()).collect()
}

/// Memory of this process, bytes.
fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

fn share(used: u64, most: u64) -> f64 {
    used as f64 / most.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ov_01_the_groups_of_a_process_are_found_in_both_versions() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/b/memory.max", "1000\n");
        write("a/b/memory.current", "900\n");
        write("a/b/memory.stat", "anon 700\ninactive_file 150\nactive_file 50\nslab 9\n");
        write("a/memory.max", "max\n");
        write("a/memory.current", "5\n");
        write("a/memory.stat", "");
        let groups = groups_in("0::/a/b\n", root.path());
        assert_eq!(groups.iter().map(Group::share).collect::<Vec<_>>(), [Some(0.7), None]);
        write("memory/memory.limit_in_bytes", "2000\n");
        write("memory/memory.usage_in_bytes", "1900\n");
        write("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 100\ntotal_active_file 300\n");
        // What the text names is not to be seen from within a container.
        let text = "5:devices:/x\n4:memory,hugetlb:/kubepods/c1\n1:cpu:/\n";
        let groups = groups_in(text, root.path());
        assert_eq!(groups.iter().map(Group::share).collect::<Vec<_>>(), [Some(0.75)]);
        assert_eq!(groups_in("broken\n\n0:\n", root.path()), []);
    }

    #[test]
    fn ov_01_memory_presses_against_what_the_configuration_allows() {
        let resident = resident().unwrap();
        let gauges = |most| SystemGauges { most, groups: Vec::new() };
        let pressure = gauges(Some(2 * resident)).memory().unwrap();
        assert!((0.2..0.9).contains(&pressure), "{pressure}");
        assert_eq!(gauges(None).memory(), None);
        let descriptors = gauges(None).descriptors().unwrap();
        assert!(descriptors > 0.0 && descriptors < 1.0, "{descriptors}");
    }
}
