//! The writer thread: drains the lanes, encodes, writes once per drain, tells who waits (LS2, S33).
//!
//! It alone appends to the current file and it alone takes numbers of the ledger's own lane, on which gaps,
//! heartbeats and stream records stand. What it cannot write becomes an exact gap and is written as such later.

mod batch;
mod beat;
mod desk;
mod own;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base_ports::{Clock, Disk, DiskFile, Mono, Now};
use bytes::Bytes;
use policies_engine::AuditUnavailable;
use tokio::sync::broadcast;

use crate::{
    frame::MAGIC,
    keeper::{Closed, KeeperDesk},
    lane::{LaneReader, Shared},
    leaf::{Body, GapCause, Stream},
    loss::Gaps,
    meter::Meter,
    numbers::Numbers,
    redact::Redaction,
    reserve::Reserve,
    shelf::{Shelf, WalFile},
    voucher::Voucher,
};
use batch::{Batch, Place};
use beat::Beat;
use desk::Own;
pub(crate) use desk::{Adopted, WriterDesk};

/// Lane of gaps, heartbeats and stream records.
pub(crate) const OWN_LANE: u16 = u16::MAX;

/// How often an active lane is drained.
const NAP: Duration = Duration::from_millis(1);

/// Empty drains before the writer goes to sleep.
const RESTLESS: u32 = 32;

/// Longest sleep; lanes and callers wake it.
const SLEEP: Duration = Duration::from_secs(1);

/// How often an enforcer says how far its lanes have come.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// After a failed write: first and longest pause before the next try.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// On a full disk: between writes of the ledger's own records, and between looks whether there is room.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Drains after the stop, for lanes that go on pushing.
const LAST_ROUNDS: u32 = 64;

/// Records taken from one lane per drain, so that no lane starves another.
const SHARE: usize = 1_024;

/// What tails receive.
#[derive(Debug, Clone)]
pub(crate) enum Fresh {
    /// Frames, just written.
    Frames { first: u64, frames: Bytes },
    /// Nothing follows.
    End,
}

/// The writer's own things.
#[derive(Debug)]
pub(crate) struct Writer {
    desk: Arc<WriterDesk>,
    keeper: Arc<KeeperDesk>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    wal: PathBuf,
    shelf: Arc<Shelf>,
    fresh: broadcast::Sender<Fresh>,
    stream: Stream,
    file_size: u64,
    reserve: Reserve,
    /// On a full disk: when the ledger's own records were last written.
    sparing: Option<Mono>,
    lanes: Vec<LaneReader>,
    /// Last number written per lane of this boot.
    stored: BTreeMap<u16, u64>,
    numbers: Numbers,
    own: Vec<Own>,
    /// Records of another ledger that wait to be written.
    adopted: Vec<Adopted>,
    own_tag: u64,
    redaction: Arc<Redaction>,
    gaps: Gaps,
    batch: Batch,
    file: Option<(WalFile, Box<dyn DiskFile>)>,
    /// An append failed, so bytes of it may stand behind the last good frame.
    is_torn: bool,
    next_index: u64,
    heartbeat: Mono,
    /// Product and version, for `stream_open`.
    build: String,
    voucher: Option<Arc<dyn Voucher>>,
    meter: Option<Arc<Meter>>,
    /// The chain of the last `stream_open` in line.
    chain: Vec<Bytes>,
    pause: Option<Duration>,
}

/// What a writer is made from.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) desk: Arc<WriterDesk>,
    pub(crate) keeper: Arc<KeeperDesk>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wal: PathBuf,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) fresh: broadcast::Sender<Fresh>,
    /// Enforcer, instance and boot of every record.
    pub(crate) stream: Stream,
    pub(crate) file_size: u64,
    pub(crate) reserve: Reserve,
    pub(crate) own: Arc<Shared>,
    pub(crate) redaction: Arc<Redaction>,
    pub(crate) next_index: u64,
    /// Product and version.
    pub(crate) build: String,
    pub(crate) voucher: Option<Arc<dyn Voucher>>,
    pub(crate) meter: Option<Arc<Meter>>,
}

impl Writer {
    pub(crate) fn new(setup: Setup) -> Self {
        let heartbeat = setup.clock.mono();
        Self {
            numbers: Numbers::new(Arc::clone(&setup.own.reserved), Arc::clone(&setup.keeper.bell)),
            own_tag: setup.own.tag,
            redaction: setup.redaction,
            desk: setup.desk,
            keeper: setup.keeper,
            disk: setup.disk,
            clock: setup.clock,
            wal: setup.wal,
            shelf: setup.shelf,
            fresh: setup.fresh,
            stream: setup.stream,
            file_size: setup.file_size,
            reserve: setup.reserve,
            sparing: None,
            lanes: Vec::new(),
            stored: BTreeMap::new(),
            own: Vec::new(),
            adopted: Vec::new(),
            gaps: Gaps::default(),
            batch: Batch::default(),
            file: None,
            is_torn: false,
            next_index: setup.next_index,
            heartbeat,
            build: setup.build,
            voucher: setup.voucher,
            meter: setup.meter,
            chain: Vec::new(),
            pause: None,
        }
    }

