//! The ledger: what `portcullis` opens once, hands lanes out of, and asks.

mod config;
mod stats;
mod thread;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use aws_lc_rs::digest;
use base_ports::{Clock, Disk, Rng};
use parking_lot::Mutex;
use policies_engine::{AuditUnavailable, DecisionId, Lane, Record};
use tokio::sync::broadcast;

use crate::{
    archive::{Archive, ArchiveDesk, ArchiveState},
    cursor::CursorKey,
    error::{LedgerError, disk},
    holds::Holds,
    keeper::{Keeper, KeeperDesk},
    lane::{self, LaneWriter, Pending, Shared, Waits},
    leaf::{Body, Stream},
    numbers::{RESERVATION, WORKER_BLOCKS},
    proof::{self, LogView, Tree, TreeSetup},
    quarantine::Quarantine,
    query::Query,
    recover::{Recovered, recover},
    reserve::Reserve,
    retain::{Keep, Retention},
    roll::Heard,
    rollup::{Counter, Rollups},
    selfcheck::{CheckDesk, SelfCheck},
    shelf::Shelf,
    writer::{Adopted, Fresh, OWN_LANE, Setup, Writer, WriterDesk},
};

pub use config::LedgerConfig;
pub use stats::Stats;
pub(crate) use thread::thread;

/// Lane of everything that is no worker: admin calls, issuance, activations.
pub(crate) const CONTROL_LANE: u16 = u16::MAX - 1;

/// Control records that may wait to be written.
const CONTROL_RING: usize = 1_024;

/// First number for lanes whose wished number is taken.
const SPARE_LANES: u16 = 1 << 15;

/// Batches a tail may lag before it reads from disk again.
const FRESH: usize = 256;

/// How long a new lane waits for its first reservation.
const FIRST_NUMBERS: Duration = Duration::from_secs(5);

/// How long a control record may take to reach the disk.
const CONTROL_WAIT: Duration = Duration::from_secs(5);

/// The ledger of this process. Cheap to clone; the last clone closes it.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: LedgerConfig,
    origin: String,
    boot: [u8; 8],
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) cursors: CursorKey,
    pub(crate) fresh: broadcast::Sender<Fresh>,
    writer: Arc<WriterDesk>,
    keeper: Arc<KeeperDesk>,
    lanes: Mutex<BTreeSet<u16>>,
    control: Mutex<LaneWriter>,
    archive: Arc<ArchiveDesk>,
    pub(crate) holds: Arc<Holds>,
    pub(crate) keep: Arc<Mutex<Keep>>,
    threads: Mutex<Option<[JoinHandle<()>; 4]>>,
    check: Arc<CheckDesk>,
    pub(crate) rollups: Arc<Rollups>,
    pub(crate) tree: Option<Arc<Tree>>,
    tree_thread: Mutex<Option<JoinHandle<()>>>,
}

