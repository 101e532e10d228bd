//! A file of records, each in a frame of its length and a checksum: what a crash has torn is told from what is whole, and cut.
//!
//! ```text
//! header: 8 bytes, kind and version │ length: 4, little-endian │ CRC-32 of length and record: 4 │ record │ length …
//! ```

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What a file begins with: its kind, and the version of what its records mean.
pub(crate) type Header = [u8; 8];
/// Bytes before a record.
const FRAME: usize = 8;
/// Longer records are not written, so a longer length is none.
const LONGEST: usize = 1 << 20;
/// Others may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// How often a lock that somebody else has is tried, and how long to wait between.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Records in a file of the user's own. Who writes holds the file's lock.
#[derive(Debug)]
pub(crate) struct Frames {
    file: File,
    path: PathBuf,
    header: Header,
    /// Where the next record begins.
    end: u64,
}

impl Frames {
    /// Opens the file, or makes it; nothing of it is read yet. A symbolic link is not followed, and a file that others may
    /// write to is not believed.
    pub(crate) fn open(path: &Path, header: Header) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        // Whose process this is.
        let own = std::fs::metadata("/proc/self").map_or(metadata.uid(), |own| own.uid());
        if metadata.uid() != own {
            return Err(io::Error::other("it belongs to another user"));
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(io::Error::other("other users may write to it"));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            header,
            end: 0,
        })
    }

    /// Takes the lock if nobody else has it.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Waits for the lock, not long: for files that are locked for a moment at a time.
    pub(crate) fn lock(&self) -> io::Result<()> {
        for _ in 0..LOCK_TRIES {
            if self.try_lock()? {
                return Ok(());
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Err(io::Error::other("another run holds it"))
    }

    /// Gives the lock back.
    pub(crate) fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }

    /// Whether the path still leads to this file, and not to nothing or one that took its place.
    pub(crate) fn is_current(&self) -> io::Result<bool> {
        let own = self.file.metadata()?;
        match std::fs::symlink_metadata(&self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (own.dev(), own.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Passes every whole record to `found`, and cuts what comes after the last of them. A file of another kind or version
    /// is emptied, without reading more of it than its beginning.
    pub(crate) fn read(&mut self, found: impl FnMut(&[u8])) -> io::Result<()> {
        let mut header = Header::default();
        self.file.seek(SeekFrom::Start(0))?;
        if !fills(&mut &self.file, &mut header)? || header != self.header {
            return self.clear();
        }
        self.end = header.len() as u64;
        self.read_on(found)
    }

    /// Goes to the end of what others have written since.
    pub(crate) fn catch_up(&mut self) -> io::Result<()> {
        if self.end == 0 {
            return self.read(|_| ());
        }
        if self.file.metadata()?.len() == self.end {
            return Ok(());
        }
        self.read_on(|_| ())
    }

    fn read_on(&mut self, found: impl FnMut(&[u8])) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.end += whole(BufReader::new(&self.file), found)?;
        self.file.set_len(self.end)
    }

    /// The file is in use: it is not to be swept. Where that cannot be noted, it may be.
    pub(crate) fn touch(&self) {
        let _ = self.file.set_modified(SystemTime::now());
    }

    /// Takes all records away.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(&self.header, 0)?;
        self.end = self.header.len() as u64;
        Ok(())
    }

    /// Writes one more record. It is not waited for until it is on the disk: whoever reads can do without it.
    pub(crate) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let frame = frame(record).ok_or_else(|| io::Error::other("a record is too long"))?;
        self.file.write_all_at(&frame, self.end)?;
        self.end += frame.len() as u64;
        Ok(())
    }

    /// Removes the file.
    pub(crate) fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

/// Removes the file if nobody has written to it for so long, and nobody holds its lock.
pub(crate) fn remove_if_forgotten(path: &Path, forgotten: Duration, now: SystemTime) -> io::Result<()> {
    let is_old = |metadata: &Metadata| {
        let age = now.duration_since(metadata.modified()?).unwrap_or_default();
        Ok::<_, io::Error>(metadata.is_file() && age > forgotten)
    };
    if !is_old(&std::fs::symlink_metadata(path)?)? {
        return Ok(());
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    // Whoever had the lock until now has written, or has removed it.
    if file.try_lock().is_ok() && is_old(&file.metadata()?)? {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// The record in its frame, if it is not too long.
pub(crate) fn frame(record: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(record.len()).ok().filter(|_| record.len() <= LONGEST)?;
    let length = length.to_le_bytes();
    let mut frame = Vec::with_capacity(FRAME + record.len());
    frame.extend(length);
    frame.extend(checksum(length, record).to_le_bytes());
    frame.extend(record);
    Some(frame)
}

/// Passes the records that come to `found`, as far as they are whole; how many bytes they take. One at a time is in memory.
fn whole(mut from: impl Read, mut found: impl FnMut(&[u8])) -> io::Result<u64> {
    let (mut taken, mut record) = (0, Vec::new());
    while next(&mut from, &mut record)? {
        found(&record);
        taken += (FRAME + record.len()) as u64;
    }
    Ok(taken)
}

/// Reads the next record; whether there was a whole one.
fn next(from: &mut impl Read, record: &mut Vec<u8>) -> io::Result<bool> {
    let (mut length, mut sum) = ([0; 4], [0; 4]);
    if !(fills(from, &mut length)? && fills(from, &mut sum)?) {
        return Ok(false);
    }
    let Some(count) = usize::try_from(u32::from_le_bytes(length))
        .ok()
        .filter(|count| *count <= LONGEST)
    else {
        return Ok(false);
    };
    record.resize(count, 0);
    Ok(fills(from, record)? && checksum(length, record) == u32::from_le_bytes(sum))
}

/// Reads as many bytes as there is room for; whether there were as many.
fn fills(from: &mut impl Read, room: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(room) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Over the length too: a file that ends in zeros, as some do after a crash, has no empty records.
fn checksum(length: [u8; 4], record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    crc.update(record);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const HEADER: Header = *b"tests\0\0\x01";
    const RECORDS: [&[u8]; 4] = [b"first", b"", b"a third one", b"4"];

    struct Place {
        _directory: tempfile::TempDir,
        path: PathBuf,
    }

    fn place() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        Place {
            _directory: directory,
            path,
        }
    }

    fn records(path: &Path) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        let mut frames = Frames::open(path, HEADER).unwrap();
        frames.read(|record| records.push(record.to_vec())).unwrap();
        records
    }

    /// A file of four records, and where each of them ends.
    fn written() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = HEADER.to_vec();
        let mut ends = vec![];
        for record in RECORDS {
            bytes.extend(frame(record).unwrap());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn what_was_appended_is_read_and_belongs_to_the_user_alone() {
        let place = place();
        let mut frames = Frames::open(&place.path, HEADER).unwrap();
        frames.read(|_| panic!("a new file has a record")).unwrap();
        for record in RECORDS {
            frames.append(record).unwrap();
        }
        assert_eq!(std::fs::read(&place.path).unwrap(), written().0);
        assert_eq!(records(&place.path), RECORDS);
        let mode = std::fs::metadata(&place.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(frames.append(&vec![0; LONGEST + 1]).is_err());
    }

    #[test]
    fn cut_anywhere_the_whole_records_are_read_and_the_next_one_follows_them() {
        let (bytes, ends) = written();
        let place = place();
        for length in 0..bytes.len() {
            std::fs::write(&place.path, &bytes[..length]).unwrap();
            let count = ends.iter().filter(|end| **end <= length).count();
            assert_eq!(records(&place.path), RECORDS[..count], "cut at {length}");
            let mut frames = Frames::open(&place.path, HEADER).unwrap();
            frames.catch_up().unwrap();
            frames.append(b"next").unwrap();
            assert_eq!(records(&place.path).last().unwrap(), b"next", "cut at {length}");
            assert_eq!(records(&place.path).len(), count + 1);
        }
    }

    #[test]
    fn a_byte_that_is_not_as_it_was_ends_the_records_before_its_own() {
        let (bytes, ends) = written();
        let place = place();
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= flip;
                std::fs::write(&place.path, &bytes).unwrap();
                let count = ends.iter().filter(|end| **end <= at).count();
                let expected = if at < HEADER.len() { 0 } else { count };
                assert_eq!(records(&place.path), RECORDS[..expected], "byte {at} by {flip:#x}");
            }
        }
    }

    #[test]
    fn zeros_at_the_end_are_no_records_and_another_version_is_begun_anew() {
        let place = place();
        let mut bytes = written().0;
        bytes.extend([0; 100]);
        std::fs::write(&place.path, &bytes).unwrap();
        assert_eq!(records(&place.path), RECORDS);
        let mut frames = Frames::open(&place.path, *b"tests\0\0\x02").unwrap();
        frames.read(|_| panic!("a record of another version")).unwrap();
        assert_eq!(std::fs::read(&place.path).unwrap(), b"tests\0\0\x02");
    }

    #[test]
    fn of_a_huge_file_no_more_is_read_than_its_whole_records() {
        let place = place();
        let (bytes, _) = written();
        for (start, expected) in [(&bytes[..], &RECORDS[..]), (b"another kind of file", &[])] {
            std::fs::write(&place.path, start).unwrap();
            let file = OpenOptions::new().write(true).open(&place.path).unwrap();
            // Takes no room, but would in memory.
            file.set_len(1 << 40).unwrap();
            assert_eq!(records(&place.path), expected);
            assert!(std::fs::metadata(&place.path).unwrap().len() <= bytes.len() as u64);
        }
    }

    #[test]
    fn a_file_that_is_locked_or_in_use_is_not_forgotten() {
        let place = place();
        let age = Duration::from_hours(1);
        let later = SystemTime::now() + 2 * age;
        let sweep = || {
            remove_if_forgotten(&place.path, age, later).unwrap();
            !place.path.exists()
        };
        let frames = Frames::open(&place.path, HEADER).unwrap();
        frames.lock().unwrap();
        assert!(!sweep(), "another run holds it");
        frames.unlock().unwrap();
        frames.file.set_modified(later).unwrap();
        assert!(!sweep(), "it has been used");
        frames.file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        frames.touch();
        remove_if_forgotten(&place.path, age, SystemTime::now()).unwrap();
        assert!(place.path.exists(), "it is in use");
        assert!(sweep());
        std::os::unix::fs::symlink("elsewhere", &place.path).unwrap();
        sweep();
        assert!(place.path.symlink_metadata().is_ok(), "it is no file");
    }

    #[test]
    fn two_writers_take_turns_and_lose_nothing() {
        let place = place();
        let mut writers: Vec<_> = (0..2).map(|_| Frames::open(&place.path, HEADER).unwrap()).collect();
        for number in 0..10_u8 {
            let writer = &mut writers[usize::from(number % 2)];
            writer.lock().unwrap();
            writer.catch_up().unwrap();
            writer.append(&[number]).unwrap();
            writer.unlock().unwrap();
        }
        let expected: Vec<_> = (0..10).map(|number| vec![number]).collect();
        assert_eq!(records(&place.path), expected);
    }

    #[test]
    fn links_and_files_that_others_may_write_to_are_refused() {
        let place = place();
        std::os::unix::fs::symlink("elsewhere", &place.path).unwrap();
        assert!(Frames::open(&place.path, HEADER).is_err());
        std::fs::remove_file(&place.path).unwrap();
        std::fs::write(&place.path, "").unwrap();
        std::fs::set_permissions(&place.path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(Frames::open(&place.path, HEADER).is_err());
    }
}
