//! The floors: the least that any store on the same disk and the same processor has to do.
//!
//! * **Writing**: the bytes of a commit, as Annals writes them, go to a file that was filled with
//!   zeros and synced beforehand: one positioned write, and one `fdatasync` if they are to be
//!   durable. Nothing is encoded, checked or indexed. Threads share both through a minimal group
//!   commit.
//! * **Reading**: the same events in a file with as many bytes per event, which is mapped. A
//!   checksum is verified for each, and all bytes are added up.

use super::{DataSet, METADATA, Sum, Workload, stream};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Condvar, Mutex};
use tempfile::TempDir;

/// Number of zeros written at a time. A page cache that keeps the bytes of one call in one large
/// folio makes each small write into it more expensive: after calls of 4 MiB, a write of 400 bytes
/// takes six times as long as after calls of 64 KiB (ext4, Linux 6.18).
const CHUNK: usize = 64 << 10;

/// A file of zeros that is overwritten from the front, and again when the end is reached. The cost
/// of a write does not depend on what it overwrites.
pub struct Zeroed {
    file: File,
    size: u64,
    _dir: TempDir,
}

impl Zeroed {
    pub fn new(size: u64) -> Self {
        let dir = super::temp_dir();
        let path = dir.path().join("zeros");
        let mut file = File::create(&path).expect("a file");
        let zeros = [0; CHUNK];
        (0..size.div_ceil(CHUNK as u64)).for_each(|_| file.write_all(&zeros).expect("zeros can be written"));
        file.sync_all().expect("the zeros can be synced");
        Zeroed { file, size, _dir: dir }
    }

    /// Returns where to write `len` bytes after those that end at `end`.
    fn place(&self, end: u64, len: usize) -> u64 {
        if end + len as u64 > self.size { 0 } else { end }
    }

    fn write(&self, at: u64, bytes: &[u8], durable: bool) {
        write_at(&self.file, at, bytes).expect("the bytes can be written");
        if durable {
            self.sync();
        }
    }

    pub fn sync(&self) {
        self.file.sync_data().expect("the bytes can be synced");
    }
}

#[cfg(unix)]
fn write_at(file: &File, at: u64, bytes: &[u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, at: u64, bytes: &[u8]) -> std::io::Result<()> {
    let written = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
    assert_eq!(written, bytes.len());
    Ok(())
}

/// One thread's commits.
pub struct Alone<'a> {
    zeroed: &'a Zeroed,
    frame: &'a [u8],
    durable: bool,
    end: u64,
}

impl<'a> Alone<'a> {
    pub fn new(zeroed: &'a Zeroed, frame: &'a [u8], durable: bool) -> Self {
        Alone { zeroed, frame, durable, end: 0 }
    }

    pub fn commit(&mut self) {
        let at = self.zeroed.place(self.end, self.frame.len());
        self.zeroed.write(at, self.frame, self.durable);
        self.end = at + self.frame.len() as u64;
    }
}

/// The commits of many threads. A thread that finds no other writing writes all that has gathered;
/// the others wait, and all are woken.
pub struct Together<'a> {
    zeroed: &'a Zeroed,
    frame: &'a [u8],
    durable: bool,
    state: Mutex<State>,
    written: Condvar,
}

#[derive(Default)]
struct State {
    gathered: Vec<u8>,
    /// The buffer that gathers next.
    spare: Vec<u8>,
    end: u64,
    accepted: u64,
    written: u64,
    writing: bool,
}

impl<'a> Together<'a> {
    pub fn new(zeroed: &'a Zeroed, frame: &'a [u8], durable: bool) -> Self {
        Together { zeroed, frame, durable, state: Mutex::default(), written: Condvar::new() }
    }

    pub fn commit(&self) {
        let mut state = self.state.lock().expect("no thread panics");
        state.gathered.extend_from_slice(self.frame);
        state.accepted += 1;
        let mine = state.accepted;
        while state.written < mine {
            if state.writing {
                state = self.written.wait(state).expect("no thread panics");
                continue;
            }
            state.writing = true;
            let spare = std::mem::take(&mut state.spare);
            let mut group = std::mem::replace(&mut state.gathered, spare);
            let upto = state.accepted;
            let at = self.zeroed.place(state.end, group.len());
            state.end = at + group.len() as u64;
            drop(state);

            self.zeroed.write(at, &group, self.durable);

            group.clear();
            state = self.state.lock().expect("no thread panics");
            state.spare = group;
            state.written = upto;
            state.writing = false;
            self.written.notify_all();
        }
    }
}