impl Ledger {
    /// Opens the ledger in its directory, cuts off a torn tail, and declares what an unclean end left out. The first
    /// records of the new boot are on disk when this returns.
    ///
    /// # Errors
    /// When the disk refuses, or the files are damaged in a way that no crash explains.
    pub fn open(
        config: LedgerConfig,
        disk_port: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        rng: &dyn Rng,
    ) -> Result<Self, LedgerError> {
        let redaction = Arc::new(config.redaction.beside(&config.dir, &disk_port));
        let config = LedgerConfig { redaction, ..config };
        let (wal, seg) = (config.dir.join("wal"), config.dir.join("seg"));
        let state_path = config.dir.join("state");
        disk_port.create_dir_all(&wal).map_err(disk("create", &wal))?;
        disk_port.create_dir_all(&seg).map_err(disk("create", &seg))?;
        let origin = format!("{}/decisions/{}", config.trust_domain, config.name);
        let cursors = CursorKey::load(&config.dir.join("cursor.key"), disk_port.as_ref(), rng)?;
        let quarantine = Arc::new(Quarantine::of(&config, &disk_port, &clock));
        let Recovered { segments, files, next, state, crashed } =
            recover(&config.dir, disk_port.as_ref(), &quarantine)?;
        quarantine.retire(0..next)?;
        let holds = Arc::new(Holds::load(config.dir.join("holds"), Arc::clone(&disk_port)));
        let reserve = Reserve::new(&config.dir, config.reserve, Arc::clone(&disk_port));

        let mut boot = [0; 8];
        rng.fill(&mut boot);
        let stream = Stream {
            enforcer: config.enforcer_id.clone(),
            instance: config.instance.clone(),
            boot,
            lane: OWN_LANE,
            seq: 0,
        };
        let own = Shared::new(OWN_LANE, stream_tag(&stream), RESERVATION);
        let shelf = Arc::new(Shelf::new(segments, files).beside(quarantine));
        let (fresh, _) = broadcast::channel(FRESH);
        // Before anything is written: what is not what was signed stays as it is.
        let grower = config.signer.clone().map(|signer| {
            proof::open(TreeSetup {
                dir: &config.dir,
                ledger: &origin,
                disk: &disk_port,
                clock: &clock,
                signer,
                shelf: &shelf,
                fresh: fresh.subscribe(),
            })
        });
        let grower = grower.transpose().map_err(LedgerError::Tree)?;
        let (writer_desk, keeper_desk) = (WriterDesk::new(), KeeperDesk::new());

        let mut keeper = Keeper {
            desk: Arc::clone(&keeper_desk),
            disk: Arc::clone(&disk_port),
            clock: Arc::clone(&clock),
            wal: wal.clone(),
            state_path: state_path.clone(),
            state,
            boot,
            begins_at: next,
            is_settled: false,
            shelf: Arc::clone(&shelf),
            commit_interval: config.commit_interval,
            lanes: Vec::new(),
            files: Vec::new(),
            closed: Vec::new(),
            doubtful: BTreeSet::new(),
            meter: config.meter.clone(),
        };
        keeper.begin(Arc::clone(&own)).map_err(disk("write", &state_path))?;

        let mut writer = Writer::new(Setup {
            desk: Arc::clone(&writer_desk),
            keeper: Arc::clone(&keeper_desk),
            disk: Arc::clone(&disk_port),
            clock: Arc::clone(&clock),
            wal: wal.clone(),
            shelf: Arc::clone(&shelf),
            fresh: fresh.clone(),
            stream: stream.clone(),
            file_size: config.file_size,
            reserve,
            own,
            redaction: Arc::clone(&config.redaction),
            next_index: next,
            build: config.build.clone(),
            voucher: config.voucher.clone(),
            meter: config.meter.clone(),
        });
        for crashed in crashed {
            writer.say(Body::Recovery { boot: crashed.boot, lanes: crashed.lanes });
            crashed.gaps.into_iter().for_each(|gap| writer.say(Body::Gap(gap)));
        }
        writer.say(Body::StreamOpen { build: config.build.clone(), chain: Vec::new() });
        writer.begin().map_err(disk("write", &wal))?;
        keeper_desk.settle();

        let waits = config.waits;
        let tag = stream_tag(&Stream { lane: CONTROL_LANE, ..stream });
        let shared = Shared::new(CONTROL_LANE, tag, RESERVATION);
        let (control, reader) =
            lane::lane(&shared, CONTROL_RING, waits, &writer_desk.bell, &keeper_desk.bell);
        writer_desk.register(reader);
        let (archive_desk, keep) = (Arc::new(ArchiveDesk::default()), Arc::new(Mutex::new(config.keep)));
        let counter = Counter::new(config.dir.join("rollup"), &disk_port, &clock, &shelf, next)?;
        let rollups = Arc::clone(&counter.rollups);
        let mut archive = Archive {
            desk: Arc::clone(&archive_desk),
            disk: Arc::clone(&disk_port),
            clock: Arc::clone(&clock),
            shelf: Arc::clone(&shelf),
            dir: seg,
            origin: origin.clone(),
            limits: config.segment,
            retention: Retention {
                keep: Arc::clone(&keep),
                holds: Arc::clone(&holds),
                writer: Arc::clone(&writer_desk),
                is_over: false,
                known: HashMap::new(),
                people: config.redaction.side().map(Arc::clone),
                clear: config.clear,
            },
            counter,
            state: ArchiveState::default(),
        };
        let keeper = thread("ledger-keeper", move || keeper.run())?;
        let writer = thread("ledger-writer", move || writer.run())?;
        let archive = thread("ledger-archive", move || archive.run())?;
        let tree = grower.as_ref().map(|grower| Arc::clone(&grower.tree));
        let check_desk = Arc::new(CheckDesk::default());
        let mut check = SelfCheck {
            desk: Arc::clone(&check_desk),
            shelf: Arc::clone(&shelf),
            disk: Arc::clone(&disk_port),
            clock: Arc::clone(&clock),
            tree: tree.clone(),
            last: clock.mono(),
            next: 0,
        };
        let check = thread("ledger-check", move || check.run())?;
        let tree_thread = grower.map(|mut grower| thread("ledger-tree", move || grower.run())).transpose()?;
        let ledger = Self(Arc::new(Inner {
            origin: tree.as_ref().map_or(origin, |tree| tree.origin.clone()),
            tree,
            tree_thread: Mutex::new(tree_thread),
            config,
            boot,
            disk: disk_port,
            clock,
            shelf,
            cursors,
            fresh,
            writer: writer_desk,
            keeper: keeper_desk,
            archive: archive_desk,
            holds,
            keep,
            lanes: Mutex::new(BTreeSet::from([OWN_LANE, CONTROL_LANE])),
            control: Mutex::new(control),
            threads: Mutex::new(Some([writer, keeper, archive, check])),
            check: check_desk,
            rollups,
        }));
        ledger.0.reserve(shared);
        Ok(ledger)
    }

