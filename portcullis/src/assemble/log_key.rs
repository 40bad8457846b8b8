//! The keys of the decision log: their own file `ledger-signing.key`, sealed like keys of the authority, 0600 (VF2, S16).
//!
//! Made at the first open. The newest key comes first; one before it signs until its time is over. Then its seed is wiped, at
//! the next signature or start, and its public half is known for ever. A change is in the file before the new key signs
//! anything.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::{Clock, Disk, Rng, UnixTime};
use base_store::seal::SealKey;
use parking_lot::Mutex;
use policies_decisions::{LogKey, LogKeys, Signer};
use zeroize::Zeroizing;

const FILE: &str = "ledger-signing.key";
const SEAL: &str = "seal.key";
const PURPOSE: &[u8] = b"ledger-signing";
const HEADER: &str = "portcullis-log-keys/1";
const SEED: usize = 32;
/// Keys that sign at the same time: beyond this a change has to wait until one's time is over.
const MOST_KEYS: usize = 4;

type Seed = Zeroizing<[u8; SEED]>;

/// The signer of the log.
pub(super) struct KeyFile {
    path: PathBuf,
    seal: SealKey,
    disk: Arc<dyn Disk>,
    rng: Arc<dyn Rng>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The newest first.
    keys: Vec<Kept>,
    /// Made, and not in use yet.
    drawn: Option<Seed>,
    /// The file still holds a seed whose time is over: the disk refused.
    is_behind: bool,
}

#[derive(Clone)]
struct Kept {
    /// Gone once its time was over.
    seed: Option<Seed>,
    public: [u8; 32],
    since: Option<UnixTime>,
    until: Option<UnixTime>,
}

impl Kept {
    fn signs(&self, now: UnixTime) -> bool {
        self.seed.is_some() && self.until.is_none_or(|until| now <= until)
    }
}

impl KeyFile {
    /// The keys in `data_dir`.
    ///
    /// # Errors
    /// The file cannot be read, made or opened, or others can read it; the text names it.
    pub(super) fn open(
        data_dir: &Path,
        disk: &Arc<dyn Disk>,
        rng: &Arc<dyn Rng>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let path = data_dir.join(FILE);
        let seal = SealKey::load_or_create(&data_dir.join(SEAL), rng.as_ref(), disk.as_ref())
            .map_err(|error| error.to_string())?;
        let said = |error: &dyn fmt::Display| format!("`{}`: {error}", path.display());
        let plain = seal.open_file(&path, PURPOSE, disk.as_ref()).map_err(|error| error.to_string())?;
        let keys = match &plain {
            None => vec![Kept { since: None, ..made(rng.as_ref()) }],
            Some(plain) => read(plain).ok_or_else(|| said(&"it holds no keys of the log"))?,
        };
        let (disk, rng, clock) = (Arc::clone(disk), Arc::clone(rng), Arc::clone(clock));
        let file = Self { path, seal, disk, rng, clock, state: Mutex::default() };
        if plain.is_none() {
            file.write(&keys)?;
        }
        file.state.lock().keys = keys;
        file.wipe();
        Ok(file)
    }

    fn write(&self, keys: &[Kept]) -> Result<(), String> {
        let sealed = self.seal.seal(PURPOSE, text(keys).as_bytes(), self.rng.as_ref());
        let written = self.disk.write_atomic(&self.path, &sealed, 0o600);
        written.map_err(|error| format!("`{}`: {error}", self.path.display()))
    }

    /// Wipes what signs no more, from memory at once, and from the file as soon as the disk takes it.
    fn wipe(&self) {
        let now = self.clock.now().wall;
        let mut state = self.state.lock();
        let mut is_news = false;
        for kept in state.keys.iter_mut().filter(|kept| !kept.signs(now)) {
            is_news |= kept.seed.take().is_some();
        }
        if !is_news && !state.is_behind {
            return;
        }
        let written = self.write(&state.keys);
        state.is_behind = written.is_err();
        match written {
            Ok(()) => tracing::info!(event = "log_key_wiped", "a key of the log is over and wiped"),
            Err(error) if is_news => {
                tracing::warn!(event = "log_key_not_wiped", %error, "tried again at each signature");
            }
            Err(_) => (),
        }
    }

