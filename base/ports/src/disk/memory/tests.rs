//! The simulated disk keeps its promises about what is lost.

use super::*;

const DIR: &str = "/d";

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn synced(disk: &MemoryDisk, name: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    let mut file = disk.open_append(&path(name)).unwrap();
    file.append(bytes).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    file
}

#[test]
fn a_full_disk_tears_the_write() {
    let disk = MemoryDisk::new();
    let mut file = disk.open_append(&path("a")).unwrap();
    disk.limit_room(3);
    assert_eq!(file.append(b"hello").unwrap_err().raw_os_error(), Some(ENOSPC));
    assert_eq!(disk.read(&path("a")).unwrap(), b"hel");
    disk.free_room();
    file.append(b"p").unwrap();
    assert_eq!(file.len().unwrap(), 4);
}

#[test]
fn a_removed_file_gives_its_room_back() {
    let disk = MemoryDisk::new();
    disk.limit_room(10);
    disk.allocate(&path("reserve"), 8).unwrap();
    assert_eq!(disk.free(Path::new(DIR)).unwrap(), 2);
    assert!(disk.allocate(&path("more"), 3).is_err());
    disk.remove(&path("more")).unwrap();
    disk.remove(&path("reserve")).unwrap();
    assert_eq!(disk.free(Path::new(DIR)).unwrap(), 10);
}

#[test]
fn a_part_of_a_file_is_read_and_counted() {
    let disk = MemoryDisk::new();
    drop(synced(&disk, "a", b"0123456789"));
    assert_eq!(disk.read_at(&path("a"), 3, 4).unwrap(), b"3456");
    assert_eq!(disk.read_at(&path("a"), 8, 4).unwrap(), b"89");
    assert_eq!(disk.read_at(&path("a"), 11, 4).unwrap(), b"");
    assert_eq!((disk.bytes_read(&path("a")), disk.bytes_read(&path("b"))), (6, 0));
    disk.fail_read(true);
    assert!(disk.read_at(&path("a"), 0, 1).is_err());
}

#[test]
fn power_loss_takes_what_was_not_synced() {
    let disk = MemoryDisk::new();
    let mut file = synced(&disk, "a", b"kept");
    file.append(b"lost").unwrap();
    disk.lose_unsynced(1);
    assert_eq!(disk.read(&path("a")).unwrap(), b"keptl");
    disk.fail_sync(true);
    assert!(file.sync_data().is_err());
}

#[test]
fn a_name_survives_power_loss_only_when_its_directory_was_synced() {
    let disk = MemoryDisk::new();
    drop(synced(&disk, "a", b"kept"));
    let mut file = disk.open_append(&path("b")).unwrap();
    file.append(b"nameless").unwrap();
    file.sync_data().unwrap();
    disk.remove(&path("a")).unwrap();
    let killed = disk.copy();
    disk.lose_power(Survive::Nothing);
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), [path("a")]);
    killed.lose_power(Survive::Everything);
    assert_eq!(killed.list(Path::new(DIR)).unwrap(), [path("b")]);
}

#[test]
fn a_replacement_whose_directory_was_not_synced_is_seen_but_may_go() {
    let disk = MemoryDisk::new();
    drop(synced(&disk, "a", b"old"));
    disk.fail_dir_syncs(1);
    assert!(disk.write_atomic(&path("a"), b"new", 0o600).is_err());
    assert_eq!(disk.read(&path("a")).unwrap(), b"new");
    disk.lose_power(Survive::Nothing);
    assert_eq!(disk.read(&path("a")).unwrap(), b"old");
    disk.write_atomic(&path("a"), b"new", 0o600).unwrap();
}

#[test]
fn a_cut_that_was_not_synced_comes_back() {
    let disk = MemoryDisk::new();
    let mut file = synced(&disk, "a", b"whole");
    file.truncate(2).unwrap();
    file.append(b"new").unwrap();
    let lost = disk.copy();
    lost.lose_power(Survive::Nothing);
    assert_eq!(lost.read(&path("a")).unwrap(), b"whole");
    file.sync_data().unwrap();
    disk.lose_power(Survive::Nothing);
    assert_eq!(disk.read(&path("a")).unwrap(), b"whnew");
}

#[test]
fn sectors_survive_one_by_one_and_repeatably() {
    let torn = |seed| {
        let disk = MemoryDisk::new();
        synced(&disk, "a", b"").append(&[1; 4 * SECTOR]).unwrap();
        disk.lose_power(Survive::Sectors(seed));
        disk.read(&path("a")).unwrap()
    };
    const SECTOR: usize = 512;
    assert_eq!(torn(3), torn(3));
    let found: Vec<_> = (0..64).map(torn).collect();
    assert!(found.iter().any(|bytes| bytes.len() < 4 * SECTOR));
    assert!(
        found.iter().any(|bytes| bytes.len() == 4 * SECTOR && bytes[0] == 0 && bytes[4 * SECTOR - 1] == 1)
    );
}

#[test]
fn after_its_last_change_a_process_is_dead() {
    let disk = MemoryDisk::new();
    let mut file = synced(&disk, "a", b"");
    disk.die_after(1);
    file.append(b"one").unwrap();
    assert!(file.append(b"half").is_err());
    assert!(disk.read(&path("a")).is_err() && file.sync_data().is_err());
    disk.lose_power(Survive::Everything);
    assert_eq!(disk.read(&path("a")).unwrap(), b"oneha");
}