    /// The lane of worker `n`, for it alone; a free number takes the place of one in use, so that no two lanes share a
    /// stream. Waits a few milliseconds for the first numbers.
    #[must_use]
    pub fn lane(&self, n: u16) -> Box<dyn Lane> {
        self.lane_that_waits(n, self.0.config.waits)
    }

    /// The same for calls of operators, which wait for a slow disk as their changes do.
    #[must_use]
    pub fn patient_lane(&self, n: u16) -> Box<dyn Lane> {
        self.lane_that_waits(n, Waits::both(CONTROL_WAIT))
    }

    fn lane_that_waits(&self, n: u16, waits: Waits) -> Box<dyn Lane> {
        let inner = &self.0;
        let number = {
            let mut lanes = inner.lanes.lock();
            let mut wished = std::iter::once(n).chain(SPARE_LANES..);
            let number = wished.find(|free| !lanes.contains(free)).unwrap_or(n);
            lanes.insert(number);
            number
        };
        let shared = Shared::new(number, stream_tag(&inner.stream(number)), RESERVATION * WORKER_BLOCKS);
        let (ring, bells) = (inner.config.ring, (&inner.writer.bell, &inner.keeper.bell));
        let (writer, reader) = lane::lane(&shared, ring, waits, bells.0, bells.1);
        inner.writer.register(reader);
        inner.reserve(shared);
        Box::new(writer)
    }

    /// Puts a record of any kind on the control lane. The id is valid at once; the future resolves when the record is
    /// synced.
    ///
    /// # Errors
    /// When the lane has no room: the disk does not keep up or refuses.
    pub fn append(&self, record: Record) -> Result<(DecisionId, Pending), AuditUnavailable> {
        let appended = self.0.control.lock().append(record, CONTROL_WAIT);
        appended.ok_or_else(|| AuditUnavailable("the control lane is full".to_owned()))
    }

