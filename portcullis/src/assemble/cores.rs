//! How many cores this process can keep busy: those it may run on, and no more than the quota of its control groups (WK-01).

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use rustix::thread::sched_getaffinity;

use super::cgroup::{self, Version};

/// At least one. A quota of one and a half is two: the second worker has half of its time.
pub(super) fn usable() -> usize {
    let allowed = sched_getaffinity(None).map(|set| set.count() as usize);
    let known = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let quota = quota_in(&cgroup::own(), Path::new(cgroup::ROOT));
    allowed.unwrap_or(known).min(quota.unwrap_or(usize::MAX)).max(1)
}

/// The smallest quota of the groups, in whole cores, rounded up; none when there is none.
fn quota_in(text: &str, root: &Path) -> Option<usize> {
    let groups = cgroup::directories(text, root, "cpu").into_iter();
    groups.filter_map(|(version, dir)| quota(version, &dir)).min()
}

fn quota(version: Version, dir: &Path) -> Option<usize> {
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let (most, period) = match version {
        Version::Two => {
            let text = read("cpu.max")?;
            let (most, period) = text.trim().split_once(' ')?;
            (most.to_owned(), period.to_owned())
        }
        Version::One => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
    };
    // `max` and -1 are no quota.
    let (most, period): (u64, u64) = (most.trim().parse().ok()?, period.trim().parse().ok()?);
    usize::try_from(most.div_ceil(period.max(1))).ok().filter(|cores| *cores > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wk_01_a_quota_is_rounded_up_and_the_smallest_of_all_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(quota_in("0::/a/b\n", root.path()), None);
        write("a/b/cpu.max", "max 100000\n");
        assert_eq!(quota_in("0::/a/b\n", root.path()), None);
        write("a/cpu.max", "150000 100000\n");
        assert_eq!(quota_in("0::/a/b\n", root.path()), Some(2));
        write("a/b/cpu.max", "20000 100000\n");
        assert_eq!(quota_in("0::/a/b\n", root.path()), Some(1));
        write("cpu/c/cpu.cfs_quota_us", "-1\n");
        write("cpu/c/cpu.cfs_period_us", "100000\n");
        write("cpu/cpu.cfs_quota_us", "300000\n");
        write("cpu/cpu.cfs_period_us", "100000\n");
        assert_eq!(quota_in("3:cpu,cpuacct:/c\n1:memory:/c\n", root.path()), Some(3));
        for broken in ["", "100000", "x y", "0 100000", "100000 0"] {
            write("d/cpu.max", broken);
            let expected = (broken == "100000 0").then_some(100_000);
            assert_eq!(quota_in("0::/d\n", root.path()), expected, "{broken}");
        }
        assert!(usable() >= 1);
    }
}
