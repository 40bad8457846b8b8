//! Nothing synced is lost or doubled by a crash at any point, damage is named, an index rules out no answer.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use base_ports::{ManualClock, MemoryDisk, Survive, SystemClock};
use parking_lot::Mutex;
use policies_engine::{Audit, Effect};

mod ledgers;

use super::{segment::path_of, *};
use crate::{
    frame::{self, MAGIC},
    holds::Holds,
    recover::{Recovered, recover},
    retain::Keep,
    scan::Damage,
    shelf::{self, Span},
    source::Source,
    state::State,
    testing::{self, NOON, at, config, decision, open_with},
    writer::WriterDesk,
};

const DIR: &str = "/ledger";

fn seg() -> PathBuf {
    Path::new(DIR).join("seg")
}

/// Encoded records of a ledger.
pub(crate) fn samples(count: u64) -> Vec<Vec<u8>> {
    let ledger = open_with(config(), Arc::new(MemoryDisk::new()), Arc::new(SystemClock)).unwrap();
    let mut lane = ledger.lane(0);
    for n in 0..count as i64 {
        lane.record(decision(Effect::Allow, Audit::BestEffort, at(n)));
        if n % 1_000 == 0 {
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    ledger.close();
    let mut leaves = Vec::new();
    let inner = ledger.inner();
    each_leaf(&inner.shelf, inner.disk.as_ref(), 0..count, |_, leaf| {
        leaves.push(leaf.to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(leaves.len() as u64, count);
    leaves
}

/// A disk with these records in synced write-ahead files of `per_file`, all of them settled.
pub(crate) fn disk_with(leaves: &[Vec<u8>], per_file: usize) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let wal = Path::new(DIR).join("wal");
    disk.create_dir_all(&wal).unwrap();
    disk.create_dir_all(&seg()).unwrap();
    for (at, part) in leaves.chunks(per_file).enumerate() {
        let mut bytes = MAGIC.to_vec();
        part.iter().for_each(|leaf| assert!(frame::append(&mut bytes, |out| out.extend_from_slice(leaf))));
        let mut file = disk.open_append(&shelf::path_of(&wal, (at * per_file) as u64)).unwrap();
        file.append(&bytes).unwrap();
        file.sync_data().unwrap();
    }
    disk.sync_dir(&wal).unwrap();
    disk.write_atomic(&Path::new(DIR).join("state"), &State::default().encode(), 0o600).unwrap();
    disk
}

/// Opens what is on a disk, without threads.
pub(crate) fn on(disk: &MemoryDisk, limits: SegmentLimits) -> Result<Archive, LedgerError> {
    let quarantine = Arc::new(testing::quarantine(disk));
    let Recovered { segments, files, .. } = recover(Path::new(DIR), disk, &quarantine)?;
    let shelf = Arc::new(Shelf::new(segments, files).beside(quarantine));
    shelf.raise_settled(u64::MAX);
    let disk_port: Arc<dyn Disk> = Arc::new(disk.clone());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOON));
    let next = shelf.next_index();
    Ok(Archive {
        desk: Arc::default(),
        disk: Arc::clone(&disk_port),
        counter: Counter::new(Path::new(DIR).join("rollup"), &disk_port, &clock, &shelf, next)?,
        clock,
        shelf,
        dir: seg(),
        origin: "example.org/decisions/main".to_owned(),
        limits,
        retention: Retention {
            keep: Arc::new(Mutex::new(Keep { age: Duration::MAX, size: u64::MAX })),
            holds: Arc::new(Holds::load(Path::new(DIR).join("holds"), disk_port)),
            writer: WriterDesk::new(),
            is_over: false,
            known: std::collections::HashMap::new(),
            people: None,
            clear: None,
        },
        state: ArchiveState::default(),
    })
}

pub(crate) const SMALL: SegmentLimits = SegmentLimits { size: 7 << 10, age: Duration::MAX };

/// Whether tests take the time for everything.
fn is_long() -> bool {
    std::env::var("PORTCULLIS_TEST_SCALE").is_ok_and(|scale| scale != "1")
}

/// All that can be read, and what cannot.
fn read(shelf: &Shelf, disk: &MemoryDisk) -> (BTreeMap<u64, Vec<u8>>, Vec<Damage>) {
    let (mut leaves, mut damaged) = (BTreeMap::new(), Vec::new());
    let mut source = Source::new(shelf, disk);
    for volume in shelf.volumes() {
        for extent in source.extents(&volume, Span::ALL, &[]).unwrap() {
            let reading = source
                .read(&extent, extent.first, &mut |index, leaf| {
                    assert!(leaves.insert(index, leaf.to_vec()).is_none(), "{index} comes twice");
                    ControlFlow::Continue(())
                })
                .unwrap();
            damaged.extend(reading.damage);
        }
    }
    (leaves, damaged)
}

#[track_caller]
fn assert_whole(shelf: &Shelf, disk: &MemoryDisk, expected: &[Vec<u8>], what: &str) {
    let (leaves, damaged) = read(shelf, disk);
    assert_eq!(damaged, [], "{what}");
    assert_eq!(leaves.len(), expected.len(), "{what}");
    assert!(leaves.into_values().eq(expected.iter().cloned()), "{what}");
}

#[test]
fn lg5_the_archive_goes_on_behind_a_held_file_when_retention_took_what_followed() {
    let leaves = samples(1_100);
    let disk = disk_with(&leaves, 150);
    let mut archive = on(&disk, SMALL).unwrap();
    // The first file is held; the next three were taken before they stood in a segment.
    for first in [150, 300, 450] {
        disk.remove(&shelf::path_of(&Path::new(DIR).join("wal"), first)).unwrap();
        archive.shelf.remove(first);
    }
    for _ in 0..4 {
        archive.turn(false).unwrap();
    }
    assert_eq!(archive.state.stuck, None);
    let segments: Vec<_> = archive.shelf.segments().iter().map(|segment| segment.first).collect();
    assert_eq!((segments[0], segments[1], archive.shelf.archived()), (0, 600, 1_024));
    let files: Vec<_> = archive.shelf.files().iter().map(|file| file.first).collect();
    assert_eq!(files, [900, 1_050]);
    archive.turn(true).unwrap();
    let again = on(&disk, SMALL).unwrap();
    for shelf in [&archive.shelf, &again.shelf] {
        let (kept, damaged) = read(shelf, &disk);
        assert_eq!(damaged, []);
        let expected = leaves.iter().enumerate().filter(|(index, _)| !(150..600).contains(index));
        assert!(kept.into_iter().eq(expected.map(|(index, leaf)| (index as u64, leaf.clone()))));
    }
}

#[test]
fn lg4_what_went_with_its_segment_is_not_kept_though_its_write_ahead_file_stands() {
    let leaves = samples(1_100);
    let disk = disk_with(&leaves, 1_100);
    let mut archive = on(&disk, SMALL).unwrap();
    archive.turn(false).unwrap();
    let segments = archive.shelf.segments();
    assert!(segments.len() > 1 && archive.shelf.files().len() == 1);
    archive.shelf.remove_segment(segments[0].first);
    let first = archive.shelf.first_index();
    assert_eq!(first, segments[1].first);
    let mut read = 0;
    let each = |_: u64, _: &[u8]| {
        read += 1;
        ControlFlow::Continue(())
    };
    assert_eq!(each_leaf(&archive.shelf, &disk, first..u64::MAX, each).unwrap(), 1_100);
    assert_eq!(read, 1_100 - first);
}

#[test]
fn lg3_a_crash_at_any_step_of_the_archive_loses_nothing_and_doubles_nothing() {
    let leaves = samples(1_100);
    let base = disk_with(&leaves, 150);
    let run = |disk: &MemoryDisk| {
        let mut archive = on(disk, SMALL)?;
        archive.turn(false)?;
        archive.turn(true).map(|_| archive)
    };
    let whole = base.copy();
    let done = run(&whole).unwrap();
    assert!(done.shelf.segments().len() > 1 && done.shelf.segments().iter().all(|s| !s.is_bare()));
    assert_eq!((done.shelf.archived(), done.shelf.files().len()), (1_024, 2), "{:?}", done.shelf.files());
    assert_whole(&done.shelf, &whole, &leaves, "without a crash");
    let steps = whole.steps();
    assert!(steps > 20, "{steps}");
    for step in 0..=steps {
        let chances =
            [Survive::Nothing, Survive::Sectors(step), Survive::Everything, Survive::Sectors(step + 977)];
        // In the short form every step has two of them.
        let (skip, every) = if is_long() { (0, 1) } else { (step as usize % 2, 2) };
        for survive in chances.into_iter().skip(skip).step_by(every) {
            let what = format!("step {step} of {steps}, {survive:?}");
            let disk = base.copy();
            disk.die_after(step);
            drop(run(&disk));
            disk.lose_power(survive);
            let opened = on(&disk, SMALL).unwrap();
            assert_whole(&opened.shelf, &disk, &leaves, &what);
            drop(opened);
            let done = run(&disk).unwrap();
            assert_whole(&done.shelf, &disk, &leaves, &what);
            assert_eq!((done.shelf.archived(), done.shelf.files().len()), (1_024, 2), "{what}");
        }
    }
}

#[test]
fn a_failed_sync_of_a_segment_costs_no_record_and_ends_with_the_same_segments() {
    let leaves = samples(1_100);
    for fail_dir in [false, true] {
        let disk = disk_with(&leaves, 150);
        let mut archive = on(&disk, SMALL).unwrap();
        if fail_dir {
            disk.fail_dir_syncs(1)
        } else {
            disk.fail_sync(true)
        };
        archive.turn(false).unwrap_err();
        assert_whole(&archive.shelf, &disk, &leaves, "while syncs fail");
        assert_eq!(archive.shelf.files().len(), 8, "nothing is released");
        disk.fail_sync(false);
        archive.turn(false).unwrap();
        archive.turn(true).unwrap();
        assert_eq!((archive.shelf.archived(), archive.shelf.files().len()), (1_024, 2));
        assert_whole(&archive.shelf, &disk, &leaves, "afterwards");
        disk.lose_power(Survive::Nothing);
        assert_whole(&on(&disk, SMALL).unwrap().shelf, &disk, &leaves, "after power loss");
    }
}

#[test]
fn ls8_the_archive_survives_a_full_disk_and_goes_on() {
    let leaves = samples(1_100);
    for room in [0, 100, 4_096, 5_000, 9_000, 20_000] {
        let disk = disk_with(&leaves, 150);
        let mut archive = on(&disk, SMALL).unwrap();
        disk.limit_room(room);
        // Files that are put away give room to the next.
        for _ in 0..3 {
            drop(archive.turn(false));
            assert_whole(&archive.shelf, &disk, &leaves, "on a full disk");
        }
        disk.free_room();
        archive.turn(false).unwrap();
        archive.turn(true).unwrap();
        assert_whole(&archive.shelf, &disk, &leaves, "afterwards");
        assert_eq!((archive.shelf.archived(), archive.shelf.files().len()), (1_024, 2));
    }
}

/// A disk with one closed segment and nothing else, and its leaves.
fn one_segment(count: u64) -> (MemoryDisk, PathBuf, Vec<Vec<u8>>) {
    let leaves = samples(count);
    let disk = disk_with(&leaves, 64);
    let mut archive = on(&disk, SegmentLimits::default()).unwrap();
    archive.turn(false).unwrap();
    archive.turn(true).unwrap();
    for path in disk.list(&Path::new(DIR).join("wal")).unwrap() {
        disk.remove(&path).unwrap();
    }
    (disk, path_of(&seg(), 0), leaves)
}

#[test]
fn dl2_every_flipped_byte_of_a_segment_is_found_and_named() {
    let (disk, path, leaves) = one_segment(512);
    let bytes = disk.read(&path).unwrap();
    let scale = if is_long() { 1 } else { 7 };
    // Of the padding of the header every byte is alike.
    let spots = (0..100).chain((100..4_090).step_by(97)).chain((4_090..bytes.len()).step_by(scale));
    for spot in spots.chain(bytes.len() - 80..bytes.len()) {
        let disk = disk.copy();
        disk.flip(&path, spot, (spot % 8) as u8);
        let (segments, bad) = load(&seg(), &disk).unwrap();
        let is_bare = segments.iter().any(Segment::is_bare);
        let segments = mend(segments, &bad, None, &disk).unwrap();
        let shelf = Shelf::new(segments, Vec::new());
        let (read, damaged) = read(&shelf, &disk);
        // The index is looked at only when it is asked.
        let volume = shelf.volumes().remove(0);
        let web = [Want::Text(Field::Principal, "nobody"), Want::Trace(&[0; 16])];
        Source::new(&shelf, &disk).extents(&volume, Span::ALL, &web).unwrap();
        let is_found = !bad.is_empty() || is_bare || !damaged.is_empty() || !shelf.suspects().is_empty();
        assert!(is_found, "byte {spot} of {}", bytes.len());
        for (index, leaf) in &read {
            assert_eq!(leaf, &leaves[*index as usize], "byte {spot}: a false record");
        }
        let missing: Vec<_> = (0..512).filter(|index| !read.contains_key(index)).collect();
        let named: Vec<_> = damaged.iter().flat_map(|damage| damage.first..=damage.last).collect();
        assert_eq!(missing, named, "byte {spot}");
        assert!(missing.len() <= 256 && damaged.iter().all(|damage| damage.file == path), "byte {spot}");
    }
}

#[test]
fn dl2_a_segment_cut_at_any_block_is_found_and_named() {
    let (disk, path, leaves) = one_segment(1_024);
    let bytes = disk.read(&path).unwrap();
    let blocks = walk(&path, 0, bytes.len() as u64, &disk).unwrap();
    assert_eq!(blocks.len(), 4);
    for (cut, kept) in blocks.iter().zip(0_u64..).flat_map(|(block, n)| {
        [
            (block.offset, n),
            (block.offset + 1, n),
            (block.offset + block.len / 2, n),
            (block.offset + block.len, n + 1),
        ]
    }) {
        let disk = disk.copy();
        disk.cut(&path, cut as usize);
        // The write-ahead file behind it says how far it went.
        let wal = Path::new(DIR).join("wal");
        let mut next = MAGIC.to_vec();
        assert!(frame::append(&mut next, |out| out.extend_from_slice(&leaves[0])));
        disk.open_append(&shelf::path_of(&wal, 1_024)).unwrap().append(&next).unwrap();
        let archive = on(&disk, SMALL).unwrap();
        let (read, damaged) = read(&archive.shelf, &disk);
        assert_eq!(read.len() as u64, kept * 256 + 1, "cut at {cut}");
        let named: Vec<_> = damaged.iter().map(|damage| (damage.first, damage.last)).collect();
        let expected = if kept == 4 { vec![] } else { vec![(kept * 256, 1_023)] };
        assert_eq!(named, expected, "cut at {cut}");
        assert_eq!(archive.shelf.next_index(), 1_025);
    }
}

#[test]
fn a_damaged_footer_is_made_again_and_the_answers_stay() {
    let (disk, path, leaves) = one_segment(512);
    let before = disk.read(&path).unwrap();
    for back in [10, 90, 270] {
        disk.flip(&path, before.len() - back, 2);
        let mut archive = on(&disk, SMALL).unwrap();
        let volume = archive.shelf.volumes().remove(0);
        let web = [Want::Text(Field::Principal, "spiffe://example.org/web")];
        let found = Source::new(&archive.shelf, &disk).extents(&volume, Span::ALL, &web).unwrap();
        assert_eq!(found.len(), 2, "{back}");
        archive.turn(false).unwrap();
        let after = disk.read(&path).unwrap();
        let differs = before.iter().zip(&after).position(|(before, after)| before != after);
        assert_eq!((after.len(), differs), (before.len(), None), "{back}");
        assert!(archive.shelf.suspects().is_empty());
        assert_whole(&archive.shelf, &disk, &leaves, "afterwards");
    }
}

#[test]
fn lg3_a_start_reads_of_closed_segments_headers_and_trailers_only() {
    let leaves = samples(40 * 256);
    let disk = disk_with(&leaves, 4_000);
    let mut archive = on(&disk, SegmentLimits { size: 1, age: Duration::MAX }).unwrap();
    archive.turn(false).unwrap();
    archive.turn(true).unwrap();
    drop(archive);
    for path in disk.list(&Path::new(DIR).join("wal")).unwrap() {
        disk.remove(&path).unwrap();
    }
    let disk = disk.copy();
    let opened = on(&disk, SMALL).unwrap();
    let segments = opened.shelf.segments();
    assert_eq!(segments.len(), 40);
    for segment in segments {
        assert_eq!(disk.bytes_read(&segment.path), (segment::HEADER + footer::TRAILER) as u64);
    }
}

#[test]
fn a_ledger_whose_first_record_is_in_the_middle_of_a_block_begins_with_a_short_one() {
    let leaves = samples(700);
    let disk = disk_with(&leaves, 100);
    // As after retention of a ledger that had no segments yet.
    for first in [0, 100] {
        disk.remove(&shelf::path_of(&Path::new(DIR).join("wal"), first)).unwrap();
    }
    let mut archive = on(&disk, SMALL).unwrap();
    archive.turn(false).unwrap();
    archive.turn(true).unwrap();
    let firsts: Vec<_> =
        archive.shelf.segments().iter().map(|segment| (segment.first, segment.end)).collect();
    assert_eq!(firsts.first().map(|(first, _)| *first), Some(200));
    assert_eq!(archive.shelf.archived(), 512);
    let (read, damaged) = read(&archive.shelf, &disk);
    assert_eq!((read.len(), damaged.len()), (500, 0));
}

#[test]
fn a_damaged_write_ahead_file_that_a_tree_has_holds_the_archive_up_and_stays() {
    let leaves = samples(1_100);
    let disk = disk_with(&leaves, 300);
    let mut archive = on(&disk, SMALL).unwrap();
    archive.shelf.set_treed(1_100);
    let file = archive.shelf.files()[1].clone();
    disk.flip(&file.path, file.len as usize / 2, 1);
    archive.turn(false).unwrap();
    archive.turn(false).unwrap();
    let reached = archive.shelf.archived();
    assert!((256..600).contains(&reached), "{reached}");
    assert!([300, 600, 900].iter().all(|first| archive.shelf.has_wal(*first)), "it stays, and all behind it");
    let (read, damaged) = read(&archive.shelf, &disk);
    assert!(read.len() < 1_100 && read.contains_key(&1_099));
    assert_eq!((damaged[0].file.as_path(), damaged[0].last), (file.path.as_path(), 599));
}