    /// Puts a record of the ledger itself in line.
    pub(crate) fn say(&mut self, body: Body) {
        self.own.push(Own::Body(body));
    }

    /// Writes the first records of the boot.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        self.drain().map(|_| ())
    }

    /// Runs until the desk says stop.
    pub(crate) fn run(&mut self) {
        self.desk.bell.attach();
        // After a panic: what was taken from the rings and not written is lost, exactly.
        self.abandon(GapCause::Refused, "the writer failed");
        let (mut idle, mut last_rounds) = (0, 0);
        loop {
            self.desk.counts.turns.fetch_add(1, Ordering::Relaxed);
            let stop = self.desk.collect(&mut self.lanes, &mut self.own, &mut self.adopted);
            last_rounds += u32::from(stop);
            match self.drain() {
                Ok(taken) if stop && (taken == 0 || last_rounds > LAST_ROUNDS) => return self.close(),
                Ok(0) => {
                    idle += 1;
                    self.drop_ended_lanes();
                    if idle < RESTLESS {
                        self.desk.bell.nap(NAP);
                    } else {
                        self.desk.bell.sleep(NAP, SLEEP);
                    }
                }
                Ok(taken) => {
                    idle = 0;
                    self.desk.bell.awake();
                    // A full share says that more waits.
                    if taken < SHARE && !stop {
                        self.desk.bell.nap(NAP);
                    }
                }
                Err(_) if stop => return self.close(),
                Err(_) => {
                    let pause = self.pause.map_or(PAUSES.0, |pause| (pause * 2).min(PAUSES.1));
                    self.pause = Some(pause);
                    std::thread::sleep(pause);
                }
            }
        }
    }

    /// Forgets lanes whose worker is gone and whose records are written.
    fn drop_ended_lanes(&mut self) {
        self.lanes
            .retain(|lane| !lane.ring.is_abandoned() || !lane.ring.is_empty() || lane.shared.is_losing());
    }

    /// One drain: all lanes, one write. Returns how many records were taken.
    fn drain(&mut self) -> io::Result<usize> {
        let now = self.clock.now();
        if now.mono.saturating_since(self.heartbeat) >= HEARTBEAT {
            self.heartbeat = now.mono;
            self.beat(false);
        }
        let mut taken = 0;
        for lane in &mut self.lanes {
            let count = lane.ring.slots().min(SHARE);
            if count == 0 {
                if let Some(loss) = lane.shared.take_loss() {
                    self.desk.counts.lost.fetch_add(loss.count(), Ordering::Relaxed);
                    self.gaps.add(loss.to_gap(self.stream.boot, lane.shared.number, GapCause::QueueFull));
                }
                continue;
            }
            taken += count;
            self.stream.lane = lane.shared.number;
            let slots = lane.ring.read_chunk(count);
            // INVARIANT: as many slots are there, and this is the only consumer.
            for slot in slots.into_iter().flatten() {
                if let Some(loss) = &slot.loss {
                    self.desk.counts.lost.fetch_add(loss.count(), Ordering::Relaxed);
                    self.gaps.add(loss.to_gap(self.stream.boot, lane.shared.number, GapCause::QueueFull));
                }
                if let Some(gap) = self.batch.take(slot, &self.stream, &self.redaction) {
                    self.desk.counts.lost.fetch_add(1, Ordering::Relaxed);
                    self.gaps.add(gap);
                }
            }
        }
        if self.must_spare(now) {
            return Ok(taken);
        }
        self.write_own(now);
        // After what is declared of them.
        let adopted = self.adopted.iter().take(if self.reserve.is_used() { 0 } else { SHARE });
        adopted.clone().for_each(|adopted| self.batch.adopt(adopted.time, &adopted.leaf));
        taken += adopted.count();
        self.commit().map(|()| taken)
    }

    /// On a full disk: gives up what was taken, and leaves the room that was set aside to one write of gaps a second.
    /// `true` when nothing is to be written now.
    fn must_spare(&mut self, now: Now) -> bool {
        if !self.reserve.is_used() {
            return false;
        }
        let is_recent = |last: Mono| now.mono.saturating_since(last) < FULL_PAUSE;
        let is_between = self.sparing.is_some_and(is_recent);
        if !is_between {
            self.sparing = Some(now.mono);
            if self.reserve.restore() {
                return false;
            }
        }
        self.abandon(GapCause::SpoolFull, "the disk of the ledger is full");
        is_between
    }

    /// Writes the batch with one append and tells everybody.
    fn commit(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        // Never the record before what opens it.
        if let Err(error) = self.redaction.flush().and_then(|()| self.append()) {
            self.desk.counts.write_failures.fetch_add(1, Ordering::Relaxed);
            self.desk.counts.is_failing.store(true, Ordering::Relaxed);
            tracing::error!(event = "ledger_write_failed", %error, records = self.batch.count(), "decisions are lost");
            self.abandon(GapCause::SpoolFull, &format!("the ledger cannot write: {error}"));
            if self.reserve.give_up(&error) {
                self.sparing = None;
            }
            return Err(error);
        }
        self.pause = None;
        let counts = &self.desk.counts;
        counts.is_failing.store(self.reserve.is_used(), Ordering::Relaxed);
        counts.records.fetch_add(self.batch.count(), Ordering::Relaxed);
        counts.writes.fetch_add(1, Ordering::Relaxed);
        counts.bytes.fetch_add(self.batch.bytes().len() as u64, Ordering::Relaxed);
        if let Some((file, _)) = &mut self.file {
            file.len += self.batch.bytes().len() as u64;
            file.count += self.batch.count();
            file.span.join(self.batch.span());
            self.shelf.publish(file);
        }
        if self.fresh.receiver_count() > 0 {
            let fresh =
                Fresh::Frames { first: self.next_index, frames: Bytes::copy_from_slice(self.batch.bytes()) };
            // The last receiver may have gone meanwhile.
            drop(self.fresh.send(fresh));
        }
        self.next_index += self.batch.count();
        self.note_own();
        self.stored.extend(self.batch.stored());
        self.stored.insert(OWN_LANE, self.numbers.next() - 1);
        let adopted: Vec<_> = self.adopted.drain(..self.batch.adopted().min(self.adopted.len())).collect();
        self.note_adopted(&adopted);
        let mut durable = self.batch.finish();
        durable.extend(adopted.into_iter().filter_map(|adopted| adopted.done));
        self.keeper.written(durable);
        Ok(())
    }

    fn append(&mut self) -> io::Result<()> {
        let room = self.file_size;
        let is_full = self
            .file
            .as_ref()
            .is_some_and(|(file, _)| file.count > 0 && file.len + self.batch.bytes().len() as u64 > room);
        if is_full || self.file.is_none() || self.keeper.must_rotate() {
            self.rotate()?;
        }
        let Some((file, handle)) = &mut self.file else { return Err(io::Error::other("no file is open")) };
        // What a failed append left behind goes first; until that works nothing is appended.
        if self.is_torn {
            handle.truncate(file.len)?;
        }
        self.is_torn = true;
        handle.append(self.batch.bytes())?;
        self.is_torn = false;
        Ok(())
    }

    /// Opens the file for the next record and hands the full one to the keeper.
    fn rotate(&mut self) -> io::Result<()> {
        let mut file = WalFile::new(&self.wal, self.next_index);
        let mut handle = self.disk.open_append(&file.path)?;
        // A first try may have left something behind.
        handle.truncate(0)?;
        handle.append(&MAGIC)?;
        file.len = MAGIC.len() as u64;
        self.shelf.publish(&file);
        let closed = self.file.take().map(|(file, _)| Closed { file, stored: self.settled() });
        self.keeper.rotated(closed, file.path.clone());
        self.file = Some((file, handle));
        self.is_torn = false;
        Ok(())
    }

    /// Per lane, the number up to which all is on record.
    fn settled(&self) -> BTreeMap<u16, u64> {
        let boot = self.stream.boot;
        let settled = |(&lane, &stored): (&u16, &u64)| {
            let open = self.gaps.first_of(boot, lane).map_or(u64::MAX, |first| first - 1);
            (lane, stored.min(open))
        };
        self.stored.iter().map(settled).collect()
    }

    /// Gives the batch up: its records become exact gaps, its callers are refused, its own numbers are put back.
    fn abandon(&mut self, cause: GapCause, why: &str) {
        if let Some(first) = self.batch.own_first() {
            self.numbers.rewind(first);
        }
        let (gaps, callers) = self.batch.abandon(self.stream.boot, cause);
        self.desk.counts.lost.fetch_add(gaps.len() as u64, Ordering::Relaxed);
        gaps.into_iter().for_each(|gap| self.gaps.add(gap));
        for done in callers {
            // Whoever waited may have given up; then nobody is left to be told.
            drop(done.send(Err(AuditUnavailable(why.to_owned()))));
        }
    }
}
