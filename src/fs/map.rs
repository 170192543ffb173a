//! The one file with `unsafe` code: the memory map.
//!
//! Mapping a file is unsafe because a `&[u8]` promises that its bytes do not change, and any
//! program can change a file. Three rules make this use of it sound:
//!
//! 1. **No reference into the map ever exists.** Bytes are copied out with
//!    `ptr::copy_nonoverlapping` from the raw pointer, into memory that is ours. The checksum is
//!    verified on the copy. A concurrent change of the file can make the copy wrong, which the
//!    checksum shows, but not unsound: nothing is decided on mapped bytes, so nothing can be
//!    decided twice on different ones.
//! 2. **Only bytes that will not be written again are mapped**, and a store never shortens a file
//!    below what it has mapped. So our own threads never race with a copy.
//! 3. **The range of every copy is checked** against the length of the map, which is checked
//!    against that of the file when it is made.
//!
//! What remains is that another program shortens the file while we read it: the kernel then ends
//! our process with SIGBUS. That is not undefined behaviour but it is a crash;
//! `Options::memory_map(false)` reads by position instead.
#![allow(unsafe_code)]

use super::Map;
use std::fs::File;
use std::io;

#[derive(Debug)]
pub(super) struct FileMap {
    map: memmap2::MmapRaw,
}

impl FileMap {
    pub(super) fn new(file: &File, len: u64) -> io::Result<Self> {
        let beyond = || io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than what is to be mapped");
        if file.metadata()?.len() < len {
            return Err(beyond());
        }
        let len = usize::try_from(len).map_err(|_| beyond())?;
        let map = memmap2::MmapOptions::new().len(len).map_raw_read_only(file)?;
        Ok(FileMap { map })
    }
}

impl Map for FileMap {
    fn mapped(&self) -> u64 {
        self.map.len() as u64
    }

    fn copy(&self, offset: u64, len: usize, out: &mut Vec<u8>) {
        let end = usize::try_from(offset).ok().and_then(|at| at.checked_add(len));
        assert!(end.is_some_and(|end| end <= self.map.len()), "a copy must lie inside the map");
        out.reserve(len);
        // SAFETY: the source is inside the map (checked above) and the map lives as long as `self`;
        // the target has room for `len` more bytes (reserved above); they cannot overlap, as `out`
        // owns its memory; after the copy these `len` bytes are initialised.
        unsafe {
            let source = self.map.as_ptr().add(offset as usize);
            let target = out.as_mut_ptr().add(out.len());
            std::ptr::copy_nonoverlapping(source, target, len);
            out.set_len(out.len() + len);
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn prefetch(&self, offset: u64, len: usize) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let end = self.map.len().min((offset as usize).saturating_add(len));
        // From the start of a cache line on: a range that begins in the middle of one ends in one
        // more.
        for at in (offset as usize & !63..end).step_by(64) {
            // SAFETY: the address is inside the map (`at` is below its length), and a prefetch
            // reads nothing and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.map.as_ptr().add(at).cast()) };
        }
    }
}