/// A record: length and checksum, the lengths of type, metadata, name and padding in a byte each;
/// then type, metadata, name of the stream, data, and padding that makes it as long as those of
/// Annals are on average.
const HEADER: usize = 12;

/// Writes the events of a data set as records.
pub fn write_records(set: &DataSet, workload: &Workload) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(set.records()).expect("a file"));
    let names: Vec<String> = (0..set.streams).map(|n| stream(n).to_string()).collect();
    let mut record = Vec::new();
    for n in 0..set.events {
        let (event_type, data) = workload.parts(n);
        let name = &names[(n % set.streams) as usize];
        let parts = [event_type.as_bytes(), METADATA, name.as_bytes(), data];
        let content: usize = HEADER + parts.iter().map(|part| part.len()).sum::<usize>();
        let len = content.max(set.bytes_each as usize);
        record.clear();
        record.extend_from_slice(&(len as u32).to_le_bytes());
        record.extend_from_slice(&[0; 4]);
        record.extend([event_type.len(), METADATA.len(), name.len(), len - content].map(|len| len as u8));
        parts.iter().for_each(|part| record.extend_from_slice(part));
        record.resize(len, 0);
        let crc = crc32fast::hash(&record[8..]);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        file.write_all(&record).expect("the record can be written");
    }
    file.flush().expect("the records can be written");
}

/// The records of a data set, mapped.
pub struct Records {
    map: memmap2::Mmap,
    offsets: HashMap<String, Vec<usize>>,
}

impl Records {
    /// Maps the file, without an index.
    pub fn map(path: &Path) -> Self {
        let file = File::open(path).expect("the file opens");
        // SAFETY: the file is in a directory of this process, and nothing writes to it while it is
        // mapped.
        #[allow(unsafe_code, reason = "the only way to map a file")]
        let map = unsafe { memmap2::Mmap::map(&file) }.expect("the file can be mapped");
        Records { map, offsets: HashMap::new() }
    }

    /// Maps the file, with the locations of each stream's records.
    pub fn open(path: &Path) -> Self {
        let mut records = Records::map(path);
        let (mut at, mut offsets) = (0, HashMap::<String, Vec<usize>>::new());
        while at < records.map.len() {
            let (record, end) = records.record(at);
            offsets.entry(String::from_utf8_lossy(record.name).into_owned()).or_default().push(at);
            at = end;
        }
        records.offsets = offsets;
        records
    }

    /// Returns the record at an offset, and its end.
    #[inline]
    fn record(&self, at: usize) -> (Record<'_>, usize) {
        let word = |at: usize| u32::from_le_bytes(self.map[at..at + 4].try_into().expect("four bytes"));
        let end = at + word(at) as usize;
        let bytes = &self.map[at + 8..end];
        assert_eq!(crc32fast::hash(bytes), word(at + 4), "the record is intact");
        let [event_type, metadata, name, padding] = [0, 1, 2, 3].map(|n| bytes[n] as usize);
        let (event_type, rest) = bytes[4..].split_at(event_type);
        let (metadata, rest) = rest.split_at(metadata);
        let (name, rest) = rest.split_at(name);
        (Record { event_type, metadata, name, data: &rest[..rest.len() - padding] }, end)
    }

    /// All records in order.
    pub fn scan(&self) -> Sum {
        let (mut sum, mut at) = (Sum::default(), 0);
        while at < self.map.len() {
            let (record, end) = self.record(at);
            sum.add(record.event_type, record.metadata, record.data);
            at = end;
        }
        sum
    }

    /// All records of a stream.
    pub fn stream(&self, name: &str, sum: &mut Sum) {
        for &at in &self.offsets[name] {
            let (record, _) = self.record(at);
            sum.add(record.event_type, record.metadata, record.data);
        }
    }

    /// The last record of a stream.
    pub fn newest(&self, name: &str, sum: &mut Sum) {
        if let Some(&at) = self.offsets[name].last() {
            let (record, _) = self.record(at);
            sum.add(record.event_type, record.metadata, record.data);
        }
    }
}

struct Record<'a> {
    event_type: &'a [u8],
    metadata: &'a [u8],
    name: &'a [u8],
    data: &'a [u8],
}
