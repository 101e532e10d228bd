//! Has the disk begin with what was written, without a wait.

// The one call into the kernel for that, which neither the standard library nor rustix has.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd as _;

/// Has these bytes of `file` written to the disk, some time soon. What fails there is told by the `fdatasync` that waits for it:
/// this call takes no error away (sync_file_range(2): only those that wait do).
#[cfg(target_os = "linux")]
pub(super) fn begin(file: &File, range: &Range<u64>) {
    let length = range.end.saturating_sub(range.start);
    if let (Ok(offset), Ok(length)) = (range.start.try_into(), length.try_into()) {
        // SAFETY: numbers go in and a number comes out; the descriptor is open while `file` is borrowed.
        let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    }
}

/// Nothing: elsewhere the wait at the end is for all of it.
#[cfg(not(target_os = "linux"))]
pub(super) const fn begin(_: &File, _: &Range<u64>) {}