    /// The keys that sign now, as pairs.
    fn live(&self) -> Option<LogKeys> {
        let now = self.clock.now().wall;
        let state = self.state.lock();
        let seeds =
            state.keys.iter().filter(|key| key.signs(now)).filter_map(|key| key.seed.as_deref().copied());
        LogKeys::from_seeds(&Zeroizing::new(seeds.collect::<Vec<_>>()))
    }
}

impl Signer for KeyFile {
    fn public_keys(&self) -> Vec<[u8; 32]> {
        self.live().map(|keys| keys.public_keys()).unwrap_or_default()
    }

    fn sign(&self, text: &[u8]) -> Vec<([u8; 32], [u8; 64])> {
        self.wipe();
        self.live().map(|keys| keys.sign(text)).unwrap_or_default()
    }

    fn history(&self) -> Vec<LogKey> {
        let now = self.clock.now().wall;
        let known = |kept: &Kept| LogKey {
            key: kept.public,
            since: kept.since,
            until: kept.until,
            signs: kept.signs(now),
        };
        self.state.lock().keys.iter().map(known).collect()
    }

    fn draw(&self, now: UnixTime) -> Result<[u8; 32], String> {
        let mut state = self.state.lock();
        if state.keys.iter().filter(|key| key.signs(now)).count() >= MOST_KEYS {
            return Err(format!("{MOST_KEYS} keys sign already; the oldest must end first"));
        }
        let made = made(self.rng.as_ref());
        state.drawn = made.seed;
        Ok(made.public)
    }