    /// Origin of the log: `example.org/decisions/main`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// The log as readers of records are told of it.
    #[must_use]
    pub fn log(&self) -> LogView {
        LogView::new(&self.0.origin, self.0.tree.clone())
    }

    /// Boot id of this process in its records.
    #[must_use]
    pub fn boot(&self) -> [u8; 8] {
        self.0.boot
    }

    /// Boots that this process wrote or took over, as they stand now (SQ4).
    #[must_use]
    pub fn roll(&self) -> Vec<Heard> {
        self.0.writer.roll.call(self.0.clock.mono())
    }

    /// What the last look at a closed segment found, if that is wrong still.
    pub(crate) fn self_check_failure(&self) -> Option<String> {
        self.0.check.failure()
    }

    /// A read was answered or refused.
    pub(crate) fn count_read(&self, call: &'static str, result: &'static str) {
        self.0.config.meter.iter().for_each(|meter| meter.read(call, result));
    }

    /// Writes what is in the lanes, closes the streams, syncs, and ends the threads. Lanes that go on pushing after
    /// this lose their records. Called by the last drop as well.
    pub fn close(&self) {
        self.0.close();
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl Inner {
    fn stream(&self, lane: u16) -> Stream {
        Stream {
            enforcer: self.config.enforcer_id.clone(),
            instance: self.config.instance.clone(),
            boot: self.boot,
            lane,
            seq: 0,
        }
    }

    /// Records of the ledger itself.
    pub(crate) fn say(&self, bodies: Vec<Body>) {
        self.writer.say(bodies);
    }

    /// The question in the terms of the records, where people stand by a hash.
    pub(crate) fn finds<'q>(&self, query: &'q Query) -> Cow<'q, Query> {
        query.hashed(&self.config.redaction)
    }

    /// A record of the ledger itself.
    pub(crate) fn own(&self, record: Record) {
        self.writer.own(record);
    }

    /// Records of another ledger.
    pub(crate) fn adopt(&self, adopted: Vec<Adopted>) {
        self.writer.adopt(adopted);
    }

    /// Waits until the lane has numbers. One that gets none in time loses its records, exactly, until it has.
    fn reserve(&self, shared: Arc<Shared>) {
        let (ready, wait) = sync_channel(1);
        let number = shared.number;
        self.keeper.register(shared, Some(ready));
        if let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(FIRST_NUMBERS) {
            tracing::error!(
                event = "ledger_no_numbers",
                lane = number,
                "the disk is too slow to reserve numbers"
            );
        }
    }

    fn close(&self) {
        let Some([writer, keeper, archive, check]) = self.threads.lock().take() else { return };
        self.check.stop();
        self.writer.stop();
        let mut failed = writer.join().is_err() | check.join().is_err();
        self.keeper.stop();
        failed |= keeper.join().is_err();
        self.archive.stop();
        failed |= archive.join().is_err();
        // Last: it signs what the keeper has synced.
        if let (Some(tree), Some(thread)) = (&self.tree, self.tree_thread.lock().take()) {
            tree.stop();
            failed |= thread.join().is_err();
        }
        // Without tails there is nobody to tell.
        self.fresh.send(Fresh::End).unwrap_or_default();
        if failed {
            tracing::error!(event = "ledger_thread_failed", "a thread of the ledger did not end in order");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// First 40 bits of a hash that names a stream in every id (SQ1). A zero byte ends the enforcer, which has none.
pub(crate) fn stream_tag(stream: &Stream) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"portcullis-stream/1\0");
    context.update(stream.enforcer.as_bytes());
    context.update(&[0]);
    context.update(&stream.boot);
    context.update(&stream.lane.to_be_bytes());
    let digest = context.finish();
    digest.as_ref().iter().take(5).fold(0, |tag, byte| tag << 8 | u64::from(*byte))
}

#[cfg(test)]
mod crash;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::assert_complete;
