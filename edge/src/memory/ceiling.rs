//! How much memory the system gives the process: the limits of its control groups (cgroups(7), versions 1 and 2).
//!
//! Invariant: the limit of a group holds for all groups in it, so the smallest on the way to the root counts.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// Version 1 writes "no limit" as the largest number of whole pages; nobody has so much.
const NO_LIMIT: u64 = 1 << 60;

/// The limit of the process's own groups, if there is any.
pub fn ceiling_of_control_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    smallest(&groups, |path| fs::read_to_string(path).ok())
}

fn smallest(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    // ID:CONTROLLERS:PATH; version 2 has the id 0 and names no controllers.
    let files = groups.lines().filter_map(|line| {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        if id == "0" && controllers.is_empty() {
            Some((PathBuf::from(ROOT), path, "memory.max"))
        } else if controllers.split(',').any(|controller| controller == "memory") {
            Some((Path::new(ROOT).join("memory"), path, "memory.limit_in_bytes"))
        } else {
            None
        }
    });
    let limits = files.flat_map(|(root, path, name)| {
        // Within a container the path may be that of the host, and only the root be there.
        let mut folders = vec![root];
        for part in Path::new(path).components() {
            if let (Component::Normal(part), Some(last)) = (part, folders.last()) {
                folders.push(last.join(part));
            }
        }
        folders.into_iter().map(move |folder| folder.join(name)).collect::<Vec<PathBuf>>()
    });
    limits.filter_map(|path| read(&path)?.trim().parse().ok()).filter(|limit| *limit < NO_LIMIT).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smallest_of(groups: &str, files: &[(&str, &str)]) -> Option<u64> {
        smallest(groups, |path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_smallest_limit_on_the_way_to_the_root_counts() {
        let files = [
            ("/sys/fs/cgroup/memory.max", "max\n"),
            ("/sys/fs/cgroup/pod/memory.max", "1000\n"),
            ("/sys/fs/cgroup/pod/edge/memory.max", "2000\n"),
        ];
        assert_eq!(smallest_of("0::/pod/edge\n", &files), Some(1000));
        assert_eq!(smallest_of("0::/other\n", &files), None);
        assert_eq!(smallest_of("0::/\n", &[("/sys/fs/cgroup/memory.max", "512")]), Some(512));
        assert_eq!(smallest_of("0::/../..\n", &[("/sys/fs/cgroup/memory.max", "512")]), Some(512));
    }

    #[test]
    fn version_1_is_understood() {
        let groups = "9:cpu,cpuacct:/docker/ab\n8:memory:/docker/ab\n0::/\n";
        let root = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_eq!(smallest_of(groups, &[(root, "4096")]), Some(4096));
        assert_eq!(smallest_of(groups, &[(root, "9223372036854771712")]), None);
        assert_eq!(smallest_of("", &[(root, "4096")]), None);
    }
}