    fn turn(&self, key: [u8; 32], now: UnixTime, until: UnixTime) -> Result<(), String> {
        let mut state = self.state.lock();
        let Some(seed) = state.drawn.take().filter(|seed| public(seed) == Some(key)) else {
            return Err("another key was made meanwhile".to_owned());
        };
        let mut keys = state.keys.clone();
        for kept in &mut keys {
            kept.until.get_or_insert(until);
            if !kept.signs(now) {
                kept.seed = None;
            }
        }
        keys.insert(0, Kept { seed: Some(seed), public: key, since: Some(now), until: None });
        self.write(&keys)?;
        (state.keys, state.is_behind) = (keys, false);
        Ok(())
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

fn made(rng: &dyn Rng) -> Kept {
    let mut seed = Zeroizing::new([0; SEED]);
    rng.fill(seed.as_mut_slice());
    // INVARIANT: any 32 bytes are the seed of an Ed25519 key.
    Kept { public: public(&seed).unwrap_or_default(), seed: Some(seed), since: None, until: None }
}

fn public(seed: &Seed) -> Option<[u8; 32]> {
    LogKeys::from_seeds(&[**seed])?.public_keys().first().copied()
}

/// One line for each key: seed or `-`, public half, since and until in Unix nanoseconds or `-`.
fn text(keys: &[Kept]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(format!("{HEADER}\n"));
    let time = |time: Option<UnixTime>| time.map_or("-".to_owned(), |time| time.as_nanos().to_string());
    for key in keys {
        match &key.seed {
            Some(seed) => hex(seed.as_slice(), &mut text),
            None => text.push('-'),
        }
        text.push(' ');
        hex(&key.public, &mut text);
        text.push_str(&format!(" {} {}\n", time(key.since), time(key.until)));
    }
    text
}

fn hex(bytes: &[u8], out: &mut String) {
    // Writing to a text cannot fail.
    bytes.iter().for_each(|byte| write!(out, "{byte:02x}").unwrap_or_default());
}

fn unhex(text: &str) -> Option<Seed> {
    let mut out = Zeroizing::new([0; SEED]);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != SEED || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        let digit = |at: u8| char::from(at).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}

/// The keys in the file. Before there were changes it held bare seeds, the newest first.
fn read(plain: &[u8]) -> Option<Vec<Kept>> {
    let kept = |seed: &[u8; SEED]| {
        let seed = Zeroizing::new(*seed);
        Some(Kept { public: public(&seed)?, seed: Some(seed), since: None, until: None })
    };
    let Some(text) = std::str::from_utf8(plain).ok().and_then(|text| text.strip_prefix(HEADER)) else {
        let (seeds, rest) = plain.as_chunks::<SEED>();
        return seeds
            .iter()
            .map(kept)
            .collect::<Option<Vec<_>>>()
            .filter(|keys| keys.len() == 1 && rest.is_empty());
    };
    let lines = text.strip_prefix('\n')?.lines();
    let keys: Option<Vec<_>> = lines.map(line).collect();
    keys.filter(|keys| keys.first().is_some_and(|first| first.seed.is_some()))
}

fn line(line: &str) -> Option<Kept> {
    let parts: Vec<_> = line.split(' ').collect();
    let [seed, key, since, until] = parts.as_slice() else { return None };
    let time = |text: &str| match text {
        "-" => Some(None),
        nanos => nanos.parse().ok().map(|nanos| Some(UnixTime::from_nanos(nanos))),
    };
    let seed = if *seed == "-" { None } else { Some(unhex(seed)?) };
    let kept = Kept { seed, public: *unhex(key)?, since: time(since)?, until: time(until)? };
    let fits = kept.seed.as_ref().is_none_or(|seed| public(seed) == Some(kept.public));
    fits.then_some(kept)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base_ports::{ManualClock, MemoryDisk, SeededRng};

    use super::*;

    const DIR: &str = "/no/such/place";

    fn opened(disk: &MemoryDisk, seed: u64, clock: &Arc<ManualClock>) -> Result<KeyFile, String> {
        let (disk, rng): (Arc<dyn Disk>, Arc<dyn Rng>) =
            (Arc::new(disk.clone()), Arc::new(SeededRng::new(seed)));
        KeyFile::open(Path::new(DIR), &disk, &rng, &(Arc::clone(clock) as Arc<dyn Clock>))
    }

    fn place() -> (MemoryDisk, Arc<ManualClock>) {
        let disk = MemoryDisk::new();
        disk.create_dir_all(Path::new(DIR)).unwrap();
        (disk, Arc::new(ManualClock::new(UnixTime::from_secs(1_795_330_800))))
    }

    #[test]
    fn vf2_the_key_of_the_log_is_made_once_and_is_never_on_disk_unsealed() {
        let (disk, clock) = place();
        let first = opened(&disk, 1, &clock).unwrap();
        let seed = *first.state.lock().keys[0].seed.clone().unwrap();
        assert_eq!(opened(&disk, 2, &clock).unwrap().public_keys(), first.public_keys());
        let file = Path::new(DIR).join(FILE);
        let stored = disk.read(&file).unwrap();
        assert!(!stored.windows(8).any(|part| seed.windows(8).any(|seed| seed == part)));
        let mut shown = String::new();
        hex(&seed[..8], &mut shown);
        assert!(!String::from_utf8_lossy(&stored).contains(&shown));
        disk.flip(&file, 40, 3);
        assert!(opened(&disk, 3, &clock).unwrap_err().contains(FILE));
    }

    #[test]
    fn vf2_both_keys_sign_for_their_time_and_the_old_one_is_known_for_ever() {
        let (disk, clock) = place();
        let keys = opened(&disk, 1, &clock).unwrap();
        let (old, now) = (keys.public_keys()[0], clock.now().wall);
        let new = keys.draw(now).unwrap();
        assert_eq!(keys.public_keys(), [old], "it does not sign before it is on record");
        assert!(keys.turn([7; 32], now, now).is_err());
        assert!(keys.turn(new, now, now).is_err(), "that was taken back");
        let (new, until) = (keys.draw(now).unwrap(), now + Duration::from_secs(86_400));
        keys.turn(new, now, until).unwrap();
        for keys in [&keys, &opened(&disk, 2, &clock).unwrap()] {
            assert_eq!(keys.public_keys(), [new, old]);
            assert_eq!(keys.sign(b"text").iter().map(|(key, _)| *key).collect::<Vec<_>>(), [new, old]);
        }
        clock.advance(Duration::from_secs(86_401));
        for keys in [&keys, &opened(&disk, 3, &clock).unwrap()] {
            assert_eq!(keys.public_keys(), [new]);
            let history: Vec<_> = keys.history().iter().map(|key| (key.key, key.until, key.signs)).collect();
            assert_eq!(history, [(new, None, true), (old, Some(until), false)]);
        }
        // The next change wipes what signs no more.
        let now = clock.now().wall;
        let third = keys.draw(now).unwrap();
        keys.turn(third, now, now + Duration::from_secs(86_400)).unwrap();
        let again = opened(&disk, 4, &clock).unwrap();
        assert_eq!(again.public_keys(), [third, new]);
        assert!(again.state.lock().keys[2].seed.is_none());
        for _ in 2..MOST_KEYS {
            let next = keys.draw(now).unwrap();
            keys.turn(next, now, now + Duration::from_secs(86_400)).unwrap();
        }
        assert!(keys.draw(now).unwrap_err().contains("keys sign already"));
    }

    #[test]
    fn vf2_a_key_is_wiped_when_its_time_is_over_and_again_when_the_disk_refused() {
        let (disk, clock) = place();
        let keys = opened(&disk, 1, &clock).unwrap();
        let rotate = |keys: &KeyFile| {
            let now = clock.now().wall;
            let next = keys.draw(now).unwrap();
            keys.turn(next, now, now + Duration::from_secs(86_400)).unwrap();
        };
        // What stands in the file, whatever the clock says.
        let on_disk = || {
            let seal =
                SealKey::load_or_create(&Path::new(DIR).join(SEAL), &SeededRng::new(9), &disk).unwrap();
            let plain = seal.open_file(&Path::new(DIR).join(FILE), PURPOSE, &disk).unwrap().unwrap();
            read(&plain).unwrap().iter().map(|kept| kept.seed.is_some()).collect::<Vec<_>>()
        };
        rotate(&keys);
        keys.sign(b"text");
        assert_eq!(on_disk(), [true, true]);
        clock.advance(Duration::from_secs(86_401));
        assert_eq!(keys.sign(b"text").len(), 1);
        assert_eq!(on_disk(), [true, false]);
        assert!(keys.state.lock().keys[1].seed.is_none());

        rotate(&keys);
        clock.advance(Duration::from_secs(86_401));
        disk.fail_sync(true);
        assert_eq!(keys.sign(b"text").len(), 1, "it signs nothing all the same");
        assert!(keys.state.lock().keys[1].seed.is_none());
        assert_eq!(on_disk(), [true, true, false]);
        disk.fail_sync(false);
        keys.sign(b"text");
        assert_eq!(on_disk(), [true, false, false]);

        // One that ended while no process ran.
        rotate(&keys);
        drop(keys);
        clock.advance(Duration::from_secs(86_401));
        opened(&disk, 2, &clock).unwrap();
        assert_eq!(on_disk(), [true, false, false, false]);
    }

    #[test]
    fn a_file_of_bare_seeds_is_read_and_no_other_text_is() {
        let (disk, clock) = place();
        let keys = opened(&disk, 1, &clock).unwrap();
        let kept = keys.state.lock().keys[0].clone();
        let bare = read(kept.seed.clone().unwrap().as_slice()).unwrap();
        assert_eq!(bare[0].public, kept.public);
        let good = text(&[kept]);
        assert_eq!(read(good.as_bytes()).unwrap().len(), 1);
        for bad in ["", HEADER, "portcullis-log-keys/2\n", "x", good.strip_suffix(" -\n").unwrap()] {
            assert!(read(bad.as_bytes()).is_none_or(|keys| keys.is_empty()), "{bad}");
        }
        let swapped = good.replacen(' ', " 0", 1);
        assert!(read(swapped.as_bytes()).is_none());
    }
}
