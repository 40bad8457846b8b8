//! Tiles and the checkpoint of one log on disk, in the layout of C2SP tlog-tiles.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use base_ports::Disk;

use super::{
    error::{TreeError, disk},
    hash::TreeHash,
    prove::Tiles,
    tile::{TileId, WIDTH, from_bytes, to_bytes},
};

/// The directory that holds `tile` and `checkpoint`.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Place {
    pub(crate) fn new(dir: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { dir, disk }
    }

    pub(crate) fn checkpoint_path(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    /// The last checkpoint, byte for byte.
    pub(crate) fn checkpoint(&self) -> Result<Option<Vec<u8>>, TreeError> {
        self.read(&self.checkpoint_path())
    }

    /// Replaces the checkpoint. Everything it covers must be durable.
    pub(crate) fn publish(&self, note: &str) -> Result<(), TreeError> {
        let path = self.checkpoint_path();
        self.disk.create_dir_all(&self.dir).map_err(disk("create", &self.dir))?;
        self.disk.write_atomic(&path, note.as_bytes(), 0o600).map_err(disk("write", &path))
    }

    /// Where a tile of that width lies.
    pub(crate) fn tile_path(&self, id: TileId, width: usize) -> PathBuf {
        self.dir.join("tile").join(id.path(width))
    }

    /// The bytes of a tile of exactly that width, else of one that holds more.
    pub(crate) fn stored(&self, id: TileId, width: usize) -> Result<Option<(PathBuf, Vec<u8>)>, TreeError> {
        for width in [width, WIDTH] {
            let path = self.tile_path(id, width);
            if let Some(bytes) = self.read(&path)? {
                return Ok(Some((path, bytes)));
            }
        }
        // The tree may have grown between a look at its checkpoint and this one.
        let wider = self.partials(id).into_iter().find(|(stored, _)| *stored > width);
        let Some((_, path)) = wider else { return Ok(None) };
        Ok(self.read(&path)?.map(|bytes| (path, bytes)))
    }

    /// Partial tiles that are there, the narrowest first.
    fn partials(&self, id: TileId) -> Vec<(usize, PathBuf)> {
        let mut dir = self.tile_path(id, WIDTH).into_os_string();
        dir.push(".p");
        let stored = self.disk.list(Path::new(&dir)).unwrap_or_default().into_iter();
        let width = |path: &Path| path.file_name()?.to_str()?.parse().ok();
        let mut stored: Vec<_> = stored.filter_map(|path| Some((width(&path)?, path))).collect();
        stored.sort_unstable();
        stored
    }

    /// Writes tiles that no checkpoint covers yet and makes them durable.
    pub(crate) fn write(&self, tiles: &[(TileId, Vec<TreeHash>)]) -> Result<(), TreeError> {
        let mut dirs = BTreeSet::new();
        for (id, hashes) in tiles {
            let path = self.tile_path(*id, hashes.len());
            if let Some(dir) = path.parent().filter(|dir| dirs.insert(dir.to_path_buf())) {
                self.disk.create_dir_all(dir).map_err(disk("create", dir))?;
            }
            let mut file = self.disk.open_append(&path).map_err(disk("open", &path))?;
            // A try before a crash may have left something.
            let written = file.truncate(0).and_then(|()| file.append(&to_bytes(hashes)));
            written.and_then(|()| file.sync_data()).map_err(disk("write", &path))?;
        }
        dirs.iter().try_for_each(|dir| self.disk.sync_dir(dir).map_err(disk("sync", dir)))
    }

    /// Removes partial tiles that one of that width has made needless. It may fail: then they only take room.
    pub(crate) fn drop_partials(&self, id: TileId, width: usize) {
        for (_, path) in self.partials(id).into_iter().filter(|(stored, _)| *stored != width) {
            if let Err(error) = self.disk.remove(&path) {
                tracing::debug!(event = "tile_kept", %error, file = %path.display(), "a partial tile stays");
            }
        }
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, TreeError> {
        match self.disk.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            // A partial tile is looked for below a name that may be a file, and the other way round.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(disk("read", path)(error)),
        }
    }
}

impl Tiles for Place {
    type Error = TreeError;

    fn tile(&self, id: TileId, width: usize) -> Result<Vec<TreeHash>, TreeError> {
        let stored = self.stored(id, width)?;
        stored.and_then(|(_, bytes)| from_bytes(&bytes, width)).ok_or(TreeError::Tile(id))
    }
}
